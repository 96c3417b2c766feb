"""Attacks, and a control, on one set of generated images: can an outsider tell training images from held-out ones?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize
from tqdm import tqdm

from skinsynth.gan.family import Family
from skinsynth.gan.model import Gan
from skinsynth.images.archive import Images
from skinsynth.intervals import group_draws
from skinsynth.privacy.attacks import (
    METRICS,
    attack_rows,
    density_ratios,
    discriminator_scores,
    reconstruction_scores,
    rows_of_values,
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
    and one half of the training images are told apart. One draw of halves moves an AUC by 0.03, so the value is the
    mean over `draws` of them; each draw of patients behind the 95 % percentile interval is judged by two.
    """
    rng = np.random.default_rng(config.seed)
    halves = [(halves_by_group(train.groups, rng), halves_by_group(held_out.groups, rng)) for _ in range(config.draws)]
    references = [half for _, of_held_out in halves for half in reversed(of_held_out)]
    scored = torch.cat([train.features, held_out.features]), generated, held_out.features, references
    scores_of = {
        "reconstruction": reconstruction_scores(*scored),
        "density_ratio": density_ratios(*scored, config.components),
    }
    # Patients are drawn as members and non-members alone: a drawn reference would hold fewer patients than the
    # sample's, some of them more than once, which made intervals of density ratios 1.5 times too wide.
    counts = [group_draws(side.groups, config.draws, rng).astype(np.int64) for side in (train, held_out)]
    return [
        row
        for attack, scores in scores_of.items()
        for row in rows_of_values(
            attack, _values(scores, halves, counts[0], counts[1]), len(train.groups), len(held_out.groups)
        )
    ]


def _values(
    scores: Float64[Tensor, "references n_and_m"],
    halves: Sequence[tuple[Halves, Halves]],
    train_counts: Int64[np.ndarray, "draws_and_one n"],
    held_out_counts: Int64[np.ndarray, "draws_and_one m"],
) -> dict[str, list[float]]:
    """Of each metric the mean over all halves, then that over two of them for each draw of patients."""
    if bool(scores.isnan().any()):
        raise ValueError("attacks rank numbers, but some scores are nan: look at the features")
    members = train_counts.shape[1]
    by_halves = scores.cpu().numpy().reshape(len(halves), 2, -1)

    def measured(number: int, draw: int) -> list[float]:
        of_train, of_held_out = halves[number]
        told_apart = (
            _drawn(by_halves[number, :, :members], of_train, train_counts[draw]),
            _drawn(by_halves[number, :, members:], of_held_out, held_out_counts[draw]),
        )
        return [measure(*told_apart) for measure in METRICS.values()]

    places = range(len(halves))
    whole = np.mean([measured(number, 0) for number in places], axis=0)
    # Two, since their mean varies as the value does (simulated in tests/test_privacy_attacks.py): by one alone
    # intervals were a fifth too wide.
    drawn = [
        np.mean([measured(number, number + 1), measured((number + 1) % len(halves), number + 1)], axis=0)
        for number in tqdm(places, unit="draw", desc="draws of patients", leave=False, delay=5)
    ]
    return dict(zip(METRICS, np.stack([whole, *drawn], axis=1).tolist(), strict=True))


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
