"""Two classifiers on parts of the test set: equal ones differ by nothing, better ones are told from worse."""

import numpy as np
import pytest
from scipy.stats import binomtest

from skinsynth.intervals import group_draws
from skinsynth.quality.comparison import Pair, accuracy_gain, comparison_rows
from skinsynth.quality.subgroups import TOO_FEW, WHOLE, Outcomes
from stages.compare_classifiers import hard_parts

COUNT = 200


def outcomes(strength, seed=1):
    rng = np.random.default_rng(0)
    labels = (np.arange(COUNT) < 80).astype(np.int64)
    noise = rng.normal(size=(2, COUNT)) + 0.1 * np.random.default_rng(seed).normal(size=(2, COUNT))
    score = 1 / (1 + np.exp(-noise - strength * (2 * labels - 1)))
    return Outcomes(labels, np.stack([1 - score, score], axis=2), np.arange(COUNT) // 2, 1)


def rows_of(first, second, parts=None):
    pair = Pair(first, second)
    rows = comparison_rows(pair, {name: pair.of(images) for name, images in (parts or {}).items()}, 200, 0)
    return {(row["part"], row["metric"]): row for row in rows}


def test_a_classifier_is_not_better_than_itself():
    for (_, metric), row in rows_of(outcomes(1.0), outcomes(1.0)).items():
        assert row["difference"] == 0
        assert row["low"] == -row["high"]
        assert (row["high"] > 0) == (metric == "accuracy")


def test_equal_answers_on_few_images_leave_room_for_a_difference():
    few = {"few": np.arange(COUNT) < 40}
    row = rows_of(outcomes(1.0), outcomes(1.0), few)["few", "accuracy"]
    assert row["high"] == pytest.approx(binomtest(0, 20).proportion_ci(method="wilson").high)


@pytest.mark.parametrize(("won", "lost", "seeds"), [(0.05, 0.0, 1), (0.1, 0.1, 1), (0.25, 0.2, 1), (0.1, 0.05, 3)])
def test_intervals_of_a_difference_of_accuracies_cover_it(won, lost, seeds):
    """Forty patients of two images, of which one classifier alone or the other one alone is right."""
    rng, hits, groups = np.random.default_rng(0), 0, np.arange(80) // 2
    for _ in range(300):
        drawn = rng.random((seeds, 80))
        right = np.stack([drawn < won, (drawn >= won) & (drawn < won + lost)])
        first, second = (
            Outcomes(np.ones(80, np.int64), np.stack([~one, one], axis=2) + 0.0, groups, 1) for one in right
        )
        gain = accuracy_gain(first, second, group_draws(groups, 100, rng))
        hits += gain.low <= won - lost <= gain.high
    assert hits / 300 >= 0.9


def test_many_images_of_few_patients_have_no_auc():
    one = outcomes(1.0)
    first, second = (Outcomes(one.labels, one.probabilities, np.arange(COUNT) % 9, 1) for one in (one, outcomes(0.5)))
    rows = rows_of(first, second)
    assert rows[WHOLE, "positive_auc"]["note"] == TOO_FEW
    assert rows[WHOLE, "accuracy"]["note"] == ""


def test_a_better_one_is_better_in_every_number_and_the_other_way_round():
    better, worse = outcomes(2.0), outcomes(0.5)
    for key, row in rows_of(better, worse).items():
        assert row["low"] > 0, key
        assert row["difference"] == pytest.approx(row["first"] - row["second"])
        assert rows_of(worse, better)[key]["difference"] == pytest.approx(-row["difference"])


def test_accuracy_is_the_share_of_right_answers_over_seeds():
    one = outcomes(1.0)
    right = (one.probabilities.argmax(axis=2) == one.labels).mean()
    assert rows_of(one, one)[WHOLE, "accuracy"]["first"] == pytest.approx(right)


def test_pairs_share_their_patients_so_noise_in_common_does_not_widen_the_interval():
    row = rows_of(outcomes(1.1), outcomes(1.0))[WHOLE, "right_probability"]
    alone = outcomes(1.1).probabilities[:, np.arange(COUNT), outcomes(1.1).labels].mean(axis=0)
    assert row["high"] - row["low"] < 4 * alone.std() / COUNT**0.5 / 2


def test_the_spread_over_trainings_is_that_of_one_of_the_first_and_one_of_the_second():
    row = rows_of(outcomes(1.0), outcomes(0.5))[WHOLE, "accuracy"]
    right = [(o.probabilities.argmax(axis=2) == o.labels).mean(axis=1) for o in (outcomes(1.0), outcomes(0.5))]
    differences = [first - second for first in right[0] for second in right[1]]
    assert (row["seed_min"], row["seed_max"]) == pytest.approx((min(differences), max(differences)))
    assert row["seed_min"] < row["difference"] < row["seed_max"]


def test_few_positives_have_no_auc_and_an_empty_part_says_so():
    few = np.zeros(COUNT, dtype=bool)
    few[70:110] = True
    rows = rows_of(outcomes(1.0), outcomes(0.5), {"few": few, "none": np.zeros(COUNT, dtype=bool)})
    assert rows["few", "positive_auc"]["note"] == TOO_FEW
    assert np.isnan(rows["few", "positive_auc"]["first"])
    assert rows["few", "accuracy"]["note"] == ""
    assert rows["none", "accuracy"]["note"] == TOO_FEW
    assert rows["none", "accuracy"]["test_images"] == 0


def test_other_images_are_refused():
    one = outcomes(1.0)
    other = Outcomes(1 - one.labels, one.probabilities, one.groups, 1)
    with pytest.raises(ValueError, match="the same test images: train both on one split"):
        comparison_rows(Pair(one, other), {}, 10, 0)


def test_intervals_are_over_patients():
    """Ten photographs of each lesion are no ten patients."""
    widths = []
    for groups in (np.arange(10 * COUNT) // 20, np.arange(10 * COUNT)):
        both = [outcomes(strength, seed) for strength, seed in ((1.1, 1), (1.0, 2))]
        many = [Outcomes(one.labels.repeat(10), one.probabilities.repeat(10, axis=1), groups, 1) for one in both]
        row = rows_of(*many)[WHOLE, "right_probability"]
        widths.append(row["high"] - row["low"])
    assert widths[0] > 2 * widths[1]


def alike(rng, loads, count=4000):
    """Trainings of equal law on two classes: what all share, and luck, as much of each as `loads` says."""
    labels = np.arange(count) % 2
    truth = rng.normal(size=count)
    own = np.stack([load * truth + (1 - load**2) ** 0.5 * rng.normal(size=count) for load in loads])
    score = 1 / (1 + np.exp(-own - (2 * labels - 1)))
    return Outcomes(labels, np.stack([1 - score, score], axis=2), np.arange(count), 1)


def test_hard_cases_favour_neither_of_two_classifiers_that_are_as_good():
    """Chosen by what one of them finds hard the other would seem better: regression to the mean."""
    rng = np.random.default_rng(0)
    first, second = alike(rng, (0.8, 0.8)), alike(rng, (0.8, 0.8))
    rows = comparison_rows(Pair(first, second), hard_parts(Pair(first, second), 0.05), 200, 0)
    fair = next(row for row in rows if (row["part"], row["metric"]) == ("hard", "right_probability"))
    assert fair["low"] < 0 < fair["high"]
    wrong = second.probabilities[0].argmax(axis=1) != second.labels
    biased = rows_of(first, second, {"hard": wrong})["hard", "right_probability"]
    assert biased["low"] > 0.05 > abs(fair["difference"])


def test_hard_cases_are_judged_by_trainings_that_did_not_choose_them():
    rng = np.random.default_rng(1)
    pair = Pair(alike(rng, (0.0, 0.0), 400), alike(rng, (0.0, 0.0), 400))
    parts = hard_parts(pair, 0.0)
    said = [np.mean([one.probabilities[turn] for one in pair], axis=0) for turn in range(2)]
    wrong = [one.argmax(axis=1) != pair.first.labels for one in said]
    assert len(parts["hard"].first.labels) == sum(one.sum() for one in wrong)
    judged = parts["misclassified"].first.probabilities[0]
    expected = np.concatenate([pair.first.probabilities[1][wrong[0]], pair.first.probabilities[0][wrong[1]]])
    assert sorted(judged[:, 1]) == pytest.approx(sorted(expected[:, 1]))


def test_single_trainings_have_no_hard_cases():
    one = outcomes(1.0)
    single = Outcomes(one.labels, one.probabilities[:1], one.groups, 1)
    assert hard_parts(Pair(single, one), 0.05) == {}


def test_what_is_won_and_lost_in_the_same_patients_leaves_their_difference_surer():
    """Ten patients with an image that the first alone has right, and ten, the same or others, where the second has."""
    groups, widths = np.arange(80) // 2, []
    for lost in (1, 21):
        first, second = np.ones((2, 1, 80), bool)
        second[:, 0:20:2], first[:, lost : lost + 20 : 2] = False, False
        pair = (
            Outcomes(np.ones(80, np.int64), np.stack([~one, one], axis=2) + 0.0, groups, 1) for one in (first, second)
        )
        gain = accuracy_gain(*pair, group_draws(groups, 200, np.random.default_rng(0)))
        assert gain.value == 0
        widths.append(gain.high - gain.low)
    assert widths[0] < widths[1] / 2


def test_the_seed_alone_decides_which_patients_are_drawn():
    both = Pair(outcomes(1.1), outcomes(1.0))
    first, same, other = (comparison_rows(both, {}, 50, seed) for seed in (1, 1, 2))
    assert first == same
    assert all(row["low"] != another["low"] for row, another in zip(first, other, strict=True))
