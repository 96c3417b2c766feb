"""Distances between sets of features: FID, KID, precision, recall, density, coverage, and their intervals."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats.mstats import trimmed_stde
from torch import nn

from skinsynth.gan.generator import Generator
from skinsynth.quality import neighbours
from skinsynth.quality.fid import (
    covariance_root,
    enough_to_extrapolate,
    extrapolated_frechet_distance,
    frechet_distance,
)
from skinsynth.quality.fidelity import (
    RANGES,
    FidelityConfig,
    Patients,
    comparisons,
    distances_of_parts,
    score_images,
)
from skinsynth.quality.half_samples import Part, half_sample_intervals, half_scores, of_each, whole
from skinsynth.quality.kid import kernel_distance, kernel_distance_of_subsets
from skinsynth.quality.neighbours import neighbour_scores, squared_radii
from skinsynth.quality.path_length import feature_distance, path_length, path_lengths

CONFIG = FidelityConfig(neighbours=3, kid_subset_size=20, kid_subsets=4, interval_draws=5)


@pytest.fixture
def reference(golden):
    arrays = np.load(golden / "metrics.npz")
    return (
        torch.from_numpy(arrays["real"]),
        torch.from_numpy(arrays["fake"]),
        json.loads((golden / "metrics.json").read_text()),
    )


def test_fid_and_kid_are_the_reference_values(reference):
    real, fake, expected = reference
    assert frechet_distance(real, fake) == pytest.approx(expected["fid"], rel=1e-6)
    assert kernel_distance(real, fake) == pytest.approx(expected["kid_all_pairs"], rel=1e-6)


@pytest.mark.parametrize("k", [3, 5])
def test_neighbour_scores_are_the_reference_values(reference, k):
    real, fake, expected = reference
    assert neighbour_scores(real, fake, k)._asdict() == pytest.approx(expected[f"prdc_k{k}"], rel=1e-6)


def test_fid_of_a_shift_is_its_squared_length(rng):
    features = torch.randn(500, 8, generator=rng)
    shift = 3 * torch.eye(8)[0]
    assert frechet_distance(features, features + shift) == pytest.approx(9, rel=1e-5)


def test_fid_of_a_scaling_is_the_variance_of_the_difference(rng):
    features = torch.randn(500, 8, generator=rng, dtype=torch.float64)
    features -= features.mean(dim=0)
    assert frechet_distance(features, 3 * features) == pytest.approx(float(4 * features.var(dim=0).sum()), rel=1e-9)


@pytest.mark.parametrize("count", [10, 200])
def test_identical_sets_have_no_distance_and_share_everything(rng, count):
    features = 5 + torch.randn(count, 32, generator=rng)
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-9)
    scores = neighbour_scores(features, features, 3)
    assert (scores.precision, scores.recall, scores.coverage) == (1, 1, 1)
    assert scores.density == pytest.approx(1, abs=0.1)


def test_fid_takes_fewer_images_than_features(rng):
    real, fake = torch.randn(2, 20, 64, generator=rng, dtype=torch.float64)
    covariances = [np.cov(x.numpy().T) for x in (real, fake)]
    roots = np.sqrt(np.clip(np.linalg.eigvals(covariances[0] @ covariances[1]).real, 0, None)).sum()
    gap = (real.mean(0) - fake.mean(0)).square().sum()
    expected = gap + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * roots
    assert frechet_distance(real, fake) == pytest.approx(float(expected), rel=1e-5)


def test_covariance_root_does_not_depend_on_blocks(rng, monkeypatch):
    features = torch.randn(100, 6, generator=rng)
    whole = covariance_root(features)
    monkeypatch.setattr("skinsynth.quality.fid.ROWS_AT_ONCE", 7)
    torch.testing.assert_close(whole.T @ whole, features.double().T.cov())
    torch.testing.assert_close(covariance_root(features).square().sum(), whole.square().sum())


def test_kid_is_unbiased_at_small_counts_while_fid_is_not(rng):
    draws = [torch.randn(2, 20, 16, generator=rng) for _ in range(60)]
    distances = torch.tensor([kernel_distance(*pair) for pair in draws])
    error = float(distances.std()) / len(draws) ** 0.5
    assert abs(float(distances.mean())) < 3 * error
    assert min(frechet_distance(*pair) for pair in draws) > 1


def test_kid_over_subsets_agrees_with_kid_over_all_pairs(rng):
    real, fake = torch.randn(2, 300, 8, generator=rng)
    fake = fake + 0.5
    mean, deviation = kernel_distance_of_subsets(real, fake, 100, 50, rng)
    assert mean == pytest.approx(kernel_distance(real, fake), abs=deviation / 2)


def test_a_collapsed_generator_is_precise_and_recalls_nothing(rng):
    real = torch.randn(300, 8, generator=rng)
    fake = 0.01 * torch.randn(300, 8, generator=rng)
    scores = neighbour_scores(real, fake, 3)
    assert scores.precision > 0.95
    assert scores.recall == 0
    assert scores.coverage < 0.2


def test_order_and_block_size_do_not_matter(rng, monkeypatch):
    real, fake = torch.randn(2, 90, 8, generator=rng)
    before = neighbour_scores(real, fake, 3), frechet_distance(real, fake), kernel_distance(real, fake)
    monkeypatch.setattr(neighbours, "TILE", 11)
    monkeypatch.setattr("skinsynth.quality.kid.TILE", 7)
    real, fake = real.flip(0), fake[torch.randperm(90, generator=rng)]
    after = neighbour_scores(real, fake, 3), frechet_distance(real, fake), kernel_distance(real, fake)
    assert after[0] == pytest.approx(before[0])
    assert after[1:] == pytest.approx(before[1:], rel=1e-9)


@pytest.mark.parametrize("tile", [1, 7, 50])
def test_radii_from_each_pair_once_are_those_of_all_sorted_distances(rng, monkeypatch, tile):
    monkeypatch.setattr(neighbours, "TILE", tile)
    points = torch.randn(50, 4, generator=rng)
    points[13] = points[2]
    sorted_by_row = torch.cdist(points.double(), points.double()).square().sort(dim=1).values
    for k in (1, 5, 49):
        (radii,) = squared_radii(points, k, [torch.arange(50)])
        torch.testing.assert_close(radii, sorted_by_row[:, k], atol=1e-12, rtol=1e-9)


def parts_of(real, fake, rng):
    """All rows, a random half, a random third, and rows far from each other: none is among the nearest of another."""
    halves = [Part(*(torch.randperm(len(rows), generator=rng)[: len(rows) // 2] for rows in (real, fake)))]
    halves.append(Part(*(torch.randperm(len(rows), generator=rng)[: len(rows) // 3] for rows in (real, fake))))
    return [whole(real, fake), *halves, Part(torch.arange(0, len(real), 10), torch.arange(5, len(fake), 9))]


@pytest.mark.parametrize("tile", [7, 64])
@pytest.mark.parametrize("neighbours_known", [1, 32])
def test_numbers_of_parts_are_those_of_each_part_by_itself(rng, monkeypatch, tile, neighbours_known):
    monkeypatch.setattr(neighbours, "TILE", tile)
    monkeypatch.setattr("skinsynth.quality.kid.TILE", tile)
    monkeypatch.setattr(neighbours, "NEIGHBOURS", neighbours_known)
    # Ten rows each around nine places, in the order of these.
    real, fake = (torch.randn(9, 4, generator=rng).repeat_interleave(10, dim=0) for _ in range(2))
    real, fake = (rows + 1e-3 * torch.randn(90, 4, generator=rng) for rows in (real, real + 1e-3 * fake))
    real[11] = real[10]
    parts = parts_of(real, fake, rng)
    sides = [(real[part.real], fake[part.fake]) for part in parts]
    alone = [distances_of_parts(*side, [whole(*side)], neighbours=2)[0] for side in sides]
    for found, expected in zip(distances_of_parts(real, fake, parts, neighbours=2), alone, strict=True):
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("tile", [3, 20, 64])
def test_identical_sets_score_one_whatever_the_tile(rng, monkeypatch, tile):
    monkeypatch.setattr(neighbours, "TILE", tile)
    points = 100 + torch.randn(64, 6, generator=rng)
    assert neighbour_scores(points, points.clone(), 4) == (1, 1, 1, 1)


def test_too_few_features_are_refused_in_one_line(rng):
    few, many = torch.randn(3, 4, generator=rng), torch.randn(30, 4, generator=rng)
    for refused in (
        partial(frechet_distance, few[:1]),
        partial(kernel_distance, few[:1]),
        partial(neighbour_scores, few, k=3),
        partial(kernel_distance_of_subsets, few, subset_size=10, subsets=2, rng=rng),
    ):
        with pytest.raises(ValueError, match=r"not 1 real|not 3 real|there are 3 real"):
            refused(fake=many)


def test_half_sample_intervals_hold_the_truth_at_about_their_rate(rng):
    def mean_gap(real, fake):
        return {"gap": float(fake.mean() - real.mean())}

    hits = 0
    for _ in range(200):
        real, fake = torch.randn(2, 50, 1, generator=rng)
        interval = half_sample_intervals(of_each(mean_gap), real, fake, 40, rng)["gap"]
        hits += interval.low <= 0 <= interval.high
    assert 0.88 <= hits / 200 <= 0.99


def test_images_of_one_patient_lie_together_and_halves_hold_whole_patients(rng):
    patients = torch.tensor([7, 3, 5, 1]).repeat(6)
    seen = []

    def scores(real, fake):
        seen.append(real[:, 0].long().tolist())
        return {"x": float(len(fake))}

    half_scores(of_each(scores), patients[:, None].float(), torch.zeros(5, 1), 30, rng, (patients, None))
    assert sorted(seen[0]) == sorted(patients.tolist())
    assert all(len(half) == 12 and len(set(half)) == 2 for half in seen[1:])
    assert len({tuple(sorted(set(half))) for half in seen[1:]}) == 6  # every pair of patients


@pytest.mark.slow
@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_intervals_hold_the_truth_where_patients_have_several_images_and_halves_of_images_do_not(distance, rng):
    dim, patients, hits = 4, torch.arange(25).repeat_interleave(8), {True: 0, False: 0}

    def drawn():
        own = torch.randn(25, dim, generator=rng).mul(0.9)[patients]
        return own + 0.436 * torch.randn(200, dim, generator=rng)

    def scores(x, y):
        return {"x": distance(x, y)}

    shift = torch.tensor([1.5] + [0.0] * (dim - 1))
    truth = np.mean([distance(drawn(), torch.randn(200, dim, generator=rng) + shift) for _ in range(200)])
    for _ in range(40):
        real, fake = drawn(), torch.randn(200, dim, generator=rng) + shift
        for grouped in hits:
            groups = (patients if grouped else None, None)
            interval = half_sample_intervals(of_each(scores), real, fake, 20, rng, groups=groups)["x"]
            hits[grouped] += interval.low <= truth <= interval.high
    assert 0.85 <= hits[True] / 40 <= 1
    assert hits[False] / 40 <= 0.8


def test_intervals_of_kid_hold_a_known_shift_at_about_their_rate(rng):
    dim, shift = 3, torch.tensor([0.8, 0.0, 0.0])
    # Moments of products of normal vectors, one or both of them shifted by a vector of squared length q.
    q = 0.64
    within_real, between = 1 + 3 / dim, 1 + 3 * (dim + q) / dim**2
    first, second, third = q, q**2 + 2 * q + dim, q**3 + 3 * q * (2 * q + dim) + 6 * q
    within_fake = 1 + 3 * first / dim + 3 * second / dim**2 + third / dim**3
    truth = within_real + within_fake - 2 * between
    hits = 0
    for _ in range(100):
        real, fake = torch.randn(60, dim, generator=rng), torch.randn(60, dim, generator=rng) + shift
        interval = half_sample_intervals(distances_of_parts, real, fake, 30, rng)["kid_percent"]
        hits += interval.low <= 100 * truth <= interval.high
    assert 0.88 <= hits / 100 <= 0.99


def test_features_that_are_no_numbers_are_refused_in_one_line(rng):
    real, fake = torch.randn(2, 20, 4, generator=rng)
    fake[3, 1] = torch.nan
    with pytest.raises(ValueError, match="generated against train: features are not finite"):
        score_images(real, fake, CONFIG, rng, "x")


def test_intervals_end_where_numbers_do(rng):
    real, fake = torch.randn(2, 40, 4, generator=rng)
    kept = half_sample_intervals(distances_of_parts, real, fake, 10, rng, RANGES)["fid"]
    free = half_sample_intervals(distances_of_parts, real, fake, 10, rng)["fid"]
    assert free.low < 0 == kept.low
    rows = score_images(real, real, CONFIG, rng, "x").rows
    assert all(row["high"] <= 1 for row in rows if row["metric"] in ("precision", "recall", "coverage"))


def test_sets_with_repeated_images_share_everything_with_themselves(rng):
    """As torch-fidelity has it (Kynkäänniemi et al. 2019, eq. 2)."""
    from torch_fidelity.metric_prc import calculate_precision_recall_full

    once = 3 + torch.randn(60, 8, generator=rng)
    many = torch.cat([once, once[:10].repeat(4, 1)])
    assert neighbour_scores(many, many, 3)[:2] == (1, 1)
    other = torch.cat([many[::2] + 0.3, many[::2]])
    precision, recall = calculate_precision_recall_full(other, many, 3, 1000)
    found = neighbour_scores(many, other, 3)
    assert (found.precision, found.recall) == pytest.approx((precision, recall), abs=1e-6)


def test_the_order_of_the_fakes_hardly_moves_extrapolated_fid(rng):
    real, fake = torch.randn(2, 600, 16, generator=rng)
    found = [extrapolated_frechet_distance(real, fake[torch.randperm(600, generator=rng)]) for _ in range(8)]
    assert np.std(found) < 0.2 * (frechet_distance(real, fake) - np.mean(found))


@pytest.mark.parametrize(("real_count", "fake_count"), [(10_000, 200), (358, 1000), (300, 300)])
def test_extrapolated_fid_has_lost_the_bias_of_few_images_on_either_side(real_count, fake_count, rng):
    plain, extrapolated = [], []
    for _ in range(20):
        real, fake = (torch.randn(count, 16, generator=rng) for count in (real_count, fake_count))
        plain.append(frechet_distance(real, fake))
        extrapolated.append(extrapolated_frechet_distance(real, fake))
    assert min(plain) > 0.2  # the truth is 0
    assert abs(np.mean(extrapolated)) < 0.05


@pytest.mark.slow
def test_the_interval_of_extrapolated_fid_holds_the_truth_and_that_of_fid_does_not(rng):
    """Of the distributions: FID's own interval is for FID at this number of images."""
    config = FidelityConfig(neighbours=3, kid_subset_size=0, kid_subsets=0, interval_draws=20)
    truth, hits = 1.0, {"fid": 0, "fid_infinity": 0}
    for _ in range(40):
        real, fake = torch.randn(300, 12, generator=rng), torch.randn(200, 12, generator=rng)
        fake[:, 0] += 1
        for row in score_images(real, fake, config, rng, "classifier").rows:
            if row["metric"] in hits:
                hits[row["metric"]] += row["low"] <= truth <= row["high"]
    assert hits["fid_infinity"] >= 35
    assert hits["fid"] <= 30


