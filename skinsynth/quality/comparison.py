"""Two classifiers on the same test images, and on the parts of them that matter: what one does better."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64

from skinsynth.intervals import (
    Interval,
    draws_correlation,
    group_draws,
    percentile_interval,
    share_interval,
    weighted_shares,
)
from skinsynth.quality.classification import Predictions, accuracy, positive_auc
from skinsynth.quality.subgroups import TOO_FEW, WHOLE, Outcomes, too_few

Weights = Float64[np.ndarray, "draws n"]


class Pair(NamedTuple):
    """What two classifiers said of the same images."""

    first: Outcomes
    second: Outcomes

    def of(self, images: Bool[np.ndarray, " n"]) -> "Pair":
        """What both said of some of them."""
        return Pair(self.first.of(images), self.second.of(images))


def right_probability(predictions: Predictions, weights: Weights) -> Float64[np.ndarray, " draws"]:
    """Mean probability of the right class: it moves where answers do not yet."""
    right = predictions.probabilities[np.arange(len(predictions.labels)), predictions.labels]
    with np.errstate(invalid="ignore", divide="ignore"):
        return weights @ right / weights.sum(axis=1)


METRICS = {"accuracy": accuracy, "right_probability": right_probability, "positive_auc": positive_auc}


def comparison_rows(pair: Pair, parts: Mapping[str, Pair], draws: int, seed: int) -> list[dict[str, Any]]:
    """One row for each part and metric: both values (means over seeds), and their difference with its 95 % interval.

    Patients are drawn once for both, so that what makes both better or worse does not widen the interval. It says
    nothing of other trainings: `seed_min` and `seed_max` are the least and largest difference of one training of the
    first and one of the second. A part with few positives or others, or few patients of either, has no AUC; an empty
    one has a row that says so.
    """
    rows = []
    for name, (one, other) in {WHOLE: pair, **parts}.items():
        if len(one.labels) != len(other.labels) or (one.labels != other.labels).any():
            raise ValueError("two classifiers are compared on the same test images: train both on one split")
        some = len(one.labels) > 0
        counts = one.counts()
        weights = group_draws(one.groups, draws, np.random.default_rng(seed)) if some else np.ones((1, 0))
        for metric in METRICS:
            about = {"part": name, "metric": metric}
            few = metric == "positive_auc" and too_few(counts)
            by_seed = [np.full((1, len(weights)), np.nan)] * 2
            if some and not few:
                by_seed = [_by_seed(metric, outcomes, weights) for outcomes in (one, other)]
            means = [values.mean(axis=0) for values in by_seed]
            known_share = metric == "accuracy" and some
            gain = accuracy_gain(one, other, weights) if known_share else percentile_interval(means[0] - means[1])
            row = {**about, "first": float(means[0][0]), "second": float(means[1][0]), "difference": gain.value}
            pairs = by_seed[0][:, 0, None] - by_seed[1][:, 0]
            spread = {"seed_min": float(pairs.min()), "seed_max": float(pairs.max())}
            note = TOO_FEW if few or not some else ""
            rows.append({**row, "low": gain.low, "high": gain.high, **spread, **counts, "note": note})
    return rows


def accuracy_gain(first: Outcomes, second: Outcomes, weights: Weights) -> Interval:
    """The share of images that only the first gets right less that which only the second does, both over patients.

    Percentiles of the difference would call two classifiers certainly equal that answer alike on a few images.
    """
    gain = _right_share(first) - _right_share(second)
    won, lost = (weights @ np.maximum(signed, 0) / weights.sum(axis=1) for signed in (gain, -gain))
    patients = len(np.unique(first.groups))
    # No limit by images: where only some seeds differ, shares vary less than those of right and wrong images.
    shares = [share_interval(share, patients) for share in (won, lost)]
    return weighted_shares((1.0, -1.0), shares, draws_correlation(np.stack([won, lost])))


def _right_share(outcomes: Outcomes) -> Float64[np.ndarray, " n"]:
    """For each image, the share of seeds whose most probable class is right."""
    return (outcomes.probabilities.argmax(axis=2) == outcomes.labels).mean(axis=0)


def _by_seed(metric: str, outcomes: Outcomes, weights: Weights) -> Float64[np.ndarray, "seeds draws"]:
    said: Float[np.ndarray, "seeds n classes"] = outcomes.probabilities
    seeds = [Predictions(outcomes.labels, by_image, outcomes.positive) for by_image in said]
    return np.stack([METRICS[metric](seed, weights) for seed in seeds])
