"""Attacks, and a control, on one set of generated images: can an outsider tell training images from held-out ones?"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize

from skinsynth.gan.family import Family
from skinsynth.gan.model import Gan
from skinsynth.images.archive import Images
from skinsynth.intervals import group_draws
from skinsynth.privacy.attacks import (
    Scores,
    attack_rows,
    check_scores,
    density_ratio,
    density_ratios_of_each,
    discriminator_scores,
    reconstruction_scores,
    reconstruction_scores_of_each,
    rows_of_draws,
)
from skinsynth.privacy.names import CONTROL, Row
from skinsynth.privacy.patients import Halves, PatientFeatures, PatientImages, halves_by_group
from skinsynth.privacy.thumbnails import thumbnails
from skinsynth.settings import Count, Seed

# Of thumbnails that are attacked: density ratios take time with the cube of the number of pixels.
SIZE_OF_PIXELS = 16


@dataclass(frozen=True)
class AttackConfig:
    components: Count  # of the features, in which densities are estimated (DOMIAS)
    draws: Count  # of patients, behind each interval
    batch_size: Count
    seed: Seed  # of the halves of the held-out patients and of the draws


def feature_attack_rows(
    train: PatientFeatures, held_out: PatientFeatures, generated: Float[Tensor, "m dim"], config: AttackConfig
) -> list[Row]:
    """AUC and TPR at 1 % FPR of the attacks that look at features: all training images against all held-out ones.

    Both sides are halved by patient. Each half of the held-out images is the attacker's reference where the other half
    and one half of the training images are told apart: one draw of halves in one direction moved an AUC by 0.03.
    A held-out patient is a non-member and in the reference of others, too, so that patients are halved anew for each
    draw behind the 95 % percentile intervals: with scores of one draw of halves these were too narrow.
    """
    rng = np.random.default_rng(config.seed)
    halves = halves_by_group(held_out.groups, rng)
    sides = (train, halves_by_group(train.groups, rng)), (held_out, halves)
    found = [
        {name: torch.empty(len(side.groups), dtype=torch.float64) for name in ("reconstruction", "density_ratio")}
        for side, _ in sides
    ]
    for number, of_reference in enumerate(reversed(halves)):
        reference = held_out.at(of_reference).features
        ratio = density_ratio(generated, reference, config.components)
        for (side, parts), scores in zip(sides, found, strict=True):
            part = parts[number]
            asked = side.at(part).features
            scores["reconstruction"][part] = reconstruction_scores(asked, generated, reference).cpu()
            scores["density_ratio"][part] = ratio(asked)
    of_train, of_held_out = found
    check_scores(of_train, of_held_out, len(train.groups), len(held_out.groups))
    drawn = _scores_of_draws(train, held_out, generated, config, rng)
    return [
        row
        for attack in of_train
        for row in rows_of_draws(attack, [(of_train[attack].numpy(), of_held_out[attack].numpy()), *drawn[attack]])
    ]


def _scores_of_draws(
    train: PatientFeatures,
    held_out: PatientFeatures,
    generated: Float[Tensor, "m dim"],
    config: AttackConfig,
    rng: np.random.Generator,
) -> dict[str, list[Scores]]:
    """Scores by each attack in each draw of patients of both sides, of whom all were halved anew before.

    Patients are drawn as members and non-members alone: a drawn reference would hold fewer patients than the sample's,
    some of them more than once, which made intervals of density ratios 1.5 times too wide.
    """
    halves_of = [[halves_by_group(side.groups, rng) for _ in range(config.draws)] for side in (train, held_out)]
    asked = torch.cat([train.features, held_out.features])
    scored = asked, generated, held_out.features, [half for halves in halves_of[1] for half in reversed(halves)]
    scores_of = {
        "reconstruction": reconstruction_scores_of_each(*scored),
        "density_ratio": density_ratios_of_each(*scored, config.components),
    }
    counts = [group_draws(side.groups, config.draws, rng)[1:].astype(np.int64) for side in (train, held_out)]
    drawn: dict[str, list[Scores]] = {attack: [] for attack in scores_of}
    for attack, scores in scores_of.items():
        by_reference = scores.cpu().numpy().reshape(config.draws, 2, len(asked))
        for found, halves, others, count, count_of_others in zip(by_reference, *halves_of, *counts, strict=True):
            members, non_members = found[:, : len(train.groups)], found[:, len(train.groups) :]
            drawn[attack].append((_drawn(members, halves, count), _drawn(non_members, others, count_of_others)))
    return drawn


def _drawn(
    by_reference: Float64[np.ndarray, "2 n"], halves: Halves, counts: Int64[np.ndarray, " n"]
) -> Float64[np.ndarray, " drawn"]:
    """Scores of each half by its own reference, as often as they were drawn."""
    return np.concatenate(
        [scores[half].repeat(counts[half]) for scores, half in zip(by_reference, halves, strict=True)]
    )


def pixel_attack_rows(
    train: PatientImages, held_out: PatientImages, generated: UInt8[np.ndarray, "m 3 size size"], config: AttackConfig
) -> list[Row]:
    """Rows of `feature_attack_rows` with thumbnails as features: these see images that were only painted over, which
    classifiers' features hardly do."""

    def seen(pixels: UInt8[np.ndarray, "n 3 size size"]) -> Float[Tensor, "n dim"]:
        small = thumbnails(pixels)
        return normalize(adaptive_avg_pool2d(small, min(SIZE_OF_PIXELS, small.shape[-1])).flatten(1))

    of_train, of_held_out = (PatientFeatures(seen(side.images.pixels), side.groups) for side in (train, held_out))
    return feature_attack_rows(of_train, of_held_out, seen(generated), config)


def other_attack_rows(
    train: PatientImages, held_out: PatientImages, family: Family | None, config: AttackConfig
) -> list[Row]:
    """AUC and TPR at 1 % FPR of the attacks that look at no features: each discriminator, about the classes that it
    knows, and the control, which guesses at random and whose interval should hold an AUC of 0.5."""
    rng = np.random.default_rng(config.seed)
    rows = []
    for name, gan in (family.members if family else {}).items():
        members, strangers = (side.of(gan.classes) for side in (train, held_out))
        if not len(members.groups) or not len(strangers.groups):
            continue  # a set of other classes alone
        said, said_of_strangers = (
            {f"discriminator of {name}": _asked(gan, side.images, config.batch_size)} for side in (members, strangers)
        )
        rows += attack_rows(said, said_of_strangers, members.groups, strangers.groups, config.draws, rng)
    guess, guess_of_others = ({CONTROL: torch.from_numpy(rng.random(len(side.groups)))} for side in (train, held_out))
    return rows + attack_rows(guess, guess_of_others, train.groups, held_out.groups, config.draws, rng)


def _asked(gan: Gan, images: Images, batch_size: int) -> Tensor:
    # Copies: arrays of an archive may be read-only, which torch warns about.
    return discriminator_scores(gan, torch.tensor(images.pixels), torch.tensor(images.labels), batch_size)
