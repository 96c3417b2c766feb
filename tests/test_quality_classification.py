"""What is said about predictions: scikit-learn's numbers, and intervals over patients."""

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binomtest
from sklearn import metrics as oracle

from skinsynth.intervals import draws_correlation, group_draws, percentile_interval, share_interval, weighted_shares
from skinsynth.quality.classification import (
    HEADLINES,
    confusion_rows,
    confusion_shares,
    headlines,
    positive_label,
    roc_points,
    score_predictions,
)


@pytest.fixture
def draws():
    return np.random.default_rng(0)


def predictions(rng, classes=2, images=400, seeds=1, skill=1.0):
    """Labels, coarse (so sometimes tied) probabilities of each seed, and patients of four images each."""
    labels = rng.choice(classes, size=images, p=[0.8] + [0.2 / (classes - 1)] * (classes - 1))
    logits = rng.normal(size=(seeds, images, classes)) + skill * np.eye(classes)[labels]
    logits = logits.round(1)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    return labels, probabilities, [f"patient{place // 4}" for place in range(images)]


def value_of(rows):
    return {row["metric"]: row["value"] for row in rows}


def test_every_metric_is_the_one_of_scikit_learn(draws):
    labels, probabilities, groups = predictions(draws)
    values, score = value_of(score_predictions(labels, probabilities, groups, 1, 0, draws)), probabilities[0, :, 1]
    said = probabilities[0].argmax(axis=1)
    false_positives, recalled, _ = oracle.roc_curve(labels, score, drop_intermediate=False)
    assert values["accuracy"] == pytest.approx(oracle.accuracy_score(labels, said))
    assert values["balanced_accuracy"] == pytest.approx(oracle.balanced_accuracy_score(labels, said))
    assert values["auc"] == values["positive_auc"] == pytest.approx(oracle.roc_auc_score(labels, score))
    assert values["average_precision"] == pytest.approx(oracle.average_precision_score(labels, score))
    assert values["f1"] == pytest.approx(oracle.f1_score(labels, said))
    assert values["sensitivity"] == pytest.approx(oracle.recall_score(labels, said))
    assert values["specificity"] == pytest.approx(oracle.recall_score(labels, said, pos_label=0))
    assert values["sensitivity_at_90_specificity"] == pytest.approx(recalled[false_positives <= 0.1].max())


def test_three_classes_are_averaged_one_against_the_rest(draws):
    labels, probabilities, groups = predictions(draws, classes=3)
    values = value_of(score_predictions(labels, probabilities, groups, 2, 0, draws))
    expected = oracle.roc_auc_score(labels, probabilities[0], multi_class="ovr", average="macro")
    assert values["auc"] == pytest.approx(expected)
    assert values["positive_auc"] == pytest.approx(oracle.roc_auc_score(labels == 2, probabilities[0, :, 2]))
    assert values["sensitivity"] == pytest.approx((probabilities[0].argmax(axis=1) == 2)[labels == 2].mean())


def test_a_draw_of_patients_is_scored_as_its_images_repeated(draws):
    labels, probabilities, groups = predictions(draws)
    weights = group_draws(groups, 3, draws)
    rows = score_predictions(labels, probabilities, groups, 1, 3, np.random.default_rng(5))
    drawn = group_draws(groups, 3, np.random.default_rng(5))[1:]
    areas = [oracle.roc_auc_score(labels, probabilities[0, :, 1], sample_weight=weight) for weight in drawn]
    auc = next(row for row in rows if row["metric"] == "auc")
    assert (auc["low"], auc["high"]) == pytest.approx(tuple(np.percentile(areas, [2.5, 97.5])), rel=0.05)
    by_patient = weights.reshape(4, -1, 4)
    assert (by_patient == by_patient[:, :, :1]).all()
    assert weights.sum(axis=1) == pytest.approx(400)


def test_intervals_hold_their_value_and_shrink_with_patients(draws):
    widths = []
    for images in (100, 1600):
        rows = score_predictions(*predictions(draws, images=images, seeds=2), 1, 200, draws)
        assert all(row["low"] <= row["value"] <= row["high"] for row in rows)
        assert all(row["seed_min"] <= row["value"] <= row["seed_max"] for row in rows)
        auc = next(row for row in rows if row["metric"] == "auc")
        widths.append(auc["high"] - auc["low"])
    assert widths[1] < widths[0] / 2


