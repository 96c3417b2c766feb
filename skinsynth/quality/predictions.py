"""Predictions of test images as a table, and what is compared between two such tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from skinsynth.quality.classification import positive_label
from skinsynth.quality.delong import compare_aucs
from skinsynth.quality.subgroups import Outcomes
from skinsynth.tables import read_table

PREFIX = "probability_"


def prediction_rows(
    image_ids: Sequence[str], outcomes: Outcomes, classes: Sequence[str], seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """One row for each seed and image: seed, image_id, group, label, probability of each class.

    Probabilities are text of the nine digits that 32 bits have: with fewer, those of a sure network become ties.
    """
    columns = [f"{PREFIX}{name}" for name in classes]
    return [
        {
            "seed": seed,
            "image_id": image_id,
            "group": group,
            "label": int(label),
            **dict(zip(columns, (f"{share:.9g}" for share in said), strict=True)),
        }
        for seed, by_image in zip(seeds, outcomes.probabilities, strict=True)
        for image_id, group, label, said in zip(image_ids, outcomes.groups, outcomes.labels, by_image, strict=True)
    ]


class PredictionTable(NamedTuple):
    image_ids: list[str]
    outcomes: Outcomes


def read_predictions(path: Path, classes: Sequence[str], positive: str) -> PredictionTable:
    """The table of `prediction_rows`; images in their order there, the same for every seed, else a ValueError."""
    columns = [f"{PREFIX}{name}" for name in classes]
    needed = ["seed", "image_id", "group", "label", *columns]
    table = read_table(path, needed, "train_classifier", text=("image_id",))
    if table[needed].isna().any(axis=None):
        raise ValueError(f"{path} has rows that are not whole: run train_classifier again")
    parts = [part for _, part in table.groupby("seed", sort=True)]
    first = parts[0]
    if any(part["image_id"].tolist() != first["image_id"].tolist() for part in parts):
        raise ValueError(f"{path}: seeds predict different images: run train_classifier again")
    outcomes = Outcomes(
        first["label"].to_numpy(np.int64),
        np.stack([part[columns].to_numpy(float) for part in parts]),
        first["group"].to_numpy(),
        positive_label(classes, positive),
    )
    return PredictionTable(first["image_id"].tolist(), outcomes)


def always_most_frequent(outcomes: Outcomes, shares: Float[np.ndarray, " classes"]) -> Outcomes:
    """The baseline that looks at no image: every image gets the class shares of training as its probabilities."""
    said = np.broadcast_to(shares, (1, len(outcomes.labels), len(shares)))
    return Outcomes(outcomes.labels, said, outcomes.groups, outcomes.positive)


def comparison_row(name: str, one: PredictionTable, reference: PredictionTable) -> dict[str, str | float]:
    """Difference of AUC to the reference, of the mean prediction over seeds, with DeLong's test.

    The interval and `p_patients` take images of a patient as one cluster (Obuchowski 1997), `p_delong` as independent.
    """
    if one.image_ids != reference.image_ids:
        raise ValueError(f"{name} predicts other test images than the reference: train both on the same split")
    outcomes = one.outcomes
    is_positive = outcomes.labels == outcomes.positive
    first, second = (said.outcomes.probabilities.mean(axis=0)[:, outcomes.positive] for said in (one, reference))
    by_patient = compare_aucs(is_positive, first, second, outcomes.groups)
    return {
        "scenario": name,
        "auc_difference": by_patient.difference,
        "low": by_patient.low,
        "high": by_patient.high,
        "p_delong": compare_aucs(is_positive, first, second).p,
        "p_patients": by_patient.p,
    }
