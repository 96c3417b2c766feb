"""Images compared without any network: small, without their colour cast, mirrored, turned and cut as they may be."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, grid_sample, normalize
from tqdm import tqdm

from skinsynth.privacy.distances import cosine, nearest

SIZE = 32
WHOLE_SIZE = 16  # of whole images, in which neither noise nor blur says much
# A distance of whole images counts as this much of one of discs: strangers lie so much nearer in discs, which may move.
WHOLE = 0.5
# Points across a disc, which lies as the image is turned; its radius is in halves of the image's side.
ACROSS = 16
RADIUS = 0.6  # of a disc in the others: what is cut from them may hold as much
SHIFTS = (-0.3, -0.15, 0.0, 0.15, 0.3)  # of its middle, to the side and down: a copy may have been moved
RADII = (0.5, 0.6, 0.7, 0.8)  # in the images: a copy that was cut or shrunk shows its lesion larger or smaller
ANGLES = 16
# Directions in which discs differ most: the search looks at these alone, and then at whole discs where it ended.
AXES = 64
STARTS = 4  # poses of each image that are looked at closer
STEPS = 3  # of Gauss-Newton
# What one of them may move at most, twice: angle, radius, to the side and down.
STRIDE = (math.pi / ANGLES / 2, 0.025, 0.025, 0.025)
IMAGES_AT_ONCE, DISCS_AT_ONCE = 64, 1024
# Discs that are asked about, and among which, in one product: a processor is twice as fast where they fit its cache, a
# GPU wants few starts.
BLOCK, BLOCK_OF_GPU = (256, 1024), (8192, 32768)

Nearest = tuple[Float64[Tensor, " n"], Int64[Tensor, " n"]]


def nearest_in_any_orientation(pixels: UInt8[np.ndarray, "n 3 size size"], among: Float[Tensor, "m 3 s s"]) -> Nearest:
    """Distance of each image, turned, mirrored or cut as it may be, to the nearest of others' thumbnails, and which one
    that is.

    Of two distances the smaller counts: 1 - r with the correlation r within discs that fit best, and half of that of
    whole images in eight orientations. Brightness and contrast of colours do not matter. The search runs where the
    thumbnails lie, and what it finds comes back to the CPU.
    """
    found = []
    starts = range(0, len(pixels), IMAGES_AT_ONCE)
    blocks = tqdm(starts, unit="image", unit_scale=IMAGES_AT_ONCE, desc="looking for copies", leave=False, delay=5)
    with among.device:
        index, whole = _index_of(among), _whole(among)
        for start in blocks:
            images = thumbnails(pixels[start : start + IMAGES_AT_ONCE]).to(among.device)
            found.append(_nearer(_nearest_disc(images, index), _nearest_whole(images, whole)))
    gaps, partners = (torch.cat(part).cpu() for part in zip(*found, strict=True))
    return gaps, partners


def thumbnails(pixels: UInt8[np.ndarray, "n 3 size size"]) -> Float[Tensor, "n 3 s s"]:
    """Images of at most 32 px, each colour with mean 0 and deviation 1 (0 where it is the same all over)."""
    parts = []
    for start in range(0, len(pixels), 1024):
        part = torch.from_numpy(np.ascontiguousarray(pixels[start : start + 1024])).float()
        small = adaptive_avg_pool2d(part, min(SIZE, part.shape[-1]))
        parts.append(_standardized(small.flatten(2)).reshape(small.shape))
    return torch.cat(parts)


def discs(images: Float[Tensor, "n 3 s s"], poses: Float[Tensor, "n 4"]) -> Float[Tensor, "n dim"]:
    """What each image shows within a disc at its pose (angle, radius, middle to the side and down), at unit length and
    without its colour cast; 0 where it is of one colour."""
    angle, radius, right, down = poses[:, :, None].unbind(1)
    x, y = _points_of_disc()
    across = radius * (angle.cos() * x - angle.sin() * y) + right
    along = radius * (angle.sin() * x + angle.cos() * y) + down
    places = torch.stack([across, along], dim=2)[:, None]
    seen = grid_sample(images, places, mode="bilinear", padding_mode="border", align_corners=False)
    return normalize(_standardized(seen[:, :, 0]).flatten(1))


def orientations(images: Float[Tensor, "n 3 s s"]) -> list[Float[Tensor, "n 3 s s"]]:
    """The images in the eight ways that a square can lie, as they are first."""
    return [torch.rot90(side, quarters, (2, 3)) for side in (images, images.flip(3)) for quarters in range(4)]


class Index(NamedTuple):
    """Other images as they are searched."""

    images: Float[Tensor, "m 3 s s"]
    axes: Float[Tensor, "dim axes"]
    along_axes: Float[Tensor, "places axes"]  # discs, those of the first shift first


def _index_of(images: Float[Tensor, "m 3 s s"]) -> Index:
    sample = images[:: math.ceil(len(images) / 1000)]
    scatter = sum(seen.T @ seen for seen in _shifted(sample))
    axes = torch.linalg.eigh(scatter).eigenvectors[:, -AXES:]
    return Index(images, axes, torch.cat([normalize(seen @ axes) for seen in _shifted(images)]))


def _shifted(images: Float[Tensor, "m 3 s s"]) -> Iterator[Float[Tensor, "some dim"]]:
    """Discs of all images at one shift after the other, some images at a time."""
    for pose in _poses_of_index():
        for some in images.split(DISCS_AT_ONCE):
            yield discs(some, pose.expand(len(some), 4))


def _nearest_disc(images: Float[Tensor, "n 3 s s"], index: Index) -> Nearest:
    """Distance of each image to the nearest disc, and whose that is: the poses that look best along the axes are each
    moved to where they fit best, and the nearest of these counts."""
    poses = _poses_asked()
    ways = torch.cat([images, images.flip(3)])
    seen = torch.stack([normalize(discs(ways, pose.expand(len(ways), 4)) @ index.axes) for pose in poses])
    likeness = _best_likeness(seen.flatten(0, 1), index.along_axes).reshape(len(poses) * 2, len(images))
    chosen = likeness.topk(STARTS, dim=0).indices.T.flatten()
    rows = torch.arange(len(images)).repeat_interleave(STARTS)
    pose, mirrored = chosen // 2, chosen % 2
    ways_chosen = mirrored * len(images) + rows
    places = _most_alike(seen[pose, ways_chosen], index.along_axes)
    partners, shifts = places % len(index.images), places // len(index.images)
    targets = discs(index.images[partners], _poses_of_index()[shifts])
    gaps = _fitted_gaps(ways[ways_chosen], poses[pose], targets).reshape(-1, STARTS)
    best = gaps.min(dim=1)
    return best.values, partners.reshape(-1, STARTS).gather(1, best.indices[:, None])[:, 0]


def _nearest_whole(images: Float[Tensor, "n 3 s s"], among: Float[Tensor, "m dim"]) -> Nearest:
    found = nearest(_whole(torch.cat(orientations(images))), among, "cosine")
    gaps, partners = (part.reshape(-1, len(images)) for part in found)
    best = gaps.min(dim=0)
    return WHOLE * best.values, partners.gather(0, best.indices[None])[0]


def _whole(images: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n dim"]:
    small = adaptive_avg_pool2d(images, min(WHOLE_SIZE, images.shape[-1]))
    return _standardized(small.flatten(2)).flatten(1)


def _nearer(one: Nearest, other: Nearest) -> Nearest:
    (gaps, partners), (other_gaps, other_partners) = one, other
    return gaps.minimum(other_gaps), torch.where(gaps <= other_gaps, partners, other_partners)


def _best_likeness(asked: Float[Tensor, "n axes"], among: Float[Tensor, "m axes"]) -> Float[Tensor, " n"]:
    """The largest product of each with any of the others."""
    rows, columns = BLOCK if among.device.type == "cpu" else BLOCK_OF_GPU
    best = [
        torch.stack([(some @ others.T).amax(dim=1) for others in among.split(columns)]).amax(dim=0)
        for some in asked.split(rows)
    ]
    return torch.cat(best)


def _most_alike(asked: Float[Tensor, "n axes"], among: Float[Tensor, "m axes"]) -> Int64[Tensor, " n"]:
    return torch.cat([(some @ among.T).argmax(dim=1) for some in asked.split(64)])


def _fitted_gaps(
    images: Float[Tensor, "n 3 s s"], poses: Float[Tensor, "n 4"], targets: Float[Tensor, "n dim"]
) -> Float64[Tensor, " n"]:
    """The smallest distance to its target that each image has on a few steps of Gauss-Newton (Lucas and Kanade 1981),
    damped."""
    stride = torch.tensor(STRIDE)
    seen = discs(images, poses)
    gaps = cosine((seen - targets).double())
    for _ in range(STEPS):
        slopes = torch.stack([discs(images, poses + stride * axis) - seen for axis in torch.eye(4)], dim=1)
        curvature = slopes @ slopes.mT
        damped = curvature + torch.diag_embed(0.05 * curvature.diagonal(dim1=1, dim2=2) + 1e-6)
        step = torch.linalg.solve(damped, slopes @ (targets - seen)[:, :, None])[:, :, 0].clamp(-2, 2)
        poses = poses + step * stride
        seen = discs(images, poses)
        gaps = gaps.minimum(cosine((seen - targets).double()))
    return gaps


def _poses_asked() -> Float[Tensor, "poses 4"]:
    angles = torch.arange(ANGLES) * (2 * math.pi / ANGLES)
    return torch.cartesian_prod(angles, torch.tensor(RADII), torch.zeros(1), torch.zeros(1))


def _poses_of_index() -> Float[Tensor, "shifts 4"]:
    return torch.cartesian_prod(torch.zeros(1), torch.tensor([RADIUS]), torch.tensor(SHIFTS), torch.tensor(SHIFTS))


def _points_of_disc() -> tuple[Float[Tensor, " points"], Float[Tensor, " points"]]:
    line = (np.arange(ACROSS, dtype=np.float32) + 0.5) * 2 / ACROSS - 1
    x, y = np.meshgrid(line, line)
    inside = np.square(x) + np.square(y) <= 1
    return torch.tensor(x[inside]), torch.tensor(y[inside])


def _standardized(values: Float[Tensor, "n 3 points"]) -> Float[Tensor, "n 3 points"]:
    """Values of each image, every colour with mean 0 and deviation 1, or 0 where it does not vary."""
    centred = values - values.mean(dim=2, keepdim=True)
    return centred / centred.square().mean(dim=2, keepdim=True).sqrt().clamp(min=1e-3)
