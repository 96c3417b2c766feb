"""Real images of patients, split so that none is on both sides."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

Groups = Sequence[str] | np.ndarray


def halves_by_group(
    groups: Groups, rng: np.random.Generator
) -> tuple[Int64[np.ndarray, " first"], Int64[np.ndarray, " second"]]:
    """Places of two random halves that share no group (patient), their sizes at most the largest group apart.

    Of images held out, one half is the reference of the attacks, the other their non-members.
    """
    names, group_of, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise ValueError(f"two halves that share no patient need 2 patients, but {len(names)} came: hold out more")
    half_of, held = np.zeros(len(names), dtype=np.int64), [0, 0]
    for group in rng.permutation(len(names)):
        half_of[group] = int(held[1] < held[0])
        held[half_of[group]] += sizes[group]
    return np.flatnonzero(half_of[group_of] == 0), np.flatnonzero(half_of[group_of] == 1)
