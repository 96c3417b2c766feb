"""Everything that distances say about how new a set of images is, beside the same for real images held out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from skinsynth.intervals import Interval
from skinsynth.privacy.authenticity import authenticity, authenticity_of_patients, gaps_within
from skinsynth.privacy.copying import (
    Cells,
    CopyingByCells,
    cells_of,
    copying_beside_strangers,
    copying_by_cells,
    copying_statistic,
)
from skinsynth.privacy.distances import METRICS, nearest, paired, summary
from skinsynth.privacy.names import GENERATED, HELD_OUT, Row
from skinsynth.privacy.patients import PatientFeatures
from skinsynth.settings import Count, NotNegative, Seed

# Halves of the held-out patients that play the training set.
DRAWS = 200
BINS = 30  # of the histogram

Coverage = Callable[[Tensor, Tensor], float]  # share of the first set with one of the second in its neighbourhood
GapsOf = Mapping[str, Mapping[str, Float64[Tensor, " _"]]]  # distances to the nearest training image by metric and set


@dataclass(frozen=True)
class NoveltyConfig:
    close: NotNegative  # distance under which a pair is suspiciously close (the paper: 1e-5 in cosine distance)
    cells: Count  # of C_T by cells
    neighbours: Count  # k of coverage
    planted_images: Count  # of each planted set, at most
    seed: Seed  # of cells, of planted sets and of the halves of the held-out patients


@dataclass(frozen=True)
class TrainingSet(PatientFeatures):
    """Training images, free of duplicates, with what depends on them alone: found once for all sets that are judged."""

    cell_count: int
    seed: int

    @cached_property
    def gaps(self) -> Float64[Tensor, " n"]:
        """Distance of each training image to its nearest other one."""
        return gaps_within(self.features)

    @cached_property
    def cells(self) -> Cells:
        """The cells of the training set that C_T is measured in."""
        return cells_of(self.features, self.cell_count, self.seed)


class Novelty(NamedTuple):
    """What one set of images is told by; no number of these stands alone, and none says "private"."""

    authenticity: Interval
    copying: float
    by_cells: CopyingByCells
    coverage: float


def novelty(
    train: TrainingSet, reference: Float[Tensor, "r dim"], images: Float[Tensor, "m dim"], coverage: Coverage
) -> Novelty:
    """Judge images against the training set; `reference` is the real set held out that C_T compares with."""
    return Novelty(
        authenticity=authenticity(train.features, images, train.gaps),
        copying=copying_statistic(train.features, reference, images),
        by_cells=copying_by_cells(train.cells, reference, images),
        coverage=coverage(train.features, images),
    )


def novelty_rows(
    train: TrainingSet, held_out: PatientFeatures, fake: Float[Tensor, "m dim"], coverage: Coverage
) -> list[Row]:
    """One row a number, with `of` saying which images were asked and the count of each set; intervals where known.

    What held-out real images score is what the generated ones are read against. Coverage grows with the number of
    images, which differs between the two: for equal numbers see the planted table.
    """
    of_fake, real = novelty(train, held_out.features, fake, coverage), held_out.features
    of_real = authenticity_of_patients(train.features, real, held_out.groups, train.seed, train.gaps)
    scores: dict[str, list[tuple[str, Interval]]] = {
        GENERATED: [
            ("authenticity", of_fake.authenticity),
            ("median_cosine_to_train", _alone(_median_gap(fake, train.features))),
            ("coverage", _alone(of_fake.coverage)),
            ("copying_statistic", _alone(of_fake.copying)),
            ("copying_statistic_by_cells", _alone(of_fake.by_cells.value)),
            ("held_out_share_in_judged_cells", _alone(of_fake.by_cells.judged_share)),
        ],
        HELD_OUT: [
            ("authenticity", of_real),
            ("median_cosine_to_train", _alone(_median_gap(real, train.features))),
            ("coverage", _alone(coverage(train.features, real))),
        ],
    }
    count_of = {GENERATED: len(fake), HELD_OUT: len(real)}
    counts: Row = {"train_images": len(train.features), "held_out_images": len(real)}
    return [
        {"metric": metric, **share._asdict(), "of": name, "images": count_of[name], **counts}
        for name, found in scores.items()
        for metric, share in found
    ]


def strangers_rows(
    train: PatientFeatures, held_out: PatientFeatures, fake: Float[Tensor, "m dim"], seed: int
) -> list[Row]:
    """C_T beside what it is where strangers play the training set, in the columns of `novelty_rows`; see `copying`."""
    found = copying_beside_strangers(train, held_out, fake, DRAWS, np.random.default_rng(seed))
    counts: Row = {"images": len(fake), "train_images": len(train.groups), "held_out_images": len(held_out.groups)}
    numbers = {
        "copying_statistic_of_as_many": _alone(found.of_trained),
        "copying_statistic_of_strangers": _alone(found.of_strangers),
        "copying_beyond_strangers": found.beyond,
    }
    return [{"metric": metric, **number._asdict(), "of": GENERATED, **counts} for metric, number in numbers.items()]


def gaps_to(train: Float[Tensor, "n dim"], asked: Mapping[str, Float[Tensor, "_ dim"]]) -> GapsOf:
    """Distances of sets to the nearest training images, in every metric."""
    return {metric: {name: nearest(images, train, metric)[0] for name, images in asked.items()} for metric in METRICS}


def distance_rows(
    gaps: GapsOf, projections: tuple[Float[Tensor, "p dim"], Float[Tensor, "p dim"]] | None, close: float
) -> list[Row]:
    """What the distances to training are like, and those of real images to their own projections, in every metric.

    Projections come as (real, projected), row by row; `own_is_nearest` counts the images whose own projection is the
    nearest of all projections, `memorised` those of them that are under `close` (papers/000, section 4.3). The paper's
    `close` is meant for cosine distances, and the same number is a far stricter bound on Euclidean ones; it finds
    copies that are exact; for others see `lookalikes`.
    """
    rows: list[Row] = []
    for metric, gaps_of in gaps.items():
        for name, found in gaps_of.items():
            rows += _statistics(f"{name} to nearest training image", metric, summary(found, close))
        if projections is not None:
            rows += _statistics("real image to own projection", metric, projection_summary(*projections, metric, close))
    return rows


def projection_summary(
    real: Float[Tensor, "p dim"], projected: Float[Tensor, "p dim"], metric: str, close: float
) -> dict[str, float | int]:
    """The summary of distances to the own projection, with the counts that ask which projection is the nearest."""
    gaps = paired(real, projected, metric)
    own = nearest(real, projected, metric)[1] == torch.arange(len(real), device=real.device)
    memorised = int((own & (gaps < close)).sum())
    return {**summary(gaps, close), "memorised": memorised, "own_is_nearest": int(own.sum())}


def distance_histogram(gaps_of: Mapping[str, Float[Tensor, " n"]]) -> list[Row]:
    """Share of each set's cosine distances in bins of one width, from 0 to the largest distance of all."""
    edges = np.linspace(0, max(float(gaps.max()) for gaps in gaps_of.values()), BINS + 1)
    shares = {name: np.histogram(gaps.cpu().numpy(), edges)[0] / len(gaps) for name, gaps in gaps_of.items()}
    return [
        {"of": name, "cosine_distance": float(edges[place]), "share": float(share)}
        for name, row in shares.items()
        for place, share in enumerate(row)
    ]


def _alone(value: float) -> Interval:
    """A number without an interval."""
    return Interval(value, np.nan, np.nan)


def _median_gap(images: Tensor, train: Tensor) -> float:
    return float(nearest(images, train, "cosine")[0].median())


def _statistics(what: str, metric: str, found: Mapping[str, float | int]) -> list[Row]:
    return [
        {"what": what, "distance": metric, "statistic": name, "value": float(value)} for name, value in found.items()
    ]
