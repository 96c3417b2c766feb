"""Whether images are new: planted copies, collapse and garbage, and the distances behind the verdicts."""

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from skinsynth.images.archive import Images, write_archive
from skinsynth.intervals import wilson_share
from skinsynth.lesions.table import read_lesions, write_lesions
from skinsynth.privacy import distances
from skinsynth.privacy.authenticity import (
    authentic,
    authenticity,
    authenticity_of_patients,
    gaps_within,
    without_duplicates,
)
from skinsynth.privacy.copying import copying_statistic, rank_z_score
from skinsynth.privacy.distances import extreme_places, nearest, nearest_other, paired, summary
from skinsynth.privacy.inputs import check_size, digests, distinct_sides
from stages import score_authenticity
from stages.score_authenticity import (
    HISTOGRAM,
    MOST_SHOWN,
    check_classifiers,
    check_details,
    closest_of_each,
    write_details,
)


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


def test_an_interval_over_patients_covers_the_truth_where_one_over_their_images_does_not(rng):
    """Uniform on -2 to 3 beside training at 0 and 1: two fifths are authentic; five equal images of each patient."""
    train, groups = torch.tensor([[0.0], [1.0]]), np.arange(300) // 5
    covered = {"patients": 0, "images": 0}
    for seed in range(200):
        images = (5 * torch.rand(60, 1, generator=rng) - 2).repeat_interleave(5, dim=0)
        intervals = {
            "patients": authenticity_of_patients(train, images, groups, seed),
            "images": authenticity(train, images),
        }
        assert len({interval.value for interval in intervals.values()}) == 1
        for name, interval in intervals.items():
            covered[name] += interval.low <= 0.4 <= interval.high
    assert covered["patients"] >= 0.9 * 200
    assert covered["images"] <= 0.75 * 200


def test_duplicates_in_train_hide_copies_until_they_are_removed(rng):
    images = torch.randn(40, 4, generator=rng)
    train = torch.cat([images, images + 1e-6])
    copies = images + 1e-3
    assert authenticity(train, copies).value == 1
    kept = torch.from_numpy(without_duplicates([f"group{place % 40}" for place in range(80)]))
    assert authenticity(train[kept], copies).value == 0


def test_what_the_training_set_alone_says_need_not_be_found_again(rng):
    train, fake = torch.randn(2, 40, 4, generator=rng)
    assert authentic(train, fake, gaps_within(train)).equal(authentic(train, fake))


def test_one_training_image_has_no_neighbour(rng):
    with pytest.raises(ValueError, match="within the training set, which has 1 image"):
        authentic(torch.zeros(1, 4), torch.randn(5, 4, generator=rng))


def test_images_without_a_group_are_all_kept():
    assert without_duplicates(["", "a", "", "a", "b"]).tolist() == [0, 1, 2, 4]


@pytest.fixture
def study(tmp_path):
    """Ten images as flags of the stage name them: images, lesions, split; the first six are for training."""
    ids = [f"image{number}" for number in range(10)]
    write_archive(tmp_path / "images.zip", ids, np.zeros((10, 3, 4, 4), np.uint8), [0, 1] * 5)
    table = pd.DataFrame({"image_id": ids, "label": [0, 1] * 5, "duplicate_group": ["image0"] * 3 + [""] * 7})
    write_lesions(tmp_path / "lesions.csv", table)
    sides = pd.DataFrame({"image_id": ids, "label": [0, 1] * 5, "group": range(10)})
    sides.assign(split=["train"] * 6 + ["test"] * 4, hospital="").to_csv(tmp_path / "split.csv", index=False)
    return tmp_path / "images.zip", tmp_path / "lesions.csv", tmp_path / "split.csv"


def test_both_sides_have_their_patients_and_training_no_duplicate(study):
    train, held_out, others = distinct_sides(*study, [0])
    assert (train.images.ids, train.groups.tolist()) == (["image0", "image4"], [0, 4])
    assert (held_out.images.ids, held_out.groups.tolist()) == (["image6", "image8"], [6, 8])
    assert (others.train.ids, others.held_out.ids) == (["image3", "image5"], ["image7", "image9"])
    assert distinct_sides(*study, [0, 1])[2].train.ids == []


@pytest.mark.parametrize("few", [9, 10])
def test_a_class_is_judged_from_ten_images_on(few):
    fake = Images(
        [f"{n}" for n in range(few + 30)], np.zeros((few + 30, 3, 4, 4), np.uint8), np.arange(few + 30) // few
    )
    fake = fake.at(np.flatnonzero(fake.labels < 2))
    with nullcontext() if few == 10 else pytest.raises(ValueError, match=r"set\.zip has 9 images of benign"):
        check_size(Path("set.zip"), fake, ("benign", "malignant"))


def test_a_training_image_without_a_row_of_its_lesion_is_named(study):
    table = read_lesions(study[1])
    write_lesions(study[1], table[table["image_id"] != "image3"])
    with pytest.raises(ValueError, match=r"lesions\.csv: no row of image 'image3'"):
        distinct_sides(*study, [0, 1])


def test_images_have_one_digest_where_they_equal_in_every_pixel():
    images = np.zeros((3, 3, 4, 4), np.uint8)
    images[2, 0, 0, 0] = 1
    first, same, other = digests(images)
    assert first == same != other


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


def test_a_summary_counts_what_is_close():
    found = summary(torch.tensor([1e-6, 1e-6, 0.5]), close=1e-5)
    assert found == {
        "count": 3,
        "mean": pytest.approx(1 / 6, rel=1e-3),
        "median": pytest.approx(1e-6),
        "under_threshold": 2,
    }


