"""Train one classifier for each artefact on the flags of lesions.csv, so that synthetic images can be asked as well."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from skinsynth.artefacts.detector import PRESENT, Detector, counts_of, save_detector, train_detector
from skinsynth.classifier.scenario import examples
from skinsynth.classifier.training import ClassifierConfig, Examples
from skinsynth.files import folder_written_whole
from skinsynth.lesions.table import FLAGS, lesions_of
from skinsynth.partition.split import rows_by_side
from skinsynth.process import tune_process
from skinsynth.quality.classification import score_predictions
from skinsynth.settings import Count, Seed, closest
from skinsynth.stage import best_device, load_params, run, write_metrics, write_rows


@dataclass(frozen=True)
class Settings:
    artefacts: tuple[str, ...]  # flags of lesions.csv
    least: Count  # images with and without the artefact that each side must have; else there is no detector of it
    classifier: ClassifierConfig
    bootstrap_draws: Count  # of test patients, behind each interval
    bootstrap_seed: Seed


SETTINGS = Settings


def main(
    images: Annotated[Path, "real images"],
    lesions: Annotated[Path, "lesions.csv: its artefact flags; images whose flag is unknown are left out"],
    split: Annotated[Path, "CSV of split_patients: who is in train, validation and test"],
    detectors: Annotated[Path, "folder for each artefact's detector; what is too rare or unknown has none"],
    scores: Annotated[Path, "CSV: counts of each side, AUC on test patients, detected and flagged share"],
    metrics: Annotated[Path, "headlines: AUC of each detector"],
) -> None:
    """Stop on validation, report on test patients; an artefact that is too rare is named and has no detector."""
    settings = load_params("train_detectors", Settings)
    check_flags(settings.artefacts)
    tune_process()
    read = read_sides(images, lesions, split)
    rows: list[dict[str, Any]] = []
    with folder_written_whole(detectors) as aside:
        for artefact in settings.artefacts:
            sides = {name: side.flagged(artefact)[0] for name, side in read.items()}
            counts = {side: counts_of(found.labels) for side, found in sides.items()}
            row: dict[str, Any] = {"artefact": artefact}
            row |= {f"{side}_{kind}": count for side, found in counts.items() for kind, count in found.items()}
            if min(count for found in counts.values() for count in found.values()) < settings.least:
                rows.append({**row, "note": "too few"})
                continue
            trained = train_detector(artefact, sides["train"], sides["validation"], settings.classifier, best_device())
            scored = score(trained, *read["test"].flagged(artefact), settings)
            save_detector(aside / artefact, replace(trained, auc=scored["auc"]))
            rows.append({**row, **scored, "note": ""})
    write_rows(scores, rows)
    write_metrics(metrics, {f"auc_{row['artefact']}": row.get("auc", float("nan")) for row in rows})


def check_flags(artefacts: Sequence[str]) -> None:
    """ValueError where an artefact is no flag of lesions.csv, with the one that was perhaps meant."""
    for artefact in sorted(set(artefacts) - set(FLAGS)):
        meant = closest(artefact, FLAGS)
        hint = f"did you mean {meant!r}?" if meant else "add it to FLAGS of skinsynth/lesions/table.py"
        raise ValueError(
            f"train_detectors, artefacts: {artefact!r} is no flag of lesions.csv (known: {', '.join(FLAGS)}): {hint}"
        )


class Side(NamedTuple):
    """The images of one side, with their rows of lesions.csv and their patients."""

    pixels: torch.Tensor
    lesions: pd.DataFrame
    groups: np.ndarray

    def flagged(self, artefact: str) -> tuple[Examples, np.ndarray]:
        """The images whose flag is known, with it as the label, and their patients; none where the source has none."""
        flags = self.lesions[artefact]
        known = (flags != "").to_numpy()
        labels = torch.tensor(flags[known].astype("int64").tolist(), dtype=torch.int64)
        return Examples(self.pixels[torch.tensor(known)], labels), self.groups[known]


def read_sides(images: Path, lesions: Path, split: Path) -> dict[str, Side]:
    """All three, each read once for all artefacts."""
    sides = {}
    for side, rows in rows_by_side(split).items():
        ids = rows["image_id"].tolist()
        sides[side] = Side(examples(images, ids).pixels, lesions_of(lesions, ids), rows["group"].to_numpy())
    return sides


def score(detector: Detector, test: Examples, groups: np.ndarray, settings: Settings) -> dict[str, float]:
    """AUC with its interval over patients, and the shares of test images that it sees and that have the flag."""
    labels, said = test.labels.numpy(), detector.classifier.probabilities(test.pixels).double().cpu()
    rng = np.random.default_rng(settings.bootstrap_seed)
    scores = score_predictions(labels, said.numpy()[None], groups, PRESENT, settings.bootstrap_draws, rng)
    (area,) = (row for row in scores if row["metric"] == "auc")
    shares = {
        "detected_share": float((said[:, PRESENT] >= detector.threshold).float().mean()),
        "flagged_share": float(test.labels.float().mean()),
    }
    return {"auc": float(area["value"]), "low": float(area["low"]), "high": float(area["high"]), **shares}


if __name__ == "__main__":
    run(main)
