"""Two AUCs on the same images: the textbook's variance, and tests that reject as often as they say, many too."""

import math

import numpy as np
import pytest
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score

from skinsynth.intervals import NORMAL_95
from skinsynth.quality.delong import compare_aucs
from skinsynth.quality.multiplicity import holm

POSITIVE = np.array([True, True, True, False, False, False, False])
SCORE = np.array([0.9, 0.6, 0.4, 0.4, 0.6, 0.1, 0.3])  # two ties between the classes
CHANCE = np.zeros(7)  # its every component is one half, so the difference has the variance of the other AUC


@pytest.fixture
def draws():
    return np.random.default_rng(0)


def images(rng, patients=60, each=1, shared=0.0, own_class=0.5):
    """Patients' images, which have their patient's class but for a share that draws its own, and two equal scores."""
    groups = np.repeat(np.arange(patients), each)
    by_image = rng.random(patients * each) < own_class
    is_positive = np.where(by_image, rng.random(patients * each) < 0.5, (rng.random(patients) < 0.5)[groups])
    return is_positive, *scores(rng, is_positive, groups, shared), groups.astype(str)


def scores(rng, is_positive, groups, shared):
    """Two scores that are equally good; `shared` of the variance of each is the patient's."""
    patients, count = groups.max() + 1, len(groups)
    noise = np.sqrt(shared) * rng.normal(size=(2, patients))[:, groups]
    noise += np.sqrt(1 - shared) * rng.normal(size=(2, count))
    return is_positive + noise


def standard_error(compared):
    return (compared.high - compared.low) / 2 / NORMAL_95


def rejection_rate(samples, grouped):
    samples = [sample if grouped else sample[:3] for sample in samples]
    return np.mean([compare_aucs(*sample).p < 0.05 for sample in samples])


def test_difference_is_that_of_scikit_learn_with_ties_and_without(draws):
    is_positive, first, second, _ = images(draws)
    for decimals in (0, 1, 9):
        compared = compare_aucs(is_positive, first.round(decimals), second.round(decimals))
        expected = roc_auc_score(is_positive, first.round(decimals)) - roc_auc_score(
            is_positive, second.round(decimals)
        )
        assert compared.difference == pytest.approx(expected, abs=1e-12)
        assert compared.low < compared.difference < compared.high


def test_variance_of_one_auc_is_delongs_over_all_pairs():
    gaps = SCORE[POSITIVE][:, None] - SCORE[~POSITIVE]
    kernel = (gaps > 0) + (gaps == 0) / 2
    assert kernel.tolist() == [[1, 1, 1, 1], [1, 0.5, 1, 1], [0.5, 0, 1, 1]]
    variance = kernel.mean(axis=1).var(ddof=1) / 3 + kernel.mean(axis=0).var(ddof=1) / 4
    compared = compare_aucs(POSITIVE, SCORE, CHANCE)
    assert compared.difference == pytest.approx(10 / 12 - 0.5)
    assert standard_error(compared) ** 2 == pytest.approx(variance)
    # By hand: the positives' shares are 8, 7 and 5 eighths, the negatives' 5, 3, 6 and 6 sixths.
    assert variance == pytest.approx((14 / 6 / 64) / 3 + (6 / 3 / 36) / 4)


def test_variance_of_a_difference_holds_the_covariance_over_all_pairs(draws):
    is_positive, first, second, _ = images(draws, patients=20)
    both = np.stack([first, second]).round(1)
    gaps = both[:, is_positive][:, :, None] - both[:, ~is_positive][:, None]
    kernels = (gaps > 0) + (gaps == 0) / 2
    covariance = np.cov(kernels.mean(axis=2)) / is_positive.sum() + np.cov(kernels.mean(axis=1)) / (~is_positive).sum()
    contrast = np.array([1, -1])
    compared = compare_aucs(is_positive, *both)
    assert standard_error(compared) ** 2 == pytest.approx(contrast @ covariance @ contrast)


def test_alike_predictions_differ_by_nothing(draws):
    is_positive, first, _, groups = images(draws, each=3)
    for second in (first, np.exp(first), 3 * first - 7):
        assert compare_aucs(is_positive, first, second, groups) == (0, 0, 0, 1)


def test_exchanged_predictions_turn_the_sign_and_leave_p(draws):
    is_positive, first, second, groups = images(draws, each=3)
    there, back = compare_aucs(is_positive, first, second, groups), compare_aucs(is_positive, second, first, groups)
    assert (back.difference, back.low, back.high, back.p) == (-there.difference, -there.high, -there.low, there.p)


def test_only_the_ranks_count(draws):
    is_positive, first, second, groups = images(draws, each=3)
    expected = compare_aucs(is_positive, first, second, groups)
    assert compare_aucs(is_positive, np.exp(first), np.cbrt(second), groups) == expected


def test_order_of_images_and_names_of_patients_do_not_matter(draws):
    is_positive, first, second, groups = images(draws, each=3)
    order = draws.permutation(len(groups))
    renamed = [f"patient {group}" for group in groups[order]]
    shuffled = compare_aucs(is_positive[order], first[order], second[order], renamed)
    assert shuffled == pytest.approx(compare_aucs(is_positive, first, second, groups))


def test_patients_of_one_image_leave_delongs_variance(draws):
    is_positive, first, second, groups = images(draws)
    plain, grouped = compare_aucs(is_positive, first, second), compare_aucs(is_positive, first, second, groups)
    assert grouped.difference == plain.difference
    freedom = min(is_positive.sum(), (~is_positive).sum()) - 1
    error = standard_error(plain)
    assert (grouped.high - grouped.difference) / error == pytest.approx(student.ppf(0.975, freedom), rel=1e-6)
    assert grouped.p == pytest.approx(2 * student.sf(abs(plain.difference) / error, freedom), rel=1e-6)


