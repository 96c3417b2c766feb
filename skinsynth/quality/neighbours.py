"""Precision, recall, density and coverage: who lies within whose neighbourhood."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from skinsynth.quality.fid import mean_of

# Entries of a distance matrix held at once, and rows of features turned to float64 at once: 256 MB and 16 MB.
ENTRIES_AT_ONCE = 2**25
ROWS_AT_ONCE = 1024
# Of the largest squared length of a feature.
ROUNDING = 1e-14


class NeighbourScores(NamedTuple):
    precision: float  # share of fakes within the real manifold, 0 to 1
    recall: float  # share of reals within the fake manifold, 0 to 1
    density: float  # real neighbourhoods that a fake lies in, over k; 1 where both sets are alike, no upper limit
    coverage: float  # share of reals with a fake in their neighbourhood, 0 to 1


def neighbour_scores(real: Float[Tensor, "n dim"], fake: Float[Tensor, "m dim"], k: int) -> NeighbourScores:
    """Precision and recall (Kynkäänniemi et al. 2019, eq. 2), density and coverage (Naeem et al. 2020, eq. 3 and 5).

    The neighbourhood of a point ends at its k-th neighbour in its own set, which belongs to it for precision and recall
    (so that sets with repeated images share everything with themselves) and does not for density and coverage, each as
    in the reference implementations. Distances in float64, in blocks.
    """
    if min(len(real), len(fake)) <= k:
        raise ValueError(
            f"neighbourhoods of {k} need more than {k} features on each side, not {len(real)} real and "
            f"{len(fake)} fake: lower `neighbours` or give more images"
        )
    real_radius, fake_radius = squared_radii(real, k), squared_radii(fake, k)
    # Equal distances differ by rounding in what their size was before the mean was taken out.
    blocks = (block for part in (real, fake) for block in part.split(ROWS_AT_ONCE))
    rounding = ROUNDING * max(float(block.double().square().sum(dim=1).max()) for block in blocks)
    holders = torch.zeros(len(fake), dtype=torch.int64, device=real.device)
    held = torch.zeros(len(fake), dtype=torch.bool, device=real.device)
    recalled = covered = 0
    for rows, distances in squared_distances(real, fake):
        within_real = distances < real_radius[rows, None]
        # A sum copies what it adds into its own type: 64 bits would take as much as the distances.
        holders += within_real.sum(dim=0, dtype=torch.int32)
        covered += int(within_real.any(dim=1).sum())
        held |= (distances <= real_radius[rows, None] + rounding).any(dim=0)
        recalled += int((distances <= fake_radius + rounding).any(dim=1).sum())
    return NeighbourScores(
        precision=float(held.double().mean()),
        recall=recalled / len(real),
        density=float(holders.double().mean()) / k,
        coverage=covered / len(real),
    )


def squared_radii(points: Float[Tensor, "n dim"], k: int) -> Float64[Tensor, " n"]:
    """Squared distance of each point to its k-th nearest other point."""
    radii = torch.empty(len(points), dtype=torch.float64, device=points.device)
    for rows, distances in squared_distances(points, points):
        own = torch.arange(rows.start, rows.stop, device=points.device)
        distances[own - rows.start, own] = torch.inf
        radii[rows] = distances.topk(k, dim=1, largest=False).values[:, -1]
    return radii


def squared_distances(
    x: Float[Tensor, "n dim"], y: Float[Tensor, "m dim"]
) -> Iterator[tuple[slice, Float64[Tensor, "rows m"]]]:
    """Squared Euclidean distances to all of `y`, some rows of `x` at a time, in float64 whatever the features are in.

    What is yielded is written over by the next round.
    """
    # Distances lose digits to a mean that all points share.
    centre = mean_of(y)
    step = min(len(x), max(1, ENTRIES_AT_ONCE // len(y)))
    distances = torch.empty(step, len(y), dtype=torch.float64, device=y.device)
    for start in range(0, len(x), step):
        rows = slice(start, min(start + step, len(x)))
        block = x[rows].double() - centre
        part = distances[: len(block)]
        for column in range(0, len(y), ROWS_AT_ONCE):
            others = y[column : column + ROWS_AT_ONCE].double() - centre
            target = part[:, column : column + len(others)]
            torch.addmm(others.square().sum(dim=1), block, others.T, alpha=-2, out=target)
        yield rows, part.add_(block.square().sum(dim=1)[:, None]).clamp_(min=0)
