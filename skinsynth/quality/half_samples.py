"""Intervals of numbers that compare two sets of features, which a bootstrap would not give."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from skinsynth.intervals import NORMAL_95, Interval


def half_sample_intervals(
    scores: Callable[[Tensor, Tensor], dict[str, float]],
    real: Float[Tensor, "n dim"],
    fake: Float[Tensor, "m dim"],
    draws: int,
    rng: torch.Generator,
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> dict[str, Interval]:
    """95 % intervals of numbers that compare two sets of features, from random halves of both.

    What lies outside of a number's range is cut off. Where both sets come nearly from one distribution, the numbers of
    halves spread more than they should, and intervals are too wide.

    Halves without replacement, since the copies in a bootstrap sample are each other's nearest neighbours, and lower
    the rank that FID sees. The spread among halves equals that of the whole (delete-d jackknife with d = n/2, Shao and
    Wu 1989), while their mean is biased by the smaller n and is not used.
    """
    values = scores(real, fake)
    halves = [scores(_half(real, rng), _half(fake, rng)) for _ in range(draws)]
    intervals = {}
    for name, value in values.items():
        reach = NORMAL_95 * float(np.std([half[name] for half in halves], ddof=1)) if draws > 1 else float("nan")
        least, most = (ranges or {}).get(name, (-math.inf, math.inf))
        intervals[name] = Interval(value, max(value - reach, least), min(value + reach, most))
    return intervals


def _half(features: Float[Tensor, "n dim"], rng: torch.Generator) -> Float[Tensor, "half dim"]:
    chosen: Int64[Tensor, " n"] = torch.randperm(len(features), generator=rng, device=rng.device)
    return features[chosen[: (len(features) + 1) // 2].to(features.device)]
