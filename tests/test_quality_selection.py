"""Which GAN is best: the order, and the word where intervals do not tell candidates apart."""

import pytest

from skinsynth.quality.fidelity import FidelityScores
from skinsynth.quality.selection import Candidate, rank, ranking_rows, selection_headlines, separated, verdicts


def candidate(name, kid, reach=0.1, fid=5.0, images_seen=100):
    """With rows that are none of the selection's business before those that are."""
    about = {"extractor": "classifier", "compared": "generated", "reference": "train"}
    other = {**about, "class": "benign", "metric": "kid_percent", "value": -9.0, "low": -9.0, "high": -9.0}
    held_out = {**other, "class": "all", "reference": "held-out real"}
    rows = [
        {**about, "class": "all", "metric": "kid_percent", "value": kid, "low": kid - reach, "high": kid + reach},
        {**about, "class": "all", "metric": "fid", "value": fid, "low": fid, "high": fid},
    ]
    return Candidate(name, FidelityScores({}, [other, held_out, *rows]), images_seen, 10**6)


def test_the_lowest_kid_is_first_and_fid_breaks_a_tie():
    found = rank([candidate("c", 0.3), candidate("b", 0.2, fid=6.0), candidate("a", 0.2, fid=4.0)])
    assert [one.name for one in found] == ["a", "b", "c"]


def test_candidates_are_told_apart_where_intervals_do_not_touch():
    best, near, far = candidate("best", 0.2), candidate("near", 0.35), candidate("far", 0.8)
    assert not separated(best, near)
    assert separated(best, far)
    assert verdicts([best, near, far]) == [
        "best and near are not told apart: their intervals of KID overlap (0.1 to 0.3 and 0.25 to 0.45 percent)",
        "near is better than far: their intervals of KID do not touch",
    ]
    places = [(row["rank"], row["next_in_rank"]) for row in ranking_rows([best, near, far]) if row["metric"] == "fid"]
    assert places == [(1, "not told apart"), (2, "worse"), (3, "")]


@pytest.mark.parametrize(("kid", "apart"), [(0.25, False), (0.9, True)])
def test_the_winner_s_headlines_say_whether_the_next_is_really_worse(kid, apart):
    brought = Candidate("brought: vendor", candidate("x", 0.1).scores, None, None)
    ranking = rank([candidate("ours", 0.2), candidate("next", kid), brought])
    winner = next(one for one in ranking if one.name == "ours")
    found = selection_headlines(winner, ranking)
    assert (found["selected"], found["told_apart_from_next"], found["kid_classifier_percent"]) == ("ours", apart, 0.2)
