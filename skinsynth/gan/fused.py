"""The networks' memory-bound steps as Triton kernels: resampling by [1, 3, 3, 1], and what follows a convolution.

Each kernel reads its images once where the plain path of `resample`, `layers` and `generator` takes several passes; the
values are the same but for rounding. Images lie channels-last, so that neighbouring threads meet neighbouring channels.
All operators are differentiable any number of times, as R1 and path lengths need. The kernels compile for Hopper and
give the right values in Triton's interpreter, but have not run on a GPU yet: `fused: false` is what params.yaml says.
"""

from functools import reduce
from typing import no_type_check

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from skinsynth.gan.backend import LEAK, TAPS, bound_in

try:
    import triton
    import triton.language as tl
except ImportError:  # torch brings Triton only where it brings CUDA
    triton = None  # type: ignore[assignment]

# What one program of a kernel takes; guesses that a GPU has yet to judge.
ROWS, LANES = 8, 1024  # of the resampled image; a lane is one channel of one column
PIXELS, CHANNELS = 32, 64  # of an activation
FILTER_GAIN = 1 / sum(TAPS) ** 2


def available() -> bool:
    """Whether Triton is installed; the kernels then take tensors on a GPU."""
    return triton is not None


# The runtime type checks would hide the kernels' source from Triton, hence `no_type_check`.
if triton is not None:

    @triton.jit
    @no_type_check
    def _filtered_row(
        image,
        row,
        column,
        channel,
        used,
        height,
        width,
        channels,
        UP: tl.constexpr,
        TAPS: tl.constexpr,
        WIDE: tl.constexpr,
    ):
        """One row of the image with zeros between its pixels, filtered along the row only."""
        used &= (row >= 0) & (row < height * UP) & (row % UP == 0)
        start = image + (row // UP) * width * channels + channel
        total = tl.zeros(column.shape, WIDE)
        for tap in tl.static_range(4):
            place = column + tap
            there = used & (place >= 0) & (place < width * UP) & (place % UP == 0)
            total += TAPS[tap] * tl.load(start + (place // UP) * channels, mask=there, other=0).to(WIDE)
        return total

    @triton.jit
    @no_type_check
    def _resample_kernel(
        x,
        out,
        gain,
        channels,
        height,
        width,
        out_height,
        out_width,
        UP: tl.constexpr,
        DOWN: tl.constexpr,
        PAD: tl.constexpr,
        TAPS: tl.constexpr,
        WIDE: tl.constexpr,
        ROWS: tl.constexpr,
        LANES: tl.constexpr,
    ):
        """A band of rows from top to bottom: the last filtered rows stay in registers, so each is read once."""
        bands = tl.cdiv(out_height, ROWS)
        sample = (tl.program_id(0) // bands).to(tl.int64)
        first = (tl.program_id(0) % bands).to(tl.int64) * ROWS
        lane = tl.program_id(1) * LANES + tl.arange(0, LANES)
        used = lane < out_width * channels
        column, channel = (lane // channels) * DOWN - PAD, lane % channels
        image = x + sample * height * width * channels
        top = first * DOWN - PAD
        a = _filtered_row(image, top, column, channel, used, height, width, channels, UP, TAPS, WIDE)
        b = _filtered_row(image, top + 1, column, channel, used, height, width, channels, UP, TAPS, WIDE)
        c = _filtered_row(image, top + 2, column, channel, used, height, width, channels, UP, TAPS, WIDE)
        for row in range(ROWS):
            d = _filtered_row(image, top + 3, column, channel, used, height, width, channels, UP, TAPS, WIDE)
            value = gain * (TAPS[0] * a + TAPS[1] * b + TAPS[2] * c + TAPS[3] * d)
            target = out + (sample * out_height + first + row) * out_width * channels + lane
            tl.store(target, value, mask=used & (first + row < out_height))
            a, b, c = b, c, d
            if DOWN == 2:
                a, b = b, c
                c = _filtered_row(image, top + 4, column, channel, used, height, width, channels, UP, TAPS, WIDE)
            top += DOWN

    @triton.jit
    @no_type_check
    def _activation_kernel(
        y,
        scale,
        noise,
        bias,
        out,
        bound,
        channels,
        pixels,
        noise_step,
        LEAK: tl.constexpr,
        WIDE: tl.constexpr,
        PIXELS: tl.constexpr,
        CHANNELS: tl.constexpr,
    ):
        """A tile of pixels and channels of one sample; what is None drops out when the kernel is compiled."""
        sample = tl.program_id(2).to(tl.int64)
        pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
        channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
        pixel_used, channel_used = pixel < pixels, channel < channels
        used = pixel_used[:, None] & channel_used[None, :]
        place = (sample * pixels + pixel)[:, None] * channels + channel[None, :]
        value = tl.load(y + place, mask=used, other=0).to(WIDE)
        if scale is not None:
            value *= tl.load(scale + sample * channels + channel, mask=channel_used, other=0).to(WIDE)[None, :]
        if noise is not None:
            value += tl.load(noise + sample * noise_step + pixel, mask=pixel_used, other=0).to(WIDE)[:, None]
        value += tl.load(bias + channel, mask=channel_used, other=0).to(WIDE)[None, :]
        value = tl.where(value > 0, value, value * LEAK)
        if bound is not None:
            # Comparisons let NaN through as torch's clamp does; a minimum on the GPU would hide it.
            value = tl.where(value > bound, bound, value)
            value = tl.where(value < -bound, -bound, value)
        tl.store(out + place, value, mask=used)

    @triton.jit
    @no_type_check
    def _gradient_kernel(
        gradient,
        out,
        y,
        scale,
        to_y,
        to_scale,
        to_noise,
        to_bias,
        bound,
        channels,
        pixels,
        LEAK: tl.constexpr,
        WIDE: tl.constexpr,
        PIXELS: tl.constexpr,
        CHANNELS: tl.constexpr,
    ):
        """The same tile backwards, with its share of each sum; shares are added up later, always in the same order."""
        sample = tl.program_id(2).to(tl.int64)
        pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
        channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
        pixel_used, channel_used = pixel < pixels, channel < channels
        used = pixel_used[:, None] & channel_used[None, :]
        place = (sample * pixels + pixel)[:, None] * channels + channel[None, :]
        value = tl.load(gradient + place, mask=used, other=0).to(WIDE)
        activated = tl.load(out + place, mask=used, other=0).to(WIDE)
        value = tl.where(activated > 0, value, value * LEAK)
        if bound is not None:
            value = tl.where(tl.abs(activated) >= bound, 0.0, value)
        share_of_channel = (sample * tl.num_programs(0) + tl.program_id(0)) * channels + channel
        if to_scale is not None:
            product = value * tl.load(y + place, mask=used, other=0).to(WIDE)
            tl.store(to_scale + share_of_channel, tl.sum(product, axis=0), mask=channel_used)
        if to_noise is not None:
            share_of_pixel = (sample * tl.num_programs(1) + tl.program_id(1)) * pixels + pixel
            tl.store(to_noise + share_of_pixel, tl.sum(value, axis=1), mask=pixel_used)
        tl.store(to_bias + share_of_channel, tl.sum(value, axis=0), mask=channel_used)
        if scale is not None:
            value *= tl.load(scale + sample * channels + channel, mask=channel_used, other=0).to(WIDE)[None, :]
        tl.store(to_y + place, value, mask=used)


def _wide(x: Tensor) -> torch.dtype:
    """The type of sums: 32 bits, or 64 where the images have them (gradient checks)."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _kernel_type(x: Tensor) -> object:
    return tl.float64 if x.dtype == torch.float64 else tl.float32


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


class _Resample(Function):
    """Zeros put between pixels (`up`), borders of zeros (`pad`), the filter, then every `down`-th pixel.

    Linear; its adjoint is itself with `up` and `down` swapped and the rest of the filter's reach as border.
    """

    @staticmethod
    def forward(ctx, x: Tensor, up: int, down: int, pad: int, size: tuple[int, int], gain: float) -> Tensor:
        ctx.adjoint = (down, up, len(TAPS) - 1 - pad, (x.shape[2], x.shape[3]), gain)
        x = _channels_last(x)
        count, channels, height, width = x.shape
        out = torch.empty(count, channels, *size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        rows, lanes = min(ROWS, size[0]), LANES  # of one width, so that fewer kernels are compiled
        grid = (count * triton.cdiv(size[0], rows), triton.cdiv(size[1] * channels, lanes))
        with torch.cuda.device_of(x):
            _resample_kernel[grid](
                x, out, gain, channels, height, width, *size, up, down, pad, TAPS, _kernel_type(x), rows, lanes
            )
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return _Resample.apply(gradient, *ctx.adjoint), None, None, None, None, None


def binomial(x: Float[Tensor, "n c h w"], padding: int) -> Float[Tensor, "n c h2 w2"]:
    """The binomial filter with borders of zeros (StyleGAN2, appendix B)."""
    height, width = (size + 2 * padding - len(TAPS) + 1 for size in x.shape[2:])
    return _Resample.apply(x, 1, 1, padding, (height, width), FILTER_GAIN)


def upsample2d(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c 2*h 2*w"]:
    """The image at twice the size, as `resample.upsample2d`."""
    return _Resample.apply(x, 2, 1, 2, (2 * x.shape[2], 2 * x.shape[3]), 4 * FILTER_GAIN)


def downsample2d(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h//2 w//2"]:
    """The image at half the size, as `resample.downsample2d`."""
    return _Resample.apply(x, 1, 2, 1, (x.shape[2] // 2, x.shape[3] // 2), FILTER_GAIN)


def _tiles(x: Tensor) -> tuple[tuple[int, int, int], int, int]:
    """The programs over pixels, channels and samples, and the pixels and channels of each."""
    count, channels, height, width = x.shape
    channel_block = min(CHANNELS, triton.next_power_of_2(channels))
    pixel_block = PIXELS * CHANNELS // channel_block
    return (
        (triton.cdiv(height * width, pixel_block), triton.cdiv(channels, channel_block), count),
        pixel_block,
        channel_block,
    )


def _bound(clamp: float | None, x: Tensor) -> float | None:
    return None if clamp is None else bound_in(x, clamp)


class _Activation(Function):
    """The forward pass keeps its output, whose sign and size tell the slope; y is kept for the scale alone."""

    @staticmethod
    def forward(
        ctx, y: Tensor, scale: Tensor | None, noise: Tensor | None, bias: Tensor, clamp: float | None
    ) -> Tensor:
        channels, pixels = y.shape[1], y.shape[2] * y.shape[3]
        out = torch.empty_like(y, memory_format=torch.channels_last)
        grid, pixel_block, channel_block = _tiles(y)
        # One noise for all samples stays where it is from sample to sample.
        noise_step = pixels if noise is not None and len(noise) > 1 else 0
        small = (None if x is None else x.contiguous() for x in (scale, noise, bias))
        with torch.cuda.device_of(y):
            _activation_kernel[grid](
                _channels_last(y), *small, out, _bound(clamp, y), channels, pixels, noise_step, LEAK, _kernel_type(y),
                pixel_block, channel_block,
            )  # fmt: skip
        ctx.save_for_backward(out, None if scale is None else y, scale)
        ctx.clamp, ctx.noise_count = clamp, 0 if noise is None else len(noise)
        ctx.types = [None if x is None else x.dtype for x in (y, scale, noise, bias)]
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradients = _Gradient.apply(gradient, *ctx.saved_tensors, ctx.noise_count, ctx.clamp)
        return *(None if x is None else x.to(t) for x, t in zip(gradients, ctx.types, strict=True)), None


class _Gradient(Function):
    """The gradients of `_Activation` in y, scale, noise and bias; the sums are as wide as the kernel's."""

    @staticmethod
    def forward(
        ctx,
        gradient: Tensor,
        out: Tensor,
        y: Tensor | None,
        scale: Tensor | None,
        noise_count: int,
        clamp: float | None,
    ) -> tuple[Tensor | None, ...]:
        ctx.save_for_backward(gradient, out, y, scale)
        ctx.clamp = clamp
        ctx.set_materialize_grads(False)
        count, channels, height, width = out.shape
        grid, pixel_block, channel_block = _tiles(out)
        to_y = torch.empty_like(out)
        to_bias = out.new_empty(count, grid[0], channels, dtype=_wide(out))
        to_scale = None if scale is None else torch.empty_like(to_bias)
        to_noise = out.new_empty(count, grid[1], height, width, dtype=_wide(out)) if noise_count else None
        if y is not None and scale is not None:
            y, scale = _channels_last(y), scale.contiguous()
        with torch.cuda.device_of(out):
            _gradient_kernel[grid](
                _channels_last(gradient), out, y, scale, to_y, to_scale, to_noise, to_bias, _bound(clamp, out),
                channels, height * width, LEAK, _kernel_type(out), pixel_block, channel_block,
            )  # fmt: skip
        if to_scale is not None:
            to_scale = to_scale.sum(dim=1)
        if to_noise is not None:
            to_noise = to_noise.sum(dim=1 if noise_count == count else (0, 1), keepdim=True)
        return to_y, to_scale, to_noise, to_bias.sum(dim=(0, 1))

    @staticmethod
    def backward(
        ctx, to_y: Tensor | None, to_scale: Tensor | None, to_noise: Tensor | None, to_bias: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """The slope is piecewise constant: what the sums spread over the image is multiplied by it once more."""
        gradient, out, y, scale = ctx.saved_tensors
        spread = [] if to_y is None else [to_y if scale is None else to_y * _per_channel(scale, out)]
        if to_scale is not None:
            spread.append(y * _per_channel(to_scale, out))
        if to_noise is not None:
            spread.append(to_noise.to(out.dtype))
        if to_bias is not None:
            spread.append(_per_channel(to_bias[None], out))
        if not spread:
            return None, None, None, None, None, None
        to_gradient = _times_slope(reduce(torch.add, spread).expand_as(out), out, ctx.clamp)
        if scale is None:
            return to_gradient, None, None, None, None, None
        sloped = _times_slope(gradient, out, ctx.clamp)
        again_to_y = None if to_scale is None else sloped * _per_channel(to_scale, out)
        again_to_scale = None if to_y is None else (sloped * to_y).sum(dim=(2, 3), dtype=_wide(out)).to(scale.dtype)
        return to_gradient, None, again_to_y, again_to_scale, None, None


def _per_channel(x: Tensor, like: Tensor) -> Tensor:
    return x.to(like.dtype)[:, :, None, None]


def _times_slope(x: Tensor, out: Tensor, clamp: float | None) -> Tensor:
    """Each pixel times the activation's slope there."""
    return _Gradient.apply(x, out, None, None, 0, clamp)[0]


def bias_activation(
    x: Float[Tensor, "n c h w"], bias: Float[Tensor, " c"], clamp: float | None
) -> Float[Tensor, "n c h w"]:
    """Bias, leaky ReLU and clamp in one pass, gains folded in by the caller, as at the end of `layers.Conv`."""
    return _Activation.apply(x, None, None, bias, clamp)


def styled_activation(
    y: Float[Tensor, "n c h w"],
    scale: Float[Tensor, "n c"],
    noise: Float[Tensor, "_ 1 h w"] | None,
    bias: Float[Tensor, " c"],
    clamp: float | None,
) -> Float[Tensor, "n c h w"]:
    """Demodulation, noise, bias, leaky ReLU and clamp in one pass, as at the end of `generator.StyledConv`.

    `scale`, `noise` and `bias` may keep 32 bits where the images have 16 (StyleGAN2, figure 2c).
    """
    return _Activation.apply(y, scale, noise, bias, clamp)
