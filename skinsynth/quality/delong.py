"""Whether one prediction ranks the same images better than another: the difference of two correlated AUCs."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float64

from skinsynth.intervals import student_interval

ROUNDING = 1e-12  # a standard error below it is none


class AucDifference(NamedTuple):
    difference: float  # AUC of the first less that of the second
    low: float  # 95 % interval
    high: float
    p: float  # two-sided; 1 where both predictions rank alike


def compare_aucs(
    is_positive: Bool[np.ndarray, " n"],
    first: Float[np.ndarray, " n"],
    second: Float[np.ndarray, " n"],
    groups: Sequence[str] | np.ndarray | None = None,
) -> AucDifference:
    """Difference of the AUCs of two scores of the same images (DeLong, DeLong and Clarke-Pearson 1988).

    With groups (patients) the variance is that between groups (Obuchowski 1997), which is DeLong's exactly where every
    image is its own group: both divide by the count of a class less one. Groups can be few, so that Student's t then
    takes the normal distribution's place, with one degree of freedom less than the rarer class has groups. A difference
    whose variance is 0 or unknown (positives or negatives of one group) has neither interval nor p (nan).
    """
    grouped = groups is not None
    groups = np.arange(len(is_positive)) if groups is None else np.asarray(groups)
    _check(is_positive, first, second, groups)
    by_class = [len(np.unique(groups[side])) for side in (is_positive, ~is_positive)]
    if 0 in by_class:
        return AucDifference(math.nan, math.nan, math.nan, math.nan)
    gain = _components(is_positive, first) - _components(is_positive, second)
    difference = float(gain[is_positive].mean())
    if 1 in by_class:
        return AucDifference(difference, math.nan, math.nan, math.nan)
    error = math.sqrt(_variance(is_positive, gain - difference, groups))
    if error < ROUNDING:
        alike = abs(difference) < ROUNDING
        return AucDifference(0.0, 0.0, 0.0, 1.0) if alike else AucDifference(difference, math.nan, math.nan, math.nan)
    interval, p = student_interval(difference, error, min(by_class) - 1.0 if grouped else math.inf)
    return AucDifference(interval.value, interval.low, interval.high, p)


def _check(is_positive: np.ndarray, first: np.ndarray, second: np.ndarray, groups: np.ndarray) -> None:
    if not len(is_positive) == len(first) == len(second) == len(groups):
        raise ValueError(
            f"every image has one class, two scores and one group, but {len(is_positive)} classes, {len(first)} and "
            f"{len(second)} scores and {len(groups)} groups came: give all of them for the same images"
        )
    if np.isnan(first).any() or np.isnan(second).any():
        raise ValueError(
            f"an AUC ranks numbers, but {np.isnan(first).sum()} of the first scores and {np.isnan(second).sum()} of "
            f"the second are nan: leave those images out of both"
        )


def _components(is_positive: Bool[np.ndarray, " n"], score: Float[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Share of the other class that each image stands on the right side of, ties by half: DeLong's V10 and V01.

    By midranks (Sun and Xu 2014): the rank among all less that within the class counts the others below.
    """
    within = np.empty(len(score))
    within[is_positive] = midranks(score[is_positive])
    within[~is_positive] = midranks(score[~is_positive])
    others_below = midranks(score) - within
    return np.where(is_positive, others_below / (~is_positive).sum(), 1 - others_below / is_positive.sum())


def midranks(score: Float[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Ranks from 1, equal scores sharing their mean rank."""
    return pd.Series(score).rank().to_numpy()


def _variance(is_positive: Bool[np.ndarray, " n"], excess: Float64[np.ndarray, " n"], groups: np.ndarray) -> float:
    """Variance of an AUC, from sums by group of what components lie above it (Obuchowski 1997, S10, S01, S11)."""
    _, group_of = np.unique(groups, return_inverse=True)
    positive = np.bincount(group_of, excess * is_positive) / is_positive.sum()
    negative = np.bincount(group_of, excess * ~is_positive) / (~is_positive).sum()
    of_positive = _correction(group_of[is_positive]) * (positive @ positive)
    of_negative = _correction(group_of[~is_positive]) * (negative @ negative)
    # Groups of one class alone add nothing here, so this is 0 where every image is its own group.
    crossed = _correction(group_of) * (positive @ negative)
    # Never below 0 (Cauchy and Schwarz, the last correction being the least), but for rounding.
    return max(float(of_positive + of_negative + 2 * crossed), 0.0)


def _correction(group_of: np.ndarray) -> float:
    """n / (n - 1) for the n groups that there are."""
    count = len(np.unique(group_of))
    return count / (count - 1)
