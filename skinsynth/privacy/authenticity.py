"""Authenticity: the share of generated images that are no copies of a training image, noise aside."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from skinsynth.intervals import Interval, group_draws, share_interval, wilson_share
from skinsynth.privacy.distances import nearest, nearest_other
from skinsynth.privacy.patients import Groups

# Of patients, behind an interval.
DRAWS = 1000


def gaps_within(train: Float[Tensor, "n dim"]) -> Float64[Tensor, " n"]:
    """Distance of each training point to its nearest other one."""
    if len(train) < 2:
        raise ValueError(f"authenticity compares distances within the training set, which has {len(train)} image")
    return nearest_other(train)[0]


def authentic(
    train: Float[Tensor, "n dim"], fake: Float[Tensor, "m dim"], among_train: Float64[Tensor, " n"] | None = None
) -> Bool[Tensor, " m"]:
    """Whether each fake is farther from its nearest training point than that point's neighbour is.

    Alaa et al. 2022 (arXiv 2102.08921, section 4.3). The training set must be free of duplicates: beside a duplicate
    everything counts as authentic (see `without_duplicates`). Who asks about many sets gives `gaps_within(train)` too.
    """
    among_train = gaps_within(train) if among_train is None else among_train
    to_train, closest = nearest(fake, train)
    return to_train > among_train[closest]


def authenticity(
    train: Float[Tensor, "n dim"], fake: Float[Tensor, "m dim"], among_train: Float64[Tensor, " n"] | None = None
) -> Interval:
    """Share of authentic fakes, 0 to 1, higher is better, with Wilson's 95 % interval over the fakes.

    A held-out real set does not reach 1: see `authenticity_of_patients`, which the generated one is read against.
    """
    verdicts = authentic(train, fake, among_train)
    return wilson_share(int(verdicts.sum()), len(verdicts))


def authenticity_of_patients(
    train: Float[Tensor, "n dim"],
    held_out: Float[Tensor, "m dim"],
    groups: Groups,
    seed: int,
    among_train: Float64[Tensor, " n"] | None = None,
) -> Interval:
    """Share of authentic images among real held-out ones, with a 95 % interval over their patients, whose images are
    alike."""
    verdicts = authentic(train, held_out, among_train).double().cpu().numpy()
    draws = group_draws(groups, DRAWS, np.random.default_rng(seed))
    return share_interval(draws @ verdicts / draws.sum(axis=1), len(set(groups)), len(groups))


def without_duplicates(groups: Sequence[str]) -> Int64[np.ndarray, " kept"]:
    """Places of the images to keep: every image without a duplicate group ("") and the first of each group."""
    seen: set[str] = set()
    kept = []
    for place, group in enumerate(groups):
        if group not in seen:
            kept.append(place)
        if group:
            seen.add(group)
    return np.array(kept, dtype=np.int64)
