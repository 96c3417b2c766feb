"""Images warped by affine maps with a sharp filter: twice the size, bilinear, half the size (arXiv 2006.06676, B.1)."""

import math
from functools import lru_cache

import torch
from jaxtyping import Float, Int64
from torch import Tensor

# The sym6 wavelet's low-pass filter: orthonormal, so that upsampling and downsampling alone give the image back.
SYM6 = (
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)
# The tap that stands over a pixel, so that the pixel i lies at 2 i of the doubled image.
CENTRE = 5
# Pixels of the doubled image that the filter reaches to the left and to the right of one.
LEFT, RIGHT = CENTRE, len(SYM6) - 1 - CENTRE
BILINEAR, ZEROS = 0, 0  # as PyTorch numbers ways to sample, and what lies outside
# Pixels by which the position of a corner may differ between two orders of its sums.
ROUNDING = 1e-2


def reflect(index: Int64[Tensor, "*shape"], size: int) -> Int64[Tensor, "*shape"]:
    """Positions on a line mirrored at the centres of its first and last pixel, as often as needed."""
    period = max(2 * size - 2, 1)
    folded = index.remainder(period)
    return torch.minimum(folded, period - folded)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # what outlives a call is for training too
def _doubling(size: int, margin: int, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "doubled size"]:
    """Matrix that reflects a line by a margin and doubles it; row 0 is the doubled pixel at -2 margin."""
    row = torch.arange(2 * (size + 2 * margin))
    reach = (len(SYM6) + 1) // 2
    pixel = row[:, None] // 2 - margin + torch.arange(-reach, reach + 1)
    tap = CENTRE + (row[:, None] - 2 * margin) - 2 * pixel
    taps = math.sqrt(2) * torch.tensor([*SYM6, 0.0], dtype=torch.float64)
    weight = taps[tap.where((tap >= 0) & (tap < len(SYM6)), len(SYM6))]
    matrix = torch.zeros(len(row), size, dtype=torch.float64)
    return matrix.scatter_add_(1, reflect(pixel, size), weight).to(device, dtype)


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def _halving(size: int, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "size doubled"]:
    """Matrix that halves a line; column 0 is the doubled pixel at -LEFT."""
    taps = torch.tensor(SYM6, dtype=torch.float64) / math.sqrt(2)
    matrix = torch.zeros(size, 2 * size + LEFT + RIGHT - 1, dtype=torch.float64)
    for pixel in range(size):
        matrix[pixel, 2 * pixel : 2 * pixel + len(SYM6)] = taps
    return matrix.to(device, dtype)


class _Sample(torch.autograd.Function):
    """Bilinear sampling, linear in the image; unlike torch's own it can be differentiated twice."""

    @staticmethod
    def forward(ctx, image: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.size = image.shape[2:]
        # On a GPU, torch.nn.functional.grid_sample may be cuDNN's; its adjoint below is PyTorch's own.
        return torch.ops.aten.grid_sampler_2d(image, grid, BILINEAR, ZEROS, True)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (grid,) = ctx.saved_tensors
        return _Spread.apply(gradient, grid, ctx.size), None


class _Spread(torch.autograd.Function):
    """The adjoint of bilinear sampling."""

    @staticmethod
    def forward(ctx, samples: Tensor, grid: Tensor, size: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        # Only the image's shape matters here: the operator is linear.
        image = samples.new_zeros(1).expand(*samples.shape[:2], *size)
        return torch.ops.aten.grid_sampler_2d_backward(
            samples.contiguous(), image, grid, BILINEAR, ZEROS, True, [True, False]
        )[0]

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = ctx.saved_tensors
        return _Sample.apply(gradient, grid), None, None


def sample(
    image: Float[Tensor, "n c h w"], x: Float[Tensor, "n a b"], y: Float[Tensor, "n a b"]
) -> Float[Tensor, "n c a b"]:
    """The image between its pixels, at columns x and rows y; zero outside."""
    height, width = image.shape[2:]
    grid = torch.stack([x * (2 / (width - 1)) - 1, y * (2 / (height - 1)) - 1], dim=-1)
    return _Sample.apply(image, grid)


def warp(images: Float[Tensor, "n c h w"], inverse: Float[Tensor, "n 3 3"]) -> Float[Tensor, "n c h w"]:
    """The images moved by affine maps, given as maps from output to input pixels about the image's centre.

    The surroundings are the image's reflections.
    """
    height, width = images.shape[2:]
    margin_x, margin_y = _margins(inverse, height, width)
    x, y = _sources(inverse.to(images, non_blocking=True), height, width)
    of = images.device, images.dtype
    turned = _resized(images, _doubling(width, margin_x, *of), _doubling(height, margin_y, *of))
    moved = sample(turned, 2 * (y + margin_y), 2 * (x + margin_x))
    return _resized(moved, _halving(width, *of), _halving(height, *of)).transpose(2, 3)


def _resized(
    images: Float[Tensor, "n c h w"], across: Float[Tensor, "v w"], down: Float[Tensor, "u h"]
) -> Float[Tensor, "n c v u"]:
    """Rows and columns times a matrix each, the image turned over: so they are two products, not two for each image."""
    return (images @ across.T).transpose(2, 3) @ down.T


def _positions(size: int, like: Float[Tensor, "n 3 3"]) -> Float[Tensor, " doubled"]:
    """The doubled output's pixels about its centre, in pixels of the image."""
    return torch.arange(-LEFT, 2 * size + RIGHT - 1, device=like.device, dtype=like.dtype) / 2 - (size - 1) / 2


def _sources(
    inverse: Float[Tensor, "n 3 3"], height: int, width: int
) -> tuple[Float[Tensor, "n a b"], Float[Tensor, "n a b"]]:
    """Column and row of the input, in its pixels, for each pixel of the doubled output."""
    return _mapped(inverse, _positions(width, inverse), _positions(height, inverse), height, width)


def _mapped(
    inverse: Float[Tensor, "n 3 3"],
    columns: Float[Tensor, " b"],
    rows: Float[Tensor, " a"],
    height: int,
    width: int,
) -> tuple[Float[Tensor, "n a b"], Float[Tensor, "n a b"]]:
    x, y = (
        row[:, 0, None, None] * columns + row[:, 1, None, None] * rows[:, None] + row[:, 2, None, None]
        for row in (inverse[:, 0], inverse[:, 1])
    )
    return x + (width - 1) / 2, y + (height - 1) / 2


def _margins(inverse: Float[Tensor, "n 3 3"], height: int, width: int) -> tuple[int, int]:
    """Columns and rows of surroundings that the maps reach, from the corners of the output: the maps are affine."""
    columns, rows = (_positions(size, inverse)[[0, -1]] for size in (width, height))
    x, y = _mapped(inverse, columns, rows, height, width)
    return _margin(x, width), _margin(y, height)


def _margin(source: Float[Tensor, "n a b"], size: int) -> int:
    """Pixels of surroundings that hold the doubled pixels met and their right neighbours, a multiple of 4."""
    # A corner may round to another side of a pixel than the same place within the whole grid does.
    least, most = (float(bound) for bound in source.aminmax())
    left, right = math.floor(2 * least - ROUNDING), math.floor(2 * most + ROUNDING)
    margin = math.ceil(max(-left, right + 2 - 2 * size, 0) / 2)
    return -4 * (-margin // 4)
