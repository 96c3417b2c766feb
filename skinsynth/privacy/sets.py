"""The images that are looked at, and their features in one space."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from skinsynth.features.extractor import Extractor
from skinsynth.images.archive import Images
from skinsynth.privacy.disguises import disguised
from skinsynth.privacy.novelty import NoveltyConfig, TrainingSet
from skinsynth.privacy.patients import PatientFeatures, PatientImages


class OtherClasses(NamedTuple):
    """Real images of classes that the synthetic set has not, on both sides of the split."""

    train: Images  # without duplicates
    held_out: Images


@dataclass(frozen=True)
class Sets:
    """Synthetic images beside real ones of their classes."""

    classes: tuple[str, ...]  # by label; the synthetic images may be of some of them alone
    train: PatientImages  # without duplicates
    held_out: PatientImages
    others: OtherClasses  # copies may come under a wrong name, or with a class left out
    fake: Images
    pooled: Int64[Tensor, " p"]  # synthetic images in training's class shares, for what is said of all classes at once
    pairs: tuple[UInt8[np.ndarray, "q 3 s s"], UInt8[np.ndarray, "q 3 s s"]] | None  # real images, their projections

    @property
    def labels(self) -> list[int]:
        """Labels that synthetic images have, in order."""
        return np.unique(self.fake.labels).tolist()

    @cached_property
    def searched(self) -> Images:
        """All training images among which copies are sought; those of the synthetic classes come first."""
        return joined(self.train.images, self.others.train)

    @cached_property
    def held_out_searched(self) -> Images:
        """All held-out images among which copies are sought; those of the synthetic classes come first."""
        return joined(self.held_out.images, self.others.held_out)

    @cached_property
    def blurred(self) -> UInt8[np.ndarray, "h 3 s s"]:
        """The held-out images with less detail."""
        return disguised(self.held_out.images.pixels, "blurred")


def joined(first: Images, then: Images) -> Images:
    """Two sets of images as one, the first in front; the first itself where the other is empty."""
    if not then.ids:
        return first
    pixels = np.concatenate([first.pixels, then.pixels])
    return Images([*first.ids, *then.ids], pixels, np.concatenate([first.labels, then.labels]))


class Space(NamedTuple):
    """A network in whose features distances are measured."""

    name: str  # of the classifier's folder, or of the published network
    extractor: str
    extract: Extractor
    saw_the_set: bool  # learnt from the synthetic images, and so knows them as it knows no held-out ones


class Features(NamedTuple):
    """The images of `Sets` in one space."""

    train: TrainingSet
    held_out: PatientFeatures
    searched: Float[Tensor, "s dim"]  # of training images of all classes
    fake: Float[Tensor, "m dim"]
    pooled: Float[Tensor, "p dim"]  # of `fake`
    pairs: tuple[Float[Tensor, "q dim"], Float[Tensor, "q dim"]] | None


def features_in(space: Space, sets: Sets, config: NoveltyConfig) -> Features:
    """Features of every image of the sets by one extractor."""
    of_sets = sets.train.images, sets.held_out.images, sets.fake
    train, held_out, fake = (space.extract(images.pixels) for images in of_sets)
    return Features(
        TrainingSet(train, sets.train.groups, config.cells, config.seed),
        PatientFeatures(held_out, sets.held_out.groups),
        torch.cat([train, space.extract(sets.others.train.pixels)]) if len(sets.others.train.ids) else train,
        fake,
        fake[sets.pooled.to(fake.device)],
        sets.pairs and (space.extract(sets.pairs[0]), space.extract(sets.pairs[1])),
    )
