"""Are the synthetic images new? Authenticity, distances to training images and membership attacks."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from skinsynth.artefacts.detector import ABOUT
from skinsynth.classifier.classifier import load_classifier
from skinsynth.features.extractor import ExtractorConfig, build_extractor
from skinsynth.files import folder_written_whole
from skinsynth.gan.family import Family, load_family
from skinsynth.images.archive import Images, image_size
from skinsynth.images.sets import read_image_set
from skinsynth.privacy.distances import extreme_places, paired
from skinsynth.privacy.inputs import check_sides, check_size, distinct_sides, judged_by, judged_rows, pixel_row
from skinsynth.privacy.judgement import judge
from skinsynth.privacy.membership import AttackConfig, other_attack_rows, pixel_attack_rows
from skinsynth.privacy.names import (
    CONTROL,
    GENERATED,
    HELD_OUT,
    NO_FEATURES,
    PIXELS,
)
from skinsynth.privacy.novelty import Coverage, NoveltyConfig
from skinsynth.privacy.sets import Sets, Space, features_in
from skinsynth.privacy.views import (
    THUMBNAILS,
    View,
    disguise_rows,
    held_out_rows,
    of_held_out,
    view_of_features,
    view_of_pixels,
)
from skinsynth.projection.pairs import read_pairs
from skinsynth.quality.neighbours import neighbour_scores
from skinsynth.quality.proportions import as_frequent_as
from skinsynth.report.distances import draw_distances
from skinsynth.report.pairs import PairGroup, draw_pairs
from skinsynth.settings import Count, Names
from skinsynth.stage import best_device, cache_folder, load_params, run, write_metrics, write_rows

# Generated images of a class that are nearest to training, by name, for who looks at each.
LISTED = 50
# Pairs in a group of the figure, though more are marked: closest.csv names all of them.
MOST_SHOWN = 60
TABLES = (
    "authenticity",
    "planted",
    "copies",
    "copies_of_held_out",
    "disguises",
    "pixels",
    "distances",
    "histogram",
    "attacks",
    "judged",
)
HISTOGRAM = "histogram.png"
Row = dict[str, str | float | int]
Tables = dict[str, list[Row]]


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
    split: Annotated[Path, "who is on which side"],
    classifiers: Annotated[list[Path], "classifiers whose features distances are measured in: the first has headlines"],
    metrics: Annotated[Path, "headlines"],
    details: Annotated[
        Path,
        "folder of authenticity, planted, copies, copies_of_held_out, disguises, pixels, distances, histogram, "
        "attacks, judged as CSV",
    ],
    nearest_pairs: Annotated[Path, "closest and furthest pairs as a figure: shows real images, stays here"],
    closest: Annotated[Path, "CSV: the synthetic images nearest to real ones, with their neighbours' ids: stays here"],
    saw_the_set: Annotated[
        list[Path] | None, "those of the classifiers that were trained on these synthetic images: no rule reads theirs"
    ] = None,
    pairs: Annotated[Path | None, "real images and their projections, where a generator was asked for them"] = None,
    gan: Annotated[Path | None, "the generator's folder, where there is one: its discriminator is attacked too"] = None,
) -> None:
    """Judge by features; duplicates leave the training set first. Far away does not mean private.

    Real images are those of the synthetic classes. What is said of all classes at once is said of synthetic images in
    the shares of training: C_T of a balanced set would tell how classes are mixed. Copies are sought in the whole set,
    among real images of all classes.
    """
    settings = load_params("score_authenticity", Settings)
    check_details(details, [metrics, nearest_pairs, closest])
    device = best_device()
    spaces = feature_spaces(classifiers, saw_the_set or [], settings.extractor, device)
    family = None if gan is None else load_family([gan], device)
    sets = read_sets(synthetic, images, lesions, split, pairs, settings)
    found = judged(sets, spaces, family, settings)
    found.tables["pixels"] = [pixel_row(sets.fake, images, split)]
    found.tables["judged"] = [*judged_rows(synthetic, sets), *judged_by(images, lesions, split)]
    draw_pairs(nearest_pairs, found.shown)
    write_rows(closest, found.closest)
    write_details(details, found.tables)
    write_metrics(metrics, headlines(found.tables, [space.name for space in spaces]))


class Found(NamedTuple):
    """What is found of a set: tables, pairs to look at, and the rows that name its nearest images."""

    tables: Tables
    shown: list[PairGroup]
    closest: list[Row]


def judged(sets: Sets, spaces: list[Space], family: Family | None, settings: Settings) -> Found:
    """By features in every space, by pixels, and by what needs neither."""
    found = Found(defaultdict(list), [], [])
    views = [view_of_pixels(sets), *judged_in_spaces(found, sets, spaces, settings)]
    in_disguise = disguise_rows(views, sets, settings.novelty.planted_images, settings.novelty.seed)
    for view, disguises in zip(views, in_disguise, strict=True):
        copies = view.lookalikes.rows(settings.classes)
        add_to(found.tables, {"copies": copies, "disguises": disguises}, view.name, view.extractor, view.saw_the_set)
        add_closest(found, view, "training", sets.searched, settings)
    reverse = views[0]._replace(lookalikes=of_held_out(sets))
    held_out = held_out_rows(reverse.lookalikes, settings.classes)
    add_to(found.tables, {"copies_of_held_out": held_out}, PIXELS, THUMBNAILS)
    add_closest(found, reverse, "held-out", sets.held_out_searched, settings)
    by_pixels = pixel_attack_rows(sets.train, sets.held_out, sets.fake.pixels[sets.pooled.numpy()], settings.attacks)
    add_to(found.tables, {"attacks": by_pixels}, PIXELS, THUMBNAILS)
    others = other_attack_rows(sets.train, sets.held_out, family, settings.attacks)
    add_to(found.tables, {"attacks": others}, NO_FEATURES, NO_FEATURES)
    return found


def judged_in_spaces(found: Found, sets: Sets, spaces: list[Space], settings: Settings) -> list[View]:
    """Add what the spaces' features tell, and the pairs of projections in the last one; a view of each space."""
    views, coverage = [], coverage_within(settings.novelty.neighbours)
    for space in spaces:
        features = features_in(space, sets, settings.novelty)
        tables = judge(space, sets, features, settings.novelty, settings.attacks, coverage)
        add_to(found.tables, tables, space.name, space.extractor, space.saw_the_set)
        views.append(view_of_features(space, sets, features))
        if space is spaces[-1] and sets.pairs is not None and features.pairs is not None:
            title = f"real image and its projection, {{}} by cosine distance in features of {space.name}"
            distances = paired(*features.pairs, "cosine")
            found.shown.extend(closest_and_furthest(title, *sets.pairs, distances, settings.shown_pairs))
    return views


