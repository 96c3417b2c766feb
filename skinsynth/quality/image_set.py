"""What is said of a set of images without asking where it comes from: fidelity, diversity and colours."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from jaxtyping import Int64
from torch import Tensor

from skinsynth.features.extractor import Extractor
from skinsynth.images.archive import Images, read_archive
from skinsynth.partition.split import held_out_of, images_of, read_split
from skinsynth.quality.by_class import Sides, features_of, score_by_class
from skinsynth.quality.colour import ColourHistograms, colour_rows_by_class, hue_rows
from skinsynth.quality.fidelity import FidelityConfig, Patients
from skinsynth.quality.proportions import as_frequent_as


class RealSides(NamedTuple):
    """Real images that a generator may have seen, and those that it has not."""

    train: Images
    held_out: Images
    patients: Patients


class Judgement(NamedTuple):
    """Headlines, and rows of three tables: fidelity and colours (pooled and by class), bars of hues."""

    headline: dict[str, float | str]
    fidelity: list[dict[str, Any]]
    colours: list[dict[str, Any]]
    hues: list[dict[str, float]]


def real_sides(images: Path, split: Path, labels: Collection[int] | None = None) -> RealSides:
    """Training and held-out images, of these classes only where labels are given."""
    sides = read_split(split)
    if labels is not None:
        sides = sides[sides["label"].isin(labels)]
    train, held_out = images_of(sides, "train"), held_out_of(sides)
    train_images, others = (read_archive(images, rows["image_id"].tolist()) for rows in (train, held_out))
    return RealSides(train_images, others, Patients(patients_of(train), patients_of(held_out)))


def patients_of(rows: pd.DataFrame) -> Int64[Tensor, " n"]:
    """A number for the patient of each row of the split."""
    return torch.from_numpy(rows["group"].factorize()[0].astype("int64"))


def pooled_places(fake: Images, train: Images, seed: int) -> Int64[Tensor, " kept"]:
    """Which images of a set are compared where all classes are taken together (see `sides_by_class`)."""
    labels, reference = (torch.from_numpy(images.labels) for images in (fake, train))
    return as_frequent_as(labels, reference, torch.Generator().manual_seed(seed))


def _sides(extract: Extractor, fake: Images, real: RealSides) -> Sides:
    return Sides(
        features_of(extract, real.train, real.patients.real),
        features_of(extract, fake),
        features_of(extract, real.held_out, real.patients.held_out),
    )


def judge_images(
    fake: Images,
    real: RealSides,
    extractors: Sequence[Extractor],
    classes: Sequence[str],
    config: FidelityConfig,
    seed: int,
) -> Judgement:
    """Compare a set with training images and with held-out ones, these also with each other (the floor).

    Headlines are in the features of the first extractor; the table of fidelity has the rows of one after the other.
    """
    features = [_sides(extract, fake, real) for extract in extractors]
    colours = _sides(ColourHistograms(features[0].fake.features.device), fake, real)
    scores = [
        score_by_class(sides, classes, config, seed, extract)
        for sides, extract in zip(features, extractors, strict=True)
    ]
    colour_rows = colour_rows_by_class(colours, classes, config.interval_draws, seed)
    hues = hue_rows({name: part.features for name, part in colours.named().items()})
    rows = [row for found in scores for row in found.rows]
    return Judgement(scores[0].headline, rows, colour_rows, hues)
