"""Novelty as a whole: C_T by cells, the planted table, distances and the figure of pairs."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from skinsynth.privacy.copying import _as_many, cells_of, copying_by_cells, copying_statistic
from skinsynth.privacy.distances import nearest, nearest_of_each
from skinsynth.privacy.novelty import (
    BINS,
    NoveltyConfig,
    TrainingSet,
    distance_histogram,
    distance_rows,
    gaps_to,
    novelty_rows,
    strangers_rows,
)
from skinsynth.privacy.patients import PatientFeatures
from skinsynth.privacy.planted import halves, planted_rows
from skinsynth.quality.neighbours import neighbour_scores
from skinsynth.report.distances import draw_distances
from skinsynth.report.pairs import PairGroup, draw_pairs

CONFIG = NoveltyConfig(close=1e-5, cells=3, neighbours=5, planted_images=300, seed=1)


def coverage(train, images):
    return neighbour_scores(train, images, 5).coverage


def training_set(features):
    return TrainingSet(features, np.arange(len(features)), CONFIG.cells, CONFIG.seed)


def one_image_each(features):
    """Of as many patients."""
    return PatientFeatures(features, np.arange(len(features)))


@pytest.fixture
def planted(rng):
    """The planted table of Gaussian features, by set, with a generator that draws afresh."""
    train, fake = torch.randn(2, 800, 32, generator=rng)
    held_out = halves(torch.randn(600, 32, generator=rng), np.arange(600), seed=1)
    garbage = torch.randn(300, 32, generator=rng) + 100
    # Blurred images differ less: their features lie nearer to the mean of all.
    blurred = 0.7 * held_out.fresh
    rows = planted_rows(training_set(train), held_out, blurred, fake, garbage, CONFIG, coverage)
    return {row["set"]: row for row in rows}


def test_authenticity_of_planted_sets_is_what_it_must_be(planted):
    score_of = {name: row["authenticity"] for name, row in planted.items()}
    assert list(score_of) == [
        "generated", "held-out real", "held-out real, blurred", "exact copies", "half copies", "one image repeated",
        "far garbage",
    ]  # fmt: skip
    assert (score_of["exact copies"], score_of["one image repeated"], score_of["far garbage"]) == (0, 0, 1)
    assert 0.65 < score_of["held-out real"] < 0.9
    assert score_of["generated"] == pytest.approx(score_of["held-out real"], abs=0.1)
    assert score_of["half copies"] == pytest.approx(score_of["held-out real"] / 2, abs=0.06)


def test_c_t_and_coverage_expose_what_authenticity_lets_pass(planted):
    for statistic in ("copying_statistic", "copying_statistic_by_cells"):
        z_of = {name: row[statistic] for name, row in planted.items()}
        assert z_of["exact copies"] < z_of["half copies"] < -3
        assert max(abs(z_of["generated"]), abs(z_of["held-out real"])) < 3
    assert planted["one image repeated"]["copying_statistic"] < -10
    assert planted["far garbage"]["copying_statistic"] > 10
    covered = {name: row["coverage"] for name, row in planted.items()}
    assert covered["far garbage"] == 0
    assert covered["one image repeated"] < 0.3
    assert covered["generated"] == pytest.approx(covered["held-out real"], abs=0.1)
    assert covered["generated"] > 2 * covered["one image repeated"]


def test_smooth_images_that_copy_nothing_look_copied_to_c_t_alone_and_not_beside_strangers(rng):
    train, held_out, fresh = torch.randn(3, 400, 16, generator=rng)
    patients = np.arange(400) // 2
    sides = PatientFeatures(train, patients), PatientFeatures(held_out, patients)
    smooth = 0.6 * fresh
    copies = torch.cat([train[:200] + 0.1 * fresh[:200], fresh[200:]])
    assert copying_statistic(train, held_out, smooth) < -5
    found = {
        name: {row["metric"]: row for row in strangers_rows(*sides, fake, seed=1)}
        for name, fake in {"smooth": smooth, "fresh": fresh, "copies": copies}.items()
    }
    beyond = {name: rows["copying_beyond_strangers"] for name, rows in found.items()}
    assert found["smooth"]["copying_statistic_of_strangers"]["value"] < -3
    for name in ("smooth", "fresh"):
        assert abs(beyond[name]["value"]) < 1.5
        assert beyond[name]["low"] < 0 < beyond[name]["high"]
    assert beyond["copies"]["high"] < -2
    assert {row["images"] for row in found["smooth"].values()} == {400}


@pytest.mark.slow
def test_intervals_of_copying_beyond_strangers_are_as_wide_as_their_values_vary(rng):
    """Nothing is copied, patients of five images: of 60 samples the limits leave 0 out in 3 by chance, and in 9 or more
    less than once in 200."""
    found = []
    for seed in range(60):
        sides = []
        for count in (60, 30):
            patients = torch.randn(count, 1, 8, generator=rng) + 0.4 * torch.randn(count, 5, 8, generator=rng)
            sides.append(PatientFeatures(patients.flatten(0, 1), np.arange(5 * count) // 5))
        fake = 1.16**0.5 * torch.randn(150, 8, generator=rng)
        row = strangers_rows(*sides, fake, seed)[-1]
        found.append([row["value"], row["low"], row["high"]])
    value, low, high = np.array(found).T
    assert sum((low > 0) | (high < 0)) < 9
    assert 0.8 < (high - low).mean() / (3.92 * value.std()) < 1.3


def test_an_interval_of_copying_beyond_strangers_needs_no_more_than_two_patients(rng):
    """A draw without any patient of one half is judged by halves that it has patients of."""
    train, held_out, fake = torch.randn(3, 30, 4, generator=rng)
    row = strangers_rows(
        PatientFeatures(train, np.arange(30)), PatientFeatures(held_out, np.arange(30) // 15), fake, 1
    )[-1]
    assert row["low"] <= row["value"] <= row["high"] < math.inf


@pytest.mark.parametrize("neighbours", [3, 64])
def test_distances_to_every_choice_are_those_to_these_images_alone(rng, monkeypatch, neighbours):
    points, among = torch.randn(40, 6, generator=rng), torch.randn(50, 6, generator=rng)
    points[0] = among[7]
    choices = [np.arange(25), np.arange(3, 50, 7), np.array([7])]
    monkeypatch.setattr("skinsynth.privacy.distances.ENTRIES_AT_ONCE", 300)
    monkeypatch.setattr("skinsynth.privacy.distances.NEIGHBOURS", neighbours)
    expected = torch.stack([nearest(points, among[torch.from_numpy(chosen)])[0] for chosen in choices])
    torch.testing.assert_close(nearest_of_each(points, among, choices), expected, atol=1e-6, rtol=1e-9)


def test_held_out_images_of_one_patient_leave_nothing_to_compare_with(rng):
    train, held_out, fake = torch.randn(3, 30, 4, generator=rng)
    rows = strangers_rows(
        PatientFeatures(train, np.arange(30)), PatientFeatures(held_out, np.zeros(30, int)), fake, seed=1
    )
    assert all(math.isnan(row["value"]) for row in rows)


def test_planted_sets_are_of_one_size_and_come_out_the_same_again(rng):
    train, fake = torch.randn(2, 120, 8, generator=rng)
    held_out = halves(torch.randn(200, 8, generator=rng), np.arange(200) // 2, seed=1)
    rows, again = (
        planted_rows(training_set(train), held_out, held_out.fresh, fake, fake + 50, CONFIG, coverage) for _ in range(2)
    )
    assert {row["images"] for row in rows} == {100}
    assert {row["reference_images"] for row in rows} == {100}
    assert str(rows) == str(again)  # nan is not nan


def test_by_cells_is_the_weighted_mean_of_what_each_cell_says(rng):
    """Copies on the left, fresh draws on the right, and twice as many held-out images there."""
    left, right = torch.randn(2, 3, 200, 6, generator=rng)
    train = torch.cat([left[0] - 50, right[0] + 50])
    held_out = torch.cat([left[1, :100] - 50, right[1] + 50])
    fake = torch.cat([left[0] - 49.99, right[2] + 50])
    found = copying_by_cells(cells_of(train, 2, 0), held_out, fake)
    of_left = copying_statistic(train, held_out[:100], fake[:200])
    of_right = copying_statistic(train, held_out[100:], fake[200:])
    assert found.judged_share == 1
    assert found.value == pytest.approx((of_left + 2 * of_right) / 3, rel=1e-6)
    assert of_left < -10
    assert abs(of_right) < 3


def test_one_cell_is_the_whole_space(rng):
    train, held_out, fake = torch.randn(3, 100, 6, generator=rng)
    whole = copying_statistic(train, held_out, fake)
    assert copying_by_cells(cells_of(train, 1, 0), held_out, fake).value == pytest.approx(whole, rel=1e-6)


def test_cells_with_few_images_of_either_set_are_left_out(rng):
    left, right = torch.randn(2, 3, 100, 6, generator=rng)
    train, held_out = (torch.cat([left[n] - 50, right[n] + 50]) for n in (0, 1))
    only_left = left[2] - 50
    cells = cells_of(train, 2, 0)
    assert copying_by_cells(cells, held_out, only_left).judged_share == 0.5
    assert copying_by_cells(cells, held_out, only_left[:20]).judged_share == 0.5
    none = copying_by_cells(cells, held_out, only_left[:19])
    assert math.isnan(none.value)
    assert none.judged_share == 0


def test_more_cells_than_training_images_are_no_error(rng):
    train, held_out, fake = torch.randn(3, 4, 6, generator=rng)
    assert math.isnan(copying_by_cells(cells_of(train, 9, 0), held_out, fake).value)


def test_held_out_images_stand_beside_the_generated_ones(rng):
    train, held_out, fake = torch.randn(3, 80, 6, generator=rng)
    rows = novelty_rows(training_set(train), one_image_each(held_out[:60]), fake, coverage)
    found = {(row["metric"], row["of"]): row for row in rows}
    for metric in ("authenticity", "coverage", "median_cosine_to_train"):
        assert (found[metric, "generated"]["images"], found[metric, "held-out real"]["images"]) == (80, 60)
    assert found["authenticity", "generated"]["low"] <= found["authenticity", "generated"]["value"]
    assert np.isnan(found["copying_statistic_by_cells", "generated"]["low"])


def test_distances_are_counted_in_both_metrics_and_their_own_projections_known(rng):
    real, fake = torch.randn(2, 10, 6, generator=rng)
    projected = real.clone()
    projected[:2] = real[[1, 0]]  # taken for each other
    projected[2] += 0.1  # found, but not to the last digit
    gaps = gaps_to(real, {"generated": fake, "copies": real[:4]})
    rows = distance_rows(gaps, (real, projected), close=1e-5)
    value_of = {(row["what"], row["distance"], row["statistic"]): row["value"] for row in rows}
    for metric in ("cosine", "euclidean"):
        own = {s: value_of["real image to own projection", metric, s] for s in ("memorised", "own_is_nearest")}
        assert own == {"memorised": 7, "own_is_nearest": 8}
        assert value_of["copies to nearest training image", metric, "under_threshold"] == 4
        assert value_of["generated to nearest training image", metric, "under_threshold"] == 0
        assert ("generated to nearest training image", metric, "memorised") not in value_of
    assert not any("projection" in row["what"] for row in distance_rows(gaps, None, 1e-5))


def test_a_histogram_holds_every_image_once(rng):
    rows = distance_histogram({"a": torch.rand(50, generator=rng), "b": torch.zeros(3)})
    for name in ("a", "b"):
        assert sum(row["share"] for row in rows if row["of"] == name) == pytest.approx(1)
    assert len(rows) == 2 * BINS


def test_the_figure_of_pairs_is_the_same_bytes_again(rng, tmp_path):
    pixels = torch.randint(0, 256, (7, 3, 8, 8), generator=rng, dtype=torch.uint8).numpy()
    groups = [
        PairGroup("closest", "red", pixels, pixels[::-1], np.linspace(0, 1, 7)),
        PairGroup("furthest", "blue", pixels[:2], pixels[:2], np.array([2.0, 1.0])),
    ]
    for name in ("one.png", "two.png"):
        draw_pairs(tmp_path / name, groups)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(10**6)}
    assert {(255, 0, 0), (0, 0, 255)} <= colours


def test_the_figure_of_distances_has_a_panel_for_each_space_and_the_same_bytes_again(rng, tmp_path):
    rows = distance_histogram(
        {"generated": torch.rand(50, generator=rng), "held-out real": torch.rand(30, generator=rng)}
    )
    both = [{**row, "features_of": space} for space in ("real", "aug-selected") for row in rows]
    for name, part in (("one.png", both), ("two.png", both), ("half.png", both[: len(rows)])):
        draw_distances(tmp_path / name, part)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    widths = []
    for name in ("one.png", "half.png"):
        with Image.open(tmp_path / name) as picture:
            widths.append(picture.width)
    assert widths[0] == pytest.approx(2 * widths[1], abs=2)


def test_fresh_and_reference_share_no_patient():
    patients = np.arange(90) // 3
    fresh, reference = halves(torch.from_numpy(patients)[:, None].float(), patients, seed=1)
    assert not set(fresh[:, 0].tolist()) & set(reference[:, 0].tolist())


def test_held_out_images_have_their_own_numbers(rng):
    train, held_out = torch.randn(2, 100, 8, generator=rng)
    found = novelty_rows(training_set(train), one_image_each(held_out), train, coverage)
    rows = {(row["of"], row["metric"]): row["value"] for row in found}
    assert rows["generated", "authenticity"] == 0 < rows["held-out real", "authenticity"]
    assert rows["held-out real", "coverage"] == coverage(train, held_out) < rows["generated", "coverage"]
    assert rows["held-out real", "median_cosine_to_train"] > 0.1


def test_planted_sets_are_read_against_patients_who_are_in_none_of_them(rng):
    train, fake = torch.randn(2, 200, 8, generator=rng)
    held_out = halves(torch.randn(100, 8, generator=rng), np.arange(100), seed=1)
    rows = planted_rows(training_set(train), held_out, held_out.fresh, fake, fake[:50], CONFIG, coverage)
    statistic = {row["set"]: row["copying_statistic"] for row in rows}
    assert statistic["held-out real"] == copying_statistic(train, held_out.reference, held_out.fresh)
    assert statistic["held-out real"] != copying_statistic(train, held_out.fresh, held_out.fresh)


def test_an_image_that_another_s_projection_is_nearer_to_is_not_called_memorised(rng):
    real = torch.randn(6, 4, generator=rng)
    real[1] = real[0] + 1e-4  # nearly one image, whose projections are taken for each other
    projected = real[[1, 0, 2, 3, 4, 5]]
    rows = distance_rows({"cosine": {}}, (real, projected), close=1e-5)
    found = {row["statistic"]: row["value"] for row in rows}
    assert (found["under_threshold"], found["own_is_nearest"], found["memorised"]) == (6, 4, 4)


def test_blurred_planted_images_are_those_that_stand_beside_them_sharp(rng):
    train, fake = torch.randn(2, 120, 8, generator=rng)
    held_out = halves(torch.randn(200, 8, generator=rng), np.arange(200), seed=1)
    few = replace(CONFIG, planted_images=30)
    # Images that a blur does not change.
    rows = planted_rows(training_set(train), held_out, held_out.fresh, fake, fake + 50, few, coverage)
    sharp, blurred = ({**row, "set": ""} for row in rows if row["set"].startswith("held-out real"))
    assert str(sharp) == str(blurred)  # nan is not nan
    assert sharp["images"] == 30


def test_as_many_training_images_as_strangers_are_those_of_whole_patients():
    groups = np.arange(40) // 4
    for seed in range(5):
        places = _as_many(groups, 12, np.random.default_rng(seed))
        assert len(set(places.tolist())) == 12
        assert len(set(groups[places].tolist())) == 3
    assert sorted(_as_many(groups, 99, np.random.default_rng(0)).tolist()) == list(range(40))
