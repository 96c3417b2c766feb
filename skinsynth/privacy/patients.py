"""Real images with their patients, split so that no patient is on both sides."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from skinsynth.images.archive import Images

Groups = Sequence[str] | np.ndarray
Halves = tuple[Int64[np.ndarray, " _"], Int64[np.ndarray, " _"]]  # places in the first and in the second
Side = TypeVar("Side", bound="PatientFeatures")


@dataclass(frozen=True)
class PatientImages:
    """Real images and the patient (or group of patients) of each."""

    images: Images
    groups: Int64[np.ndarray, " n"]

    def of(self, labels: Sequence[int]) -> "PatientImages":
        """The images of some classes."""
        places = np.flatnonzero(np.isin(self.images.labels, labels))
        return PatientImages(self.images.at(places), self.groups[places])


@dataclass(frozen=True)
class PatientFeatures:
    """Features of real images and the patient (or group of patients) of each."""

    features: Float[Tensor, "n dim"]
    groups: Int64[np.ndarray, " n"]

    def at(self: Side, chosen: Int64[np.ndarray, " m"] | Bool[np.ndarray, " n"]) -> Side:
        """Some of the images, by place or by mask."""
        return replace(self, features=self.features[torch.from_numpy(chosen)], groups=self.groups[chosen])


def halves_by_group(groups: Groups, rng: np.random.Generator) -> Halves:
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
