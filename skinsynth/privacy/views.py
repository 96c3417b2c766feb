"""Ways of telling how much images look like training images: by their pixels, and by the features of each space."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from skinsynth.features.extractor import without_cache
from skinsynth.privacy.distances import nearest
from skinsynth.privacy.lookalikes import Finder, Found, Lookalikes, Row, disguised_copies
from skinsynth.privacy.names import PIXELS
from skinsynth.privacy.sets import Features, Sets, Space
from skinsynth.privacy.thumbnails import nearest_in_any_orientation, thumbnails

THUMBNAILS = "thumbnails"  # in the place of an extractor


class View(NamedTuple):
    """One way, with what it says of the sets."""

    name: str  # as tables have it in features_of
    extractor: str
    measure: str  # in words
    lookalikes: Lookalikes
    find: Finder  # for other images than those of the sets
    saw_the_set: bool


def view_of_pixels(sets: Sets) -> View:
    """No network: it finds copies that were stored again, recoloured, mirrored or turned, which features may not."""
    find = partial(nearest_in_any_orientation, among=thumbnails(sets.train.images.pixels))
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
    """By cosine distance; features of other images than those of the sets are not kept in the cache."""
    find = partial(nearest, among=features.train.features, metric="cosine")
    seen = _lookalikes(sets, find(features.fake), find(features.held_out.features)[0])
    extract = without_cache(space.extract)
    measure = f"cosine distance in features of {space.name}"
    return View(space.name, space.extractor, measure, seen, lambda pixels: find(extract(pixels)), space.saw_the_set)


def _lookalikes(sets: Sets, fake: Found, held_out_gaps: Float[Tensor, " h"]) -> Lookalikes:
    """The synthetic images with their nearest training images, beside the held-out ones."""
    return Lookalikes(sets.fake, fake, torch.from_numpy(sets.held_out.images.labels), held_out_gaps)


def disguise_rows(views: Sequence[View], sets: Sets, count: int, seed: int) -> list[list[Row]]:
    """What would become of `count` disguised training images in each view."""
    rows: list[list[Row]] = [[] for _ in views]
    for copies in disguised_copies(sets.train.images, count, seed):
        for view, rows_of_view in zip(views, rows, strict=True):
            rows_of_view.extend(view.lookalikes.disguise_rows(copies, view.find(copies.pixels), sets.classes))
    return rows
