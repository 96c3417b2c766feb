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

from skinsynth.intervals import Interval, group_draws, percentile_interval
from skinsynth.privacy.distances import nearest, nearest_of_each
from skinsynth.privacy.patients import Groups, PatientFeatures, halves_by_group

# Cells are looked for among principal components: k-means means little in hundreds of dimensions.
MOST_COMPONENTS = 64
# The paper leaves out cells in which few generated images lie; that few held-out ones count too is our addition.
FEWEST_IN_CELL = 20
# Halves by which each draw of patients is judged: the mean over so many varies as the value, the mean over all, does
# (simulated in tests/test_privacy_novelty.py). By one draw of halves each intervals were 1.3 to 1.7 times as wide.
HALVES_PER_DRAW = 8


class CopyingByCells(NamedTuple):
    value: float  # mean z-score over the judged cells, weighted by held-out images; nan where no cell has enough
    judged_share: float  # of the held-out images, 0 to 1, that lie in judged cells


class CopyingBesideStrangers(NamedTuple):
    of_trained: float  # mean z-score over the draws
    of_strangers: float
    beyond: Interval  # the difference; draws are of held-out patients and of generated images


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
        return CopyingBesideStrangers(math.nan, math.nan, Interval(math.nan, math.nan, math.nan))
    halves = _halved(train, held_out, fake, draws, rng)
    everyone, all_made = np.ones(len(held_out.groups), np.int64), np.arange(len(fake))
    found = [half.statistics(everyone, all_made) for half in halves]
    trained, strangers = (fmean(side) for side in zip(*found, strict=True))
    patients = group_draws(held_out.groups, draws, rng)[1:].astype(np.int64)
    drawn = [
        _mean_difference(judges, counts, rng.choice(all_made, len(fake)))
        for counts, judges in zip(patients, _in_turn(halves, HALVES_PER_DRAW), strict=True)
    ]
    return CopyingBesideStrangers(trained, strangers, percentile_interval(np.array([trained - strangers, *drawn])))


class _Half(NamedTuple):
    """Held-out patients halved once: the first half plays the training set, the second is asked about."""

    second: Int64[np.ndarray, " _"]  # places of its images
    # Of all held-out and then all generated images: to as many training images as the first half has, and to that half.
    to_train: Float64[Tensor, " asked"]
    to_strangers: Float64[Tensor, " asked"]

    def statistics(self, counts: Int64[np.ndarray, " h"], made: Int64[np.ndarray, " m"]) -> tuple[float, float]:
        """C_T of training and of strangers, with each held-out image so often and the generated ones at these places;
        nan where nobody of the second half counts."""
        real = torch.from_numpy(self.second.repeat(counts[self.second]))
        if not len(real):
            return math.nan, math.nan
        fake = torch.from_numpy(made + len(counts))
        return rank_z_score(self.to_train[real], self.to_train[fake]), rank_z_score(
            self.to_strangers[real], self.to_strangers[fake]
        )


def _halved(
    train: PatientFeatures,
    held_out: PatientFeatures,
    fake: Float[Tensor, "m dim"],
    draws: int,
    rng: np.random.Generator,
) -> list[_Half]:
    firsts, seconds = zip(*(halves_by_group(held_out.groups, rng) for _ in range(draws)), strict=True)
    asked = torch.cat([held_out.features, fake])
    to_strangers = nearest_of_each(asked, held_out.features, firsts)
    to_train = nearest_of_each(asked, train.features, [_as_many(train.groups, len(first), rng) for first in firsts])
    return [_Half(*half) for half in zip(seconds, to_train, to_strangers, strict=True)]


def _mean_difference(judges: Sequence[_Half], counts: Int64[np.ndarray, " h"], made: Int64[np.ndarray, " m"]) -> float:
    """Of the halves in which somebody counts; nan where there is none."""
    pairs = np.array([half.statistics(counts, made) for half in judges])
    known = pairs[~np.isnan(pairs[:, 0])]
    return float((known[:, 0] - known[:, 1]).mean()) if len(known) else math.nan


def _in_turn(halves: Sequence[_Half], several: int) -> list[list[_Half]]:
    """For each half that one and those after it, around the end."""
    return [[halves[(start + place) % len(halves)] for place in range(several)] for start in range(len(halves))]


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
