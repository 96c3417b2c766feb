"""How well a classifier's predictions hold, with intervals over patients.

The formulas are scikit-learn's, which is the oracle in the tests; they are written for many weightings of the images at
once, since resampling with scikit-learn takes them one by one and hundreds of times longer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from skinsynth.intervals import (
    Interval,
    draws_correlation,
    group_draws,
    percentile_interval,
    reflected_interval,
    share_interval,
    weighted_shares,
)

# What goes into Git and `dvc metrics diff`; the rest is for the table.
HEADLINES = (
    "auc",
    "average_precision",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "sensitivity_at_90_specificity",
)
CALIBRATION_BINS = 10
ROC_POINTS = 200

Weights = Float64[np.ndarray, "draws n"]


@dataclass(frozen=True)
class Predictions:
    """One seed's predictions; `positive` is the class (malignant) that sensitivity, F1 and the like are about."""

    labels: Int64[np.ndarray, " n"]
    probabilities: Float[np.ndarray, "n classes"]
    positive: int

    @property
    def predicted(self) -> Int64[np.ndarray, " n"]:
        return self.probabilities.argmax(axis=1)

    @property
    def is_positive(self) -> Bool[np.ndarray, " n"]:
        return self.labels == self.positive

    @property
    def said_positive(self) -> Bool[np.ndarray, " n"]:
        return self.predicted == self.positive

    @property
    def score(self) -> Float[np.ndarray, " n"]:
        return self.probabilities[:, self.positive]


def positive_label(classes: Sequence[str], positive: str) -> int:
    """The number of the class that sensitivity is about; a ValueError where there is no such class."""
    if positive not in classes:
        raise ValueError(f"`positive` names one of the classes {', '.join(classes)}, not {positive!r}: correct it")
    return list(classes).index(positive)


def confusion_shares(
    labels: Int64[np.ndarray, " n"],
    probabilities: Float[np.ndarray, "seeds n classes"],
    groups: Sequence[str] | np.ndarray,
    classes: Sequence[str],
    draws: int,
    rng: np.random.Generator,
) -> list[dict[str, str | float]]:
    """One row a cell of the confusion matrix: the share of the actual class that is called so, mean over seeds.

    Shares have 95 % intervals over groups (patients), see `share_interval`; images of the actual class stand beside.
    """
    weights = group_draws(groups, draws, rng)
    rows = []
    for actual, name in enumerate(classes):
        among = labels == actual
        for said, said_name in enumerate(classes):
            values = [_share(by_image.argmax(axis=1) == said, among, weights) for by_image in probabilities]
            interval = share_interval(np.mean(values, axis=0), *_patients_and_images(groups, among))
            rows.append(
                {"actual": name, "predicted": said_name, **interval._asdict(), "actual_images": int(among.sum())}
            )
    return rows


def score_predictions(
    labels: Int64[np.ndarray, " n"],
    probabilities: Float[np.ndarray, "seeds n classes"],
    groups: Sequence[str] | np.ndarray,
    positive: int,
    draws: int,
    rng: np.random.Generator,
) -> list[dict[str, str | float]]:
    """One row per metric: its mean over seeds, a 95 % interval over groups (patients), and its least and largest seed.

    Shares have Wilson's intervals (see `share_interval`), other metrics those of percentiles of draws of patients.
    Every draw is shared by all seeds. Values are 0 to 1; what a missing class leaves undefined is nan.
    """
    if len(labels) != probabilities.shape[1] or len(groups) != len(labels):
        raise ValueError(
            f"every image has one label, one group and probabilities, but there are {len(labels)} labels, "
            f"{len(groups)} groups and {probabilities.shape[1]} rows of probabilities"
        )
    if not np.isfinite(probabilities).all():
        count = (~np.isfinite(probabilities)).any(axis=(0, 2)).sum()
        raise ValueError(
            f"{count} of {len(labels)} images have probabilities that are not finite, which would be ranked as if they "
            "were: train that classifier anew"
        )
    weights = group_draws(groups, draws, rng)
    seeds = [Predictions(labels, by_image, positive) for by_image in probabilities]
    rows = []
    for name, metric in METRICS.items():
        values = np.stack([metric(seed, weights) for seed in seeds])
        if name == "balanced_accuracy":
            interval = _balanced_interval(seeds, groups, weights)
        else:
            interval = _interval(name, values.mean(axis=0), seeds[0], groups)
        rows.append(
            {"metric": name, **interval._asdict(), "seed_min": values[:, 0].min(), "seed_max": values[:, 0].max()}
        )
    return rows