def test_intervals_cover_the_truth_at_about_their_rate(draws):
    hits = 0
    for _ in range(200):
        rows = score_predictions(*predictions(draws, images=200, skill=0.0), 1, 100, draws)
        interval = next(row for row in rows if row["metric"] == "auc")
        hits += interval["low"] <= 0.5 <= interval["high"]
    assert 0.88 <= hits / 200 <= 0.99


@pytest.mark.parametrize("overconfidence", [1.0, 1.7])
def test_intervals_of_every_metric_cover_the_truth_with_images_that_share_patients(overconfidence):
    """Sixty studies of 48 patients; the truth is that of very many, and at 1 the probabilities are right."""

    def study(patients, rng):
        evidence = rng.normal(0, 1, patients).repeat(6) + rng.normal(0, 1, 6 * patients) - 1
        labels = (rng.random(len(evidence)) < expit(evidence)).astype(int)
        said = expit(overconfidence * evidence)
        return labels, np.stack([1 - said, said], axis=1)[None], np.arange(patients).repeat(6)

    truth = value_of(score_predictions(*study(40_000, np.random.default_rng(1)), 1, 1, np.random.default_rng(0)))
    hits, rng = dict.fromkeys(truth, 0), np.random.default_rng(2)
    for _ in range(60):
        for row in score_predictions(*study(48, rng), 1, 100, rng):
            hits[row["metric"]] += row["low"] <= truth[row["metric"]] <= row["high"]
    assert min(hits.values()) / 60 >= 0.85, hits


@pytest.mark.parametrize("error", [0.02, 0.1])
def test_the_interval_of_a_calibration_error_covers_that_of_a_constant_answer(error):
    """Two hundred studies of 48 patients: what is said is off by so much, and one sample may happen to hide it."""
    hits, rng = 0, np.random.default_rng(2)
    for _ in range(200):
        labels = (rng.random(48).repeat(4) < 0.3).astype(int)
        said = np.full(len(labels), 0.3 + error)
        rows = score_predictions(labels, np.stack([1 - said, said], axis=1)[None], np.arange(48).repeat(4), 1, 100, rng)
        row = next(row for row in rows if row["metric"] == "calibration_error")
        hits += row["high"] >= error
    assert hits / 200 >= 0.93


def test_probabilities_that_are_not_finite_are_refused(draws):
    labels, probabilities, groups = predictions(draws)
    probabilities[0, 3, 1] = np.nan
    with pytest.raises(ValueError, match="1 of 400 images have probabilities that are not finite"):
        score_predictions(labels, probabilities, groups, 1, 10, draws)


def test_images_of_one_patient_make_wider_intervals_than_as_many_patients(draws):
    labels, probabilities, _ = predictions(draws, images=100)
    labels, probabilities = np.repeat(labels, 9), np.repeat(probabilities, 9, axis=1)
    widths = []
    for groups in (np.repeat(np.arange(100), 9), np.arange(900)):
        rows = score_predictions(labels, probabilities, groups.astype(str), 1, 200, draws)
        auc = next(row for row in rows if row["metric"] == "auc")
        widths.append(auc["high"] - auc["low"])
    assert widths[0] > 2 * widths[1]


def test_a_perfect_classifier_scores_one_and_is_calibrated(draws):
    labels = np.array([0, 0, 0, 1])
    rows = score_predictions(labels, np.eye(2)[labels][None], list("abcd"), 1, 20, draws)
    values = value_of(rows)
    # Errors are none, all else is whole: a new metric that is an error stands beside this one.
    assert {name: value for name, value in values.items() if value != 1} == {"calibration_error": 0}
    assert set(headlines(rows)) == set(HEADLINES)
    assert len(HEADLINES) <= 6


def test_confident_chance_is_off_by_its_confidence(draws):
    labels = np.arange(1000) % 2
    probabilities = np.tile([0.1, 0.9], (1, 1000, 1))
    values = value_of(score_predictions(labels, probabilities, labels.astype(str), 1, 0, draws))
    assert values["calibration_error"] == pytest.approx(0.4)
    assert values["auc"] == 0.5


