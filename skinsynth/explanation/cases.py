"""Which images are worth explaining: a written rule, so that nobody picks the ones that look well."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from skinsynth.settings import Count, Share


@dataclass(frozen=True)
class CaseConfig:
    edge_share: Share  # of the images: those nearest to the decision threshold
    central_share: Share  # of each class: those nearest to its centroid
    most: Count  # cases of each kind


def find_cases(
    labels: Int64[np.ndarray, " n"],
    probabilities: Float[np.ndarray, "n classes"],
    features: Float[np.ndarray, "n dim"],
    config: CaseConfig,
) -> dict[str, Int64[np.ndarray, " k"]]:
    """Places of the cases of each kind, the clearest of its kind first; an image is of one kind only.

    Edge: the smallest gap between the two largest probabilities, right or wrong. Misclassified: wrong beyond the
    edge, the surest first. Central: right beyond the edge, by distance to the centroid, the classes in turn.
    """
    hard = hard_cases(labels, probabilities, config.edge_share)
    easy = np.ones(len(labels), dtype=bool)
    easy[np.concatenate(list(hard.values()))] = False
    central = _central(labels, features, easy, config.central_share)
    return {kind: places[: config.most] for kind, places in {"central": central, **hard}.items()}


def hard_cases(
    labels: Int64[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"], edge_share: float
) -> dict[str, Int64[np.ndarray, " k"]]:
    """Places of all edge cases and of all misclassified ones beyond the edge, by the rule of `find_cases`."""
    ordered = np.sort(probabilities, axis=1)
    gap = ordered[:, -1] - ordered[:, -2]
    edge = gap.argsort(kind="stable")[: math.ceil(edge_share * len(labels))]
    beyond = np.ones(len(labels), dtype=bool)
    beyond[edge] = False
    wrong = np.flatnonzero(beyond & (probabilities.argmax(axis=1) != labels))
    return {"edge": edge, "misclassified": wrong[(-gap[wrong]).argsort(kind="stable")]}


def _central(
    labels: Int64[np.ndarray, " n"],
    features: Float[np.ndarray, "n dim"],
    eligible: Bool[np.ndarray, " n"],
    share: float,
) -> Int64[np.ndarray, " k"]:
    """Places of eligible images near their class's centroid: the nearest of each class, the second nearest of each, and
    so on."""
    turns = []
    for label in np.unique(labels):
        own = labels == label
        distance = np.linalg.norm(features - features[own].mean(axis=0), axis=1)
        candidates = np.flatnonzero(own & eligible)
        nearest = candidates[distance[candidates].argsort(kind="stable")][: math.ceil(share * own.sum())]
        turns += [(turn, int(label), int(place)) for turn, place in enumerate(nearest)]
    return np.array([place for _, _, place in sorted(turns)], dtype=np.int64)
