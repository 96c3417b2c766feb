"""Sets of known novelty, made of the study's own images, to read the numbers of the generated set against."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from skinsynth.privacy.names import EXACT_COPIES, GENERATED, HALF_COPIES, HELD_OUT, Row
from skinsynth.privacy.novelty import Coverage, Novelty, NoveltyConfig, TrainingSet, novelty
from skinsynth.privacy.patients import Groups, halves_by_group


class HeldOut(NamedTuple):
    """Two halves of the held-out real images that share no patient."""

    fresh: Float[Tensor, "f dim"]  # judged as if a perfect generator had made them
    reference: Float[Tensor, "r dim"]  # that C_T compares with


def halves(held_out: Float[Tensor, "h dim"], groups: Groups, seed: int) -> HeldOut:
    """The held-out images halved by patient; the same seed gives the same halves."""
    fresh, reference = halves_by_group(groups, np.random.default_rng(seed))
    return HeldOut(held_out[torch.from_numpy(fresh)], held_out[torch.from_numpy(reference)])


def planted_sets(
    train: Float[Tensor, "n dim"],
    fresh: Float[Tensor, "m dim"],
    blurred: Float[Tensor, "m dim"],
    garbage: Float[Tensor, "m dim"],
    seed: int,
) -> dict[str, Float[Tensor, "m dim"]]:
    """Sets of one size by what they are: fresh draws, these blurred, copies, half of each, one image again, noise."""
    count = len(fresh)
    rng = np.random.default_rng(seed)
    copies = train[torch.from_numpy(rng.choice(len(train), count, replace=count > len(train)))]
    return {
        HELD_OUT: fresh,
        "held-out real, blurred": blurred,
        EXACT_COPIES: copies,
        HALF_COPIES: torch.cat([copies[: count // 2], fresh[count // 2 :]]),
        "one image repeated": copies[:1].expand(count, -1),
        "far garbage": garbage,
    }


def planted_rows(
    train: TrainingSet,
    held_out: HeldOut,
    blurred: Float[Tensor, "f dim"],
    generated: Float[Tensor, "m dim"],
    garbage: Float[Tensor, "g dim"],
    config: NoveltyConfig,
    coverage: Coverage,
) -> list[Row]:
    """One row a set, the generated one first, all of one size and against one reference, so that rows compare.

    `blurred` are the images of `held_out.fresh` with less detail: no copies, though C_T says so.
    """
    count = min(config.planted_images, len(held_out.fresh), len(generated), len(garbage))
    rng = np.random.default_rng(config.seed)
    of_fresh, of_made = (
        torch.from_numpy(np.sort(rng.permutation(len(part))[:count])) for part in (held_out.fresh, generated)
    )
    planted = planted_sets(train.features, held_out.fresh[of_fresh], blurred[of_fresh], garbage[:count], config.seed)
    sets = {GENERATED: generated[of_made], **planted}
    counts: Row = {"images": count, "train_images": len(train.features), "reference_images": len(held_out.reference)}
    return [
        {"set": name, **_columns(novelty(train, held_out.reference, images, coverage)), **counts}
        for name, images in sets.items()
    ]


def _columns(found: Novelty) -> Row:
    return {
        "authenticity": found.authenticity.value,
        "authenticity_low": found.authenticity.low,
        "authenticity_high": found.authenticity.high,
        "copying_statistic": found.copying,
        "copying_statistic_by_cells": found.by_cells.value,
        "reference_share_in_judged_cells": found.by_cells.judged_share,
        "coverage": found.coverage,
    }
