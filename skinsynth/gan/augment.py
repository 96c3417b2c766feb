"""Adaptive discriminator augmentation (Karras et al. 2020, arXiv 2006.06676, appendix B).

Each transform is drawn per image and passes a gate that is open with probability p. Everything is linear in the images
and differentiable any number of times in them, as R1 needs. An image whose gates are all closed stays as it is.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from skinsynth.gan.draws import angle
from skinsynth.gan.warp import reflect, warp
from skinsynth.settings import Between, Count, Share

BLIT = ("xflip", "rotate90", "xint")
GEOM = ("scale", "rotate", "aniso", "xfrac")
COLOR = ("brightness", "contrast", "lumaflip", "hue", "saturation")
FILTER, NOISE, CUTOUT = ("imgfilter",), ("noise",), ("cutout",)

PRESETS: dict[str, tuple[str, ...]] = {
    "none": (),
    "blit": BLIT,
    "geom": GEOM,
    "color": COLOR,
    "filter": FILTER,
    "noise": NOISE,
    "cutout": CUTOUT,
    "bg": BLIT + GEOM,
    "bgc": BLIT + GEOM + COLOR,
    "bgcf": BLIT + GEOM + COLOR + FILTER,
    "bgcfn": BLIT + GEOM + COLOR + FILTER + NOISE,
    "bgcfnc": BLIT + GEOM + COLOR + FILTER + NOISE + CUTOUT,
}
PRESETS |= {name: (name,) for name in PRESETS["bgcfnc"]}


def changes_colours(preset: str) -> bool:
    """Whether any of its transforms turns colours, which images of 1 or 3 channels have."""
    return any(transform in COLOR for transform in PRESETS[preset])


# Strengths of appendix B: shares of the image, standard deviations, and those of base-2 logarithms.
INTEGER_SHIFT = 0.125
FRACTION_SHIFT_STD = 0.125
SCALE_STD = 0.2
ANISOTROPY_STD = 0.2
BRIGHTNESS_STD = 0.2
CONTRAST_STD = 0.5
SATURATION_STD = 1.0
FILTER_STD = 1.0
NOISE_STD = 0.1
CUTOUT_SIZE = 0.5
# Power of natural images in the four octaves of the image filter, lowest first.
BAND_POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)
# The sym2 wavelet's low-pass filter, of sum 1.
SYM2 = tuple(root / 4 / 2 for root in (1 - math.sqrt(3), 3 - math.sqrt(3), 3 + math.sqrt(3), 1 + math.sqrt(3)))
GREY_AXIS = (1 / math.sqrt(3), 1 / math.sqrt(3), 1 / math.sqrt(3))


@dataclass(frozen=True)
class AugmentConfig:
    preset: str  # a key of PRESETS; "none" augments nothing
    initial_p: Share  # strength at the start, in [0, 1]
    adaptive: bool  # whether the strength is steered; otherwise it stays
    target_sign: Annotated[float, Between(-1, 1)]  # mean sign of the discriminator at real images that we steer to
    interval: Count  # steps between two adjustments
    images_to_full: Count  # images in which the strength may go from 0 to 1


class AdaController:
    """Steers the strength p so that the discriminator's mean sign at real images stays at its target (section 3.1)."""

    def __init__(self, config: AugmentConfig) -> None:
        if config.preset not in PRESETS:
            raise ValueError(f"an augmentation preset is one of {', '.join(PRESETS)}, but {config.preset!r} came")
        if not 0 <= config.initial_p <= 1:
            raise ValueError(f"the augmentation strength lies in [0, 1], but initial_p is {config.initial_p}")
        self.config = config
        self.p = config.initial_p
        self.sign_sum = 0.0
        self.sign_count = 0
        self.steps = 0

    def update(self, sign_sum: float, image_count: int) -> float:
        """Take in one step's sum of signs; every `interval` steps p moves by as many images as were seen. The new p."""
        if not self.config.adaptive or self.config.preset == "none":
            return self.p
        self.sign_sum += sign_sum
        self.sign_count += image_count
        self.steps += 1
        if self.steps % self.config.interval:
            return self.p
        excess = self.sign_sum / self.sign_count - self.config.target_sign
        step = math.copysign(self.sign_count / self.config.images_to_full, excess) if excess else 0.0
        self.p = min(max(self.p + step, 0.0), 1.0)
        self.sign_sum, self.sign_count = 0.0, 0
        return self.p

    def state(self) -> dict[str, float | int]:
        return {"p": self.p, "sign_sum": self.sign_sum, "sign_count": self.sign_count, "steps": self.steps}

    def restore(self, state: Mapping[str, float | int]) -> None:
        self.p, self.sign_sum = float(state["p"]), float(state["sign_sum"])
        self.sign_count, self.steps = int(state["sign_count"]), int(state["steps"])


