"""The StyleGAN2 generator with output skips (Karras et al. 2020, arXiv 1912.04958)."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.functional import conv2d

from skinsynth.gan.backend import kernels_for
from skinsynth.gan.draws import RandomDraws
from skinsynth.gan.layers import (
    ACTIVATION_GAIN,
    W_AVERAGE_DECAY,
    HalfType,
    Linear,
    MappingNetwork,
    activate,
    channels_at,
    compute_type,
    half_resolutions,
    kernels,
    resolutions_to,
)
from skinsynth.gan.resample import conv_up2, upsample2d
from skinsynth.settings import Count, Positive, Whole

NoiseMode = Literal["const", "random", "none"]
MAPPED_AT_ONCE = 1024  # latents


@dataclass(frozen=True)
class GeneratorConfig:
    resolution: Count  # pixels, a power of two
    image_channels: Count
    z_size: Count
    w_size: Count
    class_count: Whole  # 0: unconditional
    mapping_layers: Count
    channel_base: Count  # feature maps times resolution …
    channel_max: Count  # … but at most so many
    activation_clamp: Positive | None  # bound of the activations, for 16 bits; None: no bound
    half_levels: Whole  # so many top resolutions in 16 bits on a GPU
    half_type: HalfType
    fused: bool  # Triton kernels on a GPU


class LatentMapping(MappingNetwork):
    """The generator's mapping: keeps the running mean of w and gives one w to each layer."""

    w_avg: Tensor

    def __init__(self, config: GeneratorConfig, layer_count: int, rng: torch.Generator) -> None:
        super().__init__(config.z_size, config.w_size, config.class_count, config.mapping_layers, rng)
        self.layer_count = layer_count
        self.register_buffer("w_avg", torch.zeros(config.w_size, device=rng.device))

    def forward(
        self,
        z: Float[Tensor, "n z_size"] | None,
        c: Float[Tensor, "n class_count"],
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> Float[Tensor, "n layers w_size"]:
        """One w for each layer; the first `cutoff` (None: all) are drawn towards the mean by psi (StyleGAN, eq. 1)."""
        ws = super().forward(z, c)[:, None].repeat(1, self.layer_count, 1)
        if truncation_psi != 1:
            drawn = self.w_avg.lerp(ws[:, :truncation_cutoff], truncation_psi)
            ws = torch.cat([drawn, ws[:, drawn.shape[1] :]], dim=1)
        return ws

    @torch.no_grad()
    def one_w(
        self, z: Float[Tensor, "n z_size"], c: Float[Tensor, "n class_count"], truncation_psi: float = 1.0
    ) -> Float[Tensor, "n w_size"]:
        """The w that all layers share, of any number of latents: so many at once, since they are repeated first."""
        parts = zip(z.split(MAPPED_AT_ONCE), c.split(MAPPED_AT_ONCE), strict=True)
        return torch.cat([self(*part, truncation_psi)[:, 0] for part in parts])

    def every_layer(self, w: Float[Tensor, "n w_size"]) -> Float[Tensor, "n layers w_size"]:
        """The same w for each layer, in the memory of one."""
        return w[:, None].expand(-1, self.layer_count, -1)

    @torch.no_grad()
    def update_average(self, ws: Float[Tensor, "n layers w_size"]) -> None:
        """Move the running mean of w towards this batch."""
        self.w_avg.lerp_(ws[:, 0].mean(dim=0), 1 - W_AVERAGE_DECAY)


def demodulation(weight: Float[Tensor, "cout cin k k"], style: Float[Tensor, "n cin"]) -> Float[Tensor, "n cout"]:
    """One over the norm of each modulated kernel (StyleGAN2, eq. 3)."""
    return (style.square() @ weight.square().sum(dim=(2, 3)).T + 1e-8).rsqrt()


def bound_for_half(
    weight: Float[Tensor, "cout cin k k"], style: Float[Tensor, "n cin"]
) -> tuple[Float[Tensor, "cout cin k k"], Float[Tensor, "n cin"]]:
    """Kernels and styles scaled so that 16 bits hold their products; demodulation takes the scales out again.

    So nothing depends on the scales, and no gradient goes through them.
    """
    fan_in = weight[0].numel()
    largest_weight = weight.detach().abs().amax(dim=(1, 2, 3), keepdim=True)
    largest_style = style.detach().abs().amax(dim=1, keepdim=True)
    return weight / (largest_weight * math.sqrt(fan_in)), style / largest_style


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, noise, bias and leaky ReLU."""

    noise_const: Tensor

    def __init__(
        self, config: GeneratorConfig, in_channels: int, resolution: int, up: bool, rng: torch.Generator
    ) -> None:
        super().__init__()
        out_channels = channels_at(resolution, config.channel_base, config.channel_max)
        device = rng.device
        self.affine = Linear(config.w_size, in_channels, rng, bias=1.0)
        self.weight = kernels(out_channels, in_channels, 3, rng)
        self.bias = nn.Parameter(torch.zeros(out_channels, device=device))
        self.noise_strength = nn.Parameter(torch.zeros([], device=device))
        self.register_buffer("noise_const", torch.randn(resolution, resolution, generator=rng, device=device))
        self.up, self.clamp, self.fused = up, config.activation_clamp, config.fused

    def forward(
        self,
        x: Float[Tensor, "n cin h w"],
        w: Float[Tensor, "n w_size"],
        noise_mode: NoiseMode,
        draws: RandomDraws | None,
    ) -> Float[Tensor, "n cout h2 w2"]:
        """Scales the images instead of one kernel per sample, which gives the same (StyleGAN2, section 2.2)."""
        weight: Tensor = self.weight
        style = self.affine(w)
        if x.dtype == torch.float16:
            weight, style = bound_for_half(weight, style)
        x = x * style.to(x.dtype)[:, :, None, None]
        kernel = weight.to(x.dtype)
        y = conv_up2(x, kernel, self.fused) if self.up else conv2d(x, kernel, padding=1)
        # The gain of the activation is in the scale, the bias and the noise: the leaky ReLU lets it through.
        scale, bias = demodulation(weight, style) * ACTIVATION_GAIN, self.bias * ACTIVATION_GAIN
        noise = self._noise(noise_mode, draws)
        if noise is not None:
            noise = noise * (self.noise_strength * ACTIVATION_GAIN)
        kernels = kernels_for(y, self.fused)
        activation = styled_activation if kernels is None else kernels.styled_activation
        return activation(y, scale, noise, bias, self.clamp)

    def _noise(self, mode: NoiseMode, draws: RandomDraws | None) -> Float[Tensor, "_ 1 h w"] | None:
        if mode == "none":
            return None
        if mode == "const":
            return self.noise_const[None, None]
        if draws is None:
            raise ValueError('noise_mode "random" draws from a torch.Generator, but none came: pass rng')
        return draws.normal(1, *self.noise_const.shape)


def styled_activation(
    y: Float[Tensor, "n c h w"],
    scale: Float[Tensor, "n c"],
    noise: Float[Tensor, "_ 1 h w"] | None,
    bias: Float[Tensor, " c"],
    clamp: float | None,
) -> Float[Tensor, "n c h w"]:
    """Demodulation, noise, bias and leaky ReLU after a convolution, in the type of its output."""
    scale, bias = scale.to(y.dtype)[:, :, None, None], bias.to(y.dtype)[None, :, None, None]
    if noise is None:
        return activate(torch.addcmul(bias, y, scale), clamp)
    return activate(_ScaledOnto.apply(noise.to(y.dtype), y, scale).add_(bias), clamp)


class _ScaledOnto(Function):
    """Noise plus scaled maps; PyTorch's own derivative multiplies all maps by one first, a pass over them."""

    @staticmethod
    def forward(ctx: Any, noise: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(y, scale)
        ctx.size = noise.shape
        return torch.addcmul(noise, y, scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        (gradient,), (y, scale) = gradients, ctx.saved_tensors
        to_noise = gradient.sum_to_size(ctx.size) if ctx.needs_input_grad[0] else None
        return to_noise, gradient * scale, (gradient * y).sum_to_size(scale.shape)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution without demodulation, from feature maps to an image."""

    def __init__(self, config: GeneratorConfig, in_channels: int, rng: torch.Generator) -> None:
        super().__init__()
        self.affine = Linear(config.w_size, in_channels, rng, bias=1.0)
        self.weight = kernels(config.image_channels, in_channels, 1, rng)
        self.bias = nn.Parameter(torch.zeros(config.image_channels, device=rng.device))
        self.clamp = config.activation_clamp
        self.scale = 1 / math.sqrt(in_channels)

    def forward(self, x: Float[Tensor, "n cin h w"], w: Float[Tensor, "n w_size"]) -> Float[Tensor, "n cout h w"]:
        style = (self.affine(w) * self.scale).to(x.dtype)
        modulated = self.weight[:, :, 0, 0].to(x.dtype) * style[:, None]
        pixels = x.permute(0, 2, 3, 1).flatten(1, 2) @ modulated.transpose(1, 2) + self.bias.to(x.dtype)
        image = pixels.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)
        return image if self.clamp is None else image.clamp(-self.clamp, self.clamp)


class SynthesisBlock(nn.Module):
    """The layers of one resolution; the first block starts from a learnt constant."""

    def __init__(self, config: GeneratorConfig, resolution: int, rng: torch.Generator) -> None:
        super().__init__()
        channels = channels_at(resolution, config.channel_base, config.channel_max)
        if resolution == 4:
            self.const = nn.Parameter(torch.randn(channels, 4, 4, generator=rng, device=rng.device))
        else:
            below = channels_at(resolution // 2, config.channel_base, config.channel_max)
            self.conv0 = StyledConv(config, below, resolution, up=True, rng=rng)
        self.conv1 = StyledConv(config, channels, resolution, up=False, rng=rng)
        self.torgb = ToRGB(config, channels, rng)
        self.fused = config.fused
        self.in_half = resolution in half_resolutions(config.resolution, config.half_levels)
        self.half_type = config.half_type

    def forward(
        self,
        x: Float[Tensor, "n cin h w"] | None,
        image: Float[Tensor, "n c h w"] | None,
        ws: list[Float[Tensor, "n w_size"]],
        noise_mode: NoiseMode,
        draws: RandomDraws | None,
    ) -> tuple[Float[Tensor, "n cout h2 w2"], Float[Tensor, "n c h2 w2"]]:
        dtype = compute_type(ws[0], self.in_half, self.half_type)
        if x is None:
            x = self.const.to(dtype).expand(len(ws[0]), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        else:
            x = self.conv0(x.to(dtype), ws[0], noise_mode, draws)
        x = self.conv1(x, ws[-2], noise_mode, draws)
        rgb = self.torgb(x, ws[-1]).to(ws[0].dtype)
        return x, rgb if image is None else upsample2d(image, self.fused) + rgb


class Synthesis(nn.Module):
    """From one w per layer to an image."""

    def __init__(self, config: GeneratorConfig, rng: torch.Generator) -> None:
        super().__init__()
        self.resolutions = resolutions_to(config.resolution)
        for resolution in self.resolutions:
            self.add_module(f"b{resolution}", SynthesisBlock(config, resolution, rng))
        self.layer_count = 2 * len(self.resolutions)

    def forward(
        self, ws: Float[Tensor, "n layers w_size"], noise_mode: NoiseMode = "const", draws: RandomDraws | None = None
    ) -> Float[Tensor, "n c h w"]:
        """Images near [-1, 1]. Each toRGB shares its w with the next resolution's first convolution."""
        if noise_mode not in get_args(NoiseMode):
            raise ValueError(f"noise_mode is one of {', '.join(get_args(NoiseMode))}, but {noise_mode!r} came")
        if ws.shape[1] != self.layer_count:
            raise ValueError(
                f"each of the {self.layer_count} layers takes one w, but {ws.shape[1]} came: take ws of this "
                "generator's mapping"
            )
        layers = list(ws.unbind(dim=1))
        x, image = self.get_submodule("b4")(None, None, layers[:2], noise_mode, draws)
        for level, resolution in enumerate(self.resolutions[1:], start=1):
            inputs = layers[2 * level - 1 : 2 * level + 2]
            x, image = self.get_submodule(f"b{resolution}")(x, image, inputs, noise_mode, draws)
        return image


class Generator(nn.Module):
    """Images of latents z and one-hot classes c ([n, 0] where unconditional)."""

    def __init__(self, config: GeneratorConfig, rng: torch.Generator) -> None:
        super().__init__()
        self.config = config
        self.synthesis = Synthesis(config, rng)
        self.mapping = LatentMapping(config, self.synthesis.layer_count, rng)

    def forward(
        self,
        z: Float[Tensor, "n z_size"],
        c: Float[Tensor, "n class_count"],
        truncation_psi: float = 1.0,
        noise_mode: NoiseMode = "const",
        rng: torch.Generator | None = None,
        truncation_cutoff: int | None = None,
    ) -> Float[Tensor, "n c h w"]:
        draws = None if rng is None else RandomDraws(len(z), rng)
        return self.synthesis(self.mapping(z, c, truncation_psi, truncation_cutoff), noise_mode, draws)


def in_full_precision(generator: Generator) -> Generator:
    """The same with every level in 32 bits, for differences that 16 bits would round away; itself where it is so."""
    if not generator.config.half_levels:
        return generator
    config = replace(generator.config, half_levels=0)
    full = Generator(config, torch.Generator(generator.mapping.w_avg.device)).requires_grad_(False)
    full.load_state_dict(generator.state_dict())
    return full
