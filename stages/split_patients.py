"""Divide images into train, validation and test, and train into hospitals: no patient stands on two sides."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import pandas as pd

from skinsynth.lesions.table import read_lesions
from skinsynth.partition.leakage import measure_leakage
from skinsynth.partition.split import SplitConfig, split_patients
from skinsynth.stage import load_params, run, write_metrics, write_rows
from skinsynth.tables import write_table

SETTINGS = SplitConfig


def main(
    lesions: Annotated[Path, "lesions.csv, as prepare_images wrote it"],
    split: Annotated[Path, "the split to write: image_id, label, split, hospital, group"],
    metrics: Annotated[Path, "headlines as JSON: images on each side, and what leaks"],
    counts: Annotated[Path, "CSV of images and patients by side, hospital and class"],
) -> None:
    """Split the study by patient, lesion and duplicate (or as the paper did: see `protocol` in params.yaml)."""
    config = load_params("split_patients", SplitConfig)
    table = read_lesions(lesions)
    sides = split_patients(table, config)
    write_table(split, sides)
    write_rows(counts, count_images(sides, config.classes))
    write_metrics(metrics, headlines(table, sides))


def count_images(sides: pd.DataFrame, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """One row for each side, hospital and class, with the share of the side's or hospital's images that it has."""
    rows: list[dict[str, Any]] = []
    for (split, hospital), own in sides.groupby(["split", "hospital"]):
        for label, name in enumerate(classes):
            of_class = own[own["label"] == label]
            counts = {"images": len(of_class), "groups": of_class["group"].nunique()}
            rows.append(
                {"split": split, "hospital": hospital, "class": name, **counts, "share": len(of_class) / len(own)}
            )
    return rows


def headlines(table: pd.DataFrame, sides: pd.DataFrame) -> dict[str, float]:
    """Images a side, those left out, and what is held out but shares a patient or lesion with train."""
    leakage = asdict(measure_leakage(table, sides))
    counts = {f"{side}_images": int((sides["split"] == side).sum()) for side in ("train", "validation", "test")}
    return {
        **counts,
        "left_out_images": len(table) - len(sides),
        "hospital_class_share_gap_percent": 100 * class_share_gap(sides),
        "held_out_sharing_patient": leakage["patient"],
        "held_out_sharing_patient_percent": 100 * leakage["patient_share"],
        "held_out_sharing_lesion": leakage["lesion"],
        "held_out_sharing_lesion_percent": 100 * leakage["lesion_share"],
    }


def class_share_gap(sides: pd.DataFrame) -> float:
    """The largest difference between two hospitals in the share of a class, 0 to 1."""
    shares = pd.crosstab(sides["hospital"], sides["label"], normalize="index").drop(index="", errors="ignore")
    return float((shares.max() - shares.min()).max())


if __name__ == "__main__":
    run(main)
