"""Which GAN to go on with: by KID, then FID, with a word where the intervals do not tell the candidates apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from skinsynth.quality.by_class import POOLED
from skinsynth.quality.fidelity import FidelityScores

GENERATED = "generated"


@dataclass(frozen=True)
class Candidate:
    name: str
    images_seen: int  # while training, by all of its GANs
    flops_per_image: int  # generated
    scores: FidelityScores  # with rows by class

    def pooled(self, metric: str) -> dict[str, Any]:
        """The row of one metric over all classes: value, low, high, extractor, counts."""
        return next(
            row
            for row in self.scores.rows
            if (row["class"], row["compared"], row["metric"]) == (POOLED, GENERATED, metric)
        )


def rank(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The best first: the lowest KID, which is unbiased at any count; FID where KID is equal."""
    return sorted(candidates, key=lambda one: (one.pooled("kid_percent")["value"], one.pooled("fid")["value"]))


def separated(better: Candidate, worse: Candidate) -> bool:
    """Whether the 95 % intervals of KID do not touch."""
    return bool(better.pooled("kid_percent")["high"] < worse.pooled("kid_percent")["low"])


def selection_headlines(ranking: Sequence[Candidate]) -> dict[str, Any]:
    """The winner, its scores and cost, and whether the runner-up is really worse."""
    best = ranking[0]
    extractor = best.pooled("fid")["extractor"]
    return {
        "selected": best.name,
        "told_apart_from_next": separated(best, ranking[1]) if len(ranking) > 1 else True,
        f"kid_{extractor}_percent": best.pooled("kid_percent")["value"],
        f"fid_{extractor}": best.pooled("fid")["value"],
        "images_seen": best.images_seen,
        "mflops_per_image": best.flops_per_image / 1e6,
    }


def ranking_rows(ranking: Sequence[Candidate]) -> list[dict[str, Any]]:
    """Every row of every candidate, the best candidate first."""
    return [
        {
            "rank": place,
            "candidate": candidate.name,
            "images_seen": candidate.images_seen,
            "flops_per_image": candidate.flops_per_image,
            **row,
        }
        for place, candidate in enumerate(ranking, start=1)
        for row in candidate.scores.rows
    ]