def headlines(rows: list[dict[str, str | float]]) -> dict[str, float]:
    """The metrics that people compare experiments by."""
    value_of = {row["metric"]: float(row["value"]) for row in rows}
    return {name: value_of[name] for name in HEADLINES}


def accuracy(predictions: Predictions, weights: Weights) -> Float64[np.ndarray, " draws"]:
    """Share of images whose most probable class is right."""
    return _share(predictions.predicted == predictions.labels, np.ones(len(predictions.labels), bool), weights)


def balanced_accuracy(predictions: Predictions, weights: Weights) -> Float64[np.ndarray, " draws"]:
    """Mean over classes of the share of their images that is recognised."""
    right = predictions.predicted == predictions.labels
    classes = range(predictions.probabilities.shape[1])
    return np.mean([_share(right, predictions.labels == index, weights) for index in classes], axis=0)


def auc(predictions: Predictions, weights: Weights) -> Float64[np.ndarray, " draws"]:
    """Area under the ROC curve, each class against the rest, averaged; of two classes both have the same."""
    if predictions.probabilities.shape[1] == 2:
        return _area(predictions.score, predictions.is_positive, weights)
    classes = enumerate(predictions.probabilities.T)
    return np.mean([_area(score, predictions.labels == index, weights) for index, score in classes], axis=0)


def positive_auc(predictions: Predictions, weights: Weights) -> Float64[np.ndarray, " draws"]:
    """Area under the ROC curve of the positive class against the rest."""
    return _area(predictions.score, predictions.is_positive, weights)


