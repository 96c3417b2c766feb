"""Doses of real and synthetic images: nested, with every class, and never more than there is."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import ttest_1samp

from skinsynth.classifier.training import ClassifierConfig, Examples
from skinsynth.intervals import group_draws
from skinsynth.quality.classification import score_predictions
from skinsynth.quality.delong import compare_aucs
from skinsynth.quality.dose_response import (
    Answers,
    Counts,
    Dose,
    DoseConfig,
    Pool,
    _over_both,
    curve_rows,
    difference_columns,
    dose_row,
    doses,
    predict_by_dose,
    repeated,
    seed_aucs,
)
from skinsynth.report.figures import draw_dose_response

CLASSIFIER = ClassifierConfig(
    network="cnn-108k",
    pretrained=False,
    dropout=0.0,
    epochs=2,
    patience=2,
    learning_rate=1e-3,
    batch_size=32,
    rotation_degrees=0.0,
    flips=False,
    balance="none",
    plateau_factor=0.5,
    plateau_patience=1,
    mixed_precision=False,
    seeds=(1, 2),
)
CONFIG = DoseConfig((0.1, 1.0), (0.0, 1.0), (0.0, 1.0, 4.0), (0.0, 1.0), CLASSIFIER, seeds_below_all_patients=(1, 2, 3))


def numbered(labels, first=0):
    """Images that tell which one they are by their first pixel."""
    pixels = torch.zeros(len(labels), 3, 24, 24, dtype=torch.uint8)
    pixels[:, 0, 0, 0] = torch.arange(first, first + len(labels))
    return Examples(pixels, torch.tensor(labels))


@pytest.fixture
def pool():
    """20 patients with two images each, the last five of them malignant; 200 synthetic images."""
    real = numbered([0] * 30 + [1] * 10)
    return Pool(real, torch.arange(20).repeat_interleave(2), numbered([0, 0, 0, 1] * 50, first=40), seed=3)


def who(taken):
    return set(taken.pixels[:, 0, 0, 0].tolist())


def test_the_points_of_all_curves_are_doses_once_each():
    assert sorted(doses(CONFIG)) == [(0, 1), (0, 4), (0.1, 0), (0.1, 1), (1, 0), (1, 1), (1, 4)]
    names = [dose.name for dose in doses(CONFIG)]
    assert len(set(names)) == 7
    assert {"1x_synthetic", "10_percent_of_patients", "100_percent_of_patients_and_4x_synthetic"} <= set(names)
    with pytest.raises(ValueError, match="share of patients from 0 to 1 .* not 2 and 0"):
        doses(replace(CONFIG, patient_shares=(2.0,)))


def test_a_larger_dose_holds_the_smaller_one(pool):
    for smaller, larger in pairwise((0.0, 0.1, 0.5, 1.0)):
        assert who(pool.take(Dose(smaller, 1.0))) < who(pool.take(Dose(larger, 1.0)))
        assert who(pool.take(Dose(1.0, smaller))) < who(pool.take(Dose(1.0, larger)))


def test_patients_come_whole_and_bring_every_class(pool):
    smallest = pool.take(Dose(0.01, 0.0))
    assert pool.counts(Dose(0.01, 0.0)) == (2, 4, 0)
    assert smallest.labels.unique().tolist() == [0, 1]
    everyone = pool.take(Dose(1.0, 0.0))
    assert pool.counts(Dose(1.0, 0.0)) == (20, 40, 0)
    assert who(everyone) == set(range(40))


def test_synthetic_images_have_the_class_shares_of_all_real_ones(pool):
    for share in (0.5, 1.0, 4.0):
        taken = pool.take(Dose(0.0, share))
        assert taken.labels.bincount().tolist() == [round(30 * share), round(10 * share)]
        assert pool.counts(Dose(0.0, share)) == (0, 0, 40 * share)
    with pytest.raises(ValueError, match=r"takes 180 synthetic images of class 0, but there are 150"):
        pool.take(Dose(1.0, 6.0))


def test_the_seed_decides_who_comes_first(pool):
    same, other = (Pool(pool.real, pool.patients, pool.synthetic, seed) for seed in (3, 4))
    dose = Dose(0.2, 0.5)
    assert who(pool.take(dose)) == who(same.take(dose))
    assert who(pool.take(dose)) != who(other.take(dose))


@pytest.fixture
def pools(pool):
    return {seed: Pool(pool.real, pool.patients, pool.synthetic, seed) for seed in CONFIG.seeds}


def answers_by_dose(pools, config, folder):
    validation = numbered([0, 0, 1, 1])
    return predict_by_dose(pools, validation, validation.pixels, config, 2, torch.device("cpu"), folder)


def test_an_interrupted_run_goes_on_and_gives_the_same(pools, tmp_path):
    config = replace(CONFIG, patient_shares=(0.5,), synthetic_shares=(1.0,))
    whole = list(answers_by_dose(pools, config, tmp_path / "whole"))
    next(killed := answers_by_dose(pools, config, tmp_path / "killed"))
    killed.close()
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "killed").iterdir()}
    again = list(answers_by_dose(pools, config, tmp_path / "killed"))
    assert kept == {file: file.stat().st_mtime_ns for file in kept}
    assert len(list((tmp_path / "killed").iterdir())) == sum(len(one.seeds) for _, one in whole) > len(kept)
    assert [dose for dose, _ in whole] == doses(config)
    for (_, first), (_, second) in zip(whole, again, strict=True):
        assert first.probabilities.shape == (len(first.seeds), 4, 2)
        np.testing.assert_array_equal(first.probabilities, second.probabilities)


def test_a_run_killed_within_a_dose_keeps_the_seeds_that_it_has_done(pools, tmp_path):
    config = replace(CONFIG, patient_shares=(0.5,), beside_patients=(0.0,), synthetic_shares=(0.0,))
    next(answers_by_dose(pools, config, tmp_path))
    last = max(tmp_path.iterdir())
    kept = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir() if file != last}
    last.unlink()
    next(answers_by_dose(pools, config, tmp_path))
    assert last.is_file()
    assert kept == {file: file.stat().st_mtime_ns for file in kept}


def test_every_seed_trains_on_its_own_patients_and_synthetic_images(pools, tmp_path, monkeypatch):
    seen = {}

    def remember(train, validation, config, class_count, seed, device):
        seen.setdefault(seed, []).append(set(train.pixels[:, 0, 0, 0].tolist()))
        raise InterruptedError

    monkeypatch.setattr("skinsynth.quality.dose_response.train_classifier", remember)
    config = replace(CONFIG, patient_shares=(0.2,), beside_patients=(0.5,), synthetic_shares=(0.0,))
    for seed in config.seeds:
        one = replace(config, seeds_below_all_patients=(seed,))
        with pytest.raises(InterruptedError):
            next(answers_by_dose(pools, one, tmp_path))
    assert all(images == [who(pools[seed].take(Dose(0.2, 0.5)))] for seed, images in seen.items())
    real, synthetic = (
        {seed: frozenset(number for number in images if (number < 40) == is_real) for seed, (images,) in seen.items()}
        for is_real in (True, False)
    )
    assert len(set(real.values())) == len(set(synthetic.values())) == 3


def test_doses_without_all_patients_have_seeds_of_their_own():
    for dose in doses(CONFIG):
        assert CONFIG.seeds_of(dose) == ((1, 2) if dose.patient_share == 1 else (1, 2, 3))
    assert CONFIG.seeds == [1, 2, 3]


def test_a_small_dose_is_repeated_in_whole_rounds(pool):
    small = pool.take(Dose(0.1, 0.0))
    long = repeated(small, 39)
    assert len(long.labels) == 40
    assert long.pixels.unique(dim=0, return_counts=True)[1].tolist() == [10] * 4
    assert len(repeated(long, 40).labels) == 40


LABELS = (np.arange(200) % 4 == 0).astype(int)
GROUPS = np.arange(200) // 2


def said(*scores):
    """Seeds 1, 2, ... with these scores of the positive class."""
    seeds = tuple(range(1, len(scores) + 1))
    probabilities = np.stack([np.stack([-score, score], axis=1) for score in scores])
    return Answers(seeds, [Counts(2 * seed, 4 + seed, 10) for seed in seeds], probabilities)


@pytest.fixture
def weights():
    return group_draws(GROUPS, 300, np.random.default_rng(1))


def test_what_synthetic_images_add_is_paired_with_the_same_patients_without_them(weights):
    first, second = np.random.default_rng(0).normal(size=(2, 200))
    answers_of = {
        Dose(1.0, 0.0): said(LABELS + first, LABELS + second),
        Dose(1.0, 1.0): said(3 * LABELS + first, 3 * LABELS + second),
        Dose(0.0, 4.0): said(first, second),
        Dose(0.5, 1.0): said(first),
    }
    added, alone, itself, lonely = (
        difference_columns(dose, answers_of, LABELS, GROUPS, 1, weights)
        for dose in (Dose(1.0, 1.0), Dose(0.0, 4.0), Dose(1.0, 0.0), Dose(0.5, 1.0))
    )
    assert added["less_low"] > 0 > alone["less_high"]
    assert max(added["p"], alone["p"]) < 0.01
    assert np.isnan([*itself.values(), *lonely.values()]).all()


def test_a_difference_is_within_a_seed_and_the_mean_of_seeds_that_both_doses_have(weights):
    noise = np.random.default_rng(0).normal(size=(3, 200))
    dose, without = Dose(0.0, 1.0), Dose(1.0, 0.0)
    answers_of = {dose: said(*noise), without: said(*(LABELS + noise[:2]))}
    own, other = (seed_aucs(answers_of[one], LABELS, 1) for one in (dose, without))
    gains = [own[0] - other[0], own[1] - other[1]]
    found = difference_columns(dose, answers_of, LABELS, GROUPS, 1, weights)
    assert found["less_without"] == pytest.approx(sum(gains) / 2)
    assert (found["less_seed_min"], found["less_seed_max"]) == pytest.approx((min(gains), max(gains)))


def test_p_of_a_difference_agrees_with_that_of_patients_as_clusters(weights):
    rng = np.random.default_rng(2)
    first, second = LABELS + rng.normal(size=(2, 200))
    answers_of = {Dose(0.2, 0.0): said(second), Dose(0.2, 1.0): said(first + 0.2 * LABELS)}
    found = difference_columns(Dose(0.2, 1.0), answers_of, LABELS, GROUPS, 1, weights)
    closed = compare_aucs(LABELS == 1, first + 0.2 * LABELS, second, GROUPS)
    assert found["less_without"] == pytest.approx(closed.difference)
    assert found["p"] == pytest.approx(closed.p, abs=0.05)
    assert (found["less_low"], found["less_high"]) == pytest.approx((closed.low, closed.high), abs=0.02)


def test_trainings_that_disagree_widen_the_interval_of_a_difference(weights):
    """Three trainings of which one gains much: beyond test patients, but not beyond another three trainings."""
    noise = np.random.default_rng(0).normal(size=200)
    dose, without = Dose(0.1, 1.0), Dose(0.1, 0.0)
    alike, unlike = ([LABELS + noise] * 3, [LABELS + noise, 0.2 * LABELS + noise, noise])
    found = [
        difference_columns(dose, {dose: said(*own), without: said(*[noise] * 3)}, LABELS, GROUPS, 1, weights)
        for own in (alike, unlike)
    ]
    assert found[0]["less_low"] > 0 > found[1]["less_low"]
    assert found[0]["p"] < 0.001
    assert found[1]["p"] > 0.05


def test_the_interval_over_trainings_alone_is_that_of_student():
    """Test patients that change nothing leave the spread of three trainings."""
    gains = np.array([0.032, 0.135, 0.048])
    interval, p = _over_both(np.repeat(gains[:, None], 11, axis=1), freedom=20)
    known = ttest_1samp(gains, 0.0)
    assert interval[1:] == pytest.approx(tuple(known.confidence_interval()))
    assert p == pytest.approx(known.pvalue)


def test_intervals_over_patients_and_trainings_cover_the_gain():
    """Test patients, twenty of each class, move all trainings alike; each training has luck of its own besides."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(1000):
        of_patients = 0.02 * rng.normal()
        gains = 0.05 + of_patients + 0.03 * rng.normal(size=5)
        draws = gains.mean() + 0.02 * rng.normal(size=200)
        interval, _ = _over_both(np.column_stack([gains, np.tile(draws, (5, 1))]), freedom=19)
        hits += interval.low <= 0.05 <= interval.high
    assert 930 <= hits <= 970


