"""How frequent artefacts are, and how a classifier's answer goes with them.

Everything comes as one value for each row of `weights`: the images as they are, and then the draws of whole patients
behind an interval.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

Weights = Float64[np.ndarray, "draws n"]
Values = Float64[np.ndarray, " draws"]


class Audited(NamedTuple):
    """Images of one set: what they are, what is seen in them and what a classifier says."""

    labels: Int64[np.ndarray, " n"]
    traits: Mapping[str, Float64[np.ndarray, " n"]]  # artefacts as 0 or 1, the lesion's area as a share
    answers: Float64[np.ndarray, " n"]  # probability of the positive class
    weights: Float64[np.ndarray, "draws n"]


class Measured(NamedTuple):
    """One number about a set."""

    label: int | None  # of the class; None: all of them
    trait: str
    measure: str  # "share" (a mean) or "correlation"
    images: int
    values: Float64[np.ndarray, " draws"]


def mean(values: Float[np.ndarray, " n"] | Bool[np.ndarray, " n"], weights: Weights) -> Values:
    """The weighted mean of each draw; nan where a draw has no image."""
    with np.errstate(invalid="ignore"):
        return weights @ values.astype(np.float64) / weights.sum(axis=1)


def correlation(first: Float64[np.ndarray, " n"], second: Float64[np.ndarray, " n"], weights: Weights) -> Values:
    """Pearson's correlation in each draw (of a flag: the point-biserial one); nan where one does not vary."""
    a, b = mean(first, weights), mean(second, weights)
    covariance = mean(first * second, weights) - a * b
    variances = (mean(first**2, weights) - a**2) * (mean(second**2, weights) - b**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        # Rounding leaves what is constant with a variance of about 1e-17.
        return np.where(variances > 1e-20, covariance / np.sqrt(variances), np.nan)


def measure(images: Audited) -> Iterator[Measured]:
    """Share and correlation with the answer of every trait, of all images and of each class."""
    parts: dict[int | None, np.ndarray] = {None: np.ones(len(images.labels), dtype=bool)}
    parts |= {int(label): images.labels == label for label in np.unique(images.labels)}
    for label, own in parts.items():
        weights = images.weights[:, own]
        for trait, values in images.traits.items():
            about = label, trait
            yield Measured(*about, "share", int(own.sum()), mean(values[own], weights))
            yield Measured(
                *about, "correlation", int(own.sum()), correlation(values[own], images.answers[own], weights)
            )


class Flips(NamedTuple):
    """What a pasted frame does to a classifier's answers."""

    to_positive: Float64[np.ndarray, " draws"]  # share of the images
    to_other: Float64[np.ndarray, " draws"]
    change: Float64[np.ndarray, " draws"]  # mean change of the probability


def flips(before: Float64[np.ndarray, " n"], after: Float64[np.ndarray, " n"], weights: Weights) -> Flips:
    """What changes between two probabilities of each image: the answer is positive where that class's probability is
    0.5 or more."""
    was, now = before >= 0.5, after >= 0.5
    return Flips(mean(~was & now, weights), mean(was & ~now, weights), mean(after - before, weights))