@pytest.mark.parametrize(("reals", "fakes", "dim"), [(300, 100, 64), (30, 400, 8)], ids=["fakes", "real ones"])
def test_too_few_images_of_either_kind_for_the_spread_of_features_are_not_extrapolated(reals, fakes, dim, rng):
    real, fake = torch.randn(reals, dim, generator=rng), torch.randn(fakes, dim, generator=rng)
    (row,) = (row for row in score_images(real, fake, CONFIG, rng, "x").rows if row["metric"] == "fid_infinity")
    assert np.isnan(row["value"])


def test_extrapolated_fid_of_a_shift_is_still_its_squared_length(rng):
    real, fake = torch.randn(2, 5000, 8, generator=rng)
    assert extrapolated_frechet_distance(real, fake + 2) == pytest.approx(32, rel=0.05)


def test_scores_name_their_extractor_and_hold_their_interval(rng):
    real, fake, held_out = (
        torch.randn(100, 8, generator=rng),
        torch.randn(80, 8, generator=rng),
        torch.randn(40, 8, generator=rng),
    )
    scores = score_images(real, fake + 1, CONFIG, rng, "classifier", held_out)
    assert set(scores.headline) == {
        "fid_classifier",
        "kid_classifier_percent",
        "precision_classifier",
        "recall_classifier",
        "coverage_classifier",
        "images",
    }
    assert scores.headline["images"] == 80
    assert all(row["low"] <= row["value"] <= row["high"] for row in scores.rows if row["metric"] != "fid_infinity")
    fid = {(row["compared"], row["reference"]): row for row in scores.rows if row["metric"] == "fid"}
    assert {sets: (row["compared_count"], row["real_count"]) for sets, row in fid.items()} == {
        ("generated", "train"): (80, 100),
        ("generated", "held-out real"): (80, 40),
        ("held-out real", "train"): (40, 100),
        ("generated, as many as held out", "train"): (40, 100),
    }
    floor = fid.pop(("held-out real", "train"))
    assert floor["value"] < min(row["value"] for row in fid.values())
    assert scores.headline["fid_classifier"] == fid["generated", "train"]["value"]


