"""Maps of features: planted groups are found again, exact copies are nearest, clusters tell what they are made of."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from skinsynth.embedding.clusters import cluster_rows, find_clusters
from skinsynth.embedding.layout import EmbeddingConfig, at_unit_length, lay_out, reduce
from skinsynth.embedding.neighbours import nearest_others, own_original_is_nearest, same_class_share, synthetic_share
from skinsynth.embedding.panel import embed, point_rows, shares
from skinsynth.embedding.points import Points, counts_of, draw_of_classes
from skinsynth.settings import check_ranges

CONFIG = EmbeddingConfig(
    pca_components=5, perplexity=10.0, iterations=400, neighbours=5, min_cluster_size=10, cluster_samples=3, seed=1
)
CLASSES = ("one", "two", "three")


def as_points(features, labels, kinds=None, ids=None):
    count = len(labels)
    kinds = ["real"] * count if kinds is None else kinds
    ids = [f"image-{place}" for place in range(count)] if ids is None else ids
    return Points(ids, kinds, labels.astype(np.int64), features, np.full((count, 3), 1 / 3))


@pytest.fixture(scope="module")
def blobs():
    """Three classes far apart, of 40, 30 and 20 points with 12 features."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [40, 30, 20])
    return as_points(10 * np.eye(12)[labels] + rng.normal(size=(90, 12)), labels)


@pytest.fixture(scope="module")
def panel(blobs):
    return embed(blobs, CONFIG)


def test_planted_classes_stay_together_on_the_map(panel):
    labels = panel.points.labels
    gaps = np.linalg.norm(panel.coordinates[:, None] - panel.coordinates[None], axis=-1)
    np.fill_diagonal(gaps, np.inf)
    assert panel.coordinates.shape == (90, 3)
    assert (labels[gaps.argmin(axis=1)] == labels).all()
    assert shares(panel)["same_class"] == 1


def test_clusters_are_the_planted_classes_the_largest_first(panel):
    assert panel.clusters.max() == 3
    inside = panel.clusters > 0
    assert inside.mean() > 0.8
    assert (panel.clusters[inside] == panel.points.labels[inside] + 1).all()


def test_the_same_seed_gives_the_same_map(blobs, panel):
    again = embed(blobs, CONFIG)
    np.testing.assert_array_equal(again.coordinates, panel.coordinates)
    np.testing.assert_array_equal(again.clusters, panel.clusters)
    np.testing.assert_array_equal(again.neighbours, panel.neighbours)


def test_a_map_of_few_points_throws_none_of_them_away():
    """With scikit-learn's least learning rate of 50 it does."""
    features = np.random.default_rng(3).normal(size=(100, 8))
    far = np.linalg.norm(lay_out(reduce(features, CONFIG), replace(CONFIG, perplexity=30.0)), axis=1)
    assert far.max() < 4 * np.median(far)


def test_lengths_of_features_do_not_matter(blobs):
    longer = blobs.features * np.linspace(1, 9, 90)[:, None]
    np.testing.assert_allclose(at_unit_length(longer), at_unit_length(blobs.features), atol=1e-12)
    for one, other in zip(nearest_others(longer, 4), nearest_others(blobs.features, 4), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)
    assert (at_unit_length(np.zeros((2, 3))) == 0).all()


def test_neighbours_are_those_of_a_plain_search(blobs):
    distances, places = nearest_others(blobs.features, 3)
    unit = at_unit_length(blobs.features)
    plain = 1 - unit @ unit.T
    np.fill_diagonal(plain, np.inf)
    np.testing.assert_array_equal(places, plain.argsort(axis=1)[:, :3])
    np.testing.assert_allclose(distances, np.sort(plain, axis=1)[:, :3], atol=1e-12)


def pairs(gap):
    """Twenty images and their projections at some distance from them."""
    rng = np.random.default_rng(2)
    real = rng.normal(size=(20, 10))
    features = np.concatenate([real, real + gap * rng.normal(size=(20, 10))])
    ids = [f"image-{place}" for place in range(20)] * 2
    return as_points(features, np.tile([0, 1], 20), ["real"] * 20 + ["projected"] * 20, ids)


def test_a_projection_that_is_an_exact_copy_is_nearest_to_its_original():
    copies = pairs(gap=0.0)
    assert own_original_is_nearest(copies).all()
    distances, places = nearest_others(copies.features, 1)
    assert places[:, 0].tolist() == [*range(20, 40), *range(20)]
    np.testing.assert_allclose(distances, 0, atol=1e-12)


def test_projections_far_away_are_nearest_to_any_image():
    assert own_original_is_nearest(pairs(gap=50.0)).mean() < 0.4


def test_own_originals_do_not_count_as_neighbours_of_the_same_class():
    """Labels are drawn without regard to features: only chance is left, though copies lie beside each other."""
    copies = pairs(gap=0.0)
    shuffled = np.tile(np.random.default_rng(5).permutation(np.repeat([0, 1], 10)), 2)
    copies = as_points(copies.features, shuffled, copies.kinds, copies.ids)
    share, by_chance = same_class_share(copies, nearest_others(copies.features, 3)[1])
    assert by_chance == pytest.approx(18 / 38)
    assert abs(share - by_chance) < 0.35


def test_synthetic_points_of_the_same_law_mix_as_expected_and_others_do_not():
    rng = np.random.default_rng(4)
    kinds = ["real"] * 200 + ["synthetic"] * 200
    features = rng.normal(size=(400, 6))
    found, expected = synthetic_share(as_points(features, np.zeros(400), kinds), nearest_others(features, 10)[1])
    assert expected == pytest.approx(200 / 399)
    assert found == pytest.approx(expected, abs=0.05)
    features[:, 0] += np.repeat([-50, 50], 200)
    found, _ = synthetic_share(as_points(features, np.zeros(400), kinds), nearest_others(features, 10)[1])
    assert found == 0


