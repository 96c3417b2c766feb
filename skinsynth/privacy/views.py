"""Ways of telling how much images look like training images: by their pixels, and by the features of each space."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from skinsynth.features.extractor import without_cache
from skinsynth.privacy.distances import nearest
from skinsynth.privacy.lookalikes import Finder, Found, Lookalikes, disguised_copies
from skinsynth.privacy.names import PIXELS, Row
from skinsynth.privacy.sets import Features, Sets, Space
from skinsynth.privacy.thumbnails import nearest_in_any_orientation, thumbnails

THUMBNAILS = "thumbnails"  # in the place of an extractor
MOST_DISGUISED = 400  # images in each disguise, at most: its share is good to a few hundredths


class View(NamedTuple):
    """One way of telling how much images look like training images, with what it says of the sets."""

    name: str  # as tables have it in features_of
    extractor: str
    measure: str  # in words
    lookalikes: Lookalikes
    find: Finder  # for other images than those of the sets
    saw_the_set: bool


def view_of_pixels(sets: Sets, device: torch.device) -> View:
    """The view by pixels, without a network, sought on a device: it finds copies that were stored again, recoloured,
    mirrored or turned, which features may not."""
    find = partial(nearest_in_any_orientation, among=thumbnails(sets.searched.pixels).to(device))
    seen = _lookalikes(sets, find(sets.fake.pixels), find(sets.held_out.images.pixels)[0])
    return View(
        PIXELS,
        THUMBNAILS,
        "correlation of thumbnails or discs of them in any orientation",
        seen,
        find,
        saw_the_set=False,
    )


def view_of_features(space: Space, sets: Sets, features: Features) -> View:
    """The view by cosine distance in one space; features of images that are not of the sets stay out of the cache."""
    find = partial(nearest, among=features.searched, metric="cosine")
    seen = _lookalikes(sets, find(features.fake), find(features.held_out.features)[0])
    extract = without_cache(space.extract)
    measure = f"cosine distance in features of {space.name}"
    return View(space.name, space.extractor, measure, seen, lambda pixels: find(extract(pixels)), space.saw_the_set)


def of_held_out(sets: Sets, device: torch.device) -> Lookalikes:
    """`view_of_pixels` the other way round: synthetic images with their nearest held-out images, beside training ones.

    Nothing was learnt from held-out patients, unless a set comes from who had these too; so training images are to
    them what held-out images are to training.
    """
    find = partial(nearest_in_any_orientation, among=thumbnails(sets.held_out_searched.pixels).to(device))
    strangers = sets.train.images
    return Lookalikes(sets.fake, find(sets.fake.pixels), torch.from_numpy(strangers.labels), find(strangers.pixels)[0])


def held_out_rows(found: Lookalikes, classes: tuple[str, ...]) -> list[Row]:
    """The rows of `of_held_out`, in whose names training and held-out images have changed places."""
    renamed = {
        "held_out_images": "training_images",
        "smallest_held_out_gap": "smallest_training_gap",
        "nearer_than_any_held_out": "nearer_than_any_training",
    }
    return [{renamed.get(name, name): value for name, value in row.items()} for row in found.rows(classes)]


def _lookalikes(sets: Sets, fake: Found, held_out_gaps: Float[Tensor, " h"]) -> Lookalikes:
    """The synthetic images with their nearest training images, beside the held-out ones."""
    return Lookalikes(sets.fake, fake, torch.from_numpy(sets.held_out.images.labels), held_out_gaps)


def disguise_rows(views: Sequence[View], sets: Sets, count: int, seed: int) -> list[list[Row]]:
    """What would become of `count` disguised training images, or of `MOST_DISGUISED`, in each view."""
    rows: list[list[Row]] = [[] for _ in views]
    for copies in disguised_copies(sets.train.images, min(count, MOST_DISGUISED), seed):
        for view, rows_of_view in zip(views, rows, strict=True):
            rows_of_view.extend(view.lookalikes.disguise_rows(copies, view.find(copies.pixels), sets.classes))
    return rows
