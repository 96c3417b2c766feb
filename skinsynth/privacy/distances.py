"""Distances between images in feature space: to their own projection, and to the nearest training image."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.nn.functional import normalize
from tqdm import tqdm

# Entries of a distance matrix held at once: 128 MB, whatever the number of images.
ENTRIES_AT_ONCE = 2**24
# Of each point, among which the nearest that was chosen is sought first: of any half, one is nearly always among them.
NEIGHBOURS = 64
# Candidates whose distance is computed again without cancellation, so that copies are found at a distance of zero.
REFINED = 4


def as_they_are(features: Float[Tensor, "n dim"]) -> Float64[Tensor, "n dim"]:
    """Features as float64, for Euclidean distances."""
    return features.double()


def at_unit_length(features: Float[Tensor, "n dim"]) -> Float64[Tensor, "n dim"]:
    """Features as float64 unit vectors, for cosine distances: half the squared Euclidean ones of these."""
    return normalize(features.double(), dim=1)


def euclidean(gap: Float64[Tensor, "*n dim"]) -> Float64[Tensor, "*n"]:
    """Length of the difference."""
    return gap.square().sum(dim=-1).sqrt()


def cosine(gap: Float64[Tensor, "*n dim"]) -> Float64[Tensor, "*n"]:
    """1 - cos of the angle, 0 to 2, from the difference of unit vectors: exact for the smallest angles."""
    return gap.square().sum(dim=-1) / 2


METRICS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "euclidean": (as_they_are, euclidean),
    "cosine": (at_unit_length, cosine),
}


def paired(a: Float[Tensor, "n dim"], b: Float[Tensor, "n dim"], metric: str = "euclidean") -> Float64[Tensor, " n"]:
    """Distance of each `a` to the `b` of the same row, such as real images and their own projections."""
    place, length = _metric(metric)
    return length(place(a) - place(b))


def nearest(
    points: Float[Tensor, "n dim"], among: Float[Tensor, "m dim"], metric: str = "euclidean"
) -> tuple[Float64[Tensor, " n"], Int64[Tensor, " n"]]:
    """Distance of each point to the nearest of the others, and which one that is; computed in blocks."""
    return _nearest(points, among, metric, skip_own=False)


def nearest_of_each(
    points: Float[Tensor, "n dim"], among: Float[Tensor, "m dim"], choices: Sequence[Int64[np.ndarray, " _"]]
) -> Float64[Tensor, "choices n"]:
    """Euclidean distance of each point to the nearest of some others, one row for each choice of these (places in
    `among`), with all distances computed once. Unlike those of `nearest` they are rounded, to some 1e-8 of the
    features' length at 0."""
    points, among = as_they_are(points), as_they_are(among)
    places = [torch.from_numpy(chosen).to(among.device) for chosen in choices]
    # One tensor for all minima: thousands of small ones, each allocated after a large copy that is freed, leave holes
    # too small for the next copy.
    found = points.new_empty(len(choices), len(points))
    is_chosen = torch.zeros(len(among), dtype=torch.bool, device=among.device)
    with tqdm(total=len(points), unit="image", desc="nearest of each half", leave=False, delay=5) as bar:
        for rows, ranking in _rankings(points, among):
            near, neighbours = ranking.topk(min(NEIGHBOURS, len(among)), dim=1, largest=False, sorted=False)
            for row, chosen in zip(found, places, strict=True):
                is_chosen.fill_(False)[chosen] = True
                least = near.where(is_chosen[neighbours], torch.inf).amin(dim=1)
                without = least.isinf().nonzero()[:, 0]  # none of the neighbours was chosen
                if len(without):
                    least[without] = ranking[without][:, chosen].amin(dim=1)
                row[rows] = least
            bar.update(rows.stop - rows.start)
    return found.add_(points.square().sum(dim=1)).clamp_(min=0).sqrt_()


def nearest_other(points: Float[Tensor, "n dim"]) -> tuple[Float64[Tensor, " n"], Int64[Tensor, " n"]]:
    """Euclidean distance of each point to its nearest other point of the same set, and which one that is."""
    return _nearest(points, points, "euclidean", skip_own=True)


def summary(distances: Float[Tensor, " n"], close: float) -> dict[str, float | int]:
    """Count, mean, median and the count under `close`."""
    return {
        "count": len(distances),
        "mean": float(distances.double().mean()),
        "median": float(distances.double().median()),
        "under_threshold": int((distances < close).sum()),
    }


def extreme_places(distances: Float[Tensor, " n"], count: int) -> tuple[Int64[Tensor, " k"], Int64[Tensor, " k"]]:
    """Places of the `count` smallest distances, the smallest first, and of as many largest, the largest first."""
    order = distances.argsort(stable=True)
    return order[:count], order.flip(0)[:count]


def _metric(name: str) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    if name not in METRICS:
        raise ValueError(f"a distance is one of {sorted(METRICS)}, not {name!r}")
    return METRICS[name]


def _nearest(
    points: Float[Tensor, "n dim"], among: Float[Tensor, "m dim"], metric: str, skip_own: bool
) -> tuple[Float64[Tensor, " n"], Int64[Tensor, " n"]]:
    place, length = _metric(metric)
    points, among = place(points), place(among)
    distances, partners = [], []
    for rows, ranking in _rankings(points, among):
        own = torch.arange(rows.start, rows.stop, device=points.device)
        if skip_own:
            ranking[own - rows.start, own] = torch.inf
        candidates = ranking.topk(min(REFINED, len(among) - skip_own), dim=1, largest=False).indices
        exact = length(points[rows, None] - among[candidates])
        best = exact.min(dim=1)
        distances.append(best.values)
        partners.append(candidates.gather(1, best.indices[:, None])[:, 0])
    return torch.cat(distances), torch.cat(partners)


def _rankings(
    points: Float64[Tensor, "n dim"], among: Float64[Tensor, "m dim"]
) -> Iterator[tuple[slice, Float64[Tensor, "rows m"]]]:
    """What orders `among` by distance from each point, some rows at a time: d² less the point's own squared norm."""
    norms = among.square().sum(dim=1)
    step = max(1, ENTRIES_AT_ONCE // max(len(among), REFINED * among.shape[1]))
    for start in range(0, len(points), step):
        rows = slice(start, min(start + step, len(points)))
        yield rows, torch.addmm(norms, points[rows], among.T, alpha=-2)