@runtime_checkable
class Draws(Protocol):
    """Where the transforms get their gates and strengths from, one for each image."""

    @property
    def count(self) -> int: ...
    @property
    def device(self) -> torch.device: ...
    def gate(self, probability: float) -> Bool[Tensor, " n"]: ...
    def uniform(self, *shape: int) -> Float[Tensor, "n ..."]: ...
    def normal(self, *shape: int) -> Float[Tensor, "n ..."]: ...
    def second_angle(self) -> Float[Tensor, " n"]: ...


def augment(images: Float[Tensor, "n c h w"], preset: str, p: float, draws: Draws) -> Float[Tensor, "n c h w"]:
    """The images, each transform of the preset applied with probability p; `preset` is a key of PRESETS."""
    if preset not in PRESETS:
        raise ValueError(f"an augmentation preset is one of {', '.join(PRESETS)}, but {preset!r} came")
    transforms = PRESETS[preset]
    if not transforms or p <= 0:
        return images
    # Fewer bits than the draws have would place pixels wrongly.
    dtype, images = images.dtype, images.to(torch.promote_types(images.dtype, torch.float32))
    images = transform_geometry(images, transforms, p, draws)
    images = transform_colours(images, transforms, p, draws)
    if "imgfilter" in transforms:
        images = filter_bands(images, p, draws)
    if "noise" in transforms:
        images = add_noise(images, p, draws)
    if "cutout" in transforms:
        images = cut_out(images, p, draws)
    return images.to(dtype)


def matrices(rows: list[list[Tensor | int]], like: Float[Tensor, " n"]) -> Float[Tensor, "n k k"]:
    """One matrix per image from entries that are numbers or [n]."""
    entries = [
        torch.as_tensor(entry, dtype=like.dtype, device=like.device).expand(len(like)) for row in rows for entry in row
    ]
    return torch.stack(entries, dim=1).unflatten(1, (len(rows), len(rows[0])))


def scaling(x: Float[Tensor, " n"], y: Float[Tensor, " n"]) -> Float[Tensor, "n 3 3"]:
    """Magnification by x and y."""
    return matrices([[x, 0, 0], [0, y, 0], [0, 0, 1]], x)


def shift(x: Float[Tensor, " n"], y: Float[Tensor, " n"]) -> Float[Tensor, "n 3 3"]:
    """Translation by x and y."""
    return matrices([[1, 0, x], [0, 1, y], [0, 0, 1]], x)


def rotation(theta: Float[Tensor, " n"]) -> Float[Tensor, "n 3 3"]:
    """Rotation by theta radians."""
    cos, sin = theta.cos(), theta.sin()
    return matrices([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], theta)


def transform_geometry(
    images: Float[Tensor, "n c h w"], transforms: tuple[str, ...], p: float, draws: Draws
) -> Float[Tensor, "n c h w"]:
    """Blitting and geometric transforms as one resampling of those images that have an open gate."""
    if not set(transforms) & set(BLIT + GEOM):
        return images
    inverse, moved = inverse_transform(transforms, p, draws, *images.shape[2:])
    rows = moved.nonzero()[:, 0]
    if len(rows) == 0:
        return images
    if len(rows) == len(images):
        return warp(images, inverse)
    places = rows.to(images.device, non_blocking=True)
    return images.index_copy(0, places, warp(images[places], inverse[rows]))


def inverse_transform(
    transforms: tuple[str, ...], p: float, draws: Draws, height: int, width: int
) -> tuple[Float[Tensor, "n 3 3"], Bool[Tensor, " n"]]:
    """From output to input coordinates in pixels about the centre, and which images have an open gate."""
    steps: list[Float[Tensor, "n 3 3"]] = []
    gates: list[Bool[Tensor, " n"]] = []

    def gated(value: Float[Tensor, " n"], neutral: float, probability: float = p) -> Float[Tensor, " n"]:
        gates.append(draws.gate(probability))
        return value.where(gates[-1], neutral)

    if "xflip" in transforms:
        flip = gated((2 * draws.uniform()).floor(), 0.0)
        steps.append(scaling(1 - 2 * flip, torch.ones_like(flip)))
    if "rotate90" in transforms:
        steps.append(rotation(gated((4 * draws.uniform()).floor(), 0.0) * (math.pi / 2)))
    if "xint" in transforms:
        x, y = (((2 * draws.uniform() - 1) * INTEGER_SHIFT * size).round() for size in (width, height))
        both = gated(torch.ones_like(x), 0.0)
        steps.append(shift(-x * both, -y * both))
    if "scale" in transforms:
        factor = gated(torch.exp2(-draws.normal() * SCALE_STD), 1.0)
        steps.append(scaling(factor, factor))
    # Either rotation is gated so that one of them at least is drawn with probability p.
    probability = 1 - math.sqrt(1 - p)
    if "rotate" in transforms:
        steps.append(rotation(gated(angle(draws.uniform()), 0.0, probability)))
    if "aniso" in transforms:
        factor = gated(torch.exp2(-draws.normal() * ANISOTROPY_STD), 1.0)
        steps.append(scaling(factor, 1 / factor))
    if "rotate" in transforms:
        steps.append(rotation(gated(draws.second_angle(), 0.0, probability)))
    if "xfrac" in transforms:
        x, y = (draws.normal() * FRACTION_SHIFT_STD * size for size in (width, height))
        both = gated(torch.ones_like(x), 0.0)
        steps.append(shift(-x * both, -y * both))
    return chain(steps), torch.stack(gates).any(dim=0)


