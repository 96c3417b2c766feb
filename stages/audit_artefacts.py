"""Artefact audit: how often frames, rulers and hair come in real and synthetic images, and what the classifier makes
of them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd

from skinsynth.artefacts.area import black_shares, lesion_shares
from skinsynth.artefacts.audit import Audited, Measured, flips, measure
from skinsynth.artefacts.detector import Detector, load_detectors
from skinsynth.artefacts.paste import with_frames
from skinsynth.classifier.classifier import Classifier, load_classifier
from skinsynth.images.archive import Images, image_size, read_archive
from skinsynth.images.grid import save_grid
from skinsynth.images.sets import read_image_set
from skinsynth.intervals import Interval, group_draws, percentile_interval, share_interval
from skinsynth.lesions.table import FLAGS, lesions_of
from skinsynth.partition.split import images_of, read_split
from skinsynth.quality.classification import positive_label
from skinsynth.settings import Count, Names, Seed, Share
from skinsynth.stage import best_device, load_params, run, write_metrics, write_rows

FRAME, AREA, BLACK = "black_frame", "lesion_area", "black_corners"
RULES = (BLACK, AREA)  # traits that are measured and not learnt


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
    split: Annotated[Path, "who is on which side"],
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
    device = best_device()
    judge, seen_by = load_classifier(classifier, device), load_detectors(detectors, device)
    weak = {artefact for artefact, one in seen_by.items() if one.auc < settings.least_auc}
    sides = read_split(split)
    rng = np.random.default_rng(settings.seed)
    rows: list[dict[str, Any]] = []
    for side in ("train", "test"):
        rows_of_side = images_of(sides, side)
        real = read_archive(images, rows_of_side["image_id"].tolist())
        about = lesions_of(lesions, real.ids)
        groups = rows_of_side["group"].to_numpy()
        seen = traits_of(real.pixels, seen_by)
        rows += trait_rows(f"real {side}", real, about[list(FLAGS)], groups, judge, seen, weak, settings, rng)
    for place in synthetic:
        fake = read_image_set(place, settings.classes, image_size(images))
        nothing, alone = pd.DataFrame(index=range(len(fake.labels))), np.arange(len(fake.labels))
        drawn = traits_of(fake.pixels, seen_by)
        rows += trait_rows(f"synthetic {place.stem}", fake, nothing, alone, judge, drawn, weak, settings, rng)
    write_rows(traits, rows)
    # The last real side is test: frames are pasted on images that the classifier has not seen.
    bare = without_frames(real, about, seen.get(FRAME))
    pasted = with_frames(bare.pixels, np.random.default_rng(settings.seed))
    groups = sides.set_index("image_id")["group"].loc[bare.ids].to_numpy()
    changes = flip_rows(bare, pasted, groups, judge, settings)
    write_rows(frames, changes)
    shown = np.stack([bare.pixels, pasted], axis=1)[: settings.shown].reshape(-1, *pasted.shape[1:])
    save_grid(figure, shown, columns=8)
    write_metrics(metrics, headlines(rows, changes, settings))


def traits_of(pixels: np.ndarray, seen_by: Mapping[str, Detector]) -> dict[str, np.ndarray]:
    """Of each image, whether a detector sees its artefact and whether its corners are black (1 or 0), and the lesion's
    area as a share: the last two by rules, which need no flags to learn from."""
    seen = {artefact: one.sees(pixels).double().numpy() for artefact, one in seen_by.items()}
    return {**seen, BLACK: (black_shares(pixels) > 0).astype(float), AREA: lesion_shares(pixels)}


def trait_rows(
    name: str,
    images: Images,
    flags: pd.DataFrame,
    groups: np.ndarray,
    judge: Classifier,
    seen: dict[str, np.ndarray],
    weak: Collection[str],
    settings: Settings,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """A row for each class, trait and measure; what detectors see in all images and what lesions.csv knows of some
    ("1", "0", or "" where unknown, a column an artefact, with a detector or without) are two sources."""
    answers = judge.probabilities(images.pixels)[:, positive_label(settings.classes, settings.positive)]
    asked = [("detector", np.ones(len(images.labels), dtype=bool), seen)]
    for artefact in map(str, flags):
        known = (flags[artefact] != "").to_numpy()
        if known.any():
            asked.append(("flag", known, {artefact: flags[artefact][known].astype("float64").to_numpy()}))
    weights = group_draws(groups, settings.bootstrap_draws, rng)
    said, rows = answers.double().cpu().numpy(), []
    for source, places, traits in asked:
        labels = images.labels[places]
        for found in measure(Audited(labels, traits, said[places], weights[:, places])):
            own = groups[places] if found.label is None else groups[places][labels == found.label]
            rows.append(
                {
                    "set": name,
                    "class": "all" if found.label is None else settings.classes[found.label],
                    "trait": found.trait,
                    "source": "rule" if found.trait in RULES else source,
                    "measure": found.measure,
                    **interval_of(found, len(np.unique(own)), len(own))._asdict(),
                    "images": found.images,
                    "note": "weak detector" if source == "detector" and found.trait in weak else "",
                }
            )
    return rows


def interval_of(found: Measured, groups: int, images: int) -> Interval:
    """Of a share, or of what is none."""
    is_share = found.measure == "share" and found.trait != AREA
    return share_interval(found.values, groups, images) if is_share else percentile_interval(found.values)


def without_frames(real: Images, lesions: pd.DataFrame, frames: np.ndarray | None) -> Images:
    """The images that have no frame: by their flag where it is known, else by `frames` (1 where a detector sees one),
    else, where there is no detector, by the black around.

    ValueError where none is left.
    """
    flags = lesions[FRAME].to_numpy()
    seen = (black_shares(real.pixels) if frames is None else frames) > 0
    bare = np.flatnonzero(np.where(flags == "", ~seen, flags == "0"))
    if not len(bare):
        raise ValueError("every test image has a black frame, so that none is left to paste one on: give more patients")
    return real.at(bare)


def flip_rows(
    bare: Images, pasted: np.ndarray, groups: np.ndarray, judge: Classifier, settings: Settings
) -> list[dict[str, Any]]:
    """Share of answers that change to the positive class and away from it, and the mean change of its probability."""
    positive = positive_label(settings.classes, settings.positive)
    before, after = (judge.probabilities(part)[:, positive].double().cpu().numpy() for part in (bare.pixels, pasted))
    weights = group_draws(groups, settings.bootstrap_draws, np.random.default_rng(settings.seed))
    parts: dict[str, np.ndarray] = {"all": np.ones(len(bare.labels), dtype=bool)}
    parts |= {name: bare.labels == label for label, name in enumerate(settings.classes)}
    rows = []
    for name, own in parts.items():
        changed = flips(before[own], after[own], weights[:, own])
        patients, images = len(np.unique(groups[own])), int(own.sum())
        for what, interval in {
            "to_positive": share_interval(changed.to_positive, patients, images),
            "to_other": share_interval(changed.to_other, patients, images),
            "change": percentile_interval(changed.change),
        }.items():
            rows.append({"class": name, "what": what, **interval._asdict(), "images": images})
    return rows


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
