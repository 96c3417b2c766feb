"""Fréchet distance between two sets of features, as it is and extrapolated to infinitely many images."""

from statistics import fmean
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

# Rows taken at once: bounds what is held beside the features themselves.
ROWS_AT_ONCE = 8192
# Subsets of the extrapolation, as shares of both sets and where each begins: all, two thirds and halves, evenly spaced
# in 1/N. Those of one size hold each image equally often, so that the order decides little. Smaller ones would soon
# have too few images for the number of features (see `enough_to_extrapolate`).
SUBSETS = {1.0: (0.0,), 2 / 3: (0.0, 1 / 3, 2 / 3), 1 / 2: (0.0, 1 / 2)}


class Gaussian(NamedTuple):
    """A normal distribution by its mean and a root R of its covariance, Σ = RᵀR."""

    mean: Float64[Tensor, " dim"]
    root: Float64[Tensor, "rank dim"]


def frechet_distance(real: Float[Tensor, "n dim"], fake: Float[Tensor, "m dim"]) -> float:
    """Squared Fréchet distance between Gaussians fitted to both sets (FID, Heusel et al. 2017), in float64."""
    _check(real, fake)
    return distance_between(fitted(real), fitted(fake))


def extrapolated_frechet_distance(real: Float[Tensor, "n dim"], fake: Float[Tensor, "m dim"]) -> float:
    """FID at infinitely many real and fake images: the intercept of a line through FID over 1/N.

    After Chong and Forsyth (2020, section 3), who extrapolate the fakes alone: of a few hundred real images the bias
    is as large. Both sets come in random order, the images of a patient side by side: subsets are cut from there.
    """
    _check(real, fake)
    distances = [
        fmean(
            distance_between(fitted(_part(real, start, share)), fitted(_part(fake, start, share))) for start in starts
        )
        for share, starts in SUBSETS.items()
    ]
    _, intercept = np.polyfit([1 / share for share in SUBSETS], distances, deg=1)
    return float(intercept)


def _part(features: Float[Tensor, "n dim"], start: float, share: float) -> Float[Tensor, "part dim"]:
    return features.roll(-round(start * len(features)), dims=0)[: max(2, round(share * len(features)))]


def enough_to_extrapolate(real: Float[Tensor, "n dim"], count: int) -> bool:
    """Whether even a quarter of `count` images, as in the intervals' halves, is twice the features' dimension.

    Of these those count along which the real features spread: (tr Σ)² / tr Σ². Below that the bias is not linear in
    1/N and the intercept can be anything.
    """
    spectrum = _singular_values(covariance_root(real)).square()
    return count / 4 >= 2 * float(spectrum.sum().square() / spectrum.square().sum())


def _check(real: Tensor, fake: Tensor) -> None:
    if min(len(real), len(fake)) < 2:
        raise ValueError(f"FID needs two features or more on each side, not {len(real)} real and {len(fake)} fake")


def fitted(features: Float[Tensor, "n dim"]) -> Gaussian:
    """The Gaussian with the mean and the covariance of the features."""
    return Gaussian(mean_of(features), covariance_root(features))


def distance_between(one: Gaussian, other: Gaussian) -> float:
    """Squared Fréchet distance (Dowson and Landau 1982).

    The trace of (Σ₁Σ₂)^½ is the sum of the singular values of R₁R₂ᵀ: no covariance is formed and no square root is
    taken of what rounding left of an eigenvalue, so that nearly degenerate sets stay exact.
    """
    gap = one.mean - other.mean
    cross = float(_singular_values(one.root @ other.root.T).sum())
    return float(gap.square().sum() + one.root.square().sum() + other.root.square().sum()) - 2 * cross


def _singular_values(matrix: Float64[Tensor, "n dim"]) -> Float64[Tensor, " rank"]:
    """By the processor, also where a GPU has the rest: a single decomposition of this size is not for a GPU."""
    return torch.linalg.svdvals(matrix.cpu())


def mean_of(features: Float[Tensor, "n dim"]) -> Float64[Tensor, " dim"]:
    """The mean in float64, block by block: torch would turn all features to float64 first."""
    total = torch.zeros(features.shape[1], dtype=torch.float64, device=features.device)
    for block in features.split(ROWS_AT_ONCE):
        total += block.sum(dim=0, dtype=torch.float64)
    return total / len(features)


def covariance_root(features: Float[Tensor, "n dim"]) -> Float64[Tensor, "rank dim"]:
    """R with RᵀR = the covariance, by QR of the centred features, block by block."""
    mean = mean_of(features)
    root = torch.empty(0, features.shape[1], dtype=torch.float64, device=features.device)
    for block in features.split(ROWS_AT_ONCE):
        root = torch.linalg.qr(torch.cat([root, block.double() - mean]), mode="r").R
    return root / (len(features) - 1) ** 0.5