def test_too_few_held_out_images_give_no_floor_and_too_few_others_an_error(rng):
    real, fake = torch.randn(2, 30, 8, generator=rng)
    scores = score_images(real, fake, CONFIG, rng, "classifier", real[:5])
    assert {row["compared"] for row in scores.rows} == {"generated"}
    with pytest.raises(ValueError, match="8 images or more on each side, not 30 real and 5 generated"):
        score_images(real, fake[:5], CONFIG, rng, "classifier")


class LinearGenerator(Generator):
    """Images are w itself, so that paths have a length one can work out."""

    def __init__(self):
        nn.Module.__init__(self)

    def mapping(self, z, c):  # noqa: ARG002
        return (2 * z)[:, None].expand(-1, 3, -1)

    def synthesis(self, ws, noise_mode):
        assert noise_mode == "const"
        return ws[:, 0].reshape(-1, 3, 2, 2)


def test_path_length_of_a_linear_generator_is_the_squared_distance_of_the_ends(rng):
    z = torch.randn(50, 2, 12, generator=rng, dtype=torch.float64)

    def distance(a, b):
        return (a - b).square().sum(dim=(1, 2, 3))

    lengths = path_lengths(LinearGenerator(), z, torch.zeros(50, 0), distance, 1e-4, batch_size=7)
    torch.testing.assert_close(lengths, 4 * (z[:, 0] - z[:, 1]).square().sum(dim=1), rtol=1e-5, atol=0)