def chain(steps: list[Float[Tensor, "n k k"]]) -> Float[Tensor, "n k k"]:
    """The product of the matrices, the first one leftmost."""
    product = steps[0]
    for step in steps[1:]:
        product = product @ step
    return product


def transform_colours(
    images: Float[Tensor, "n c h w"], transforms: tuple[str, ...], p: float, draws: Draws
) -> Float[Tensor, "n c h w"]:
    """Brightness, contrast, luma flip, hue and saturation as one affine map of the colours; grey stays grey."""
    steps = colour_steps(transforms, p, draws)
    if not steps:
        return images
    colours = chain(steps[::-1])
    colours = colours.to(images, non_blocking=True)
    linear, offset = colours[:, :3, :3], colours[:, :3, 3:]
    if images.shape[1] == 1:
        # What the map does to the axis of greys, on average over the channels.
        linear, offset = linear.sum(dim=2, keepdim=True).mean(dim=1, keepdim=True), offset.mean(dim=1, keepdim=True)
    elif images.shape[1] != 3:
        raise ValueError(
            f"colours are transformed in images of 1 or 3 channels, but {images.shape[1]} came: use preset bg"
        )
    return torch.baddbmm(offset, linear, images.flatten(2)).view_as(images)


def colour_steps(transforms: tuple[str, ...], p: float, draws: Draws) -> list[Float[Tensor, "n 4 4"]]:
    """The affine maps of the colours in the order in which they are applied."""

    def gated(value: Float[Tensor, " n"], neutral: float) -> Float[Tensor, " n"]:
        return value.where(draws.gate(p), neutral)

    steps = []
    if "brightness" in transforms:
        b = gated(draws.normal() * BRIGHTNESS_STD, 0.0)
        steps.append(matrices([[1, 0, 0, b], [0, 1, 0, b], [0, 0, 1, b], [0, 0, 0, 1]], b))
    if "contrast" in transforms:
        steps.append(about_grey_axis(factor := gated(torch.exp2(draws.normal() * CONTRAST_STD), 1.0), factor))
    if "lumaflip" in transforms:
        flip = gated((2 * draws.uniform()).floor(), 0.0)
        steps.append(about_grey_axis(1 - 2 * flip, torch.ones_like(flip)))
    if "hue" in transforms:
        steps.append(turn_about_grey_axis(gated(angle(draws.uniform()), 0.0)))
    if "saturation" in transforms:
        factor = gated(torch.exp2(draws.normal() * SATURATION_STD), 1.0)
        steps.append(about_grey_axis(torch.ones_like(factor), factor))
    return steps


def _grey_projection(like: Float[Tensor, " n"]) -> Float[Tensor, "4 4"]:
    axis = torch.tensor([*GREY_AXIS, 0.0], dtype=like.dtype, device=like.device)
    return axis.outer(axis)


def _homogeneous(linear: Float[Tensor, "n 4 4"]) -> Float[Tensor, "n 4 4"]:
    """The map with the last coordinate left alone."""
    corner = torch.zeros(4, 4, dtype=linear.dtype, device=linear.device)
    corner[3, 3] = 1
    return linear * (1 - corner) + corner


def about_grey_axis(along: Float[Tensor, " n"], across: Float[Tensor, " n"]) -> Float[Tensor, "n 4 4"]:
    """Colours scaled along the axis of greys and across it."""
    projection = _grey_projection(along)
    rest = torch.eye(4, dtype=along.dtype, device=along.device) - projection
    return _homogeneous(along[:, None, None] * projection + across[:, None, None] * rest)