def test_without_positives_there_is_no_area_and_no_warning(draws):
    labels, probabilities, groups = predictions(draws)
    values = value_of(score_predictions(np.zeros_like(labels), probabilities, groups, 1, 10, draws))
    assert all(np.isnan(values[name]) for name in ("auc", "average_precision", "sensitivity"))
    assert roc_points(np.zeros(4, bool), np.arange(4.0)) == []


def test_every_image_needs_a_group(draws):
    labels, probabilities, groups = predictions(draws)
    with pytest.raises(ValueError, match="400 labels, 399 groups and 400 rows"):
        score_predictions(labels, probabilities, groups[1:], 1, 0, draws)


def test_roc_points_run_from_nothing_to_everything_and_stay_few(draws):
    labels, probabilities, _ = predictions(draws, images=2000)
    points = roc_points(labels == 1, probabilities[0, :, 1])
    rates = np.array([list(point.values()) for point in points])
    assert rates[0].tolist() == [0, 0]
    assert rates[-1].tolist() == [1, 1]
    assert (np.diff(rates, axis=0) >= 0).all()
    assert len(points) <= 200
    area = np.trapezoid(rates[:, 1], rates[:, 0])
    assert area == pytest.approx(oracle.roc_auc_score(labels, probabilities[0, :, 1]), abs=0.01)


def test_shares_of_the_confusion_matrix_add_up_and_are_sensitivity_and_specificity(draws):
    labels = draws.permutation(np.repeat([0, 1], [80, 40]))
    score = 1 / (1 + np.exp(-draws.normal(size=(2, 120)) - labels))
    said, groups = np.stack([1 - score, score], axis=2), np.arange(120) // 3
    shares = {
        (row["actual"], row["predicted"]): row
        for row in confusion_shares(labels, said, groups, ("a", "b"), 200, np.random.default_rng(1))
    }
    assert shares["a", "a"]["value"] + shares["a", "b"]["value"] == pytest.approx(1)
    scored = {row["metric"]: row for row in score_predictions(labels, said, groups, 1, 200, np.random.default_rng(1))}
    for cell, name in ((("b", "b"), "sensitivity"), (("a", "a"), "specificity")):
        assert [shares[cell][key] for key in ("value", "low", "high")] == pytest.approx(
            [scored[name][key] for key in ("value", "low", "high")]
        )
    assert shares["b", "a"]["actual_images"] == 40


def test_a_positive_class_that_is_none_is_refused_in_one_line():
    assert positive_label(("benign", "malignant"), "malignant") == 1
    with pytest.raises(ValueError, match="names one of the classes benign, malignant, not 'malignent': correct it"):
        positive_label(("benign", "malignant"), "malignent")


def test_confusion_rows_count_every_image_once():
    rows = confusion_rows(np.array([1, 0, 0]), np.array([0, 0, 1]), ["benign", "malignant"])
    assert rows == [
        {"actual": "benign", "predicted": "benign"},
        {"actual": "benign", "predicted": "malignant"},
        {"actual": "malignant", "predicted": "benign"},
    ]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_of_none_or_all_is_not_certain(share):
    """Resampling 20 patients without an event gives none for ever, though a rate of a tenth would often do so too."""
    values = np.full(101, share)
    assert percentile_interval(values)[1:] == (share, share)
    wilson = binomtest(round(20 * share), 20).proportion_ci(method="wilson")
    assert share_interval(values, 20)[1:] == pytest.approx((wilson.low, wilson.high))


def test_a_share_of_independent_images_has_about_wilsons_interval_of_so_many(draws):
    found = np.arange(400) < 60
    weights = group_draws(np.arange(400), 4000, draws)
    wilson = binomtest(60, 400).proportion_ci(method="wilson")
    low_high = share_interval(weights @ found / 400, 400, 400)[1:]
    assert low_high == pytest.approx((wilson.low, wilson.high), abs=0.003)


