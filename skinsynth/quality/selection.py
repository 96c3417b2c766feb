"""Which GAN to go on with: by KID, then FID, with a word where the intervals do not tell the candidates apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from skinsynth.intervals import Interval
from skinsynth.quality.by_class import POOLED
from skinsynth.quality.fidelity import GENERATED, TRAIN, FidelityScores
from skinsynth.quality.half_samples import difference_of


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


def behind(worse: Candidate, better: Candidate, metric: str) -> Interval:
    """How much more the worse scores than the better, with the 95 % interval of the difference."""
    more, less = (float(one.pooled(metric)["value"]) for one in (worse, better))
    return difference_of(more, less, worse.scores.halves[metric], better.scores.halves[metric])


def told_apart(worse: Candidate, better: Candidate) -> bool:
    """Whether the interval of their difference in KID leaves 0 out."""
    return behind(worse, better, "kid_percent").low > 0


def verdicts(ranking: Sequence[Candidate]) -> list[str]:
    """A line for each candidate behind the best: by how much it is worse, or that the intervals do not say so."""
    best = ranking[0]
    lines = []
    for other in ranking[1:]:
        word = f"{other.name} is worse than" if told_apart(other, best) else f"{other.name} is not told apart from"
        kid, fid = (behind(other, best, metric) for metric in ("kid_percent", "fid"))
        lines.append(f"{word} {best.name}: its KID is {_signed(kid)} percent higher, its FID {_signed(fid)}")
    return lines


def _signed(interval: Interval) -> str:
    return f"{interval.value:.3g} ({interval.low:.3g} to {interval.high:.3g})"


def selection_headlines(winner: Candidate, ranking: Sequence[Candidate]) -> dict[str, Any]:
    """The winner, its scores and cost, and whether the next in rank is really worse."""
    after = ranking[list(ranking).index(winner) + 1 :]
    extractor = winner.pooled("fid")["extractor"]
    return {
        "selected": winner.name,
        "told_apart_from_next": told_apart(after[0], winner) if after else True,
        f"kid_{extractor}_percent": winner.pooled("kid_percent")["value"],
        f"fid_{extractor}": winner.pooled("fid")["value"],
        "images_seen": winner.images_seen,
        "mflops_per_image": winner.flops_per_image / 1e6 if winner.flops_per_image else None,
    }


def ranking_rows(ranking: Sequence[Candidate]) -> list[dict[str, Any]]:
    """Every row of every candidate, the best candidate first; pooled FID and KID also less those of the best."""
    best = ranking[0]
    return [
        {
            "rank": place,
            "candidate": candidate.name,
            "against_best": "" if place == 1 else "worse" if told_apart(candidate, best) else "not told apart",
            "images_seen": candidate.images_seen,
            "flops_per_image": candidate.flops_per_image,
            **row,
            **_behind_best(row, candidate, best),
        }
        for place, candidate in enumerate(ranking, start=1)
        for row in candidate.scores.rows
    ]


def _behind_best(row: dict[str, Any], candidate: Candidate, best: Candidate) -> dict[str, float]:
    difference = Interval(float("nan"), float("nan"), float("nan"))
    if row["metric"] in ("fid", "kid_percent") and row == candidate.pooled(row["metric"]):
        difference = behind(candidate, best, row["metric"])
    return {"behind_best": difference.value, "behind_best_low": difference.low, "behind_best_high": difference.high}