def test_what_is_as_far_as_the_bound_is_not_under_it():
    assert summary(torch.tensor([0.25, 0.5, 0.75]), close=0.5)["under_threshold"] == 1


def test_extreme_places_are_the_closest_and_the_furthest():
    closest, furthest = extreme_places(torch.tensor([3.0, 1.0, 2.0]), 2)
    assert (closest.tolist(), furthest.tolist()) == ([1, 2], [0, 2])
    assert len(extreme_places(torch.ones(3), 9)[0]) == 3


def test_copying_is_far_below_zero_and_fresh_draws_are_not(rng):
    train, held_out, fresh = torch.randn(3, 300, 8, generator=rng)
    assert abs(copying_statistic(train, held_out, fresh)) < 3
    assert copying_statistic(train, held_out, train + 0.01) < -10
    assert copying_statistic(train, held_out, fresh + 5) > 10


def test_the_z_score_is_that_of_mann_and_whitney_with_ties_by_half(rng):
    real, made = (torch.randint(0, 9, (count,), generator=rng).float() for count in (30, 20))
    u = float((made[:, None] > real).double().sum() + (made[:, None] == real).double().sum() / 2)
    assert rank_z_score(real, made) == pytest.approx((u - 300) / (20 * 30 * 51 / 12) ** 0.5)


def test_a_copy_of_an_image_that_train_has_twice_is_a_copy():
    train = torch.tensor([[0.0], [0.0], [5.0]])
    assert authentic(train, train).tolist() == [False, False, False]


def pairs_shown(marked):
    """The figure's group of one class of which so many images are marked and two are asked for."""
    count = 100
    pixels = np.zeros((count, 3, 2, 2), np.uint8)
    found = torch.arange(count).double(), torch.arange(count)
    images = SimpleNamespace(pixels=pixels, labels=np.zeros(count, int))
    lookalikes = SimpleNamespace(
        found=found, fake=images, closest=lambda _, at_least: list(range(max(at_least, marked)))
    )
    view = SimpleNamespace(lookalikes=lookalikes, measure="pixels")
    (group,) = closest_of_each(SimpleNamespace(view=view, side="training", real=images), ("benign",), 2)
    return group


def test_the_figure_shows_every_marked_pair_or_says_how_many_remain():
    for marked, shown in ((0, 2), (7, 7), (MOST_SHOWN, MOST_SHOWN), (MOST_SHOWN + 3, MOST_SHOWN)):
        group = pairs_shown(marked)
        assert len(group.left) == len(group.right) == len(group.distances) == shown
        assert ("3 more marked ones" in group.title) == (marked > MOST_SHOWN)


def test_a_detector_is_no_feature_space_and_what_saw_the_set_is_one(tmp_path):
    real, hair = tmp_path / "real", tmp_path / "hair"
    hair.mkdir()
    (hair / "detector.json").write_text("{}")
    check_classifiers([real], [real])
    with pytest.raises(ValueError, match=r"^[^\n]*hair is a detector of one artefact[^\n]*$"):
        check_classifiers([real, hair], [])
    with pytest.raises(ValueError, match=r"^other saw the set, but no distances are measured in its features[^\n]*$"):
        check_classifiers([real], [Path("other")])


def test_what_saw_the_set_is_known_by_its_place_and_not_by_its_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("real").mkdir()
    Path("linked").symlink_to("real")
    for other in (tmp_path / "real", Path("linked"), Path("linked/../real")):
        check_classifiers([Path("real")], [other])
        check_classifiers([other], [Path("real")])


@pytest.fixture
def details(tmp_path):
    """A folder of tables that an earlier run wrote, one of them no longer made."""
    bins = [{"features_of": "real", "of": "generated", "cosine_distance": 0.0, "share": 1.0}]
    tables = {"pixels": [{"images": 3}], "histogram": bins, "judged": [{"sha256": "old"}]}
    write_details(tmp_path / "details", tables)
    return tmp_path / "details"


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_tables_of_two_sets_never_lie_together(details, monkeypatch):
    def full(path: Path, rows: list) -> None:
        raise OSError(28, "No space left on device")

    before = names_in(details)
    monkeypatch.setattr(score_authenticity, "draw_distances", full)
    with pytest.raises(OSError, match="/details'$"):
        write_details(details, {"pixels": [{"images": 4}], "judged": [{"sha256": "new"}], "histogram": []})
    assert pd.read_csv(details / "pixels.csv")["images"].tolist() == [3]
    assert pd.read_csv(details / "judged.csv")["sha256"].tolist() == ["old"]
    assert names_in(details) == before
    assert names_in(details.parent) == ["details"]


def test_a_table_that_is_no_longer_made_does_not_stay(details):
    bins = pd.read_csv(details / "histogram.csv").to_dict("records")
    write_details(details, {"histogram": bins})
    assert names_in(details) == ["histogram.csv", HISTOGRAM]


def test_a_folder_with_more_than_tables_is_not_replaced(details):
    check_details(details, [details.parent / "metrics.json"])
    check_details(details / "none yet", [details.parent / "metrics.json"])
    with pytest.raises(ValueError, match=r"details/closest\.csv would lie in .*details, which the tables have for"):
        check_details(details, [details / "closest.csv"])
    (details / "lesions.csv").touch()
    with pytest.raises(ValueError, match=r"lesions\.csv is no table of score_authenticity, and would be lost"):
        check_details(details, [])
