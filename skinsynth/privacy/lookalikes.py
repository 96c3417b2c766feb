"""Images that look like a training image more than anybody else's does, and the disguises in which they pass."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from skinsynth.images.archive import Images
from skinsynth.privacy.disguises import DISGUISES, disguised
from skinsynth.privacy.names import Row

# What chance of a count of look-alikes stops a release.
UNLIKELY = 0.001

# Distances of images to the nearest training image, and which one that is.
Found = tuple[Float[Tensor, " n"], Int64[Tensor, " n"]]
Finder = Callable[[UInt8[np.ndarray, "n 3 size size"]], Found]


class Nearer(NamedTuple):
    """How many images are nearer to training than every held-out one, beside what chance would have."""

    images: int
    held_out_images: int
    smallest_held_out_gap: float  # near 0 a held-out image equals a training one, and nothing can be told
    nearer_than_any_held_out: int
    expected_by_chance: float
    chance_of_as_many: float  # or more
    unlikely_from: int  # the smallest count with a chance below UNLIKELY; images + 1 where none has it


def nearer_than_any(gaps: Float[Tensor, " n"], gaps_of_held_out: Float[Tensor, " m"]) -> Nearer:
    """Count of the images that lie nearer to a training image than any held-out image does.

    If both came from one distribution, all orders of the n + m gaps would be as likely, and the first k of them would
    be the images' with probability n / (n + m) times (n - 1) / (n + m - 1) and so on.
    """
    n, m, bound = len(gaps), len(gaps_of_held_out), gaps_of_held_out.min()
    found = int((gaps < bound).sum())
    chances = np.cumprod([1.0, *((n - first) / (n + m - first) for first in range(n))])
    unlikely_from = int((chances >= UNLIKELY).sum())
    return Nearer(n, m, float(bound), found, n / (m + 1), float(chances[found]), unlikely_from)


class Copies(NamedTuple):
    """Training images that were changed in one way."""

    disguise: str
    places: Int64[np.ndarray, " n"]  # in the training set
    labels: Int64[Tensor, " n"]
    pixels: UInt8[np.ndarray, "n 3 size size"]


def disguised_copies(train: Images, count: int, seed: int) -> Iterator[Copies]:
    """The same training images in one disguise after the other: all at once could fill the memory."""
    places = np.random.default_rng(seed).permutation(len(train.ids))[:count]
    labels = torch.from_numpy(train.labels[places])
    for name in DISGUISES:
        yield Copies(name, places, labels, disguised(train.pixels[places], name))


@dataclass(frozen=True)
class Lookalikes:
    """The synthetic images of a set with their nearest training images, in one way of measuring."""

    fake: Images
    found: Found
    held_out_labels: Int64[Tensor, " m"]
    held_out_gaps: Float[Tensor, " m"]

    def rows(self, classes: tuple[str, ...]) -> list[Row]:
        """For each class, how many images are nearer to training than every held-out image of that class."""
        return [
            {"class": classes[label], **nearer_than_any(self.found[0][own], self._of_held_out(label))._asdict()}
            for label, own in self._by_class(torch.from_numpy(self.fake.labels))
        ]

    def nearer(self, gaps: Float[Tensor, " n"], labels: Int64[Tensor, " n"]) -> Bool[Tensor, " n"]:
        """Which of these gaps are smaller than that of any held-out image of their class."""
        nearer = torch.zeros_like(gaps, dtype=torch.bool)
        for label, own in self._by_class(labels):
            nearer[own] = gaps[own] < self._of_held_out(label).min()
        return nearer

    def closest(self, label: int, at_least: int) -> list[int]:
        """Places of the images of a class nearest to training, the nearest first, with all that `rows` counts."""
        ranked = [place for place in self.found[0].argsort(stable=True).tolist() if self.fake.labels[place] == label]
        return [place for rank, place in enumerate(ranked) if rank < at_least or self._counted[place]]

    def closest_rows(self, real: Images, classes: tuple[str, ...], at_least: int) -> list[Row]:
        """The images nearest to real ones by name, class by class; `real` are those that were searched."""
        gaps, partners = self.found
        return [
            {
                "synthetic_image": self.fake.ids[place],
                "class": classes[label],
                "nearest_real_image": real.ids[int(partners[place])],
                "distance": float(gaps[place]),
                "marked": int(self._counted[place]),
            }
            for label in np.unique(self.fake.labels).tolist()
            for place in self.closest(label, at_least)
        ]

    def disguise_rows(self, copies: Copies, found: Found, classes: tuple[str, ...]) -> list[Row]:
        """What would become of changed training images, with where each was found: the share that `rows` would count.

        `own_is_nearest` is the share whose nearest training image is the one that they were made of.
        """
        gaps, partners = found
        own_is_nearest = (partners.cpu() == torch.from_numpy(copies.places)).double()
        nearer = self.nearer(gaps, copies.labels).cpu().double()
        return [
            {
                "disguise": copies.disguise,
                "class": classes[label],
                "images": int(own.sum()),
                "own_is_nearest": float(own_is_nearest[own].mean()),
                "nearer_than_any_held_out": float(nearer[own].mean()),
            }
            for label, own in self._by_class(copies.labels)
        ]

    @cached_property
    def _counted(self) -> list[bool]:
        """Which synthetic images `rows` counts."""
        return self.nearer(self.found[0], torch.from_numpy(self.fake.labels)).tolist()

    def _of_held_out(self, label: int) -> Float[Tensor, " m"]:
        return self.held_out_gaps[(self.held_out_labels == label).to(self.held_out_gaps.device)]

    @staticmethod
    def _by_class(labels: Int64[Tensor, " n"]) -> Iterator[tuple[int, Bool[Tensor, " n"]]]:
        for label in labels.unique().tolist():
            yield label, labels == label
