"""Everything that distances say about how new a set of images is, beside the same for real images held out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from skinsynth.intervals import Interval
from skinsynth.privacy.authenticity import authenticity
from skinsynth.privacy.copying import (
    CopyingByCells,
    Side,
    copying_beside_strangers,
    copying_by_cells,
    copying_statistic,
)
from skinsynth.privacy.distances import METRICS, nearest, paired, summary
from skinsynth.settings import Count, NotNegative, Seed

# Halves of the held-out patients that play the training set.
DRAWS = 20
HELD_OUT = "held-out real"  # whom all that is said of generated images is read against

Row = dict[str, str | float | int]
Coverage = Callable[[Tensor, Tensor], float]  # share of the first set with one of the second in its neighbourhood


@dataclass(frozen=True)
class NoveltyConfig:
    close: NotNegative  # distance under which a pair is suspiciously close (the paper: 1e-5 in cosine distance)
    cells: Count  # of C_T by cells
    neighbours: Count  # k of coverage
    planted_images: Count  # of each planted set, at most
    seed: Seed  # of cells, of planted sets and of the halves of the held-out patients


class Novelty(NamedTuple):
    """What one set of images is told by; no number of these stands alone, and none says "private"."""

    authenticity: Interval
    copying: float
    by_cells: CopyingByCells
    coverage: float


def novelty(
    train: Float[Tensor, "n dim"],
    reference: Float[Tensor, "r dim"],
    images: Float[Tensor, "m dim"],
    config: NoveltyConfig,
    coverage: Coverage,
) -> Novelty:
    """Judge images against the training set; `reference` is the real set held out that C_T compares with."""
    return Novelty(
        authenticity=authenticity(train, images),
        copying=copying_statistic(train, reference, images),
        by_cells=copying_by_cells(train, reference, images, config.cells, config.seed),
        coverage=coverage(train, images),
    )


def novelty_rows(
    train: Float[Tensor, "n dim"],
    held_out: Float[Tensor, "h dim"],
    fake: Float[Tensor, "m dim"],
    config: NoveltyConfig,
    coverage: Coverage,
) -> list[Row]:
    """One row a number, with `of` saying which images were asked and the count of each set; intervals where known.

    What held-out real images score is what the generated ones are read against. Coverage grows with the number of
    images, which differs between the two: for equal numbers see the planted table.
    """
    of_fake = novelty(train, held_out, fake, config, coverage)
    scores: dict[str, list[tuple[str, Interval]]] = {
        "generated": [
            ("authenticity", of_fake.authenticity),
            ("median_cosine_to_train", _alone(_median_gap(fake, train))),
            ("coverage", _alone(of_fake.coverage)),
            ("copying_statistic", _alone(of_fake.copying)),
            ("copying_statistic_by_cells", _alone(of_fake.by_cells.value)),
            ("held_out_share_in_judged_cells", _alone(of_fake.by_cells.judged_share)),
        ],
        HELD_OUT: [
            ("authenticity", authenticity(train, held_out)),
            ("median_cosine_to_train", _alone(_median_gap(held_out, train))),
            ("coverage", _alone(coverage(train, held_out))),
        ],
    }
    count_of = {"generated": len(fake), HELD_OUT: len(held_out)}
    counts: Row = {"train_images": len(train), "held_out_images": len(held_out)}
    return [
        {"metric": metric, **share._asdict(), "of": name, "images": count_of[name], **counts}
        for name, found in scores.items()
        for metric, share in found
    ]


def strangers_rows(train: Side, held_out: Side, fake: Float[Tensor, "m dim"], seed: int) -> list[Row]:
    """C_T beside what it is where strangers play the training set, in the columns of `novelty_rows`; see `copying`."""
    found = copying_beside_strangers(train, held_out, fake, DRAWS, np.random.default_rng(seed))
    counts: Row = {"images": len(fake), "train_images": len(train.groups), "held_out_images": len(held_out.groups)}
    numbers = {
        "copying_statistic_of_as_many": _alone(found.of_trained),
        "copying_statistic_of_strangers": _alone(found.of_strangers),
        "copying_beyond_strangers": Interval(found.of_trained - found.of_strangers, found.low, found.high),
    }
    return [{"metric": metric, **number._asdict(), "of": "generated", **counts} for metric, number in numbers.items()]


def distance_rows(
    to_train: Mapping[str, Float[Tensor, "m dim"]],
    train: Float[Tensor, "n dim"],
    projections: tuple[Float[Tensor, "p dim"], Float[Tensor, "p dim"]] | None,
    close: float,
) -> list[Row]:
    """Distances of sets to the nearest training images, and of real images to their own projections, in every metric.

    Projections come as (real, projected), row by row; `own_is_nearest` counts the images whose own projection is the
    nearest of all projections, `memorised` those of them that are under `close` (papers/000, section 4.3). The paper's
    `close` is meant for cosine distances, and the same number is a far stricter bound on Euclidean ones; it finds
    copies that are exact; for others see `lookalikes`.
    """
    rows: list[Row] = []
    for metric in METRICS:
        for name, images in to_train.items():
            gaps = nearest(images, train, metric)[0]
            found = summary(gaps, torch.zeros_like(gaps, dtype=torch.bool), close)
            del found["memorised"]  # asks about projections
            rows += _statistics(f"{name} to nearest training image", metric, found)
        if projections is not None:
            real, projected = projections
            own = nearest(real, projected, metric)[1] == torch.arange(len(real), device=real.device)
            found = {**summary(paired(real, projected, metric), own, close), "own_is_nearest": int(own.sum())}
            rows += _statistics("real image to own projection", metric, found)
    return rows


def distance_histogram(gaps_of: Mapping[str, Float[Tensor, " n"]], bins: int = 30) -> list[Row]:
    """Share of each set's cosine distances in bins of one width, from 0 to the largest distance of all."""
    edges = np.linspace(0, max(float(gaps.max()) for gaps in gaps_of.values()), bins + 1)
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
