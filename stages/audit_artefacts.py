"""Artefact audit: how often frames, rulers and hair come in real and synthetic images, and what the classifier makes
of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd

from skinsynth.artefacts.auditor import AREA, BLACK, FRAME, Auditor, Inspected
from skinsynth.artefacts.detector import load_detectors
from skinsynth.artefacts.paste import frameless, with_frames
from skinsynth.classifier.classifier import load_classifier
from skinsynth.images.archive import image_size, read_archive
from skinsynth.images.grid import save_grid
from skinsynth.images.sets import read_image_set
from skinsynth.lesions.table import FLAGS, lesions_of
from skinsynth.partition.split import images_of, read_split
from skinsynth.quality.classification import positive_label
from skinsynth.settings import Count, Names, Seed, Share
from skinsynth.stage import best_device, load_params, run, write_metrics, write_rows


@dataclass(frozen=True)
class Settings:
    classes: Names
    positive: str  # the class whose probability is followed
    least_auc: Share  # of a detector on test images; a weaker one's shares are marked as not to be relied on
    bootstrap_draws: Count  # of patients, behind each interval
    shown: Count  # images in the figure of pasted frames
    seed: Seed


SETTINGS = Settings


def main(
    images: Annotated[Path, "real images"],
    lesions: Annotated[Path, "lesions.csv, for what is known of the real images"],
    split: Annotated[Path, "CSV of split_patients: who is in train, validation and test"],
    synthetic: Annotated[list[Path], "synthetic sets: ZIPs of ours, or any ZIPs or folders of class folders"],
    detectors: Annotated[Path, "folder of detectors"],
    classifier: Annotated[Path, "classifier whose answers are followed"],
    traits: Annotated[Path, "CSV: share of each artefact, mean area, correlation with the answer, by set and class"],
    frames: Annotated[Path, "CSV: answers that change when a frame is pasted on, by class"],
    figure: Annotated[Path, "test images without and with the pasted frame: shows real images, stays here"],
    metrics: Annotated[Path, "headlines"],
) -> None:
    """Ask the detectors about every set, real ones beside what lesions.csv says, and paste frames on test images."""
    settings = load_params("audit_artefacts", Settings)
    if len({place.stem for place in synthetic}) < len(synthetic):
        raise ValueError(f"synthetic sets are told apart by their names, but {[str(p) for p in synthetic]} share one")
    device, positive = best_device(), positive_label(settings.classes, settings.positive)
    auditor = Auditor(
        load_classifier(classifier, device),
        load_detectors(detectors, device),
        settings.classes,
        positive,
        settings.least_auc,
        settings.bootstrap_draws,
    )
    rng = np.random.default_rng(settings.seed)
    rows = auditor.trait_rows(real_side("train", images, lesions, split, auditor), rng)
    # Frames are pasted on images that the classifier has not seen.
    test = real_side("test", images, lesions, split, auditor)
    rows += auditor.trait_rows(test, rng)
    for place in synthetic:
        rows += auditor.trait_rows(synthetic_set(place, image_size(images), auditor), rng)
    write_rows(traits, rows)
    places = frameless(test.flags[FRAME].to_numpy(), test.seen.get(FRAME, test.seen[BLACK]))
    bare = test.images.at(places)
    pasted = with_frames(bare.pixels, np.random.default_rng(settings.seed))
    changes = auditor.flip_rows(bare, pasted, test.groups[places], np.random.default_rng(settings.seed))
    write_rows(frames, changes)
    shown = np.stack([bare.pixels, pasted], axis=1)[: settings.shown].reshape(-1, *pasted.shape[1:])
    save_grid(figure, shown, columns=8)
    write_metrics(metrics, headlines(rows, changes, settings))


def real_side(side: str, images: Path, lesions: Path, split: Path, auditor: Auditor) -> Inspected:
    """The images of one side of the split."""
    rows = images_of(read_split(split), side)
    real = read_archive(images, rows["image_id"].tolist())
    flags = lesions_of(lesions, real.ids)[list(FLAGS)]
    return Inspected(f"real {side}", real, rows["group"].to_numpy(), flags, auditor.traits(real.pixels))


def synthetic_set(place: Path, size: int, auditor: Auditor) -> Inspected:
    """Images of which no flag is known, each a patient of its own."""
    fake = read_image_set(place, auditor.classes, size)
    nothing, alone = pd.DataFrame(index=range(len(fake.labels))), np.arange(len(fake.labels))
    return Inspected(f"synthetic {place.stem}", fake, alone, nothing, auditor.traits(fake.pixels))


def headlines(
    rows: list[dict[str, Any]], changes: list[dict[str, Any]], settings: Settings
) -> dict[str, float | int | None]:
    """Frames and area of the positive class in real test images, which no detector was trained on, and in the first
    synthetic set; nothing where the detector is weak. Then the flips of all test images."""
    shares = {
        (row["set"].split()[0], row["trait"]): row["value"]
        for row in reversed(rows)
        if row["class"] == settings.positive
        and row["source"] != "flag"
        and row["measure"] == "share"
        and row["set"] != "real train"
        and not row["note"]
    }
    found: dict[str, float | int | None] = {
        f"{kind}_{settings.positive}_{trait}": shares.get((kind, trait))
        for kind in ("real", "synthetic")
        for trait in (FRAME, AREA)
    }
    of_all = {row["what"]: row for row in changes if row["class"] == "all"}
    found |= {f"pasted_frames_{what}": row["value"] for what, row in of_all.items()}
    return {**found, "pasted_frames": of_all["change"]["images"]}


if __name__ == "__main__":
    run(main)
