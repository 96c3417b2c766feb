"""Generated images against real ones: every distance at once, with intervals and the floor that real images set."""

import math
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from skinsynth.intervals import Interval
from skinsynth.quality.fid import enough_to_extrapolate, extrapolated_frechet_distance, frechet_distance
from skinsynth.quality.half_samples import half_sample_intervals
from skinsynth.quality.kid import kernel_distance, kernel_distance_of_subsets
from skinsynth.quality.neighbours import neighbour_scores
from skinsynth.settings import Count, Whole

# What tables call the sets of images.
GENERATED = "generated"
AS_MANY = "generated, as many as held out"
TRAIN = "train"
HELD_OUT = "held-out real"

# Density stays in the table, so that with path length a GAN has six headlines.
HEADLINES = {
    "fid": "fid_{}",
    "kid_percent": "kid_{}_percent",
    "precision": "precision_{}",
    "recall": "recall_{}",
    "coverage": "coverage_{}",
}
# KID is unbiased, and below 0 for every other pair of equal sets.
RANGES = {
    "fid": (0.0, math.inf),
    "precision": (0.0, 1.0),
    "recall": (0.0, 1.0),
    "density": (0.0, math.inf),
    "coverage": (0.0, 1.0),
}


@dataclass(frozen=True)
class FidelityConfig:
    neighbours: Count  # k of precision, recall, density and coverage
    kid_subset_size: Whole  # of the published KID, at most; 0 leaves it out
    kid_subsets: Count
    interval_draws: Count  # random halves behind each interval


@dataclass(frozen=True)
class FidelityScores:
    headline: dict[str, float | str]  # named after the extractor, as in HEADLINES, and the count of `images`
    rows: list[dict[str, str | float | int]]  # one per metric and comparison, with interval and sample counts


class Comparison(NamedTuple):
    """Two sets of features and what tables call them."""

    compared: str
    reference: str
    of_compared: Float[Tensor, "m dim"]
    of_reference: Float[Tensor, "n dim"]


def score_images(
    real: Float[Tensor, "n dim"],
    fake: Float[Tensor, "m dim"],
    config: FidelityConfig,
    rng: torch.Generator,
    extractor: str,
    held_out: Float[Tensor, "h dim"] | None = None,
) -> FidelityScores:
    """Compare features of generated images with those of real ones (FID, KID over all pairs in percent, P, R, D, C).

    Headlines are against `real`, the training images. Too few real or generated images are a ValueError; too few held
    out leave the comparisons with these away.
    """
    least = 2 * (config.neighbours + 1)
    if min(len(real), len(fake)) < least:
        raise ValueError(
            f"neighbourhoods of {config.neighbours} in halves need {least} images or more on each side, not "
            f"{len(real)} real and {len(fake)} generated: lower `neighbours` or give more images"
        )
    rows = []
    for comparison in comparisons(real, fake, held_out, least, rng):
        rows += _rows(comparison, config, rng, extractor)
    value_of = {
        row["metric"]: float(row["value"]) for row in rows if (row["compared"], row["reference"]) == (GENERATED, TRAIN)
    }
    headline = {key.format(extractor): value_of[metric] for metric, key in HEADLINES.items()}
    return FidelityScores({**headline, "images": len(fake)}, rows)


def comparisons(
    real: Float[Tensor, "n dim"],
    fake: Float[Tensor, "m dim"],
    held_out: Float[Tensor, "h dim"] | None,
    least: int,
    rng: torch.Generator,
) -> list[Comparison]:
    """Generated images against training images, and where `least` are held out, three more.

    These are generated against held-out images (which no GAN has copied), the floor (held-out against training
    images), and as many generated images as are in the floor, since FID grows as sets get smaller.
    """
    found = [Comparison(GENERATED, TRAIN, fake, real)]
    if held_out is None or len(held_out) < least:
        return found
    chosen = torch.randperm(len(fake), generator=rng, device=rng.device)[: len(held_out)]
    return [
        *found,
        Comparison(GENERATED, HELD_OUT, fake, held_out),
        Comparison(HELD_OUT, TRAIN, held_out, real),
        Comparison(AS_MANY, TRAIN, fake[chosen.to(fake.device)], real),
    ]


def _rows(
    comparison: Comparison, config: FidelityConfig, rng: torch.Generator, extractor: str
) -> list[dict[str, str | float | int]]:
    compared, reference, fake, real = comparison
    about: dict[str, str | float | int] = {
        "extractor": extractor,
        "compared": compared,
        "reference": reference,
        "real_count": len(real),
        "compared_count": len(fake),
    }
    draws = config.interval_draws
    intervals = half_sample_intervals(partial(_distances, k=config.neighbours), real, fake, draws, rng, RANGES)
    if (compared, reference) == (GENERATED, TRAIN):
        if enough_to_extrapolate(real, len(fake)):
            intervals |= half_sample_intervals(partial(_extrapolated, rng=rng), real, fake, draws, rng)
        else:
            intervals["fid_infinity"] = Interval(math.nan, math.nan, math.nan)
    rows = [{"metric": metric, **interval._asdict(), **about} for metric, interval in intervals.items()]
    if config.kid_subset_size:
        size = min(config.kid_subset_size, len(real), len(fake))
        mean, _ = kernel_distance_of_subsets(real, fake, size, config.kid_subsets, rng)
        # It estimates what KID over all pairs does: the deviation of one subset would be no interval of its mean.
        pairs = intervals["kid_percent"]
        spread = Interval(100 * mean, 100 * mean - (pairs.value - pairs.low), 100 * mean + (pairs.high - pairs.value))
        rows.append({"metric": "kid_percent_of_subsets", **spread._asdict(), **about})
    return rows


def _distances(real: Float[Tensor, "n dim"], fake: Float[Tensor, "m dim"], k: int) -> dict[str, float]:
    return {
        "fid": frechet_distance(real, fake),
        "kid_percent": 100 * kernel_distance(real, fake),
        **neighbour_scores(real, fake, k)._asdict(),
    }


def _extrapolated(real: Float[Tensor, "n dim"], fake: Float[Tensor, "m dim"], rng: torch.Generator) -> dict[str, float]:
    return {"fid_infinity": extrapolated_frechet_distance(real, fake, rng)}
