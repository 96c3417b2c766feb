"""Doses of real and synthetic images: nested, with every class, and never more than there is."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from skinsynth.classifier.training import ClassifierConfig, Examples
from skinsynth.quality.dose_response import (
    Dose,
    DoseConfig,
    Pool,
    difference_columns,
    dose_row,
    doses,
    predict_by_dose,
    repeated,
)

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
CONFIG = DoseConfig((0.1, 1.0), (0.0, 1.0), (0.0, 1.0, 4.0), (0.0, 1.0), CLASSIFIER, seed=3)


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
    return set(taken.examples.pixels[:, 0, 0, 0].tolist())


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
    assert (smallest.patients, smallest.real_images, smallest.synthetic_images) == (2, 4, 0)
    assert smallest.examples.labels.unique().tolist() == [0, 1]
    everyone = pool.take(Dose(1.0, 0.0))
    assert (everyone.patients, everyone.real_images) == (20, 40)
    assert who(everyone) == set(range(40))


def test_synthetic_images_have_the_class_shares_of_all_real_ones(pool):
    for share in (0.5, 1.0, 4.0):
        taken = pool.take(Dose(0.0, share))
        assert taken.examples.labels.bincount().tolist() == [round(30 * share), round(10 * share)]
        assert (taken.patients, taken.real_images, taken.synthetic_images) == (0, 0, 40 * share)
    with pytest.raises(ValueError, match=r"takes 180 synthetic images of class 0, but there are 150"):
        pool.take(Dose(1.0, 6.0))


def test_the_seed_decides_who_comes_first(pool):
    same, other = (Pool(pool.real, pool.patients, pool.synthetic, seed) for seed in (3, 4))
    dose = Dose(0.2, 0.5)
    assert who(pool.take(dose)) == who(same.take(dose))
    assert who(pool.take(dose)) != who(other.take(dose))


def test_an_interrupted_run_goes_on_and_gives_the_same(pool, tmp_path):
    validation = numbered([0, 0, 1, 1])
    config = replace(CONFIG, patient_shares=(0.5,), synthetic_shares=(1.0,))

    def run(folder):
        return predict_by_dose(pool, validation, validation.pixels, config, 2, torch.device("cpu"), folder)

    whole = list(run(tmp_path / "whole"))
    next(killed := run(tmp_path / "killed"))
    killed.close()
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "killed").iterdir()}
    again = list(run(tmp_path / "killed"))
    assert kept == {file: file.stat().st_mtime_ns for file in kept}
    assert len(list((tmp_path / "killed").iterdir())) == len(whole) > len(kept)
    assert [dose for dose, _, _ in whole] == doses(config)
    for (_, _, first), (_, _, second) in zip(whole, again, strict=True):
        assert first.shape == (2, 4, 2)
        np.testing.assert_array_equal(first, second)


def test_a_small_dose_is_repeated_in_whole_rounds(pool):
    small = pool.take(Dose(0.1, 0.0)).examples
    long = repeated(small, 39)
    assert len(long.labels) == 40
    assert long.pixels.unique(dim=0, return_counts=True)[1].tolist() == [10] * 4
    assert len(repeated(long, 40).labels) == 40


def test_what_synthetic_images_add_is_paired_with_the_same_patients_without_them():
    rng = np.random.default_rng(0)
    positive = np.arange(200) % 4 == 0
    noise = rng.normal(size=(2, 200))
    said = {Dose(1.0, 0.0): positive + noise, Dose(1.0, 1.0): 3 * positive + noise, Dose(0.0, 4.0): noise}
    added, alone, itself = (
        difference_columns(dose, said, positive, np.arange(200) // 2)
        for dose in (Dose(1.0, 1.0), Dose(0.0, 4.0), Dose(1.0, 0.0))
    )
    assert added["less_low"] > 0 > alone["less_high"]
    assert max(added["p_patients"], alone["p_patients"]) < 0.01
    assert np.isnan(itself["less_without"])
    assert np.isnan(
        difference_columns(Dose(0.5, 1.0), said | {Dose(0.5, 1.0): noise}, positive, np.arange(200))["p_patients"]
    )


def test_a_row_says_the_dose_its_counts_and_its_auc(pool):
    dose = Dose(0.1, 1.0)
    scores = [{"metric": "auc", "value": 0.8, "low": 0.7, "high": 0.9}, {"metric": "f1", "value": 0.1}]
    row = dose_row(dose, pool.take(dose), scores)
    assert row["dose"] == "10_percent_of_patients_and_1x_synthetic"
    assert (row["patients"], row["synthetic_images"], row["value"]) == (2, 40, 0.8)
