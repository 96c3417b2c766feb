"""Are the synthetic images new? Authenticity, distances to training images and membership attacks."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from skinsynth.classifier.classifier import load_classifier
from skinsynth.features.extractor import Extractor, ExtractorConfig, build_extractor, without_cache
from skinsynth.gan.family import load_family
from skinsynth.images.archive import Images, image_size, read_archive
from skinsynth.images.sets import read_image_set
from skinsynth.lesions.table import read_lesions
from skinsynth.partition.split import images_of, read_split
from skinsynth.privacy.authenticity import without_duplicates
from skinsynth.privacy.copying import Side
from skinsynth.privacy.disguises import disguised
from skinsynth.privacy.distances import extreme_places, nearest, paired
from skinsynth.privacy.lookalikes import Finder, Found, Lookalikes
from skinsynth.privacy.membership import CONTROL, AttackConfig, Attacked, feature_attack_rows, other_attack_rows
from skinsynth.privacy.novelty import (
    HELD_OUT,
    NoveltyConfig,
    distance_histogram,
    distance_rows,
    novelty_rows,
    strangers_rows,
)
from skinsynth.privacy.planted import halves, planted_rows
from skinsynth.privacy.thumbnails import nearest_in_any_orientation
from skinsynth.projection.pairs import read_pairs
from skinsynth.quality.neighbours import neighbour_scores
from skinsynth.quality.proportions import as_frequent_as
from skinsynth.report.distances import draw_distances
from skinsynth.report.pairs import PairGroup, draw_pairs
from skinsynth.settings import Count, Names
from skinsynth.stage import best_device, cache_folder, load_params, run, write_metrics, write_rows

# Of a class: fewer say nothing about copying.
LEAST_IMAGES = 10
# Generated images of a class that are nearest to training, by name, for who looks at each.
LISTED = 50
# Stands in features_of where no network's features are looked at.
PIXELS = "pixels"

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


class Space(NamedTuple):
    """Whose features distances are measured in."""

    name: str  # of the classifier's folder, or of the published network
    extractor: str
    extract: Extractor


class Sets(NamedTuple):
    """The images that are looked at."""

    train: Images  # without duplicates
    held_out: Images
    group_of: pd.Series  # of patients, by image id
    fake: Images
    pooled: Tensor  # places of synthetic images in training's class shares, for what is said of all classes at once
    pairs: tuple[np.ndarray, np.ndarray] | None  # pixels of real images and of their projections


class View(NamedTuple):
    """One way of telling how much images look like training images."""

    name: str  # as tables have it in features_of
    extractor: str
    measure: str  # in words
    lookalikes: Lookalikes
    find: Finder  # for other images than those of the sets


class Features(NamedTuple):
    """The same in one space."""

    train: Tensor
    held_out: Tensor
    fake: Tensor
    pooled: Tensor  # of `fake`
    pairs: tuple[Tensor, Tensor] | None


def main(
    synthetic: Annotated[Path, "images to judge: a ZIP of ours, or any ZIP or folder of class folders"],
    images: Annotated[Path, "real images"],
    lesions: Annotated[Path, "lesions.csv, for duplicates"],
    split: Annotated[Path, "who is on which side"],
    classifiers: Annotated[list[Path], "classifiers whose features distances are measured in: the first has headlines"],
    metrics: Annotated[Path, "headlines"],
    details: Annotated[
        Path, "folder of authenticity, planted, copies, disguises, pixels, distances, histogram, attacks as CSV"
    ],
    nearest_pairs: Annotated[Path, "closest and furthest pairs as a figure: shows real images, stays here"],
    closest: Annotated[Path, "CSV: the synthetic images nearest to training, each with its neighbour's id: stays here"],
    pairs: Annotated[Path | None, "real images and their projections, where a generator was asked for them"] = None,
    gan: Annotated[Path | None, "the generator's folder, where there is one: its discriminator is attacked too"] = None,
) -> None:
    """Judge by features; duplicates leave the training set first. Far away does not mean private.

    Real images are those of the synthetic classes. What is said of all classes at once is said of synthetic images in
    the shares of training: C_T of a balanced set would tell how classes are mixed. Copies are sought in the whole set.
    """
    settings = load_params("score_authenticity", Settings)
    device = best_device()
    spaces = feature_spaces(classifiers, settings.extractor, device)
    fake = read_image_set(synthetic, settings.classes, image_size(images))
    check_size(synthetic, fake, settings.classes)
    train, held_out, group_of = distinct_sides(images, lesions, split, np.unique(fake.labels))
    check_sides(split, train, held_out, fake, settings.classes)
    rng = torch.Generator().manual_seed(settings.novelty.seed)
    pooled = as_frequent_as(torch.from_numpy(fake.labels), torch.from_numpy(train.labels), rng)
    both = None if pairs is None else read_pairs(pairs)
    sets = Sets(train, held_out, group_of, fake, pooled, both and (both.real, both.projected))
    tables: Tables = defaultdict(list)
    views, shown = [view_of_pixels(sets)], list[PairGroup]()
    for space in spaces:
        features = features_in(space, sets)
        add_to(tables, judge(space, sets, features, settings), space.name, space.extractor)
        views.append(view_of_features(space, sets, features))
        if space is spaces[0] and sets.pairs is not None and features.pairs is not None:
            title = f"real image and its projection, {{}} by cosine distance in features of {space.name}"
            shown += closest_and_furthest(title, *sets.pairs, paired(*features.pairs, "cosine"), settings.shown_pairs)
    for view in views:
        add_to(tables, copies_in(view, sets, settings), view.name, view.extractor)
        shown += closest_of_each(view, sets, settings)
    draw_pairs(nearest_pairs, shown)
    write_rows(closest, [row for view in views for row in closest_rows(view, sets, settings.classes)])
    family = None if gan is None else load_family([gan], device)
    others = other_attack_rows(*attacked(sets), family, settings.attacks)
    add_to(tables, {"attacks": others}, "none", "none")
    tables["pixels"] = [pixel_row(fake, images, split)]
    for name, rows in tables.items():
        write_rows(details / f"{name}.csv", rows)
    draw_distances(details / "histogram.png", tables["histogram"])
    write_metrics(metrics, headlines(tables, [space.name for space in spaces]))


def check_size(path: Path, fake: Images, classes: tuple[str, ...]) -> None:
    """Raises ValueError where a class of the set is too small to be judged."""
    for label, count in zip(*np.unique(fake.labels, return_counts=True), strict=True):
        if count < LEAST_IMAGES:
            raise ValueError(
                f"{path} has {count} images of {classes[label]}, which say nothing about copying: bring {LEAST_IMAGES} "
                "or more of each class that it has"
            )


def check_sides(path: Path, train: Images, held_out: Images, fake: Images, classes: tuple[str, ...]) -> None:
    """Raises ValueError where the split has no real image of a class to read the synthetic ones against."""
    for side, real in (("training", train), ("held-out", held_out)):
        missing = np.setdiff1d(fake.labels, real.labels)
        if len(missing):
            raise ValueError(
                f"{path} has no {side} image of {classes[missing[0]]}, of which there are synthetic ones: widen that "
                "side of split_patients in params.yaml, or leave the class out of the set"
            )


def pixel_row(fake: Images, images: Path, split: Path) -> Row:
    """Synthetic images that equal another one of the set, or a real one of any class, in every pixel."""
    sides = read_split(split)
    is_training = sides["split"] == "train"
    made = [image.tobytes() for image in fake.pixels]
    found: Row = {"images": len(made), "repeated": len(made) - len(set(made))}
    for name, ids in (("training", sides[is_training]["image_id"]), ("held_out", sides[~is_training]["image_id"])):
        real = {image.tobytes() for image in read_archive(images, ids.tolist()).pixels}
        found[f"identical_to_{name}"] = sum(image in real for image in made)
    return found


def feature_spaces(classifiers: list[Path], config: ExtractorConfig, device: torch.device) -> list[Space]:
    """One space a classifier, named after its folder; a published network has features of its own, and is one space."""
    if len({folder.name for folder in classifiers}) < len(classifiers):
        raise ValueError(f"classifiers are told apart by the names of their folders, but {classifiers} share one")
    spaces = []
    for folder in classifiers:
        network = load_classifier(folder, device)
        extract = build_extractor(config, network, device, cache_folder("features"))
        if config.name != "classifier":
            return [Space(extract.name, extract.name, extract)]
        spaces.append(Space(folder.name, f"{extract.name} {network.name}", extract))
    return spaces


def distinct_sides(
    images: Path, lesions: Path, split: Path, labels: Int64[np.ndarray, " classes"]
) -> tuple[Images, Images, pd.Series]:
    """Training images of these classes without duplicates, held-out images, and the group of patients by image id."""
    sides = read_split(split)
    sides = sides[sides["label"].isin(labels)]
    train = images_of(sides, "train").merge(read_lesions(lesions)[["image_id", "duplicate_group"]], on="image_id")
    distinct = train["image_id"].iloc[without_duplicates(train["duplicate_group"].tolist())]
    held_out = sides.loc[sides["split"] != "train", "image_id"]
    group_of = sides.set_index("image_id")["group"]
    return read_archive(images, distinct.tolist()), read_archive(images, held_out.tolist()), group_of


def features_in(space: Space, sets: Sets) -> Features:
    """Every image seen by one extractor."""
    train, held_out, fake = (space.extract(part.pixels) for part in (sets.train, sets.held_out, sets.fake))
    pairs = None
    if sets.pairs is not None:
        real, projected = (space.extract(part) for part in sets.pairs)
        pairs = real, projected
    return Features(train, held_out, fake, fake[sets.pooled.to(fake.device)], pairs)


def view_of_pixels(sets: Sets) -> View:
    """No network: it finds copies that were stored again, recoloured, mirrored or turned, which features may not."""
    find = partial(nearest_in_any_orientation, among=sets.train.pixels)
    seen = lookalikes(sets, find(sets.fake.pixels), find(sets.held_out.pixels))
    return View(PIXELS, "thumbnails", "correlation of thumbnails in any orientation", seen, find)


def view_of_features(space: Space, sets: Sets, features: Features) -> View:
    """By cosine distance; features of other images than those of the sets are not kept in the cache."""
    find = partial(nearest, among=features.train, metric="cosine")
    seen = lookalikes(sets, find(features.fake), find(features.held_out))
    extract = without_cache(space.extract)
    measure = f"cosine distance in features of {space.name}"
    return View(space.name, space.extractor, measure, seen, lambda pixels: find(extract(pixels)))


def lookalikes(sets: Sets, fake: Found, held_out: Found) -> Lookalikes:
    """The synthetic images with their nearest training images, beside the held-out ones."""
    return Lookalikes(sets.fake, fake, torch.from_numpy(sets.held_out.labels), held_out[0])


def copies_in(view: View, sets: Sets, settings: Settings) -> Tables:
    """How many synthetic images look like copies, and how many disguised copies would."""
    count, seed = settings.novelty.planted_images, settings.novelty.seed
    return {
        "copies": view.lookalikes.rows(settings.classes),
        "disguises": view.lookalikes.disguise_rows(sets.train, view.find, settings.classes, count, seed),
    }


def closest_of_each(view: View, sets: Sets, settings: Settings) -> list[PairGroup]:
    """The synthetic images of each class that are nearest to training, beside these."""
    groups = []
    gaps, partners = (part.cpu().numpy() for part in view.lookalikes.found)
    for label in np.unique(sets.fake.labels).tolist():
        places = view.lookalikes.closest(label, settings.shown_pairs)[: settings.shown_pairs]
        title = f"synthetic {settings.classes[label]} and nearest training image, closest by {view.measure}"
        pairs = sets.fake.pixels[places], sets.train.pixels[partners[places]]
        groups.append(PairGroup(title, "red", *pairs, gaps[places]))
    return groups


def closest_rows(view: View, sets: Sets, classes: tuple[str, ...]) -> list[Row]:
    """The synthetic images nearest to training by name, with all that `copies.csv` counts."""
    rows = view.lookalikes.closest_rows(sets.train, classes, LISTED)
    return [{**row, "features_of": view.name} for row in rows]


def add_to(tables: Tables, found: Tables, features_of: str, extractor: str) -> None:
    """Append rows, each with the way of measuring that it comes from."""
    for name, rows in found.items():
        tables[name] += [{**row, "features_of": features_of, "extractor": extractor} for row in rows]


def judge(space: Space, sets: Sets, features: Features, settings: Settings) -> Tables:
    """What one space's distances say, a list of rows for each file of `details`."""
    train, held_out, fake, pooled, pairs = features
    coverage = coverage_within(settings.novelty.neighbours)
    groups = sets.group_of.loc[sets.held_out.ids].to_numpy()
    asked = {"generated": fake, HELD_OUT: held_out}
    gaps = {name: nearest(images, train, "cosine")[0] for name, images in asked.items()}
    if pairs is not None:
        gaps["own projection"] = paired(*pairs, "cosine")
    count = min(settings.novelty.planted_images, len(fake), len(held_out))
    afresh = without_cache(space.extract)
    garbage = afresh(noise_images(count, sets.fake.pixels.shape[-1], settings.novelty.seed))
    split, blurred = (
        halves(part, groups, settings.novelty.seed)
        for part in (held_out, afresh(disguised(sets.held_out.pixels, "blurred")))
    )
    return {
        "authenticity": authenticity_rows(sets, features, settings, coverage),
        "planted": planted_rows(train, split, blurred.fresh, pooled, garbage, settings.novelty, coverage),
        "distances": distances_by_class(sets, asked, train, pairs, settings),
        "histogram": distance_histogram(gaps),
        "attacks": feature_attack_rows(*attacked(sets, features), pooled, settings.attacks),
    }


