"""Everything that is found out about a synthetic set, in every way of measuring, and its headlines."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from skinsynth.gan.family import Family
from skinsynth.images.archive import Images
from skinsynth.privacy.distances import paired
from skinsynth.privacy.judgement import judge
from skinsynth.privacy.membership import AttackConfig, other_attack_rows, pixel_attack_rows
from skinsynth.privacy.names import CONTROL, GENERATED, HELD_OUT, NO_FEATURES, PIXELS, TABLES, Row, RowsByTable
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

# Generated images of a class that are nearest to training, by name, for who looks at each.
LISTED = 50


class Search(NamedTuple):
    """Synthetic images with the nearest real ones of one side."""

    view: View
    side: str  # in words
    real: Images  # those that were searched

    def closest_rows(self, classes: tuple[str, ...]) -> list[Row]:
        """The synthetic images nearest to this side's by name, with all that are counted."""
        rows = self.view.lookalikes.closest_rows(self.real, classes, LISTED)
        return [{**row, "among": self.side, "features_of": self.view.name} for row in rows]


class Evidence(NamedTuple):
    """What is found of a set."""

    tables: RowsByTable  # all of TABLES, though those about files (`pixels`, `judged`) are empty
    searches: list[Search]  # among training images by pixels and in every space, among held-out ones by pixels
    to_own_projection: Float64[Tensor, " q"] | None  # cosine distances of `Sets.pairs`, in the last space


def gather_evidence(
    sets: Sets,
    spaces: Sequence[Space],
    family: Family | None,
    novelty: NoveltyConfig,
    attacks: AttackConfig,
    coverage: Coverage,
    device: torch.device,
) -> Evidence:
    """Ask the features of every space, then pixels, then what needs neither; rows stand in this order. Copies are
    sought by pixels on the device."""
    tables: RowsByTable = {name: [] for name in TABLES}
    views, to_own_projection = [view_of_pixels(sets, device)], None
    for space in spaces:
        features = features_in(space, sets, novelty)
        found = judge(space, sets, features, novelty, attacks, coverage)
        _add(tables, found, space.name, space.extractor, space.saw_the_set)
        views.append(view_of_features(space, sets, features))
        to_own_projection = features.pairs and paired(*features.pairs, "cosine")
    for view, disguises in zip(views, disguise_rows(views, sets, novelty.planted_images, novelty.seed), strict=True):
        copies = view.lookalikes.rows(sets.classes)
        _add(tables, {"copies": copies, "disguises": disguises}, view.name, view.extractor, view.saw_the_set)
    reverse = views[0]._replace(lookalikes=of_held_out(sets, device))
    by_pixels = {
        "copies_of_held_out": held_out_rows(reverse.lookalikes, sets.classes),
        "attacks": pixel_attack_rows(sets.train, sets.held_out, sets.fake.pixels[sets.pooled.numpy()], attacks),
    }
    _add(tables, by_pixels, PIXELS, THUMBNAILS)
    others = other_attack_rows(sets.train, sets.held_out, family, attacks)
    _add(tables, {"attacks": others}, NO_FEATURES, NO_FEATURES)
    among_training = [Search(view, "training", sets.searched) for view in views]
    return Evidence(tables, [*among_training, Search(reverse, "held-out", sets.held_out_searched)], to_own_projection)


def _add(tables: RowsByTable, found: RowsByTable, features_of: str, extractor: str, saw_the_set: bool = False) -> None:
    """Append rows, each with the way of measuring that it comes from and whether that had learnt from the set."""
    way: Row = {"features_of": features_of, "extractor": extractor, "saw_the_set": int(saw_the_set)}
    for name, rows in found.items():
        tables[name] += [{**row, **way} for row in rows]


def headlines(tables: Mapping[str, list[Row]], spaces: Sequence[str]) -> dict[str, str | float]:
    """Novelty in the first space, copies by pixels, the strongest attack in any space, and projections in the last.

    Copies are counted among all images; authenticity and C_T are of those in training's class shares. C_T alone calls
    smooth images copies: the headline is how far it lies from where strangers play the training set.
    Projections are sought in features of the classifier of real images, where they come near by themselves. That none
    is a copy stays in the tables: it is so for a GAN that has learnt images by heart, too. There are also classes,
    intervals and coverage, which copies raise.
    """
    pooled = [row for row in tables["authenticity"] if row["class"] == "all" and row["features_of"] == spaces[0]]
    value_of = {(row["metric"], row["of"]): float(row["value"]) for row in pooled}
    copies = [row for row in tables["copies"] if row["features_of"] == PIXELS]
    strongest = _strongest(tables["attacks"])
    return {
        "features_of": spaces[0],
        "authenticity": value_of["authenticity", GENERATED],
        "authenticity_of_held_out_real": value_of["authenticity", HELD_OUT],
        "copying_beyond_strangers": value_of["copying_beyond_strangers", GENERATED],
        "images_searched_for_copies": sum(int(row["images"]) for row in copies),
        "nearer_than_any_held_out": sum(int(row["nearer_than_any_held_out"]) for row in copies),
        "strongest_attack_auc": float(strongest["value"]),
        "strongest_attack_auc_low": float(strongest["low"]),
        **_of_projections(tables["distances"], spaces[-1]),
    }


def _strongest(attacks: Sequence[Row]) -> Row:
    """The AUC of the best attack, but for features that learnt from the set: these know its images, and none held
    out."""
    fair = [row for row in attacks if not row["saw_the_set"] and row["attack"] != CONTROL and row["metric"] == "auc"]
    return max(fair, key=lambda row: float(row["value"]))


def _of_projections(distances: Sequence[Row], space: str) -> dict[str, float]:
    """The median distance of real images to their own projections; nothing where there are none."""
    asked = space, "real image to own projection", "cosine", "median"
    found = [
        float(row["value"])
        for row in distances
        if (row["features_of"], row["what"], row["distance"], row["statistic"]) == asked
    ]
    return {"projection_median_cosine": found[0]} if found else {}
