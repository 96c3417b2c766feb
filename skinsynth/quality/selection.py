"""Which GAN to go on with: by KID, then FID, with a word where the intervals do not tell the candidates apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import Any

from skinsynth.quality.by_class import POOLED
from skinsynth.quality.fidelity import GENERATED, TRAIN, FidelityScores


@dataclass(frozen=True)
class Candidate:
    name: str
    scores: FidelityScores  # with rows by class
    images_seen: int | None  # while training, by all of its GANs; unknown of a set brought from elsewhere
    flops_per_image: int | None  # generated

    def pooled(self, metric: str) -> dict[str, Any]:
        """The row of one metric over all classes: value, low, high, extractor, counts."""
        return next(
            row
            for row in self.scores.rows
            if (row["class"], row["compared"], row["reference"], row["metric"]) == (POOLED, GENERATED, TRAIN, metric)
        )


def rank(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The best first: the lowest KID, which is unbiased at any count; FID where KID is equal."""
    return sorted(candidates, key=lambda one: (one.pooled("kid_percent")["value"], one.pooled("fid")["value"]))


def separated(better: Candidate, worse: Candidate) -> bool:
    """Whether the 95 % intervals of KID do not touch."""
    return bool(better.pooled("kid_percent")["high"] < worse.pooled("kid_percent")["low"])


def verdicts(ranking: Sequence[Candidate]) -> list[str]:
    """A line for each neighbouring pair: who is better, or that the intervals do not say so."""
    lines = []
    for better, worse in pairwise(ranking):
        if separated(better, worse):
            lines.append(f"{better.name} is better than {worse.name}: their intervals of KID do not touch")
        else:
            lines.append(
                f"{better.name} and {worse.name} are not told apart: their intervals of KID overlap "
                f"({_interval(better)} and {_interval(worse)} percent)"
            )
    return lines


def _interval(candidate: Candidate) -> str:
    kid = candidate.pooled("kid_percent")
    return f"{kid['low']:.3g} to {kid['high']:.3g}"


def selection_headlines(winner: Candidate, ranking: Sequence[Candidate]) -> dict[str, Any]:
    """The winner, its scores and cost, and whether the next in rank is really worse."""
    after = ranking[list(ranking).index(winner) + 1 :]
    extractor = winner.pooled("fid")["extractor"]
    return {
        "selected": winner.name,
        "told_apart_from_next": separated(winner, after[0]) if after else True,
        f"kid_{extractor}_percent": winner.pooled("kid_percent")["value"],
        f"fid_{extractor}": winner.pooled("fid")["value"],
        "images_seen": winner.images_seen,
        "mflops_per_image": winner.flops_per_image / 1e6 if winner.flops_per_image else None,
    }


def ranking_rows(ranking: Sequence[Candidate]) -> list[dict[str, Any]]:
    """Every row of every candidate, the best candidate first."""
    return [
        {
            "rank": place,
            "candidate": candidate.name,
            "next_in_rank": "" if after is None else "worse" if separated(candidate, after) else "not told apart",
            "images_seen": candidate.images_seen,
            "flops_per_image": candidate.flops_per_image,
            **row,
        }
        for place, (candidate, after) in enumerate(zip_longest(ranking, ranking[1:]), start=1)
        for row in candidate.scores.rows
    ]
