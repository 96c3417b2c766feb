"""Whether images are new: planted copies, collapse and garbage, and the distances behind the verdicts."""

import json

import numpy as np
import pytest
import torch

from skinsynth.intervals import wilson_share
from skinsynth.privacy import distances
from skinsynth.privacy.authenticity import authentic, authenticity, without_duplicates
from skinsynth.privacy.copying import copying_statistic
from skinsynth.privacy.distances import extreme_places, nearest, nearest_other, paired, summary


def test_authenticity_is_the_reference_value(golden):
    arrays = np.load(golden / "metrics.npz")
    share = authenticity(torch.from_numpy(arrays["real"]), torch.from_numpy(arrays["fake"]))
    assert share.value == pytest.approx(json.loads((golden / "metrics.json").read_text())["authenticity"], abs=1e-6)


def test_copies_of_training_points_are_not_authentic(rng):
    train = torch.randn(50, 4, generator=rng)
    assert not authentic(train, train).any()
    assert not authentic(train, train + 1e-4).any()


def test_one_memorised_image_repeated_is_not_authentic(rng):
    train = torch.randn(50, 4, generator=rng)
    assert authenticity(train, train[7].expand(200, -1)).value == 0


def test_garbage_far_away_is_authentic_so_the_score_cannot_stand_alone(rng):
    train = torch.randn(50, 4, generator=rng)
    assert authenticity(train, torch.randn(50, 4, generator=rng) + 100).value == 1


def test_fresh_draws_score_as_held_out_ones_and_neither_reaches_one(rng):
    train, fresh, held_out = torch.randn(3, 1000, 32, generator=rng)
    scores = [authenticity(train, other).value for other in (fresh, held_out)]
    assert scores[0] == pytest.approx(scores[1], abs=0.06)
    assert 0.5 < max(scores) < 0.95


def test_duplicates_in_train_hide_copies_until_they_are_removed(rng):
    images = torch.randn(40, 4, generator=rng)
    train = torch.cat([images, images + 1e-6])
    copies = images + 1e-3
    assert authenticity(train, copies).value == 1
    kept = torch.from_numpy(without_duplicates([f"group{place % 40}" for place in range(80)]))
    assert authenticity(train[kept], copies).value == 0


def test_images_without_a_group_are_all_kept():
    assert without_duplicates(["", "a", "", "a", "b"]).tolist() == [0, 1, 2, 4]


def test_a_share_lies_within_its_interval_even_at_the_ends():
    for count in (0, 3, 10):
        share = wilson_share(count, 10)
        assert 0 <= share.low <= share.value <= share.high <= 1
        assert share.high - share.low > 0.2


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_nearest_is_what_the_whole_matrix_says_in_blocks_of_any_size(rng, monkeypatch, metric):
    points, among = torch.randn(30, 6, generator=rng).double(), torch.randn(20, 6, generator=rng).double()
    if metric == "cosine":
        unit = [torch.nn.functional.normalize(x) for x in (points, among)]
        whole = 1 - unit[0] @ unit[1].T
    else:
        whole = torch.cdist(points, among)
    monkeypatch.setattr(distances, "ENTRIES_AT_ONCE", 100)
    length, partner = nearest(points, among, metric)
    torch.testing.assert_close(length, whole.min(dim=1).values)
    assert partner.equal(whole.argmin(dim=1))
    torch.testing.assert_close(paired(points[:20], among, metric), whole[:20].diagonal())


def test_an_image_is_not_its_own_neighbour_but_its_copy_is(rng):
    points = torch.randn(10, 5, generator=rng)
    length, partner = nearest_other(torch.cat([points, points[3:4]]))
    assert (length[3], length[10]) == (0, 0)
    assert (partner[3], partner[10]) == (10, 3)
    assert (length[:3] > 0).all()


def test_tiny_cosine_distances_are_exact_in_spite_of_rounding(rng):
    a = 1000 + torch.randn(4, 50, generator=rng).double()
    b = a.clone()
    b[:, 0] += 1e-3
    difference = torch.nn.functional.normalize(a) - torch.nn.functional.normalize(b)
    torch.testing.assert_close(paired(a, b, "cosine"), difference.square().sum(dim=1) / 2)
    assert (paired(a, b, "cosine") > 0).all()


def test_an_unknown_distance_names_the_known_ones(rng):
    with pytest.raises(ValueError, match=r"\['cosine', 'euclidean'\], not 'manhattan'"):
        paired(torch.ones(1, 1), torch.ones(1, 1), "manhattan")


def test_memorised_means_close_and_nearest_to_the_own_projection():
    found = summary(torch.tensor([1e-6, 1e-6, 0.5]), torch.tensor([True, False, True]), close=1e-5)
    assert found == {
        "count": 3,
        "mean": pytest.approx(1 / 6, rel=1e-3),
        "median": pytest.approx(1e-6),
        "under_threshold": 2,
        "memorised": 1,
    }


def test_extreme_places_are_the_closest_and_the_furthest():
    closest, furthest = extreme_places(torch.tensor([3.0, 1.0, 2.0]), 2)
    assert (closest.tolist(), furthest.tolist()) == ([1, 2], [0, 2])
    assert len(extreme_places(torch.ones(3), 9)[0]) == 3


def test_copying_is_far_below_zero_and_fresh_draws_are_not(rng):
    train, held_out, fresh = torch.randn(3, 300, 8, generator=rng)
    assert abs(copying_statistic(train, held_out, fresh)) < 3
    assert copying_statistic(train, held_out, train + 0.01) < -10
    assert copying_statistic(train, held_out, fresh + 5) > 10
