"""Two classifiers on the same test images, and on the parts of them that matter: what one does better."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64

from skinsynth.quality.classification import Predictions, accuracy, positive_auc
from skinsynth.quality.resampling import group_draws, percentile_interval
from skinsynth.quality.subgroups import LEAST, TOO_FEW, WHOLE, Outcomes

Weights = Float64[np.ndarray, "draws n"]


def right_probability(predictions: Predictions, weights: Weights) -> Float64[np.ndarray, " draws"]:
    """Mean probability of the right class: it moves where answers do not yet."""
    right = predictions.probabilities[np.arange(len(predictions.labels)), predictions.labels]
    with np.errstate(invalid="ignore", divide="ignore"):
        return weights @ right / weights.sum(axis=1)


METRICS = {"accuracy": accuracy, "right_probability": right_probability, "positive_auc": positive_auc}


def comparison_rows(
    first: Outcomes,
    second: Outcomes,
    parts: Mapping[str, Bool[np.ndarray, " n"]],
    draws: int,
    seed: int,
) -> list[dict[str, Any]]:
    """One row for each part and metric: both values (means over seeds), and their difference with its 95 % interval.

    Patients are drawn once for both, so that what makes both better or worse does not widen the interval. A part with
    few positives or few others has no AUC; an empty one has a row that says so.
    """
    if len(first.labels) != len(second.labels) or (first.labels != second.labels).any():
        raise ValueError("two classifiers are compared on the same test images: train both on one split")
    rows = []
    for name, own in {WHOLE: np.ones(len(first.labels), dtype=bool), **parts}.items():
        one, other = first.of(own), second.of(own)
        counts = one.counts()
        weights = group_draws(one.groups, draws, np.random.default_rng(seed)) if own.any() else np.ones((1, 0))
        for metric in METRICS:
            about = {"part": name, "metric": metric}
            few = (
                metric == "positive_auc"
                and min(counts["positives"], counts["test_images"] - counts["positives"]) < LEAST
            )
            values = [np.full(len(weights), np.nan)] * 2
            if own.any() and not few:
                values = [_mean(metric, outcomes, weights) for outcomes in (one, other)]
            gain = percentile_interval(values[0] - values[1])
            row = {**about, "first": float(values[0][0]), "second": float(values[1][0]), "difference": gain.value}
            note = TOO_FEW if few or not own.any() else ""
            rows.append({**row, "low": gain.low, "high": gain.high, **counts, "note": note})
    return rows


def _mean(metric: str, outcomes: Outcomes, weights: Weights) -> Float64[np.ndarray, " draws"]:
    """Of one metric over seeds."""
    said: Float[np.ndarray, "seeds n classes"] = outcomes.probabilities
    seeds = [Predictions(outcomes.labels, by_image, outcomes.positive) for by_image in said]
    return np.mean([METRICS[metric](seed, weights) for seed in seeds], axis=0)
