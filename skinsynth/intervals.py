"""How far a number would move with other images of the same kind: 95 % intervals, most of them by resampling."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

NORMAL_95 = 1.959964
EQUAL = 1e-9  # below which draws differ by rounding alone


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
    That has no upper end above √2 times the value, however near to 0 this happens to be: the end is that of the draws
    where they reach further.
    """
    interval = percentile_interval(values)
    if np.isnan(interval.low):
        return interval
    drawn = np.percentile(values[1:][~np.isnan(values[1:])], [97.5, 2.5])
    low, high = np.sqrt(np.clip(2 * interval.value**2 - drawn**2, 0, None))
    return Interval(interval.value, min(float(low), interval.value), max(float(high), interval.high))


def student_interval(value: float, error: float, freedom: float) -> tuple[Interval, float]:
    """The 95 % interval of a value by its standard error, and the p that the truth is 0, by Student's t with so many
    degrees of freedom (infinitely many: the normal distribution)."""
    from scipy.special import stdtr, stdtrit  # here, since its import takes half as long as that of pandas

    reach = float(stdtrit(freedom, 0.975)) * error
    return Interval(value, value - reach, value + reach), 2 * float(stdtr(freedom, -abs(value) / error))


def wilson_share(count: int, total: int) -> Interval:
    """A share and its 95 % interval (Wilson 1927)."""
    return _wilson(count / total, float(total))


def _wilson(share: float, total: float) -> Interval:
    spread = NORMAL_95**2 / total
    centre = (share + spread / 2) / (1 + spread)
    reach = math.sqrt(NORMAL_95**2 * share * (1 - share) / total + spread**2 / 4) / (1 + spread)
    return Interval(share, max(min(centre - reach, share), 0.0), min(max(centre + reach, share), 1.0))


def difference_of_shares(first: Interval, second: Interval) -> Interval:
    """The first less the second, of independent samples, by the limits of both (Newcombe 1998, method 10)."""
    return weighted_shares((1.0, -1.0), (first, second), np.eye(2))


def weighted_shares(
    factors: Sequence[float], shares: Sequence[Interval], correlation: Float64[np.ndarray, "k k"]
) -> Interval:
    """Sum of factors times shares, by the limits of each share and the correlation of the shares' estimates.

    Zou and Donner 2008: the variance near a limit of the sum is taken from the shares' own limits on that side.
    """
    value = sum(factor * share.value for factor, share in zip(factors, shares, strict=True))
    reaches = []
    for side in (-1, 1):
        ends = [share.high if side * factor > 0 else share.low for factor, share in zip(factors, shares, strict=True)]
        parts = np.array([f * (end - share.value) for f, end, share in zip(factors, ends, shares, strict=True)])
        signs = np.sign(factors)
        variance = (signs * parts) @ correlation @ (signs * parts)
        reaches.append(math.sqrt(max(float(variance), 0.0)))
    return Interval(value, value - reaches[0], value + reaches[1])


def draws_correlation(values: Float64[np.ndarray, "k draws_and_one"]) -> Float64[np.ndarray, "k k"]:
    """Of several numbers between draws in which all are defined; 0 with a number that is the same in all of them."""
    drawn = values[:, 1:][:, ~np.isnan(values[:, 1:]).any(axis=0)]
    found = np.eye(len(values))
    varies = np.ptp(drawn, axis=1) >= EQUAL if drawn.size else np.zeros(len(values), bool)
    if varies.sum() > 1:
        found[np.ix_(varies, varies)] = np.corrcoef(drawn[varies])
    return found


def share_interval(values: Float64[np.ndarray, " draws_and_one"], groups: int, images: int | None = None) -> Interval:
    """Wilson's interval of a share of images by draws of groups (patients): for as many independent images as would
    vary like the draws, at least half the groups and at most all images.

    Near 0 and 1 the draws' percentiles end too early. Draws that are all alike (at 0 and 1 they are) say nothing of
    their variance, and every group counts once. `groups` and `images` are those of the share's denominator.
    """
    value, drawn = float(values[0]), values[1:][~np.isnan(values[1:])]
    if np.isnan(value) or not len(drawn):
        return Interval(value, float("nan"), float("nan"))
    if np.ptp(drawn) < EQUAL:
        return _wilson(value, float(groups))
    return _wilson(value, float(np.clip(value * (1 - value) / drawn.var(), groups / 2, images)))
