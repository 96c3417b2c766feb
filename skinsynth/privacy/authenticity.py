"""Authenticity: the share of generated images that are no copies of a training image, noise aside."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from skinsynth.intervals import Interval, wilson_share
from skinsynth.privacy.distances import nearest, nearest_other


def authentic(train: Float[Tensor, "n dim"], fake: Float[Tensor, "m dim"]) -> Bool[Tensor, " m"]:
    """Whether each fake is farther from its nearest training point than that point's neighbour is.

    Alaa et al. 2022 (arXiv 2102.08921, section 4.3). The training set must be free of duplicates: beside a duplicate
    everything counts as authentic (see `without_duplicates`).
    """
    if len(train) < 2:
        raise ValueError(f"authenticity compares distances within the training set, which has {len(train)} image")
    to_train, closest = nearest(fake, train)
    among_train, _ = nearest_other(train)
    return to_train > among_train[closest]


def authenticity(train: Float[Tensor, "n dim"], fake: Float[Tensor, "m dim"]) -> Interval:
    """Share of authentic fakes, 0 to 1, higher is better, with Wilson's 95 % interval over the fakes.

    A held-out real set does not reach 1: its score, by this same function, is what the generated one is read against.
    """
    verdicts = authentic(train, fake)
    return wilson_share(int(verdicts.sum()), len(verdicts))


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
