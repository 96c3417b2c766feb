"""Intervals of numbers that compare two sets of features, which a bootstrap would not give."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from scipy.special import stdtrit
from torch import Tensor
from tqdm import tqdm

from skinsynth.intervals import Interval


class Part(NamedTuple):
    """Some rows of two sets of features, each at most once, by their places and in an order of their own."""

    real: Int64[Tensor, " n"]
    fake: Int64[Tensor, " m"]


# The numbers of several parts of two sets, in the parts' order.
Scores = Callable[[Tensor, Tensor, Sequence[Part]], list[dict[str, float]]]
Ranges = Mapping[str, tuple[float, float]]
# For each of two sets, who is behind each row (patients, by number); None: each row stands by itself.
Groups = tuple[Int64[Tensor, " n"] | None, Int64[Tensor, " m"] | None]
UNGROUPED: Groups = (None, None)


def whole(real: Float[Tensor, "n dim"], fake: Float[Tensor, "m dim"]) -> Part:
    """All rows of both sets as they stand."""
    return Part(*(torch.arange(len(rows), device=rows.device) for rows in (real, fake)))


def is_member(places: Int64[Tensor, " _"], count: int) -> Bool[Tensor, " count"]:
    """Which of so many rows are at these places."""
    found = torch.zeros(count, dtype=torch.bool, device=places.device)
    found[places] = True
    return found


def of_each(score: Callable[[Tensor, Tensor], dict[str, float]], title: str = "halves of two sets") -> Scores:
    """Numbers that are computed of each part by itself."""

    def scores(real: Tensor, fake: Tensor, parts: Sequence[Part]) -> list[dict[str, float]]:
        shown = tqdm(parts, unit="half", desc=title, leave=False, delay=5)
        return [score(real[part.real], fake[part.fake]) for part in shown]

    return scores


def half_sample_intervals(
    scores: Scores,
    real: Float[Tensor, "n dim"],
    fake: Float[Tensor, "m dim"],
    draws: int,
    rng: torch.Generator,
    ranges: Ranges | None = None,
    groups: Groups = UNGROUPED,
) -> dict[str, Interval]:
    """95 % intervals of numbers that compare two sets of features, from `half_scores`."""
    return intervals_of(*half_scores(scores, real, fake, draws, rng, groups), ranges)


def half_scores(
    scores: Scores,
    real: Float[Tensor, "n dim"],
    fake: Float[Tensor, "m dim"],
    draws: int,
    rng: torch.Generator,
    groups: Groups = UNGROUPED,
) -> tuple[dict[str, float], list[dict[str, float]]]:
    """The numbers of both sets whole, and of random halves of both, the same halves for sets of the same sizes.

    `scores` is given each set in a random order in which the rows of a group lie together, so that a half holds whole
    groups, all but one: images of one patient resemble each other, and halves of images would spread too little.

    Halves without replacement, since the copies in a bootstrap sample are each other's nearest neighbours, and lower
    the rank that FID sees. The spread among halves equals that of the whole (delete-d jackknife with d = n/2, Shao and
    Wu 1989), while their mean is biased by the smaller n and is not used.
    """
    orders = [Part(_order(real, groups[0], rng), _order(fake, groups[1], rng)) for _ in range(draws + 1)]
    halves = [Part(*(order[: (len(order) + 1) // 2] for order in pair)) for pair in orders[1:]]
    of_whole, *of_halves = scores(real, fake, [orders[0], *halves])
    return of_whole, of_halves


def intervals_of(
    values: Mapping[str, float], halves: Sequence[Mapping[str, float]], ranges: Ranges | None = None
) -> dict[str, Interval]:
    """95 % intervals by the spread of the halves' numbers; what lies outside of a number's range is cut off.

    Where both sets come nearly from one distribution, the numbers of halves spread more than they should, and intervals
    are too wide.
    """
    intervals = {}
    for name, value in values.items():
        reach = reach_of([half[name] for half in halves])
        least, most = (ranges or {}).get(name, (-math.inf, math.inf))
        intervals[name] = Interval(value, max(value - reach, least), min(value + reach, most))
    return intervals


def by_metric(halves: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """The numbers of all halves under the name of each."""
    return {name: [half[name] for half in halves] for name in (halves[0] if halves else ())}


def difference_of(
    more: float, less: float, halves_of_more: Sequence[float], halves_of_less: Sequence[float]
) -> Interval:
    """How far `more` lies above `less`, with the 95 % interval of the difference.

    Both are judged by the same halves of the same real images, whose luck they share: where their own intervals
    overlap, the difference may still be clear.
    """
    reach = reach_of(np.subtract(halves_of_more, halves_of_less).tolist())
    return Interval(more - less, more - less - reach, more - less + reach)


def reach_of(halves: Sequence[float]) -> float:
    """How far a 95 % interval reaches to each side: Student's quantile times the deviation (nan of fewer than two)."""
    if len(halves) < 2:
        return math.nan
    return float(stdtrit(len(halves) - 1, 0.975) * np.std(halves, ddof=1))


def _order(
    features: Float[Tensor, "n dim"], groups: Int64[Tensor, " n"] | None, rng: torch.Generator
) -> Int64[Tensor, " n"]:
    order = torch.randperm(len(features), generator=rng, device=rng.device).to(features.device)
    if groups is None:
        return order
    places = groups.to(features.device).unique(return_inverse=True)[1]
    rank = torch.randperm(int(places.max()) + 1, generator=rng, device=rng.device).to(features.device)
    return order[rank[places[order]].argsort(stable=True)]
