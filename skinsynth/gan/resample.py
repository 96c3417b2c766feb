"""Resampling by the binomial filter [1, 3, 3, 1], alone and joined with a convolution (StyleGAN2, appendix B).

All operators treat images as zero outside, are linear in the image and differentiable any number of times. A depthwise
4x4 convolution on channels-last images was the fastest form of the filter on the CPU: polyphase sums, pooling cascades
and banded matrices took two to ten times as long, and folding the filter into a 6x6 kernel four times as long. Where
`fused` is true, a GPU with Triton takes the kernels of the module `fused` instead.
"""

from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import conv2d, conv_transpose2d

from skinsynth.gan.backend import TAPS, kernels_for


@cache
def _kernel(device: torch.device, dtype: torch.dtype, gain: float) -> Float[Tensor, "1 1 4 4"]:
    taps = torch.tensor(TAPS, device=device, dtype=dtype)
    return (taps.outer(taps) / taps.sum() ** 2 * gain)[None, None]


def _depthwise(x: Float[Tensor, "n c h w"], gain: float) -> Float[Tensor, "c 1 4 4"]:
    return _kernel(x.device, x.dtype, gain).expand(x.shape[1], -1, -1, -1)


class _Filter(Function):
    """The filter, then every `stride`-th pixel. Its taps are constants and it keeps no image.

    A grouped convolution of PyTorch's keeps the image for a gradient of its taps, and its second derivative makes that
    gradient with one more convolution for each channel, wanted or not: thousands in one R1 update at 256 px.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: float, stride: int, padding: int) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        ctx.size, ctx.how = x.shape, (gain, stride, padding)
        return conv2d(x, _depthwise(x, gain), stride=stride, padding=padding, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        return _Spread.apply(*gradients, ctx.size, *ctx.how), None, None, None


class _Spread(Function):
    """The adjoint of `_Filter`: each pixel spread by the taps over an image of the given size."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, size: torch.Size, gain: float, stride: int, padding: int) -> Tensor:
        ctx.how = (gain, stride, padding)
        # Of the image that is sought only size and layout are read.
        image = torch.empty(size, dtype=y.dtype, device=y.device, memory_format=torch.channels_last)
        how = [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], y.shape[1], (True, False, False)
        return torch.ops.aten.convolution_backward(y, image, _depthwise(y, gain), None, *how)[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        return _Filter.apply(*gradients, *ctx.how), None, None, None, None


def _filter(x: Float[Tensor, "n c h w"], padding: int, fused: bool = False) -> Float[Tensor, "n c h2 w2"]:
    if (kernels := kernels_for(x, fused)) is not None:
        return kernels.binomial(x, padding)
    return _Filter.apply(x, 1.0, 1, padding)


def upsample2d(x: Float[Tensor, "n c h w"], fused: bool = False) -> Float[Tensor, "n c 2*h 2*w"]:
    """The image at twice the size: zeros put between its pixels, then filtered with gain 4."""
    if (kernels := kernels_for(x, fused)) is not None:
        return kernels.upsample2d(x)
    n, c, h, w = x.shape
    return _Spread.apply(x, torch.Size([n, c, 2 * h, 2 * w]), 4.0, 2, 1)


def downsample2d(x: Float[Tensor, "n c h w"], fused: bool = False) -> Float[Tensor, "n c h//2 w//2"]:
    """The image at half the size: filtered, then every second pixel."""
    if (kernels := kernels_for(x, fused)) is not None:
        return kernels.downsample2d(x)
    return _Filter.apply(x, 1.0, 2, 1)


def conv_up2(
    x: Float[Tensor, "n cin h w"], weight: Float[Tensor, "cout cin 3 3"], fused: bool = False
) -> Float[Tensor, "n cout 2*h 2*w"]:
    """Zeros between the pixels, a true convolution (flipped kernel), then the filter with gain 4."""
    # The filter's gain sits in the small kernel, so it costs no pass over the images.
    spread = conv_transpose2d(x, 4 * weight.transpose(0, 1), stride=2)
    return _filter(spread, 1, fused)


def conv_down2(
    x: Float[Tensor, "n cin h w"],
    weight: Float[Tensor, "cout cin k k"],
    bias: Float[Tensor, " cout"] | None = None,
    fused: bool = False,
) -> Float[Tensor, "n cout h//2 w//2"]:
    """The filter, then a correlation of stride 2; with a 1x1 kernel only the pixels that it meets are filtered."""
    if weight.shape[-1] == 1:
        return conv2d(downsample2d(x, fused), weight, bias)
    return conv2d(_filter(x, weight.shape[-1] // 2 + 1, fused), weight, bias, stride=2)
