"""Is one classifier better than another: on all test images, on hard cases, and with or without an artefact?"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from skinsynth.explanation.cases import hard_cases
from skinsynth.lesions.table import FLAGS, lesions_of
from skinsynth.quality.comparison import comparison_rows
from skinsynth.quality.predictions import PredictionTable, read_predictions
from skinsynth.quality.subgroups import WHOLE
from skinsynth.settings import Count, Names, Seed, Share
from skinsynth.stage import load_params, run, write_metrics, write_rows


@dataclass(frozen=True)
class Settings:
    classes: Names
    positive: str
    edge_share: Share  # of the test images, nearest to the threshold
    bootstrap_draws: Count  # of test patients, behind each interval
    bootstrap_seed: Seed


SETTINGS = Settings


def main(
    name: Annotated[str, "what the comparison is called"],
    first: Annotated[Path, "details of the classifier that may be better, by train_classifier"],
    second: Annotated[Path, "details of the other one"],
    judge: Annotated[Path, "details of the classifier whose edge and misclassified cases are looked at"],
    lesions: Annotated[Path, "lesions.csv, for artefacts"],
    comparison: Annotated[Path, "CSV: both values and their difference, by part of the test set and metric"],
    metrics: Annotated[Path, "headlines: differences"],
) -> None:
    """Compare on the same test patients.

    Hard cases are those of the judge's first seed. Where the judge is one of the two, or a copy, there are none: what
    it finds hard it would find hard again with another seed, and any other classifier would look better there.
    """
    settings = load_params("compare_classifiers", Settings)
    one, other, judging = (
        read_predictions(folder / "predictions.csv", settings.classes, settings.positive)
        for folder in (first, second, judge)
    )
    if not one.image_ids == other.image_ids == judging.image_ids:
        raise ValueError(f"{first}, {second} and {judge} predict different images: train all on one split")
    draws, seed = settings.bootstrap_draws, settings.bootstrap_seed
    parts = flag_parts(lesions, one.image_ids)
    if not (says_the_same(judging, one) or says_the_same(judging, other)):
        parts |= hard_parts(judging, settings.edge_share)
    rows = comparison_rows(one.outcomes, other.outcomes, parts, draws, seed)
    write_rows(comparison, [{"comparison": name, **row} for row in rows])
    write_metrics(metrics, headlines(rows))


def says_the_same(judging: PredictionTable, other: PredictionTable) -> bool:
    """Whether the judge's first seed is one of the other's, wherever their folders lie: linked and copied ones too."""
    first = judging.outcomes.probabilities[0]
    return any(np.array_equal(first, said) for said in other.outcomes.probabilities)


def flag_parts(lesions: Path, image_ids: list[str]) -> dict[str, np.ndarray]:
    """Images with and without each artefact, where it is known."""
    table = lesions_of(lesions, image_ids)
    words = {"1": "with", "0": "without"}
    return {f"{word} {flag}": (table[flag] == value).to_numpy() for flag in FLAGS for value, word in words.items()}


def hard_parts(judging: PredictionTable, edge_share: float) -> dict[str, np.ndarray]:
    """Edge cases, misclassified ones, and both together."""
    outcomes = judging.outcomes
    parts = {}
    for kind, places in hard_cases(outcomes.labels, outcomes.probabilities[0], edge_share).items():
        parts[kind] = np.zeros(len(outcomes.labels), dtype=bool)
        parts[kind][places] = True
    return {**parts, "hard": np.logical_or.reduce(list(parts.values()))}


def headlines(rows: list[dict[str, Any]]) -> dict[str, float | int]:
    """AUC on all test images, and the right class's probability on hard ones."""
    row_of = {(row["part"], row["metric"]): row for row in rows}
    unknown = dict.fromkeys(("difference", "low", "high"), float("nan"))
    found: dict[str, float | int] = {}
    for name, key in {"auc": (WHOLE, "positive_auc"), "hard_right_probability": ("hard", "right_probability")}.items():
        row = row_of.get(key, unknown)
        found |= {f"{name}_{column}": row[column] for column in unknown}
    hard = row_of.get(("hard", "right_probability"))
    return {**found, "hard_images": hard["test_images"] if hard else 0}


if __name__ == "__main__":
    run(main)