def distances_by_class(
    sets: Sets,
    asked: dict[str, Tensor],
    train: Tensor,
    pairs: tuple[Tensor, Tensor] | None,
    settings: Settings,
) -> list[Row]:
    """Of all images of the set, then of each class; the training image may be of any."""
    close = settings.novelty.close
    rows = [{"class": "all", **row} for row in distance_rows(asked, train, pairs, close)]
    labels = dict(zip(asked, (sets.fake.labels, sets.held_out.labels), strict=True))
    for label in np.unique(sets.fake.labels):
        of_class = {name: part[torch.from_numpy(labels[name] == label)] for name, part in asked.items()}
        rows += [{"class": settings.classes[label], **row} for row in distance_rows(of_class, train, None, close)]
    return rows


def authenticity_rows(
    sets: Sets, features: Features, settings: Settings, coverage: Callable[[Tensor, Tensor], float]
) -> list[Row]:
    """Of all images together, then of each class against the same class."""
    config = settings.novelty
    groups = [sets.group_of.loc[side.ids].to_numpy() for side in (sets.train, sets.held_out)]

    def rows_of(name: str, train: Side, held_out: Side, fake: Tensor) -> list[Row]:
        found = novelty_rows(train.features, held_out.features, fake, config, coverage)
        return [{"class": name, **row} for row in found + strangers_rows(train, held_out, fake, config.seed)]

    sides = Side(features.train, groups[0]), Side(features.held_out, groups[1])
    rows = rows_of("all", *sides, features.pooled)
    for label in np.unique(sets.fake.labels):
        real, strangers = (
            Side(side.features[torch.from_numpy(images.labels == label)], side.groups[images.labels == label])
            for side, images in zip(sides, (sets.train, sets.held_out), strict=True)
        )
        fake = features.fake[torch.from_numpy(sets.fake.labels == label)]
        rows += rows_of(settings.classes[label], real, strangers, fake)
    return rows