def turn_about_grey_axis(theta: Float[Tensor, " n"]) -> Float[Tensor, "n 4 4"]:
    """Hue: colours turned about the axis of greys by theta radians (Rodrigues' formula)."""
    projection = _grey_projection(theta)
    rest = torch.eye(4, dtype=theta.dtype, device=theta.device) - projection
    a = GREY_AXIS[0]
    cross = torch.tensor(
        [[0, -a, a, 0], [a, 0, -a, 0], [-a, a, 0, 0], [0, 0, 0, 0]], dtype=theta.dtype, device=theta.device
    )
    turned = projection + theta.cos()[:, None, None] * rest + theta.sin()[:, None, None] * cross
    return _homogeneous(turned)


def filter_bands(images: Float[Tensor, "n c h w"], p: float, draws: Draws) -> Float[Tensor, "n c h w"]:
    """Four octaves amplified at random, keeping the power of natural images; reflected at the borders."""
    gains = band_gains(p, draws).to(images, non_blocking=True)
    of = gains.device, gains.dtype
    rows, columns = (torch.einsum("nb,bij->nij", gains, band_matrices(size, *of)) for size in images.shape[2:])
    return rows[:, None] @ images @ columns.transpose(1, 2)[:, None]


def band_gains(p: float, draws: Draws) -> Float[Tensor, "n 4"]:
    """Amplitude of each octave, lowest first."""
    power = torch.tensor(BAND_POWER, device=draws.device)
    gains = torch.ones(draws.count, len(power), device=draws.device)
    for band in range(len(power)):
        factor = torch.exp2(draws.normal() * FILTER_STD).where(draws.gate(p), 1)
        step = torch.ones_like(gains)
        step[:, band] = factor
        gains = gains * step / (step.square() @ power).sqrt()[:, None]
    return gains


def band_filters() -> list[Float[Tensor, " taps"]]:
    """Zero-phase filters of odd length whose sum is the identity: the octaves of the sym2 wavelet, lowest first."""
    low = torch.tensor(SYM2, dtype=torch.float64)
    high = low * torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    low, high = (torch.nn.functional.conv1d(h[None, None], h[None, None], padding=3)[0, 0] for h in (low, high))
    bands, passed = [], torch.ones(1, dtype=torch.float64)
    for octave in range(3):
        bands.append(convolve(passed, spread(high, 2**octave)))
        passed = convolve(passed, spread(low, 2**octave))
    return [passed, *bands[::-1]]


def spread(taps: Float[Tensor, " n"], step: int) -> Float[Tensor, " m"]:
    """Zeros between the taps, so that the filter acts `step` times as coarsely."""
    wide = taps.new_zeros((len(taps) - 1) * step + 1)
    wide[::step] = taps
    return wide


def convolve(a: Float[Tensor, " n"], b: Float[Tensor, " m"]) -> Float[Tensor, " k"]:
    """The filter that acts as one after the other."""
    return torch.nn.functional.conv1d(a[None, None], b.flip(0)[None, None], padding=len(b) - 1)[0, 0]


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # what outlives a call is for training too
def band_matrices(size: int, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "4 size size"]:
    """Each octave's filter as a matrix on a line of `size` pixels."""
    position = torch.arange(size)
    bands = []
    for taps in band_filters():
        offset = torch.arange(len(taps)) - len(taps) // 2
        matrix = torch.zeros(size, size, dtype=torch.float64)
        columns = reflect(position[:, None] + offset, size)
        bands.append(matrix.scatter_add_(1, columns, taps.expand(size, -1)))
    return torch.stack(bands).to(device, dtype)


def add_noise(images: Float[Tensor, "n c h w"], p: float, draws: Draws) -> Float[Tensor, "n c h w"]:
    """Gaussian noise whose deviation is itself half-normal."""
    deviation = (draws.normal().abs() * NOISE_STD).where(draws.gate(p), 0).to(images.device, non_blocking=True)
    return images + deviation[:, None, None, None] * draws.normal(*images.shape[1:])


def cut_out(images: Float[Tensor, "n c h w"], p: float, draws: Draws) -> Float[Tensor, "n c h w"]:
    """A rectangle of half the image's size set to zero, its centre anywhere."""
    size = torch.full([draws.count], CUTOUT_SIZE, device=draws.device).where(draws.gate(p), 0)
    outside = []
    for pixels in (images.shape[3], images.shape[2]):
        position = (torch.arange(pixels, device=draws.device) + 0.5) / pixels
        outside.append((position - draws.uniform()[:, None]).abs() >= size[:, None] / 2)
    columns, rows = (mask.to(images.device, non_blocking=True) for mask in outside)
    return images * (columns[:, None, None, :] | rows[:, None, :, None])