def average_precision(predictions: Predictions, weights: Weights) -> Float64[np.ndarray, " draws"]:
    """Mean precision over the steps in recall of the positive class; its chance level is the prevalence."""
    true, false = _cumulative(predictions.score, predictions.is_positive, weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.nan_to_num(true / (true + false))
        steps = np.diff(true, axis=1, prepend=0) / true[:, -1:]
    return (precision * steps).sum(axis=1)


def f1(predictions: Predictions, weights: Weights) -> Float64[np.ndarray, " draws"]:
    """Harmonic mean of precision and sensitivity of the positive class."""
    hits = weights @ (predictions.is_positive & predictions.said_positive)
    with np.errstate(invalid="ignore", divide="ignore"):
        return 2 * hits / (weights @ predictions.is_positive + weights @ predictions.said_positive)


def sensitivity(predictions: Predictions, weights: Weights) -> Float64[np.ndarray, " draws"]:
    """Share of positive (malignant) images called positive: their recall."""
    return _share(predictions.said_positive, predictions.is_positive, weights)


def specificity(predictions: Predictions, weights: Weights) -> Float64[np.ndarray, " draws"]:
    """Share of the other images not called positive."""
    return _share(~predictions.said_positive, ~predictions.is_positive, weights)


def sensitivity_at_90_specificity(predictions: Predictions, weights: Weights) -> Float64[np.ndarray, " draws"]:
    """Largest sensitivity of any threshold that leaves at least 90 % of the other images below it."""
    true, false = _cumulative(predictions.score, predictions.is_positive, weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        reachable = np.where(false <= 0.1 * false[:, -1:] + 1e-9, true, 0).max(axis=1) / true[:, -1]
    return np.where(false[:, -1] > 0, reachable, np.nan)


def calibration_error(predictions: Predictions, weights: Weights) -> Float64[np.ndarray, " draws"]:
    """Gap between the probability said and the share seen of positives, over ten equal bins (Naeini et al. 2015)."""
    bins = np.minimum((predictions.score * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    excess = (predictions.score - predictions.is_positive)[:, None] * (bins[:, None] == np.arange(CALIBRATION_BINS))
    return np.abs(weights @ excess).sum(axis=1) / weights.sum(axis=1)


METRICS: dict[str, Callable[[Predictions, Weights], Float64[np.ndarray, " draws"]]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "auc": auc,
    "positive_auc": positive_auc,
    "average_precision": average_precision,
    "f1": f1,
    "sensitivity": sensitivity,
    "specificity": specificity,
    "sensitivity_at_90_specificity": sensitivity_at_90_specificity,
    "calibration_error": calibration_error,
}


def roc_points(is_positive: Bool[np.ndarray, " n"], score: Float[np.ndarray, " n"]) -> list[dict[str, float]]:
    """False and true positive rate at each threshold, thinned to some 200 rows for a plot."""
    true, false = _cumulative(score, is_positive, np.ones((1, len(score))))
    if not (true[0, -1] and false[0, -1]):
        return []
    rates = np.stack([np.append(0, false[0] / false[0, -1]), np.append(0, true[0] / true[0, -1])], axis=1)
    kept = np.unique(np.linspace(0, len(rates) - 1, min(len(rates), ROC_POINTS)).round().astype(int))
    return [{"false_positive_rate": float(x), "true_positive_rate": float(y)} for x, y in rates[kept]]


def confusion_rows(
    labels: Int64[np.ndarray, " n"], predicted: Int64[np.ndarray, " n"], classes: Sequence[str]
) -> list[dict[str, str]]:
    """One row an image, sorted, as DVC's confusion template counts them."""
    pairs = sorted(zip(labels.tolist(), predicted.tolist(), strict=True))
    return [{"actual": classes[actual], "predicted": classes[said]} for actual, said in pairs]


def _share(
    right: Bool[np.ndarray, " n"], among: Bool[np.ndarray, " n"], weights: Weights
) -> Float64[np.ndarray, " draws"]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return (weights @ (right & among)) / (weights @ among)


def _cumulative(
    score: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"], weights: Weights
) -> tuple[Float64[np.ndarray, "draws thresholds"], Float64[np.ndarray, "draws thresholds"]]:
    """Weight of positives and of negatives that score at least each distinct score, from the highest down."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    drawn = weights[:, order]
    true = (drawn * positive[order]).cumsum(axis=1)[:, ends]
    return true, drawn.cumsum(axis=1)[:, ends] - true


def _area(
    score: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"], weights: Weights
) -> Float64[np.ndarray, " draws"]:
    true, false = _cumulative(score, positive, weights)
    steps = np.diff(false, axis=1, prepend=0)
    middles = true - np.diff(true, axis=1, prepend=0) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return (steps * middles).sum(axis=1) / (true[:, -1] * false[:, -1])


# Metrics that are shares of images, and of which.
DENOMINATORS: dict[str, Callable[[Predictions], Bool[np.ndarray, " n"]]] = {
    "accuracy": lambda seed: np.ones(len(seed.labels), bool),
    "sensitivity": lambda seed: seed.is_positive,
    "specificity": lambda seed: ~seed.is_positive,
}


def _interval(
    name: str, values: Float64[np.ndarray, " draws_and_one"], seed: Predictions, groups: Sequence[str] | np.ndarray
) -> Interval:
    if name in DENOMINATORS:
        return share_interval(values, *_patients_and_images(groups, DENOMINATORS[name](seed)))
    return reflected_interval(values) if name == "calibration_error" else percentile_interval(values)


def _balanced_interval(seeds: Sequence[Predictions], groups: Sequence[str] | np.ndarray, weights: Weights) -> Interval:
    """Interval of the balanced accuracy, from those of the shares, one a class, of which it is the mean."""
    labels = seeds[0].labels
    members = [labels == index for index in range(seeds[0].probabilities.shape[1])]
    recalls = [np.mean([_share(seed.predicted == labels, own, weights) for seed in seeds], axis=0) for own in members]
    shares = [
        share_interval(recall, *_patients_and_images(groups, own)) for recall, own in zip(recalls, members, strict=True)
    ]
    return weighted_shares([1 / len(shares)] * len(shares), shares, draws_correlation(np.stack(recalls)))


def _patients_and_images(groups: Sequence[str] | np.ndarray, among: Bool[np.ndarray, " n"]) -> tuple[int, int]:
    return len(np.unique(np.asarray(groups)[among])), int(among.sum())
