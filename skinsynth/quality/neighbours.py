"""Precision, recall, density and coverage: who lies within whose neighbourhood."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor
from tqdm import tqdm

from skinsynth.quality.fid import mean_of
from skinsynth.quality.half_samples import Part, is_member, whole

# Rows and columns of a distance matrix held at once: 32 MB, and as much for each side's features of 2,048 numbers.
TILE = 2048
# Of the largest squared length of a feature.
ROUNDING = 1e-14
# Of each point, among which its k-th neighbour within a part is sought first: of halves there nearly always are k.
NEIGHBOURS = 32


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
    return neighbour_scores_of_parts(real, fake, k, [whole(real, fake)])[0]


def neighbour_scores_of_parts(
    real: Float[Tensor, "n dim"],
    fake: Float[Tensor, "m dim"],
    k: int,
    parts: Sequence[Part],
    title: str = "neighbourhoods",
) -> list[NeighbourScores]:
    """The scores of each of several parts, with neighbourhoods of its own; distances are computed once for all."""
    fewest = [min(map(len, side)) for side in zip(*parts, strict=True)]
    if min(fewest) <= k:
        raise ValueError(
            f"neighbourhoods of {k} need more than {k} features on each side, not {fewest[0]} real and "
            f"{fewest[1]} fake: lower `neighbours` or give more images"
        )
    # Equal distances differ by rounding in what their size was before the mean was taken out.
    blocks = (block for side in (real, fake) for block in side.split(TILE))
    rounding = ROUNDING * max(float(block.double().square().sum(dim=1).max()) for block in blocks)
    of_real, of_fake = zip(*parts, strict=True)
    radii = zip(squared_radii(real, k, of_real, title), squared_radii(fake, k, of_fake, title), strict=True)
    found = [_Neighbourhoods(part, *both, rounding=rounding) for part, both in zip(parts, radii, strict=True)]
    for rows, columns, distances in squared_distances(real, fake, title):
        for one in found:
            one.add(rows, columns, distances)
    return [one.scores(k) for one in found]


class _Neighbourhoods:
    """Who was found in whose neighbourhood, of one part of both sets."""

    def __init__(
        self, part: Part, real_radius: Float64[Tensor, " n"], fake_radius: Float64[Tensor, " m"], rounding: float
    ) -> None:
        self.real_radius, self.fake_radius, self.rounding = real_radius, fake_radius, rounding
        self.in_real, self.in_fake = is_member(part.real, len(real_radius)), is_member(part.fake, len(fake_radius))
        self.holders = torch.zeros(len(fake_radius), dtype=torch.int64, device=fake_radius.device)  # density
        self.held = torch.zeros_like(self.in_fake)  # precision
        self.recalled, self.covered = torch.zeros_like(self.in_real), torch.zeros_like(self.in_real)

    def add(self, rows: slice, columns: slice, distances: Float64[Tensor, "rows columns"]) -> None:
        """Take in the distances between some real rows and fake columns."""
        reals, fakes = _members(self.in_real, rows), _members(self.in_fake, columns)
        if (len(reals), len(fakes)) != distances.shape:
            distances = distances[reals - rows.start][:, fakes - columns.start]
        radius = self.real_radius[reals, None]
        within_real = distances < radius - self.rounding
        self.holders[fakes] += within_real.sum(dim=0)
        self.covered[reals] |= within_real.any(dim=1)
        self.held[fakes] |= (distances <= radius + self.rounding).any(dim=0)
        self.recalled[reals] |= (distances <= self.fake_radius[fakes] + self.rounding).any(dim=1)

    def scores(self, k: int) -> NeighbourScores:
        """The shares, once all distances were added."""
        return NeighbourScores(
            precision=float(self.held[self.in_fake].double().mean()),
            recall=float(self.recalled[self.in_real].double().mean()),
            density=float(self.holders[self.in_fake].double().mean()) / k,
            coverage=float(self.covered[self.in_real].double().mean()),
        )


def _members(is_in: Bool[Tensor, " n"], rows: slice) -> Int64[Tensor, " _"]:
    """Places of those among these rows who are in."""
    return is_in[rows].nonzero()[:, 0] + rows.start


def squared_radii(
    points: Float[Tensor, "n dim"], k: int, parts: Sequence[Int64[Tensor, " _"]], title: str = "radii"
) -> list[Float64[Tensor, " n"]]:
    """Of each part the squared distance of each of its points to the k-th nearest other one of them: `inf` where there
    are not as many; those of other points mean nothing."""
    enough = k if all(len(places) == len(points) for places in parts) else max(NEIGHBOURS, 4 * k)
    near, neighbours = _nearest(points, min(enough, len(points)), title)
    return [_radii_within(places, points, near, neighbours, k) for places in parts]


def _radii_within(
    places: Int64[Tensor, " _"],
    points: Float[Tensor, "n dim"],
    near: Float64[Tensor, "n some"],
    neighbours: Int64[Tensor, "n some"],
    k: int,
) -> Float64[Tensor, " n"]:
    """Squared distance of each member to its k-th nearest other one: looked up among the nearest of all, and where
    fewer than k of these are members, sought among all members."""
    members = is_member(places, len(points))
    members_so_far = (members[neighbours] & near.isfinite()).cumsum(dim=1)
    reached = members_so_far[:, -1] >= k
    kth = near.gather(1, (members_so_far >= k).int().argmax(dim=1, keepdim=True))[:, 0]
    radius = kth.where(reached, torch.inf)
    rest = (members & ~reached).nonzero()[:, 0] if len(places) > k else places[:0]
    among = points[places] if len(rest) else points
    for some in rest.split(TILE) if len(rest) else ():
        gaps = torch.cat([tile.clone() for _, _, tile in squared_distances(points[some], among)], dim=1)
        gaps[some[:, None] == places] = torch.inf
        radius[some] = gaps.topk(k, dim=1, largest=False).values[:, -1]
    return radius


def _nearest(
    points: Float[Tensor, "n dim"], count: int, title: str
) -> tuple[Float64[Tensor, "n count"], Int64[Tensor, "n count"]]:
    """Squared distances of each point to its nearest others, the nearest first, and where these are; `inf` at the end
    where there are not as many."""
    near = torch.full((len(points), count), torch.inf, dtype=torch.float64, device=points.device)
    places = torch.zeros(len(points), count, dtype=torch.int64, device=points.device)
    for rows, columns, distances in squared_distances(points, title=title):
        if rows == columns:
            distances.fill_diagonal_(torch.inf)
        else:
            near[columns], places[columns] = _nearer(near[columns], places[columns], distances.T.contiguous(), rows)
        near[rows], places[rows] = _nearer(near[rows], places[rows], distances, columns)
    return near, places


def _nearer(
    near: Float64[Tensor, "rows count"],
    places: Int64[Tensor, "rows count"],
    distances: Float64[Tensor, "rows m"],
    columns: slice,
) -> tuple[Float64[Tensor, "rows count"], Int64[Tensor, "rows count"]]:
    """The nearest of those known and of more, which are at `columns`."""
    count = near.shape[1]
    more = distances.topk(min(count, distances.shape[1]), dim=1, largest=False)
    found = torch.cat([near, more.values], dim=1).topk(count, dim=1, largest=False)
    return found.values, torch.cat([places, more.indices + columns.start], dim=1).gather(1, found.indices)


def squared_distances(
    x: Float[Tensor, "n dim"], y: Float[Tensor, "m dim"] | None = None, title: str = "distances"
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
    for top in tqdm(range(0, len(x), TILE), unit="tile", desc=title, leave=False, delay=5):
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
