"""Which GAN is best: the order, and the word where intervals do not tell candidates apart."""

import pytest
import torch

from skinsynth.quality.fidelity import FidelityConfig, FidelityScores, score_images
from skinsynth.quality.selection import (
    Candidate,
    behind,
    rank,
    ranking_rows,
    selection_headlines,
    told_apart,
    verdicts,
)

LUCK = [0.3, -0.1, 0.2, -0.4]  # of the real images' halves, shared by all


def candidate(name, kid, own_luck=0.05, fid=5.0, images_seen=100):
    """With rows that are none of the selection's business before those that are."""
    about = {"extractor": "classifier", "compared": "generated", "reference": "train"}
    other = {**about, "class": "benign", "metric": "kid_percent", "value": -9.0, "low": -9.0, "high": -9.0}
    held_out = {**other, "class": "all", "reference": "held-out real"}
    rows = [
        {**about, "class": "all", "metric": "kid_percent", "value": kid, "low": kid - 0.1, "high": kid + 0.1},
        {**about, "class": "all", "metric": "fid", "value": fid, "low": fid, "high": fid},
    ]
    own = [own_luck * sign for sign in (1, -1, -1, 1)]
    halves = {
        "kid_percent": [kid + shared + extra for shared, extra in zip(LUCK, own, strict=True)],
        "fid": [fid + shared for shared in LUCK],
    }
    return Candidate(name, FidelityScores({}, [other, held_out, *rows], halves), images_seen, 10**6)


def test_the_lowest_kid_is_first_and_fid_breaks_a_tie():
    found = rank([candidate("c", 0.3), candidate("b", 0.2, fid=6.0), candidate("a", 0.2, fid=4.0)])
    assert [one.name for one in found] == ["a", "b", "c"]


def test_candidates_are_told_apart_by_their_difference_and_luck_that_they_share_does_not_count():
    best, near, far = candidate("best", 0.2, 0.0), candidate("near", 0.3), candidate("far", 0.8, fid=7.0)
    assert not told_apart(near, best)
    assert told_apart(far, best)
    assert verdicts([best, near, far]) == [
        "near is not told apart from best: its KID is 0.1 (-0.0837 to 0.284) percent higher, its FID 0 (0 to 0)",
        "far is worse than best: its KID is 0.6 (0.416 to 0.784) percent higher, its FID 2 (2 to 2)",
    ]
    rows = [row for row in ranking_rows([best, near, far]) if row["metric"] == "fid" and row["class"] == "all"]
    assert [(row["rank"], row["against_best"]) for row in rows] == [(1, ""), (2, "not told apart"), (3, "worse")]
    assert [row["behind_best"] for row in rows] == [0, 0, 2]


def test_the_difference_of_two_generators_is_clearer_than_their_own_intervals():
    """Of two that differ, judged by the same few real images."""
    rng = torch.Generator().manual_seed(0)
    config = FidelityConfig(neighbours=3, kid_subset_size=0, kid_subsets=0, interval_draws=20)
    real = torch.randn(60, 6, generator=rng)
    found = []
    for shift in (0.5, 0.8):
        fake = torch.randn(400, 6, generator=rng)
        fake[:, 0] += shift
        scores = score_images(real, fake, config, torch.Generator().manual_seed(1), "x")
        rows = [{"class": "all", **row} for row in scores.rows]
        found.append(Candidate(str(shift), FidelityScores(scores.headline, rows, scores.halves), None, None))
    near, far = found
    difference = behind(far, near, "kid_percent")
    widths = [one.pooled("kid_percent")["high"] - one.pooled("kid_percent")["low"] for one in found]
    assert difference.low > 0
    assert difference.high - difference.low < 0.8 * max(widths)


@pytest.mark.parametrize(("kid", "apart"), [(0.25, False), (0.9, True)])
def test_the_winner_s_headlines_say_whether_the_next_is_really_worse(kid, apart):
    brought = Candidate("brought: vendor", candidate("x", 0.1).scores, None, None)
    ranking = rank([candidate("ours", 0.2, 0.0), candidate("next", kid), brought])
    winner = next(one for one in ranking if one.name == "ours")
    found = selection_headlines(winner, ranking)
    assert (found["selected"], found["told_apart_from_next"], found["kid_classifier_percent"]) == ("ours", apart, 0.2)
