"""The points of a map: which images it shows, and what a classifier says and sees of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

KINDS = ("real", "projected", "synthetic")


@dataclass(frozen=True)
class Points:
    ids: list[str]  # a projection has that of its original
    kinds: list[str]  # of KINDS
    labels: Int64[np.ndarray, " n"]
    features: Float[np.ndarray, "n dim"]
    probabilities: Float[np.ndarray, "n classes"]

    def places(self, kind: str) -> Int64[np.ndarray, " k"]:
        """Where the points of one kind stand."""
        return np.flatnonzero(np.array(self.kinds) == kind)


def draw_of_classes(
    labels: Int64[np.ndarray, " n"], count_of: Mapping[int, int], rng: np.random.Generator
) -> Int64[np.ndarray, " k"]:
    """Places of at most so many of each class, drawn at random, in their order."""
    drawn = [rng.permutation(np.flatnonzero(labels == label))[:count] for label, count in sorted(count_of.items())]
    return np.sort(np.concatenate([np.zeros(0, np.int64), *drawn]))


def counts_of(labels: Int64[np.ndarray, " n"] | Sequence[int]) -> dict[int, int]:
    """How many there are of each class."""
    found, counts = np.unique(np.asarray(labels, np.int64), return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))
