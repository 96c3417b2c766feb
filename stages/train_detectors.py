"""Train one classifier for each artefact on the flags of lesions.csv, so that synthetic images can be asked as well."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch

from skinsynth.artefacts.detector import PRESENT, Detector, counts_of, save_detector, train_detector
from skinsynth.classifier.scenario import examples
from skinsynth.classifier.training import ClassifierConfig, Examples
from skinsynth.files import folder_written_whole
from skinsynth.lesions.table import lesions_of
from skinsynth.partition.split import images_of, read_split
from skinsynth.quality.classification import score_predictions
from skinsynth.stage import best_device, load_params, run, write_metrics, write_rows


@dataclass(frozen=True)
class Settings:
    artefacts: tuple[str, ...]  # columns of lesions.csv
    least: int  # images with and without the artefact that each side must have; else there is no detector of it
    classifier: ClassifierConfig
    bootstrap_draws: int  # of test patients, behind each interval
    bootstrap_seed: int


SETTINGS = Settings


def main(
    images: Annotated[Path, "real images"],
    lesions: Annotated[Path, "lesions.csv: its artefact flags; images whose flag is unknown are left out"],
    split: Annotated[Path, "who is on which side"],
    detectors: Annotated[Path, "folder for each artefact's detector; what is too rare or unknown has none"],
    scores: Annotated[Path, "CSV: counts of each side, AUC on test patients, detected and flagged share"],
    metrics: Annotated[Path, "headlines: AUC of each detector"],
) -> None:
    """Stop on validation, report on test patients; an artefact that is too rare is named and has no detector."""
    settings = load_params("train_detectors", Settings)
    rows: list[dict[str, Any]] = []
    with folder_written_whole(detectors) as aside:
        for artefact in settings.artefacts:
            sides, groups = flagged_sides(artefact, images, lesions, split)
            counts = {side: counts_of(found.labels) for side, found in sides.items()}
            row: dict[str, Any] = {"artefact": artefact}
            row |= {f"{side}_{kind}": count for side, found in counts.items() for kind, count in found.items()}
            if min(count for found in counts.values() for count in found.values()) < settings.least:
                rows.append({**row, "note": "too few"})
                continue
            trained = train_detector(artefact, sides["train"], sides["validation"], settings.classifier, best_device())
            scored = score(trained, sides["test"], groups, settings)
            save_detector(aside / artefact, replace(trained, auc=scored["auc"]))
            rows.append({**row, **scored, "note": ""})
    write_rows(scores, rows)
    write_metrics(metrics, {f"auc_{row['artefact']}": row.get("auc", float("nan")) for row in rows})


def flagged_sides(artefact: str, images: Path, lesions: Path, split: Path) -> tuple[dict[str, Examples], np.ndarray]:
    """Images of each side with their flag as the label, where it is known, and the patients of the test images.

    A source without flags has sides without images: too few for a detector.
    """
    sides, groups = {}, np.zeros(0)
    for side in ("train", "validation", "test"):
        rows = images_of(read_split(split), side).reset_index(drop=True)
        flags = lesions_of(lesions, rows["image_id"].tolist())[artefact]
        known = (flags != "").to_numpy()
        if not known.any():
            sides[side] = Examples(torch.zeros(0, 3, 1, 1, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64))
            continue
        pixels = examples(images, rows["image_id"][known].tolist()).pixels
        sides[side] = Examples(pixels, torch.tensor(flags[known].astype("int64").tolist()))
        groups = rows["group"][known].to_numpy()
    return sides, groups


def score(detector: Detector, test: Examples, groups: np.ndarray, settings: Settings) -> dict[str, float]:
    """AUC with its interval over patients, and the shares of test images that it sees and that have the flag."""
    labels, said = test.labels.numpy(), detector.classifier.probabilities(test.pixels).double().cpu().numpy()[None]
    rng = np.random.default_rng(settings.bootstrap_seed)
    scores = score_predictions(labels, said, groups, PRESENT, settings.bootstrap_draws, rng)
    (area,) = (row for row in scores if row["metric"] == "auc")
    shares = {
        "detected_share": float(detector.sees(test.pixels).float().mean()),
        "flagged_share": float(test.labels.float().mean()),
    }
    return {"auc": float(area["value"]), "low": float(area["low"]), "high": float(area["high"]), **shares}


if __name__ == "__main__":
    run(main)
