"""Generated images against real ones: every distance at once, with intervals and the floor that real images set."""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from skinsynth.quality.fid import frechet_distance
from skinsynth.quality.kid import kernel_distance, kernel_distance_of_subsets
from skinsynth.quality.neighbours import neighbour_scores
from skinsynth.quality.resampling import half_sample_intervals

# Density stays in the table, so that with path length a GAN has six headlines.
HEADLINES = {
    "fid": "fid_{}",
    "kid_percent": "kid_{}_percent",
    "precision": "precision_{}",
    "recall": "recall_{}",
    "coverage": "coverage_{}",
}


@dataclass(frozen=True)
class FidelityConfig:
    neighbours: int  # k of precision, recall, density and coverage
    kid_subset_size: int  # of the published KID, at most; 0 leaves it out
    kid_subsets: int
    interval_draws: int  # random halves behind each interval


@dataclass(frozen=True)
class FidelityScores:
    headline: dict[str, float]  # named after the extractor, as in HEADLINES
    rows: list[dict[str, str | float | int]]  # one per metric and comparison, with interval and sample counts


def score_images(
    real: Float[Tensor, "n dim"],
    fake: Float[Tensor, "m dim"],
    config: FidelityConfig,
    rng: torch.Generator,
    extractor: str,
    held_out: Float[Tensor, "h dim"] | None = None,
) -> FidelityScores:
    """Compare features of generated images with those of real ones (FID, KID over all pairs in percent, P, R, D, C).

    With `held_out` real images come two more comparisons, both of their size: the floor (held-out against real) and as
    many generated images, which is what the floor may be read against, since FID grows as sets get smaller. Too few of
    them for a neighbourhood in each half leave both out; too few real or generated images are a ValueError.
    """
    least = 2 * (config.neighbours + 1)
    if min(len(real), len(fake)) < least:
        raise ValueError(
            f"neighbourhoods of {config.neighbours} in halves need {least} images or more on each side, not "
            f"{len(real)} real and {len(fake)} generated: lower `neighbours` or give more images"
        )
    rows = []
    for name, features in comparisons(fake, held_out, least, rng).items():
        rows += _rows(name, real, features, config, rng, extractor)
    value_of = {str(row["metric"]): float(row["value"]) for row in rows if row["compared"] == "generated"}
    headline = {key.format(extractor): value_of[metric] for metric, key in HEADLINES.items()}
    return FidelityScores(headline, rows)


def comparisons(
    fake: Float[Tensor, "m dim"], held_out: Float[Tensor, "h dim"] | None, least: int, rng: torch.Generator
) -> dict[str, Float[Tensor, "_ dim"]]:
    """What is compared with real images: the fakes, and where `least` are held out, those and as many of the fakes."""
    if held_out is None or len(held_out) < least:
        return {"generated": fake}
    chosen = torch.randperm(len(fake), generator=rng, device=rng.device)[: len(held_out)]
    return {
        "generated": fake,
        "held-out real": held_out,
        "generated, as many as held out": fake[chosen.to(fake.device)],
    }


def _rows(
    name: str,
    real: Float[Tensor, "n dim"],
    features: Float[Tensor, "m dim"],
    config: FidelityConfig,
    rng: torch.Generator,
    extractor: str,
) -> list[dict[str, str | float | int]]:
    about = {"extractor": extractor, "compared": name, "real_count": len(real), "compared_count": len(features)}
    intervals = half_sample_intervals(
        partial(_distances, k=config.neighbours), real, features, config.interval_draws, rng
    )
    rows = [{"metric": metric, **interval._asdict(), **about} for metric, interval in intervals.items()]
    if config.kid_subset_size:
        size = min(config.kid_subset_size, len(real), len(features))
        mean, deviation = kernel_distance_of_subsets(real, features, size, config.kid_subsets, rng)
        spread = {"value": 100 * mean, "low": 100 * (mean - deviation), "high": 100 * (mean + deviation)}
        rows.append({"metric": "kid_percent_of_subsets", **spread, **about})
    return rows


def _distances(real: Float[Tensor, "n dim"], fake: Float[Tensor, "m dim"], k: int) -> dict[str, float]:
    return {
        "fid": frechet_distance(real, fake),
        "kid_percent": 100 * kernel_distance(real, fake),
        **neighbour_scores(real, fake, k)._asdict(),
    }