def test_seeds_that_took_other_patients_lie_apart_in_the_row(weights):
    noise = np.random.default_rng(0).normal(size=200)
    answers = said(noise, LABELS + noise)
    row = dose_row(
        Dose(0.1, 1.0),
        answers,
        score_predictions(LABELS, answers.probabilities, np.arange(200), 1, 50, np.random.default_rng(0)),
    )
    assert (row["dose"], row["metric"], row["seeds"]) == ("10_percent_of_patients_and_1x_synthetic", "auc", 2)
    assert (row["patients"], row["real_images"], row["synthetic_images"]) == (3, 6, 10)
    low, high = seed_aucs(answers, LABELS, 1)
    assert (row["seed_min"], row["seed_max"], row["value"]) == pytest.approx((low, high, (low + high) / 2))


def test_a_point_of_the_curves_has_its_scores_its_gain_and_a_word_where_patients_are_too_few(weights):
    noise = np.random.default_rng(0).normal(size=200)
    answers_of = {Dose(1.0, 0.0): said(noise), Dose(1.0, 1.0): said(LABELS + noise)}
    without, added = curve_rows(answers_of, LABELS, GROUPS, 1, 300, seed=1)
    assert added["less_without"] == pytest.approx(added["value"] - without["value"])
    gain = difference_columns(Dose(1.0, 1.0), answers_of, LABELS, GROUPS, 1, weights)
    assert {name: added[name] for name in gain} == gain
    assert (added["test_images"], added["note"]) == (200, "")
    assert curve_rows(answers_of, LABELS, np.arange(200) // 50, 1, 300, seed=1)[0]["note"] == "too few"


def test_of_three_classes_the_auc_is_that_of_the_positive_one(weights):
    right = np.eye(3)[np.arange(200) % 3]
    mistaken = right[:, [1, 0, 2]]
    answers = Answers((1,), [Counts(1, 1, 1)], mistaken[None])
    scores = score_predictions(np.arange(200) % 3, mistaken[None], np.arange(200), 2, 50, np.random.default_rng(0))
    assert dose_row(Dose(1.0, 0.0), answers, scores)["value"] == 1
    assert seed_aucs(answers, np.arange(200) % 3, 2) == [1]


def test_a_figure_has_a_dot_for_each_training(tmp_path, monkeypatch):
    dots = []
    monkeypatch.setattr("skinsynth.report.figures.save_figure", lambda _, figure: dots.append(figure))
    aucs = {0.1: [0.6, 0.7, 0.8], 1.0: [0.85]}
    rows = [
        {
            "patient_share": share,
            "synthetic_share": synthetic,
            "patients": int(100 * share),
            "synthetic_images": int(100 * synthetic),
            "value": float(np.mean(own)),
            "low": 0.5,
            "high": 0.9,
            "seeds": len(own),
            "test_images": 30,
            "seed_aucs": own,
        }
        for share, own in aucs.items()
        for synthetic in (0.0, 1.0)
    ]
    draw_dose_response(tmp_path / "curve.png", rows)
    assert "1 to 3 a point" in dots[0].get_suptitle()
    for axes in dots[0].axes:
        shown = [value for line in axes.lines if line.get_marker() == "." for value in line.get_ydata()]
        assert sorted(shown) == sorted(2 * [*aucs[0.1], *aucs[1.0]])
