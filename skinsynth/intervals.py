"""How far a number would move with other images of the same kind: 95 % intervals, most of them by resampling."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

NORMAL_95 = 1.959964


class Interval(NamedTuple):
    value: float
    low: float
    high: float


def group_draws(
    groups: Sequence[str] | np.ndarray, draws: int, rng: np.random.Generator
) -> Float64[np.ndarray, "draws_and_one n"]:
    """How often each member counts when whole groups (patients) are drawn with replacement; row 0 is the sample."""
    names, group_of = np.unique(np.asarray(groups), return_inverse=True)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    return np.concatenate([np.ones((1, len(group_of))), counts[:, group_of]])


def percentile_interval(values: Float64[np.ndarray, " draws_and_one"]) -> Interval:
    """95 % percentile interval around the value at the front; draws in which it is undefined (nan) are left out."""
    value, drawn = float(values[0]), values[1:][~np.isnan(values[1:])]
    if np.isnan(value) or not len(drawn):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.percentile(drawn, [2.5, 97.5])
    # The draws of few groups can all lie on one side.
    return Interval(value, min(float(low), value), max(float(high), value))


def reflected_interval(values: Float64[np.ndarray, " draws_and_one"]) -> Interval:
    """The same of a number of at least 0 that resampling moves upwards, such as a mean of absolute deviations.

    As far as the squares of the draws lie above the value's, the value's is taken to lie above the truth's (the basic
    bootstrap, Davison and Hinkley 1997, section 5.2): of squares, since noise adds to these. What falls below 0 is 0.
    """
    interval = percentile_interval(values)
    if np.isnan(interval.low):
        return interval
    drawn = np.percentile(values[1:][~np.isnan(values[1:])], [97.5, 2.5])
    low, high = np.sqrt(np.clip(2 * interval.value**2 - drawn**2, 0, None))
    return Interval(interval.value, min(float(low), interval.value), max(float(high), interval.value))


def wilson_share(count: int, total: int) -> Interval:
    """A share and its 95 % interval (Wilson 1927)."""
    share, spread = count / total, NORMAL_95**2 / total
    centre = (share + spread / 2) / (1 + spread)
    reach = math.sqrt(NORMAL_95**2 * share * (1 - share) / total + spread**2 / 4) / (1 + spread)
    return Interval(share, max(min(centre - reach, share), 0.0), min(max(centre + reach, share), 1.0))


def difference_of_shares(first: Interval, second: Interval) -> Interval:
    """The first less the second, of independent samples, by the limits of both (Newcombe 1998, method 10)."""
    less = first.value - second.value
    low = less - math.hypot(first.value - first.low, second.high - second.value)
    high = less + math.hypot(first.high - first.value, second.value - second.low)
    return Interval(less, low, high)


def share_interval(values: Float64[np.ndarray, " draws_and_one"], groups: int) -> Interval:
    """The same for a share, and where it is 0 or 1, so that resampling never moves it, Wilson's for so many groups."""
    interval = percentile_interval(values)
    if interval.low == interval.high and interval.value in (0, 1):
        return wilson_share(round(interval.value * groups), groups)
    return interval