@pytest.mark.parametrize("own_class", [0.0, 0.5])
def test_copies_within_patients_change_nothing(draws, own_class):
    is_positive, first, second, groups = images(draws, each=2, own_class=own_class)
    copied = [np.repeat(values, 5) for values in (is_positive, first, second, groups)]
    assert compare_aucs(*copied) == pytest.approx(compare_aucs(is_positive, first, second, groups))
    assert standard_error(compare_aucs(*copied[:3])) < standard_error(compare_aucs(*copied)) / 1.5


@pytest.mark.parametrize("own_class", [0.0, 0.5, 1.0])
def test_variance_between_patients_is_that_of_leaving_each_out(draws, own_class):
    is_positive, first, second, groups = images(draws, patients=200, each=3, shared=0.5, own_class=own_class)
    left_out = []
    for group in np.unique(groups):
        kept = groups != group
        left_out.append(compare_aucs(is_positive[kept], first[kept], second[kept]).difference)
    jackknife = np.sqrt(199 * np.var(left_out))
    assert standard_error(compare_aucs(is_positive, first, second, groups)) == pytest.approx(jackknife, rel=0.03)


def test_equal_predictions_are_told_apart_one_time_in_twenty(draws):
    rate = rejection_rate([images(draws, patients=120) for _ in range(1000)], grouped=False)
    assert 0.03 <= rate <= 0.07


def test_images_of_one_patient_fool_plain_delong_and_not_the_grouped(draws):
    samples = [images(draws, patients=80, each=6, shared=0.7, own_class=0.1) for _ in range(600)]
    assert rejection_rate(samples, grouped=False) > 0.2
    assert 0.03 <= rejection_rate(samples, grouped=True) <= 0.075


def test_patients_of_both_classes_need_the_cross_covariance(draws):
    """What a patient adds to both classes alike cancels: without that, the test would hardly ever reject."""
    groups, is_positive = np.repeat(np.arange(80), 6), np.arange(480) % 2 == 0
    samples = [(is_positive, *scores(draws, is_positive, groups, 0.7), groups) for _ in range(600)]
    assert rejection_rate(samples, grouped=False) < 0.02
    assert 0.03 <= rejection_rate(samples, grouped=True) <= 0.075


def test_a_better_prediction_is_found_and_the_interval_holds_the_gain(draws):
    is_positive, first, _, groups = images(draws, patients=500)
    compared = compare_aucs(is_positive, first, draws.normal(size=500), groups)
    assert compared.p < 1e-6
    # Normal scores whose means lie one deviation apart have an AUC of Phi(1 / sqrt 2).
    assert compared.low < 0.7602 - 0.5 < compared.high


def test_a_difference_without_variance_has_neither_interval_nor_p():
    for is_positive in (POSITIVE, np.arange(4) < 2):
        perfect = is_positive.astype(float)
        for other, difference in ((np.zeros(len(perfect)), 0.5), (-perfect, 1.0)):
            compared = compare_aucs(is_positive, perfect, other)
            assert compared.difference == difference
            assert np.isnan(compared[1:]).all()
    assert compare_aucs(POSITIVE, POSITIVE.astype(float), 2.0 * POSITIVE) == (0, 0, 0, 1)


def test_few_patients_of_a_class_do_not_make_the_grouped_test_reject_more(draws):
    samples = []
    for _ in range(400):
        groups = np.arange(45).repeat(5)
        samples.append((groups < 5, *scores(draws, groups < 5, groups, 0.5), groups))
    assert rejection_rate(samples, grouped=True) <= 0.07


def test_one_patient_of_a_class_has_a_difference_without_interval_and_none_has_no_difference():
    alone = compare_aucs(np.arange(7) < 1, SCORE, CHANCE)
    assert (np.isfinite(alone.difference), *np.isnan(alone[1:])) == (True, True, True, True)
    same_patient = compare_aucs(POSITIVE, SCORE, CHANCE, list("aaabcde"))
    assert same_patient.difference == compare_aucs(POSITIVE, SCORE, CHANCE).difference
    assert np.isnan(same_patient.p)
    assert np.isnan(compare_aucs(np.ones(3, bool), SCORE[:3], CHANCE[:3])).all()


def test_what_does_not_rank_all_images_is_refused():
    with pytest.raises(ValueError, match="0 of the first scores and 1 of the second"):
        compare_aucs(POSITIVE, SCORE, np.where(SCORE == 0.9, np.nan, SCORE))
    with pytest.raises(ValueError, match="7 classes, 7 and 7 scores and 3 groups"):
        compare_aucs(POSITIVE, SCORE, CHANCE, list("abc"))


def test_holms_correction_steps_down_and_leaves_out_what_is_not_known():
    assert holm([0.01, 0.04, 0.03, math.nan]) == pytest.approx([0.03, 0.06, 0.06, math.nan], nan_ok=True)
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_any_false_alarm_among_many_true_hypotheses_is_as_rare_as_one():
    rng = np.random.default_rng(0)
    alarms = [min(holm(rng.uniform(size=12).tolist())) < 0.05 for _ in range(2000)]
    assert 0.035 <= np.mean(alarms) <= 0.06
    assert np.mean([rng.uniform(size=12).min() < 0.05 for _ in range(2000)]) > 0.4
