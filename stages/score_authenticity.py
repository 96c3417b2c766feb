"""Are the synthetic images new? Authenticity, distances to training images and membership attacks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from skinsynth.artefacts.detector import ABOUT
from skinsynth.classifier.classifier import load_classifier
from skinsynth.features.extractor import OF_CLASSIFIERS, ExtractorConfig, build_extractor
from skinsynth.files import folder_written_whole
from skinsynth.gan.family import load_family
from skinsynth.images.archive import image_size
from skinsynth.images.sets import read_image_set
from skinsynth.privacy.distances import extreme_places
from skinsynth.privacy.evidence import Evidence, Search, gather_evidence, headlines
from skinsynth.privacy.inputs import check_sides, check_size, distinct_sides, judged_by, judged_rows, pixel_row
from skinsynth.privacy.membership import AttackConfig
from skinsynth.privacy.names import TABLES, RowsByTable
from skinsynth.privacy.novelty import Coverage, NoveltyConfig
from skinsynth.privacy.sets import Sets, Space
from skinsynth.projection.pairs import read_pairs
from skinsynth.quality.neighbours import neighbour_scores
from skinsynth.quality.proportions import as_frequent_as
from skinsynth.report.distances import draw_distances
from skinsynth.report.pairs import PairGroup, draw_pairs
from skinsynth.settings import Count, Names
from skinsynth.stage import best_device, cache_folder, load_params, run, write_metrics, write_rows

# Pairs in a group of the figure, though more are marked: closest.csv names all of them.
MOST_SHOWN = 60
HISTOGRAM = "histogram.png"


@dataclass(frozen=True)
class Settings:
    classes: Names
    extractor: ExtractorConfig
    novelty: NoveltyConfig
    attacks: AttackConfig
    shown_pairs: Count  # closest pairs in the figure, and as many furthest ones, for each kind of pair


SETTINGS = Settings


def main(
    synthetic: Annotated[Path, "images to judge: a ZIP of ours, or any ZIP or folder of class folders"],
    images: Annotated[Path, "real images"],
    lesions: Annotated[Path, "lesions.csv, for duplicates"],
    split: Annotated[Path, "CSV of split_patients: who is in train, validation and test"],
    classifiers: Annotated[
        list[Path], "classifiers whose features distances are measured in: the first supplies the headline metrics"
    ],
    metrics: Annotated[Path, "headlines"],
    details: Annotated[Path, f"folder of {', '.join(TABLES)} as CSV"],
    nearest_pairs: Annotated[Path, "closest and furthest pairs as a figure: shows real images, stays here"],
    closest: Annotated[Path, "CSV: the synthetic images nearest to real ones, with their neighbours' ids: stays here"],
    saw_the_set: Annotated[
        list[Path] | None,
        "those of the classifiers that were trained on these synthetic images: the release rules ignore their results",
    ] = None,
    pairs: Annotated[Path | None, "real images and their projections, where a generator was asked for them"] = None,
    gan: Annotated[Path | None, "the generator's folder, where there is one: its discriminator is attacked too"] = None,
) -> None:
    """Judge by features; duplicates leave the training set first. Far away does not mean private.

    Real images are those of the synthetic classes. Numbers over all classes use a subsample with training's class
    shares; otherwise C_T would measure the class mix. Copies are sought in the whole set, among real images of all
    classes.
    """
    settings = load_params("score_authenticity", Settings)
    check_details(details, [metrics, nearest_pairs, closest])
    device = best_device()
    spaces = feature_spaces(classifiers, saw_the_set or [], settings.extractor, device)
    family = None if gan is None else load_family([gan], device)
    sets = read_sets(synthetic, images, lesions, split, pairs, settings)
    coverage = coverage_within(settings.novelty.neighbours)
    found = gather_evidence(sets, spaces, family, settings.novelty, settings.attacks, coverage, device)
    about_files = {
        "pixels": [pixel_row(sets.fake, images, split)],
        "judged": [*judged_rows(synthetic, sets), *judged_by(images, lesions, split)],
    }
    draw_pairs(nearest_pairs, pairs_to_look_at(found, sets, spaces[-1], settings))
    write_rows(closest, [row for search in found.searches for row in search.closest_rows(settings.classes)])
    write_details(details, found.tables | about_files)
    write_metrics(metrics, headlines(found.tables, [space.name for space in spaces]))


def pairs_to_look_at(found: Evidence, sets: Sets, last: Space, settings: Settings) -> list[PairGroup]:
    """Real images with their projections, then synthetic images with the nearest real ones."""
    groups = []
    if sets.pairs is not None and found.to_own_projection is not None:
        title = f"real image and its projection, {{}} by cosine distance in features of {last.name}"
        groups += closest_and_furthest(title, *sets.pairs, found.to_own_projection, settings.shown_pairs)
    for search in found.searches:
        groups += closest_of_each(search, settings.classes, settings.shown_pairs)
    return groups


def write_details(details: Path, tables: RowsByTable) -> None:
    """All tables and their figure at once: of two runs, check_release would judge neither set."""
    with folder_written_whole(details) as aside:
        for name, rows in tables.items():
            write_rows(aside / f"{name}.csv", rows)
        draw_distances(aside / HISTOGRAM, tables["histogram"])


def check_details(details: Path, results: list[Path]) -> None:
    """Raises ValueError where the folder holds more than its tables, or is to: it is replaced as a whole."""
    for path in results:
        if path.absolute().is_relative_to(details.absolute()):
            raise ValueError(f"{path} would lie in {details}, which the tables have for themselves: put it elsewhere")
    ours = {HISTOGRAM, *(f"{name}.csv" for name in TABLES)}
    for entry in sorted(details.iterdir()) if details.is_dir() else ():
        if entry.name not in ours and not entry.name.startswith("."):
            raise ValueError(
                f"{entry} is no table of score_authenticity, and would be lost: give --details another folder"
            )


def read_sets(
    synthetic: Path, images: Path, lesions: Path, split: Path, pairs: Path | None, settings: Settings
) -> Sets:
    """All images that features are asked for; a ValueError where a class of the set cannot be judged."""
    fake = read_image_set(synthetic, settings.classes, image_size(images))
    check_size(synthetic, fake, settings.classes)
    train, held_out, others = distinct_sides(images, lesions, split, np.unique(fake.labels).tolist())
    check_sides(split, train.images, held_out.images, fake, settings.classes)
    rng = torch.Generator().manual_seed(settings.novelty.seed)
    pooled = as_frequent_as(torch.from_numpy(fake.labels), torch.from_numpy(train.images.labels), rng)
    both = None if pairs is None else read_pairs(pairs)
    return Sets(settings.classes, train, held_out, others, fake, pooled, both and (both.real, both.projected))


def feature_spaces(
    classifiers: list[Path], saw_the_set: list[Path], config: ExtractorConfig, device: torch.device
) -> list[Space]:
    """One space a classifier, named after its folder; a published network has features of its own, and is one space.

    What saw the set are classifiers that learnt from its images, but from none held out.
    """
    check_classifiers(classifiers, saw_the_set)
    seers = {folder.resolve() for folder in saw_the_set}
    spaces = []
    for folder in classifiers:
        network = load_classifier(folder, device)
        extract = build_extractor(config, network, device, cache_folder("features"))
        if config.name not in OF_CLASSIFIERS:
            return [Space(extract.name, extract.name, extract, saw_the_set=False)]
        spaces.append(Space(folder.name, f"{extract.name} {network.name}", extract, folder.resolve() in seers))
    return spaces


def check_classifiers(classifiers: list[Path], saw_the_set: list[Path]) -> None:
    """Raises ValueError where two share a name, one is a detector, or one that saw the set is none of them."""
    if len({folder.name for folder in classifiers}) < len(classifiers):
        raise ValueError(f"classifiers are told apart by the names of their folders, but {classifiers} share one")
    for folder in classifiers:
        if (folder / ABOUT).is_file():
            raise ValueError(
                f"{folder} is a detector of one artefact, in whose features lesions look alike: give classifiers of "
                "lesions (models/classifier)"
            )
    known = {folder.resolve() for folder in classifiers}
    for folder in saw_the_set:
        if folder.resolve() not in known:
            raise ValueError(f"{folder} saw the set, but no distances are measured in its features: drop it there")


def closest_of_each(search: Search, classes: Names, count: int) -> list[PairGroup]:
    """The synthetic images of each class that are nearest to this side's, with every marked one, beside these.

    Where more than `MOST_SHOWN` are marked, the title says how many are not shown.
    """
    groups, lookalikes = [], search.view.lookalikes
    gaps, partners = (part.cpu().numpy() for part in lookalikes.found)
    for label in np.unique(lookalikes.fake.labels).tolist():
        wanted = lookalikes.closest(label, count)
        places = wanted[: max(count, MOST_SHOWN)]
        title = f"synthetic {classes[label]} and nearest {search.side} image, closest by {search.view.measure}"
        if len(wanted) > len(places):
            title += f" (and {len(wanted) - len(places)} more marked ones, see closest.csv)"
        pairs = lookalikes.fake.pixels[places], search.real.pixels[partners[places]]
        groups.append(PairGroup(title, "red", *pairs, gaps[places]))
    return groups


def coverage_within(neighbours: int) -> Coverage:
    """Share of training images that a set covers; nan where either set is too small for so many neighbours."""

    def coverage(train: Tensor, images: Tensor) -> float:
        if min(len(train), len(images)) <= neighbours:
            return float("nan")
        return neighbour_scores(train, images, neighbours).coverage

    return coverage


def closest_and_furthest(
    title: str,
    left: UInt8[np.ndarray, "n 3 size size"],
    right: UInt8[np.ndarray, "n 3 size size"],
    distances: Float[Tensor, " n"],
    count: int,
) -> list[PairGroup]:
    """The closest pairs in red and the furthest in blue; `title` has a place for the word."""
    groups = []
    for word, frame, extreme in zip(
        ("closest", "furthest"), ("red", "blue"), extreme_places(distances, count), strict=True
    ):
        places = extreme.cpu().numpy()
        groups.append(
            PairGroup(title.format(word), frame, left[places], right[places], distances.cpu().numpy()[places])
        )
    return groups


if __name__ == "__main__":
    run(main)