def coverage_within(neighbours: int) -> Callable[[Tensor, Tensor], float]:
    """Share of training images that a set covers; nan where either set is too small for so many neighbours."""

    def coverage(train: Tensor, images: Tensor) -> float:
        if min(len(train), len(images)) <= neighbours:
            return float("nan")
        return neighbour_scores(train, images, neighbours).coverage

    return coverage


def noise_images(count: int, size: int, seed: int) -> np.ndarray:
    """Pixels without any picture in them."""
    return np.random.default_rng(seed).integers(0, 256, (count, 3, size, size), dtype=np.uint8)


def attacked(sets: Sets, features: Features | None = None) -> tuple[Attacked, Attacked]:
    """Training and held-out images with their patients, and with features where an attack looks at them."""
    of_sides = (features.train, features.held_out) if features else (None, None)
    train, held_out = (
        Attacked(
            side,
            torch.zeros(len(side.ids), 0) if of_side is None else of_side,
            sets.group_of.loc[side.ids].to_numpy(),
        )
        for side, of_side in zip((sets.train, sets.held_out), of_sides, strict=True)
    )
    return train, held_out


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

    Copies are counted among all images; authenticity and C_T are of those in training's class shares. C_T alone calls
    smooth images copies: the headline is how far it lies from where strangers play the training set.
    Projections are sought in features of the classifier of real images, where they come near by themselves. That none
    is a copy stays in the tables: it is so for a GAN that has learnt images by heart, too. There are also classes,
    intervals and coverage, which copies raise.
    """
    space, last = spaces[0], spaces[-1]
    pooled = [row for row in tables["authenticity"] if row["class"] == "all" and row["features_of"] == space]
    value_of = {(row["metric"], row["of"]): float(row["value"]) for row in pooled}
    attacks = [row for row in tables["attacks"] if row["metric"] == "auc" and row["attack"] != CONTROL]
    strongest = max(attacks, key=lambda row: float(row["value"]))
    copies = [row for row in tables["copies"] if row["features_of"] == PIXELS]
    found: dict[str, str | float] = {
        "features_of": space,
        "authenticity": value_of["authenticity", "generated"],
        "authenticity_of_held_out_real": value_of["authenticity", HELD_OUT],
        "copying_beyond_strangers": value_of["copying_beyond_strangers", "generated"],
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
