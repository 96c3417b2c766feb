"""C_T: whether generated images lie nearer to the training images than held-out real ones do."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from skinsynth.privacy.distances import nearest, nearest_of_each
from skinsynth.privacy.patients import Groups, PatientFeatures, halves_by_group

# Cells are looked for among principal components: k-means means little in hundreds of dimensions.
MOST_COMPONENTS = 64
# The paper leaves out cells in which few generated images lie; that few held-out ones count too is our addition.
FEWEST_IN_CELL = 20


class CopyingByCells(NamedTuple):
    value: float  # mean z-score over the judged cells, weighted by held-out images; nan where no cell has enough
    judged_share: float  # of the held-out images, 0 to 1, that lie in judged cells


class CopyingBesideStrangers(NamedTuple):
    of_trained: float  # mean z-score over the draws
    of_strangers: float
    low: float  # of the difference: what lies between the 2.5th and the 97.5th percentile of the draws of patients
    high: float


@dataclass(frozen=True)
class Cells:
    """The training set along its principal components, cut up by k-means there."""

    train: Float64[Tensor, "n components"]
    count: int
    along: Callable[[Float[Tensor, "m dim"]], Float64[Tensor, "m components"]]  # other sets along these components
    cell_of: Callable[[Float64[Tensor, "m components"]], Int64[Tensor, " m"]]  # 0 … count - 1


def copying_statistic(
    train: Float[Tensor, "n dim"], held_out: Float[Tensor, "h dim"], fake: Float[Tensor, "m dim"]
) -> float:
    """Mann and Whitney's U of both sets' distances to train, as a z-score: far below 0 means copying, far above means
    that the generator misses the data (Meehan et al. 2020, eq. 2, with the whole space as one cell)."""
    return rank_z_score(nearest(held_out, train)[0], nearest(fake, train)[0])


def copying_beside_strangers(
    train: PatientFeatures,
    held_out: PatientFeatures,
    fake: Float[Tensor, "m dim"],
    draws: int,
    rng: np.random.Generator,
) -> CopyingBesideStrangers:
    """C_T with half of the held-out patients in the role of the training set, beside as many training images there.

    Smooth or average images lie near to everything, and C_T calls them copies. Nothing can have been learnt from
    held-out patients, so what C_T says of these is mostly the images' own, and the difference is nearer to copying than
    C_T is. All is nan where one patient alone was held out.
    """
    if len(np.unique(held_out.groups)) < 2:
        return CopyingBesideStrangers(math.nan, math.nan, math.nan, math.nan)
    halves = [halves_by_group(held_out.groups, rng) for _ in range(draws)]
    firsts, seconds = [first for first, _ in halves], [torch.from_numpy(second) for _, second in halves]
    asked = torch.cat([held_out.features, fake])

    def statistics(side: PatientFeatures, chosen: Sequence[Int64[np.ndarray, " _"]]) -> list[float]:
        gaps = nearest_of_each(asked, side.features, chosen).split([len(held_out.groups), len(fake)], dim=1)
        return [rank_z_score(real[rest], made) for real, made, rest in zip(*gaps, seconds, strict=True)]

    strangers = statistics(held_out, firsts)
    trained = statistics(train, [_as_many(train.groups, len(first), rng) for first in firsts])
    low, high = np.percentile(np.subtract(trained, strangers), [2.5, 97.5])
    return CopyingBesideStrangers(fmean(trained), fmean(strangers), float(low), float(high))


def _as_many(groups: Groups, count: int, rng: np.random.Generator) -> Int64[np.ndarray, " count"]:
    """Places of images of whole patients in random order until there are so many; all where there are fewer."""
    names, group_of = np.unique(groups, return_inverse=True)
    order = np.argsort(rng.permutation(len(names))[group_of], kind="stable")
    return order[:count]


def copying_by_cells(cells: Cells, held_out: Float[Tensor, "h dim"], fake: Float[Tensor, "m dim"]) -> CopyingByCells:
    """C_T (Meehan et al. 2020, arXiv 2004.05675, section 4): the z-scores of k-means cells of the training set.

    A generator that copies in one region and misses another may look balanced over the whole space. Distances are
    to the nearest of all training images; cells with fewer than 20 images of either set are left out.
    """
    held_out, fake = cells.along(held_out), cells.along(fake)
    cell_of_held_out, cell_of_fake = cells.cell_of(held_out), cells.cell_of(fake)
    gap_of_held_out, gap_of_fake = (nearest(part, cells.train)[0] for part in (held_out, fake))
    weighted, judged = 0.0, 0
    for cell in range(cells.count):
        real, made = gap_of_held_out[cell_of_held_out == cell], gap_of_fake[cell_of_fake == cell]
        if min(len(real), len(made)) >= FEWEST_IN_CELL:
            weighted += len(real) * rank_z_score(real, made)
            judged += len(real)
    return CopyingByCells(weighted / judged if judged else math.nan, judged / len(held_out))


def cells_of(train: Float[Tensor, "n dim"], count: int, seed: int) -> Cells:
    """The training set cut up into `count` cells at most, in float64 on the CPU."""
    from sklearn.cluster import KMeans  # 1.5 s to import, and nobody else here needs them
    from sklearn.decomposition import PCA

    fitted = PCA(min(MOST_COMPONENTS, *train.shape), random_state=seed).fit(_array(train))

    def along(points: Tensor) -> Tensor:
        return torch.from_numpy(fitted.transform(_array(points)))

    count, placed = min(count, len(train)), along(train)
    clusters = KMeans(count, n_init=10, random_state=seed).fit(_array(placed))
    return Cells(placed, count, along, lambda points: torch.from_numpy(clusters.predict(_array(points))).long())


def rank_z_score(real: Float[Tensor, " h"], made: Float[Tensor, " m"]) -> float:
    """Mann and Whitney's U as a z-score, ties by half: below 0 where distances of made images are the smaller ones."""
    count, h = len(made), len(real)
    _, level, counts = torch.cat([made, real]).unique(return_inverse=True, return_counts=True)
    ranks = (counts.cumsum(0) - (counts - 1) / 2).double()[level]
    u = float(ranks[:count].sum()) - count * (count + 1) / 2
    return (u - count * h / 2) / math.sqrt(count * h * (count + h + 1) / 12)


def _array(points: Tensor) -> np.ndarray:
    return points.double().cpu().numpy()