def test_a_cluster_made_by_an_artefact_shows_its_share():
    rng = np.random.default_rng(6)
    framed = np.repeat([False, True], [60, 20])
    features = 0.3 * rng.normal(size=(80, 6)) + 5 * np.eye(6)[framed.astype(int)]
    points = as_points(features, rng.integers(0, 2, 80))
    flags = pd.DataFrame({"black_frame": np.where(framed, "1", "0"), "ruler": [""] * 80})
    clusters = find_clusters(reduce(features, CONFIG), CONFIG)
    rows = cluster_rows(points, clusters, flags, CLASSES[:2])
    assert [row["share_black_frame"] for row in rows[:2]] == [0, 1]
    assert {row["share_black_frame_of_all"] for row in rows} == {0.25}
    assert all(np.isnan(row["share_ruler"]) for row in rows)


def test_a_cluster_of_one_class_is_expected_to_have_that_class_s_artefacts():
    labels = np.repeat([0, 1], 40)
    flagged = np.where(np.arange(80) % 40 < np.where(labels == 1, 20, 4), "1", "0")
    flagged[79] = ""
    points = as_points(np.zeros((80, 6)), labels)
    flags = pd.DataFrame({"ruler": flagged})
    rows = cluster_rows(points, np.where(labels == 1, 1, 0), flags, CLASSES[:2])
    assert [row["real_images"] for row in rows] == [40, 40]
    for row, share in zip(rows, (20 / 39, 0.1), strict=True):
        assert [row["share_ruler"], row["share_ruler_expected"]] == pytest.approx([share, share])
    mixed = cluster_rows(points, np.where(np.arange(80) % 40 < 4, 1, 0), flags, CLASSES[:2])
    assert mixed[0]["share_ruler"] == 1
    assert mixed[0]["share_ruler_expected"] == pytest.approx((20 / 39 + 0.1) / 2)


def test_clusters_and_the_points_in_none_add_up(panel):
    flags = pd.DataFrame({"ruler": [""] * 90})
    rows = cluster_rows(panel.points, np.where(np.arange(90) < 9, 0, panel.clusters), flags, CLASSES)
    assert sum(row["size"] for row in rows) == 90
    assert rows[-1]["cluster"] == ""
    for row in rows:
        assert sum(row[f"share_{name}"] for name in CLASSES) == pytest.approx(1)
        assert row["share_real"] == 1


def test_only_real_images_speak_of_artefacts(panel):
    points = replace(panel.points, kinds=["real"] * 45 + ["synthetic"] * 45)
    flags = pd.DataFrame({"ruler": ["1"] * 90})
    synthetic_only = np.where(np.arange(90) < 45, 1, 2)
    rows = cluster_rows(points, synthetic_only, flags, CLASSES)
    assert rows[0]["share_ruler"] == 1
    assert np.isnan(rows[1]["share_ruler"])


def test_rows_tell_of_each_point_its_case_flags_and_neighbour(panel):
    cases = ["edge", *[""] * 89]
    flags = pd.DataFrame({"ruler": ["1", *[""] * 89]})
    rows = point_rows(panel, cases, flags, CLASSES, positive=2)
    assert len(rows) == 90
    first = rows[0]
    assert (first["image_id"], first["case"], first["ruler"]) == ("image-0", "edge", "1")
    assert first["neighbour_id"] == f"image-{panel.neighbours[0, 0]}"
    assert first["neighbour_id"] != first["image_id"]
    assert all(row["class"] == CLASSES[label] for row, label in zip(rows, panel.points.labels, strict=True))


@pytest.mark.parametrize("most", [0, 3, 100])
def test_so_many_of_each_class_are_drawn_and_no_more(most):
    labels = np.repeat([0, 1, 4], [50, 10, 2])
    places = draw_of_classes(labels, dict.fromkeys((0, 1, 4), most), np.random.default_rng(0))
    assert counts_of(labels[places]) == {label: min(most, count) for label, count in counts_of(labels).items() if most}
    assert places.tolist() == sorted(set(places.tolist()))


def test_a_perplexity_too_large_is_refused(blobs):
    with pytest.raises(ValueError, match="perplexity of 30 takes more than 90 points, but 90 came: lower perplexity"):
        embed(blobs, replace(CONFIG, perplexity=30.0))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pca_components": 2}, "2 pca_components came: give at least 3"),
        ({"neighbours": 90}, "90 nearest neighbours are asked for, but there are 90 points"),
        ({"min_cluster_size": 91}, "clusters of 91 points or more"),
    ],
)
def test_settings_that_cannot_be_met_are_refused_in_one_line(blobs, change, words):
    with pytest.raises(ValueError, match=words) as refused:
        embed(blobs, replace(CONFIG, **change))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pca_components": 0}, "pca_components is 0, but it must be 1 or more"),
        ({"perplexity": 0.5}, "perplexity is 0.5, but it must be 1 or more"),
        ({"iterations": 249}, "iterations is 249, but it must be 250 or more"),
        ({"neighbours": 1}, "neighbours is 1, but it must be 2 or more"),
        ({"min_cluster_size": 1}, "min_cluster_size is 1, but it must be 2 or more"),
        ({"cluster_samples": 0}, "cluster_samples is 0, but it must be 1 or more"),
    ],
)
def test_settings_that_no_map_can_have_are_refused_by_name(change, words):
    check_ranges(CONFIG, "params.yaml: embedding")
    with pytest.raises(ValueError, match=f"params.yaml: embedding.{words}"):
        check_ranges(replace(CONFIG, **change), "params.yaml: embedding")
