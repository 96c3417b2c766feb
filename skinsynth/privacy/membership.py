"""Attacks, and a control, on one set of generated images: can an outsider tell training images from held-out ones?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from skinsynth.gan.family import Family
from skinsynth.gan.model import Gan
from skinsynth.images.archive import Images
from skinsynth.privacy.attacks import (
    Row,
    attack_rows,
    density_ratio_scores,
    discriminator_scores,
    reconstruction_scores,
)
from skinsynth.privacy.patients import halves_by_group
from skinsynth.settings import Count, Seed

CONTROL = "random guess"


@dataclass(frozen=True)
class AttackConfig:
    components: Count  # of the features, in which densities are estimated (DOMIAS)
    draws: Count  # of patients, behind each interval
    batch_size: Count
    seed: Seed  # of the halves of the held-out patients and of the draws


class Attacked(NamedTuple):
    """Real images with their features and the patient (or group of patients) of each."""

    images: Images
    features: Float[Tensor, "n dim"]
    groups: Int64[np.ndarray, " n"]

    def of(self, chosen: Int64[np.ndarray, " m"] | Bool[np.ndarray, " n"]) -> "Attacked":
        """Some of them."""
        places = np.arange(len(self.groups))[chosen]
        return Attacked(self.images.at(places), self.features[torch.from_numpy(places)], self.groups[places])


def feature_attack_rows(
    train: Attacked, held_out: Attacked, generated: Float[Tensor, "m dim"], config: AttackConfig
) -> list[Row]:
    """AUC and TPR at 1 % FPR of the attacks that look at features: all training images against all held-out ones.

    Both sides are halved by patient. Each half of the held-out images is the attacker's reference where the other half
    and one half of the training images are told apart: one draw of halves in one direction moved an AUC by 0.03.
    """
    rng = np.random.default_rng(config.seed)
    halves = halves_by_group(held_out.groups, rng)
    references = [held_out.of(half).features for half in reversed(halves)]

    def scores(side: Attacked, parts: Sequence[np.ndarray]) -> dict[str, Float64[Tensor, " n"]]:
        found = {
            name: torch.empty(len(side.groups), dtype=torch.float64) for name in ("reconstruction", "density_ratio")
        }
        for part, reference in zip(parts, references, strict=True):
            asked = side.of(part).features
            found["reconstruction"][part] = reconstruction_scores(asked, generated, reference).cpu()
            found["density_ratio"][part] = density_ratio_scores(asked, generated, reference, config.components)
        return found

    of_train, of_held_out = scores(train, halves_by_group(train.groups, rng)), scores(held_out, halves)
    return attack_rows(of_train, of_held_out, train.groups, held_out.groups, config.draws, rng)


def other_attack_rows(train: Attacked, held_out: Attacked, family: Family | None, config: AttackConfig) -> list[Row]:
    """The same of the attacks that look at no features: each discriminator, about the classes that it knows, and the
    control, which guesses at random and whose interval should hold an AUC of 0.5."""
    rng = np.random.default_rng(config.seed)
    rows = []
    for name, gan in (family.members if family else {}).items():
        members, strangers = (side.of(np.isin(side.images.labels, gan.classes)) for side in (train, held_out))
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
