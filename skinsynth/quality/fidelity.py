"""Generated images against real ones: every distance at once, with intervals and the floor that real images set."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from tqdm import tqdm

from skinsynth.intervals import Interval
from skinsynth.quality.fid import enough_to_extrapolate, extrapolated_frechet_distance, frechet_distance
from skinsynth.quality.half_samples import UNGROUPED, Groups, Part, by_metric, half_scores, intervals_of
from skinsynth.quality.kid import kernel_distance_of_subsets, kernel_distances
from skinsynth.quality.neighbours import neighbour_scores_of_parts
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
    interval_draws: Count  # random halves behind each interval, of patients where these are known


@dataclass(frozen=True)
class FidelityScores:
    headline: dict[str, float | str]  # named after the extractor, as in HEADLINES, and the count of `images`
    rows: list[dict[str, str | float | int]]  # one per metric and comparison, with interval and sample counts
    halves: dict[str, list[float]]  # each metric of the halves behind the headline's interval


class Patients(NamedTuple):
    """Who is behind each real image, by number; None: not known, each image stands by itself."""

    real: Int64[Tensor, " n"] | None = None
    held_out: Int64[Tensor, " h"] | None = None


NOBODY = Patients()


class Comparison(NamedTuple):
    """Two sets of features and what tables call them."""

    compared: str
    reference: str
    of_compared: Float[Tensor, "m dim"]
    of_reference: Float[Tensor, "n dim"]
    groups: Groups = UNGROUPED  # patients of the reference and of the compared


def score_images(
    real: Float[Tensor, "n dim"],
    fake: Float[Tensor, "m dim"],
    config: FidelityConfig,
    rng: torch.Generator,
    extractor: str,
    held_out: Float[Tensor, "h dim"] | None = None,
    patients: Patients = NOBODY,
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
    found = [
        _rows(comparison, config, rng, extractor)
        for comparison in comparisons(real, fake, held_out, least, rng, patients)
    ]
    # The first comparison is that of the headlines.
    value_of = {row["metric"]: float(row["value"]) for row in found[0][0]}
    headline = {key.format(extractor): value_of[metric] for metric, key in HEADLINES.items()}
    return FidelityScores({**headline, "images": len(fake)}, [row for rows, _ in found for row in rows], found[0][1])


def comparisons(
    real: Float[Tensor, "n dim"],
    fake: Float[Tensor, "m dim"],
    held_out: Float[Tensor, "h dim"] | None,
    least: int,
    rng: torch.Generator,
    patients: Patients = NOBODY,
) -> list[Comparison]:
    """Generated images against training images, and where `least` are held out, three more.

    These are generated against held-out images (which no GAN has copied), the floor (held-out against training
    images), and as many generated images as are in the floor, since FID grows as sets get smaller.
    """
    found = [Comparison(GENERATED, TRAIN, fake, real, (patients.real, None))]
    if held_out is None or len(held_out) < least:
        return found
    chosen = torch.randperm(len(fake), generator=rng, device=rng.device)[: len(held_out)]
    return [
        *found,
        Comparison(GENERATED, HELD_OUT, fake, held_out, (patients.held_out, None)),
        Comparison(HELD_OUT, TRAIN, held_out, real, (patients.real, patients.held_out)),
        Comparison(AS_MANY, TRAIN, fake[chosen.to(fake.device)], real, (patients.real, None)),
    ]


def _rows(
    comparison: Comparison, config: FidelityConfig, rng: torch.Generator, extractor: str
) -> tuple[list[dict[str, str | float | int]], dict[str, list[float]]]:
    compared, reference, fake, real, groups = comparison
    about: dict[str, str | float | int] = {
        "extractor": extractor,
        "compared": compared,
        "reference": reference,
        "real_count": len(real),
        "compared_count": len(fake),
    }
    headline = (compared, reference) == (GENERATED, TRAIN)
    extrapolated = headline and enough_to_extrapolate(real, min(len(real), len(fake)))
    title = f"{compared} against {reference}"
    scores = partial(distances_of_parts, neighbours=config.neighbours, extrapolated=extrapolated, title=title)
    values, halves = half_scores(scores, real, fake, config.interval_draws, rng, groups)
    intervals = intervals_of(values, halves, RANGES)
    if headline and not extrapolated:
        intervals["fid_infinity"] = Interval(math.nan, math.nan, math.nan)
    rows = [{"metric": metric, **interval._asdict(), **about} for metric, interval in intervals.items()]
    if config.kid_subset_size:
        size = min(config.kid_subset_size, len(real), len(fake))
        mean, _ = kernel_distance_of_subsets(real, fake, size, config.kid_subsets, rng)
        # It estimates what KID over all pairs does: the deviation of one subset would be no interval of its mean.
        pairs = intervals["kid_percent"]
        spread = Interval(100 * mean, 100 * mean - (pairs.value - pairs.low), 100 * mean + (pairs.high - pairs.value))
        rows.append({"metric": "kid_percent_of_subsets", **spread._asdict(), **about})
    return rows, by_metric(halves)


def distances_of_parts(
    real: Float[Tensor, "n dim"],
    fake: Float[Tensor, "m dim"],
    parts: Sequence[Part],
    neighbours: int | None = None,
    extrapolated: bool = False,
    title: str = "halves of two sets",
) -> list[dict[str, float]]:
    """FID and KID of each part of both sets; the scores of neighbourhoods and FID of infinitely many images if asked
    for. ValueError where features are no numbers."""
    if not all(bool(features.isfinite().all()) for features in (real, fake)):
        raise ValueError(f"{title}: features are not finite: has the network that they come from diverged?")
    shown = tqdm(parts, unit="half", desc=f"FID, {title}", leave=False, delay=5)
    found = [{"fid": frechet_distance(real[part.real], fake[part.fake])} for part in shown]
    for scores, distance in zip(found, kernel_distances(real, fake, parts, f"KID, {title}"), strict=True):
        scores["kid_percent"] = 100 * distance
    if neighbours is not None:
        of_parts = neighbour_scores_of_parts(real, fake, neighbours, parts, f"neighbourhoods, {title}")
        for scores, shares in zip(found, of_parts, strict=True):
            scores.update(shares._asdict())
    if extrapolated:
        shown = tqdm(parts, unit="half", desc=f"FID∞, {title}", leave=False, delay=5)
        for scores, part in zip(found, shown, strict=True):
            scores["fid_infinity"] = extrapolated_frechet_distance(real[part.real], fake[part.fake])
    return found
