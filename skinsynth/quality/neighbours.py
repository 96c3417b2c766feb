"""Precision, recall, density and coverage: who lies within whose neighbourhood."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from skinsynth.quality.fid import mean_of

# Rows and columns of a distance matrix held at once: 32 MB, and as much for each side's features of 2,048 numbers.
TILE = 2048
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
    in the reference implementations. Distances in float64, in tiles.
    """
    if min(len(real), len(fake)) <= k:
        raise ValueError(
            f"neighbourhoods of {k} need more than {k} features on each side, not {len(real)} real and "
            f"{len(fake)} fake: lower `neighbours` or give more images"
        )
    real_radius, fake_radius = squared_radii(real, k), squared_radii(fake, k)
    # Equal distances differ by rounding in what their size was before the mean was taken out.
    blocks = (block for part in (real, fake) for block in part.split(TILE))
    rounding = ROUNDING * max(float(block.double().square().sum(dim=1).max()) for block in blocks)
    holders = torch.zeros(len(fake), dtype=torch.int64, device=real.device)
    held = torch.zeros(len(fake), dtype=torch.bool, device=real.device)
    recalled, covered = (torch.zeros(len(real), dtype=torch.bool, device=real.device) for _ in range(2))
    for rows, columns, distances in squared_distances(real, fake):
        within_real = distances < real_radius[rows, None] - rounding
        holders[columns] += within_real.sum(dim=0)
        covered[rows] |= within_real.any(dim=1)
        held[columns] |= (distances <= real_radius[rows, None] + rounding).any(dim=0)
        recalled[rows] |= (distances <= fake_radius[columns] + rounding).any(dim=1)
    return NeighbourScores(
        precision=float(held.double().mean()),
        recall=float(recalled.double().mean()),
        density=float(holders.double().mean()) / k,
        coverage=float(covered.double().mean()),
    )


def squared_radii(points: Float[Tensor, "n dim"], k: int) -> Float64[Tensor, " n"]:
    """Squared distance of each point to its k-th nearest other point; `inf` where there are not as many."""
    nearest = torch.full((len(points), k), torch.inf, dtype=torch.float64, device=points.device)
    for rows, columns, distances in squared_distances(points):
        if rows == columns:
            distances.fill_diagonal_(torch.inf)
        else:
            nearest[columns] = _smallest(nearest[columns], distances.T.contiguous())
        nearest[rows] = _smallest(nearest[rows], distances)
    return nearest[:, -1]


def _smallest(known: Float64[Tensor, "rows k"], more: Float64[Tensor, "rows m"]) -> Float64[Tensor, "rows k"]:
    """The k smallest of both in each row, in order."""
    k = known.shape[1]
    candidates = more.topk(min(k, more.shape[1]), dim=1, largest=False).values
    return torch.cat([known, candidates], dim=1).topk(k, dim=1, largest=False).values


def squared_distances(
    x: Float[Tensor, "n dim"], y: Float[Tensor, "m dim"] | None = None
) -> Iterator[tuple[slice, slice, Float64[Tensor, "rows columns"]]]:
    """Squared Euclidean distances, tile by tile: rows of `x`, columns of `y`, in float64 whatever the features are in.

    Without `y` those within `x`, each pair once: tiles on the diagonal hold it twice, what lies below them is left out.
    What is yielded is written over by the next round.
    """
    others = x if y is None else y
    # Distances lose digits to a mean that all points share.
    centre = mean_of(others)
    x_lengths, lengths = (_squared_lengths(points, centre) for points in (x, others))
    # Fresh memory of this size costs page faults at every tile.
    block, across = (torch.empty(TILE, x.shape[1], dtype=torch.float64, device=x.device) for _ in range(2))
    tile = torch.empty(TILE * TILE, dtype=torch.float64, device=x.device)
    for top in range(0, len(x), TILE):
        rows = slice(top, min(top + TILE, len(x)))
        these = block[: rows.stop - top].copy_(x[rows]).sub_(centre)
        for left in range(top if y is None else 0, len(others), TILE):
            columns = slice(left, min(left + TILE, len(others)))
            those = across[: columns.stop - left].copy_(others[columns]).sub_(centre)
            distances = tile[: len(these) * len(those)].view(len(these), len(those))
            torch.addmm(lengths[columns], these, those.T, alpha=-2, out=distances)
            yield rows, columns, distances.add_(x_lengths[rows, None]).clamp_(min=0)


def _squared_lengths(points: Float[Tensor, "n dim"], centre: Float64[Tensor, " dim"]) -> Float64[Tensor, " n"]:
    return torch.cat([(block - centre).square().sum(dim=1) for block in points.split(TILE)])
