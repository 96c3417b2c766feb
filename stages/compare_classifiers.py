"""Is one classifier better than another: on all test images, on hard cases, and with or without an artefact?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from skinsynth.explanation.cases import hard_cases
from skinsynth.lesions.table import FLAGS, lesions_of
from skinsynth.quality.comparison import Pair, comparison_rows
from skinsynth.quality.predictions import read_predictions
from skinsynth.quality.subgroups import WHOLE, Outcomes
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
    lesions: Annotated[Path, "lesions.csv, for artefacts"],
    comparison: Annotated[Path, "CSV: both values and their difference, by part of the test set and metric"],
    metrics: Annotated[Path, "headlines: differences"],
) -> None:
    """Compare on the same test patients, on parts with and without each artefact, and on hard cases.

    Which cases are hard is decided by one training of each, together, and judged by the others, in turn: cases that one
    classifier finds hard another finds easier by regression to the mean, whatever it has learnt.
    """
    settings = load_params("compare_classifiers", Settings)
    one, other = (
        read_predictions(folder / "predictions.csv", settings.classes, settings.positive) for folder in (first, second)
    )
    if one.image_ids != other.image_ids:
        raise ValueError(f"{first} and {second} predict different images: train both on one split")
    pair = Pair(one.outcomes, other.outcomes)
    flagged = {name: pair.of(mask) for name, mask in flag_parts(lesions, one.image_ids).items()}
    parts = {**flagged, **hard_parts(pair, settings.edge_share)}
    rows = comparison_rows(pair, parts, settings.bootstrap_draws, settings.bootstrap_seed)
    write_rows(comparison, [{"comparison": name, **row} for row in rows])
    write_metrics(metrics, headlines(rows))


def flag_parts(lesions: Path, image_ids: list[str]) -> dict[str, np.ndarray]:
    """Images with and without each artefact, where it is known."""
    table = lesions_of(lesions, image_ids)
    words = {"1": "with", "0": "without"}
    return {f"{word} {flag}": (table[flag] == value).to_numpy() for flag in FLAGS for value, word in words.items()}


def hard_parts(pair: Pair, edge_share: float) -> dict[str, Pair]:
    """Edge cases, misclassified ones and both together, by the mean answer of one training of each classifier.

    Each choice is judged by the trainings that had no part in it, and the choices are laid together, so that an image
    counts as often as it was chosen. Of single trainings there are none.
    """
    turns = min(len(one.probabilities) for one in pair)
    if turns < 2:
        return {}
    chosen: dict[str, list[Pair]] = {}
    for turn in range(turns):
        said = np.mean([one.probabilities[turn] for one in pair], axis=0)
        kinds = hard_cases(pair.first.labels, said, edge_share)
        judges = Pair(*(replace(one, probabilities=np.delete(one.probabilities, turn, axis=0)) for one in pair))
        for kind, places in {**kinds, "hard": np.concatenate(list(kinds.values()))}.items():
            mask = np.zeros(len(said), dtype=bool)
            mask[places] = True
            chosen.setdefault(kind, []).append(judges.of(mask))
    return {kind: Pair(*(_together(one) for one in zip(*pairs, strict=True))) for kind, pairs in chosen.items()}


def _together(parts: Sequence[Outcomes]) -> Outcomes:
    return Outcomes(
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.probabilities for part in parts], axis=1),
        np.concatenate([np.asarray(part.groups) for part in parts]),
        parts[0].positive,
    )


def headlines(rows: list[dict[str, Any]]) -> dict[str, float | int]:
    """AUC on all test images, and the right class's probability on hard ones."""
    row_of = {(row["part"], row["metric"]): row for row in rows}
    unknown = dict.fromkeys(("difference", "low", "high"), float("nan"))
    found: dict[str, float | int] = {}
    for name, key in {"auc": (WHOLE, "positive_auc"), "hard_right_probability": ("hard", "right_probability")}.items():
        row = row_of.get(key, unknown)
        found |= {f"{name}_{column}": row[column] for column in unknown}
    hard = row_of.get(("hard", "right_probability"))
    return {**found, "hard_cases": hard["test_images"] if hard else 0}


if __name__ == "__main__":
    run(main)
