"""What the features of one space say about a set of images: all of its tables but those of look-alikes."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from skinsynth.features.extractor import without_cache
from skinsynth.privacy.distances import paired
from skinsynth.privacy.membership import AttackConfig, feature_attack_rows
from skinsynth.privacy.names import GENERATED, HELD_OUT, Row, RowsByTable
from skinsynth.privacy.novelty import (
    Coverage,
    GapsOf,
    NoveltyConfig,
    TrainingSet,
    distance_histogram,
    distance_rows,
    gaps_to,
    novelty_rows,
    strangers_rows,
)
from skinsynth.privacy.patients import PatientFeatures
from skinsynth.privacy.planted import halves, planted_rows
from skinsynth.privacy.sets import Features, Sets, Space


def judge(
    space: Space, sets: Sets, features: Features, novelty: NoveltyConfig, attacks: AttackConfig, coverage: Coverage
) -> RowsByTable:
    """Rows of each table that features of this space fill, by the table's name."""
    gaps = gaps_to(features.train.features, {GENERATED: features.fake, HELD_OUT: features.held_out.features})
    shown = dict(gaps["cosine"])
    if features.pairs is not None:
        shown["own projection"] = paired(*features.pairs, "cosine")
    return {
        "authenticity": authenticity_by_class(sets, features, coverage),
        "planted": planted_in(space, sets, features, novelty, coverage),
        "distances": distances_by_class(sets, gaps, features.pairs, novelty.close),
        "histogram": distance_histogram(shown),
        "attacks": feature_attack_rows(features.train, features.held_out, features.pooled, attacks),
    }


def authenticity_by_class(sets: Sets, features: Features, coverage: Coverage) -> list[Row]:
    """The authenticity table: of all images together, then of each class against the same class."""
    rows = _authenticity_rows("all", features.train, features.held_out, features.pooled, coverage)
    for label in sets.labels:
        rows += _authenticity_rows(
            sets.classes[label],
            features.train.at(sets.train.images.labels == label),
            features.held_out.at(sets.held_out.images.labels == label),
            features.fake[torch.from_numpy(sets.fake.labels == label)],
            coverage,
        )
    return rows


def _authenticity_rows(
    name: str, train: TrainingSet, held_out: PatientFeatures, fake: Float[Tensor, "m dim"], coverage: Coverage
) -> list[Row]:
    found = novelty_rows(train, held_out, fake, coverage) + strangers_rows(train, held_out, fake, train.seed)
    return [{"class": name, **row} for row in found]


def planted_in(space: Space, sets: Sets, features: Features, config: NoveltyConfig, coverage: Coverage) -> list[Row]:
    """The planted table; features of what is made for it are not kept in the cache."""
    afresh, held_out = without_cache(space.extract), features.held_out
    count = min(config.planted_images, len(features.fake), len(held_out.groups))
    garbage = afresh(noise_images(count, sets.fake.pixels.shape[-1], config.seed))
    sharp, blurred = (halves(part, held_out.groups, config.seed) for part in (held_out.features, afresh(sets.blurred)))
    return planted_rows(features.train, sharp, blurred.fresh, features.pooled, garbage, config, coverage)


def noise_images(count: int, size: int, seed: int) -> UInt8[np.ndarray, "count 3 size size"]:
    """Pixels without any picture in them."""
    return np.random.default_rng(seed).integers(0, 256, (count, 3, size, size), dtype=np.uint8)


def distances_by_class(
    sets: Sets, gaps: GapsOf, pairs: tuple[Float[Tensor, "p dim"], Float[Tensor, "p dim"]] | None, close: float
) -> list[Row]:
    """The table of distances: of all images of the set, then of each class; the training image may be of any."""
    rows = [{"class": "all", **row} for row in distance_rows(gaps, pairs, close)]
    labels = {GENERATED: sets.fake.labels, HELD_OUT: sets.held_out.images.labels}
    for label in sets.labels:
        own = {name: torch.from_numpy(of_set == label) for name, of_set in labels.items()}
        of_class = {
            metric: {name: found[own[name]] for name, found in gaps_of.items()} for metric, gaps_of in gaps.items()
        }
        rows += [{"class": sets.classes[label], **row} for row in distance_rows(of_class, None, close)]
    return rows