def test_path_length_leaves_out_the_outermost_hundredths():
    lengths = torch.ones(1000)
    lengths[:5], lengths[-5:] = 1e6, -1e6
    assert path_length(lengths) == (1, 1, 1)


def test_the_interval_of_a_path_length_covers_the_trimmed_mean_of_long_tails(rng):
    def drawn(count):
        return torch.randn(count, generator=rng).mul(1.5).exp()

    truth, hits = path_length(drawn(2_000_000)).value, 0
    for _ in range(200):
        found = path_length(drawn(500))
        hits += found.low <= truth <= found.high
    assert 0.88 <= hits / 200 <= 0.99


def test_feature_distance_ignores_the_length_of_features(rng):
    a, b = torch.randn(2, 5, 3, 4, 4, generator=rng)
    near = feature_distance(lambda x: x.flatten(1))(a, b)
    torch.testing.assert_close(feature_distance(lambda x: 7 * x.flatten(1))(a, b), near)
    assert feature_distance(lambda x: x.flatten(1))(a, 2 * a).max() < 1e-10


def test_half_the_width_of_an_interval_is_the_unbiased_deviation_of_the_halves(rng):
    said = iter([5.0, 1.0, 2.0, 6.0])  # of the whole sets, then of three halves
    features = torch.zeros(4, 1)
    interval = half_sample_intervals(of_each(lambda *_: {"x": next(said)}), features, features, 3, rng)["x"]
    reach = 4.302653 * np.std([1.0, 2.0, 6.0], ddof=1)  # Student's quantile of two degrees of freedom
    assert interval == pytest.approx((5, 5 - reach, 5 + reach))