def test_a_share_rests_on_no_less_than_half_the_patients_and_no_more_than_all_images():
    for spread, total in ((0.4, 10), (1e-4, 80)):
        values = np.concatenate([[0.5], 0.5 + spread * np.array([-1, 1])])
        wilson = binomtest(total // 2, total).proportion_ci(method="wilson")
        assert share_interval(values, 20, 80)[1:] == pytest.approx((wilson.low, wilson.high))


def test_without_draws_a_share_has_no_interval():
    assert np.isnan(share_interval(np.array([0.5]), 20)[1:]).all()
    assert np.isnan(share_interval(np.full(9, np.nan), 0)).all()


@pytest.mark.parametrize(("each", "likeness"), [(1, 0.0), (4, 0.0), (4, 0.5)])
def test_intervals_of_a_sensitivity_near_one_cover_the_truth(each, likeness):
    """Twenty patients, 0.95 of whose images are found; `likeness` of them by patient and not by image."""
    rng, hits = np.random.default_rng(0), 0
    groups = np.arange(20).repeat(each)
    weights = group_draws(groups, 200, rng)
    for _ in range(1000):
        by_patient, by_image = rng.random(20)[groups], rng.random(len(groups))
        found = np.where(rng.random(len(groups)) < likeness, by_patient, by_image) < 0.95
        interval = share_interval(weights @ found / weights.sum(axis=1), 20, len(groups))
        hits += interval.low <= 0.95 <= interval.high
    assert 0.9 <= hits / 1000 <= 0.985


def test_perfect_answers_on_few_patients_are_not_certain_and_balanced_accuracy_knows_both_classes(draws):
    labels = np.repeat([0, 1], [200, 20])
    scored = score_predictions(labels, np.eye(2)[labels][None], np.arange(220), 1, 50, draws)
    low = {row["metric"]: row["low"] for row in scored}
    for name, total in (("accuracy", 220), ("sensitivity", 20), ("specificity", 200)):
        assert low[name] == pytest.approx(binomtest(total, total).proportion_ci(method="wilson").low)
    reach = np.hypot(1 - low["sensitivity"], 1 - low["specificity"]) / 2
    assert low["balanced_accuracy"] == pytest.approx(1 - reach)


def test_shares_that_move_against_each_other_make_a_surer_sum(draws):
    up = draws.normal(0.5, 0.1, 400)
    both = np.stack([up, 1 - up, np.full(400, 0.5)])
    correlation = draws_correlation(both)
    np.testing.assert_allclose(correlation, [[1, -1, 0], [-1, 1, 0], [0, 0, 1]], atol=1e-12)
    shares = [share_interval(one, 20, 100) for one in both[:2]]
    total, difference = (weighted_shares((1.0, sign), shares, correlation[:2, :2]) for sign in (1.0, -1.0))
    assert total.high - total.low == pytest.approx(0, abs=0.02)
    assert difference.high - difference.low == pytest.approx(sum(share.high - share.low for share in shares))


def test_one_in_ten_wrongly_called_is_90_percent_specificity():
    labels = np.array([0] * 10 + [1] * 2)
    score = np.array([0.95] + [0.1] * 9 + [0.9, 0.05])
    said = np.stack([1 - score, score], axis=1)[None]
    rows = score_predictions(labels, said, np.arange(12), 1, 1, np.random.default_rng(0))
    assert value_of(rows)["sensitivity_at_90_specificity"] == 0.5


def test_calibration_errors_cancel_within_a_tenth_and_not_beyond():
    for score, expected in (([0.62, 0.68], 0.15), ([0.58, 0.68], 0.55), ([1.0, 1.0], 0.5)):
        said = np.stack([1 - np.array(score), score], axis=1)[None]
        rows = score_predictions(np.array([1, 0]), said, np.arange(2), 1, 1, np.random.default_rng(0))
        assert value_of(rows)["calibration_error"] == pytest.approx(expected)


def test_recalls_that_stand_or_fall_together_make_balanced_accuracy_as_unsure_as_each(draws):
    """Patients with an image of each class, of whom both are recognised or neither."""
    labels, right = np.tile([0, 1], 60), (draws.random(60) < 0.7).repeat(2)
    said = np.eye(2)[np.where(right, labels, 1 - labels)]
    rows = score_predictions(labels, said[None], np.arange(60).repeat(2), 1, 200, draws)
    row_of = {row["metric"]: row for row in rows}
    for end in ("value", "low", "high"):
        assert row_of["balanced_accuracy"][end] == pytest.approx(row_of["sensitivity"][end])