def add_closest(found: Found, view: View, side: str, real: Images, settings: Settings) -> None:
    """Add the synthetic images that are nearest to this side's: pairs to look at, and rows that name them."""
    found.shown.extend(closest_of_each(view, side, real, settings.classes, settings.shown_pairs))
    found.closest.extend(closest_rows(view, side, real, settings.classes))


def write_details(details: Path, tables: Tables) -> None:
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
        if config.name != "classifier":
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


def closest_of_each(view: View, side: str, real: Images, classes: Names, count: int) -> list[PairGroup]:
    """The synthetic images of each class that are nearest to this side's, with every marked one, beside these.

    Where more than `MOST_SHOWN` are marked, the title says how many are not shown.
    """
    groups, fake = [], view.lookalikes.fake
    gaps, partners = (part.cpu().numpy() for part in view.lookalikes.found)
    for label in np.unique(fake.labels).tolist():
        wanted = view.lookalikes.closest(label, count)
        places = wanted[: max(count, MOST_SHOWN)]
        title = f"synthetic {classes[label]} and nearest {side} image, closest by {view.measure}"
        if len(wanted) > len(places):
            title += f" (and {len(wanted) - len(places)} more marked ones, see closest.csv)"
        pairs = fake.pixels[places], real.pixels[partners[places]]
        groups.append(PairGroup(title, "red", *pairs, gaps[places]))
    return groups


def closest_rows(view: View, side: str, real: Images, classes: Names) -> list[Row]:
    """The synthetic images nearest to this side's by name, with all that are counted."""
    rows = view.lookalikes.closest_rows(real, classes, LISTED)
    return [{**row, "among": side, "features_of": view.name} for row in rows]


def add_to(tables: Tables, found: Tables, features_of: str, extractor: str, saw_the_set: bool = False) -> None:
    """Append rows, each with the way of measuring that it comes from and whether that had learnt from the set."""
    way: Row = {"features_of": features_of, "extractor": extractor, "saw_the_set": int(saw_the_set)}
    for name, rows in found.items():
        tables[name] += [{**row, **way} for row in rows]


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


def headlines(tables: Tables, spaces: list[str]) -> dict[str, str | float]:
    """Novelty in the first space, copies by pixels, the strongest attack in any space, and projections in the last.

    An attack in features that learnt from the set is not counted: these know its images, and none held out.

    Copies are counted among all images; authenticity and C_T are of those in training's class shares. C_T alone calls
    smooth images copies: the headline is how far it lies from where strangers play the training set.
    Projections are sought in features of the classifier of real images, where they come near by themselves. That none
    is a copy stays in the tables: it is so for a GAN that has learnt images by heart, too. There are also classes,
    intervals and coverage, which copies raise.
    """
    space, last = spaces[0], spaces[-1]
    pooled = [row for row in tables["authenticity"] if row["class"] == "all" and row["features_of"] == space]
    value_of = {(row["metric"], row["of"]): float(row["value"]) for row in pooled}
    fair = [row for row in tables["attacks"] if not row["saw_the_set"] and row["attack"] != CONTROL]
    attacks = [row for row in fair if row["metric"] == "auc"]
    strongest = max(attacks, key=lambda row: float(row["value"]))
    copies = [row for row in tables["copies"] if row["features_of"] == PIXELS]
    found: dict[str, str | float] = {
        "features_of": space,
        "authenticity": value_of["authenticity", GENERATED],
        "authenticity_of_held_out_real": value_of["authenticity", HELD_OUT],
        "copying_beyond_strangers": value_of["copying_beyond_strangers", GENERATED],
        "images_searched_for_copies": sum(int(row["images"]) for row in copies),
        "nearer_than_any_held_out": sum(int(row["nearer_than_any_held_out"]) for row in copies),
        "strongest_attack_auc": float(strongest["value"]),
        "strongest_attack_auc_low": float(strongest["low"]),
    }
    projections = {
        str(row["statistic"]): float(row["value"])
        for row in tables["distances"]
        if (row["features_of"], row["what"], row["distance"]) == (last, "real image to own projection", "cosine")
    }
    return found | ({"projection_median_cosine": projections["median"]} if projections else {})


if __name__ == "__main__":
    run(main)