def test_the_interval_of_a_path_length_is_that_of_a_trimmed_mean(rng):
    lengths = torch.randn(1001, generator=rng, dtype=torch.float64).exp()
    found = path_length(lengths)
    error = float(trimmed_stde(lengths.numpy(), limits=(0.01, 0.01)))
    assert (found.high - found.low) / 2 == pytest.approx(1.959964 * error, rel=1e-3)


def test_eight_fakes_for_each_dimension_are_enough_to_extrapolate():
    real = torch.cat([torch.eye(4), -torch.eye(4)])  # spreads alike along four axes
    assert [enough_to_extrapolate(real, count) for count in (31, 33)] == [False, True]


def test_each_comparison_has_the_patients_of_its_own_real_images(rng):
    real, fake, held_out = (torch.randn(count, 2, generator=rng) for count in (30, 20, 12))
    patients = Patients(torch.arange(30) // 2, torch.arange(12) // 3)
    names = {id(patients.real): "train", id(patients.held_out): "held-out", id(None): None}
    found = comparisons(real, fake, held_out, 8, rng, patients)
    assert {(one.compared, one.reference): tuple(names[id(of)] for of in one.groups) for one in found} == {
        ("generated", "train"): ("train", None),
        ("generated", "held-out real"): ("held-out", None),
        ("held-out real", "train"): ("train", "held-out"),
        ("generated, as many as held out", "train"): ("train", None),
    }


def test_subsets_of_kid_hold_each_image_once(rng):
    real, fake = torch.randn(2, 20, 8, generator=rng)
    mean, deviation = kernel_distance_of_subsets(real, fake, 20, 5, rng)
    assert mean == pytest.approx(kernel_distance(real, fake), rel=1e-9)
    assert deviation == pytest.approx(0, abs=1e-9)


def test_both_halves_count_in_extrapolated_fid(rng, monkeypatch):
    monkeypatch.setattr("skinsynth.quality.fid.SUBSETS", {1.0: (0.0,), 1 / 2: (0.0, 1 / 2)})
    real, fake = torch.randn(2, 40, 3, generator=rng)
    fake[20:] += 2  # the second half is another one
    exchanged = extrapolated_frechet_distance(real.roll(20, dims=0), fake.roll(20, dims=0))
    assert extrapolated_frechet_distance(real, fake) == pytest.approx(exchanged, rel=1e-9)


def test_the_half_of_an_odd_number_is_the_larger_one(rng):
    def counts(real, fake):
        return {"real": float(len(real)), "fake": float(len(fake))}

    whole, halves = half_scores(of_each(counts), torch.zeros(7, 1), torch.zeros(4, 1), 3, rng)
    assert (whole, halves) == ({"real": 7, "fake": 4}, [{"real": 4, "fake": 2}] * 3)


def test_as_many_generated_images_as_held_out_are_drawn_and_no_head_of_the_set(rng):
    """A set comes sorted by class."""
    fake = torch.arange(100.0)[:, None]
    drawn = comparisons(fake, fake, torch.zeros(10, 1), 2, rng)[-1].of_compared[:, 0].tolist()
    assert len(set(drawn)) == 10
    assert max(drawn) >= 50


def test_feature_distance_between_features_at_a_right_angle_is_two():
    a, b = torch.zeros(2, 1, 3, 2, 2)
    a[0, 0, 0, 0], b[0, 1, 0, 0] = 5.0, 0.1
    assert feature_distance(lambda x: x.flatten(1))(a, b).item() == pytest.approx(2)
