"""What both networks are made of: equalised linear and convolution layers and the mapping network."""

import math
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.functional import conv2d, leaky_relu_

from skinsynth.gan.backend import LEAK, bound_in, kernels_for
from skinsynth.gan.resample import conv_down2

# Keeps the variance of a unit Gaussian through the leaky ReLU, nearly.
ACTIVATION_GAIN = math.sqrt(2)
# Learning rate of the mapping network, relative to that of the rest (StyleGAN, appendix C).
MAPPING_RATE = 0.01
# Share of the old mean that one batch leaves in the running mean of w.
W_AVERAGE_DECAY = 0.995
HALF_TYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
HalfType = Literal["float16", "bfloat16"]


def channels_at(resolution: int, channel_base: int, channel_max: int) -> int:
    """Number of feature maps at one resolution (StyleGAN2, section 4.2)."""
    if channel_base < resolution:
        raise ValueError(f"channel_base is at least the resolution, but {channel_base} came for {resolution} pixels")
    return min(channel_base // resolution, channel_max)


def resolutions_to(resolution: int) -> list[int]:
    """4, 8, … up to `resolution`."""
    if resolution < 8 or resolution & (resolution - 1):
        raise ValueError(
            f"a network's resolution is a power of two from 8 on, but {resolution} came: resize the images"
        )
    return [2**level for level in range(2, resolution.bit_length())]


def half_resolutions(resolution: int, half_levels: int) -> set[int]:
    """The top `half_levels` resolutions, which a GPU computes in 16 bits."""
    return {resolution >> level for level in range(half_levels)}


def compute_type(images: Tensor, half: bool, half_type: HalfType) -> torch.dtype:
    """16 bits where asked for, but on a CPU, which gains nothing, the tensor's own type."""
    return HALF_TYPES[half_type] if half and images.device.type != "cpu" else images.dtype


def unit_second_moment(x: Float[Tensor, "n size"]) -> Float[Tensor, "n size"]:
    """Each row divided by its root mean square (pixel norm, Karras et al. 2018)."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


def activate(x: Float[Tensor, "*shape"], clamp: float | None) -> Float[Tensor, "*shape"]:
    """Leaky ReLU in place, whose gain the caller has put into the weights, cut to ±clamp."""
    return leaky_relu_(x, LEAK) if clamp is None else _BoundedLeak.apply(x, bound_in(x, clamp))


class _BoundedLeak(Function):
    """Leaky ReLU and clamp in place: the output alone is kept, whose sign and size tell the slope."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float) -> Tensor:
        ctx.mark_dirty(x)
        ctx.bound = bound
        leaky_relu_(x, LEAK).clamp_(-bound, bound)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _BoundedSlope.apply(*gradients, *ctx.saved_tensors, ctx.bound), None


class _BoundedSlope(Function):
    """A gradient times the slope where the bounded leaky ReLU gave `out`; the slope is piecewise constant."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, out: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(out)
        ctx.bound = bound
        sloped = torch.ops.aten.leaky_relu_backward(gradient, out, LEAK, True)
        return torch.ops.aten.hardtanh_backward(sloped, out, -bound, bound)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _BoundedSlope.apply(*gradients, *ctx.saved_tensors, ctx.bound), None, None


def kernels(out_channels: int, in_channels: int, size: int, rng: torch.Generator) -> nn.Parameter:
    """Unit Gaussian kernels, laid out channels-last like the images, which spares each convolution a reordering."""
    weight = torch.randn(out_channels, in_channels, size, size, generator=rng, device=rng.device)
    return nn.Parameter(weight.contiguous(memory_format=torch.channels_last))


class Linear(nn.Module):
    """Equalised linear layer: unit Gaussian weights, scaled at run time (Karras et al. 2018, section 4.1)."""

    def __init__(
        self,
        in_size: int,
        out_size: int,
        rng: torch.Generator,
        *,
        active: bool = False,
        rate: float = 1.0,
        bias: float = 0.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_size, in_size, generator=rng, device=rng.device) / rate)
        self.bias = nn.Parameter(torch.full([out_size], bias / rate, device=rng.device))
        self.active = active
        self.bias_scale = (ACTIVATION_GAIN if active else 1) * rate
        self.weight_scale = self.bias_scale / math.sqrt(in_size)

    def resize(self, out_size: int, in_size: int) -> None:
        """Room for weights of another size, their numbers yet to come, in the same parameters."""
        if self.weight.shape != (out_size, in_size):
            self.weight.data = self.weight.new_empty(out_size, in_size)
            self.bias.data = self.bias.new_empty(out_size)
            self.weight_scale = self.bias_scale / math.sqrt(in_size)

    def forward(self, x: Float[Tensor, "n cin"]) -> Float[Tensor, "n cout"]:
        y = torch.addmm(self.bias, x, self.weight.T, beta=self.bias_scale, alpha=self.weight_scale)
        return activate(y, None) if self.active else y


class Conv(nn.Module):
    """Equalised convolution with an optional halving before it; active layers have a bias and a leaky ReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        rng: torch.Generator,
        *,
        active: bool = True,
        down: bool = False,
        clamp: float | None = None,
        fused: bool = False,
    ) -> None:
        super().__init__()
        self.weight = kernels(out_channels, in_channels, kernel, rng)
        self.bias = nn.Parameter(torch.zeros(out_channels, device=rng.device)) if active else None
        self.down, self.clamp, self.fused = down, clamp, fused
        self.scale = (ACTIVATION_GAIN if active else 1) / math.sqrt(in_channels * kernel**2)

    def forward(self, x: Float[Tensor, "n cin h w"], gain: float = 1.0) -> Float[Tensor, "n cout h2 w2"]:
        """The layer's output times `gain`."""
        weight = (self.weight * (self.scale * gain)).to(x.dtype)
        bias = None if self.bias is None else self.bias * (ACTIVATION_GAIN * gain)
        clamp = None if self.clamp is None else self.clamp * gain
        kernels = kernels_for(x, self.fused)
        if bias is not None and kernels is not None:
            return kernels.bias_activation(self._convolve(x, weight, None), bias, clamp)
        y = self._convolve(x, weight, None if bias is None else bias.to(x.dtype))
        return y if bias is None else activate(y, clamp)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.down:
            return conv_down2(x, weight, bias, self.fused)
        return conv2d(x, weight, bias, padding=weight.shape[-1] // 2)


class MappingNetwork(nn.Module):
    """From z and c to w: both normalised, joined, then active linear layers at a lower learning rate.

    `z_size` 0 is the discriminator's mapping of c alone, `class_count` 0 the mapping of z alone. All widths are
    `w_size`, but weights that are loaded may have others within, which no setting tells.
    """

    def __init__(self, z_size: int, w_size: int, class_count: int, layers: int, rng: torch.Generator) -> None:
        super().__init__()
        self.z_size, self.w_size = z_size, w_size
        self.embed = Linear(class_count, w_size, rng) if class_count else None
        in_size = z_size + (w_size if class_count else 0)
        self.stack = [f"fc{number}" for number in range(layers)]
        for name in self.stack:
            self.add_module(name, Linear(in_size, w_size, rng, active=True, rate=MAPPING_RATE))
            in_size = w_size
        self.register_load_state_dict_pre_hook(_take_widths)

    def forward(
        self, z: Float[Tensor, "n z_size"] | None, c: Float[Tensor, "n class_count"]
    ) -> Float[Tensor, "n w_size"]:
        parts = [] if z is None else [unit_second_moment(z)]
        if self.embed is not None:
            parts.append(unit_second_moment(self.embed(c)))
        w = torch.cat(parts, dim=1)
        for name in self.stack:
            w = self.get_submodule(name)(w)
        return w


def _take_widths(mapping: MappingNetwork, weights: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Give a mapping's embedding and all layers but the last the widths of weights that are about to be loaded."""
    in_size = mapping.z_size
    for name in [*(["embed"] if mapping.embed is not None else []), *mapping.stack]:
        layer = mapping.get_submodule(name)
        assert isinstance(layer, Linear)
        weight = weights.get(f"{prefix}{name}.weight", layer.weight)
        width = len(weight) if weight.ndim == 2 and name != mapping.stack[-1] else mapping.w_size
        if layer is mapping.embed:
            layer.resize(width, layer.weight.shape[1])
            in_size += width
        else:
            layer.resize(width, in_size)
            in_size = width
