"""Explanations: a planted model's regions are found, curves tell true heat maps from false, cases follow a rule."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from saliency.core.integrated_gradients import IntegratedGradients
from saliency.core.xrai import XRAI, XRAIParameters
from torch import nn

from skinsynth.classifier.classifier import Architecture, Classifier
from skinsynth.classifier.networks import Network
from skinsynth.explanation.cases import CaseConfig, find_cases
from skinsynth.explanation.faithfulness import FaithfulnessConfig, area, blurred, faithfulness, order_of
from skinsynth.explanation.xrai import XraiConfig, gradient_of, heat_map, segments, top_regions
from skinsynth.report.explanations import draw_explanations

BRIGHT = 1  # the class of images whose first quadrant is bright
XRAI_CONFIG = XraiConfig(steps=10, algorithm="full", batch_size=4)
FAITHFULNESS = FaithfulnessConfig(steps=16, blur=0.3, random_orders=8)


class FirstQuadrant(nn.Module):
    """A body whose only feature is the brightness of the upper left quadrant."""

    def forward(self, images):
        half = images.shape[-1] // 2
        return images[..., :half, :half].mean(dim=(1, 2, 3))[:, None]


@pytest.fixture(scope="module")
def planted():
    network = Network(FirstQuadrant(), 1, 2, 0.0)
    with torch.no_grad():
        network.head.weight.copy_(torch.tensor([[-1.0], [1.0]]))
        network.head.bias.zero_()
    return Classifier(network, Architecture("planted", 2, 0.0))


def blotches(seed, size=32):
    """Blotches of any brightness; one in the first quadrant is brightest, its surroundings are dark."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(20, 200, (3, 8, 8))
    coarse[:, :4, :4] = rng.integers(20, 60, (3, 4, 4))
    coarse[:, 1:3, 1:3] = 240
    return coarse.repeat(size // 8, axis=1).repeat(size // 8, axis=2).astype(np.uint8)


@pytest.fixture(scope="module")
def explained(planted):
    """Images and their heat maps."""
    images = [blotches(seed) for seed in range(3)]
    return [(pixels, heat_map(planted, pixels, BRIGHT, XRAI_CONFIG)) for pixels in images]


def share_in_first_quadrant(mask):
    half = len(mask) // 2
    return mask[:half, :half].sum() / mask.sum()


def test_the_top_region_lies_where_alone_the_model_looks(planted, explained):
    fast = heat_map(planted, blotches(0), BRIGHT, replace(XRAI_CONFIG, algorithm="fast"))
    for heat in (fast, *(heat for _, heat in explained)):
        assert heat.shape == (32, 32)
        assert np.isfinite(heat).all()
        assert share_in_first_quadrant(heat == heat.max()) > 0.9
        assert share_in_first_quadrant(top_regions(heat, 0.05)) > 0.9


def test_the_batch_does_not_matter(planted, explained):
    pixels, heat = explained[0]
    whole = heat_map(planted, pixels, BRIGHT, replace(XRAI_CONFIG, batch_size=10))
    np.testing.assert_allclose(heat, whole, rtol=1e-5, atol=1e-9)


def test_attributions_sum_to_what_the_image_changes(planted):
    """Completeness of integrated gradients (Sundararajan et al. 2017, proposition 1), through our door."""
    pixels = blotches(1)
    image = pixels.transpose(1, 2, 0).astype(np.float32) / 255
    attribution = IntegratedGradients().GetMask(
        image, gradient_of(planted, BRIGHT), x_baseline=np.zeros_like(image), x_steps=500, batch_size=100
    )
    with_image, black = planted.probabilities(np.stack([pixels, np.zeros_like(pixels)]))[:, BRIGHT].tolist()
    assert attribution.sum() == pytest.approx(with_image - black, rel=0.01)


def test_at_the_papers_size_the_heat_map_is_the_librarys(planted):
    pixels = np.full((3, 224, 224), 90, np.uint8)
    pixels[:, 30:100, 20:90] = 230
    pixels[:, 150:, 120:] = 10
    image = pixels.transpose(1, 2, 0).astype(np.float32) / 255
    published = XRAI().GetMask(
        image,
        gradient_of(planted, BRIGHT),
        baselines=[np.zeros_like(image), np.ones_like(image)],
        batch_size=4,
        extra_parameters=XRAIParameters(steps=10),
    )
    np.testing.assert_array_equal(heat_map(planted, pixels, BRIGHT, XRAI_CONFIG), published)


def test_segments_of_small_images_stay_small():
    masks = segments(blotches(0).transpose(1, 2, 0).astype(np.float32) / 255)
    assert all(mask.shape == (32, 32) and mask.any() for mask in masks)
    assert np.median([mask.mean() for mask in masks]) < 0.1
    assert np.any(masks, axis=0).all()


def test_an_image_of_one_colour_is_one_region(planted):
    heat = heat_map(planted, np.full((3, 32, 32), 200, np.uint8), BRIGHT, XRAI_CONFIG)
    assert len(np.unique(heat)) == 1


def test_an_unknown_algorithm_is_refused(planted):
    with pytest.raises(ValueError, match="'quick': choose one of full, fast"):
        heat_map(planted, blotches(0), BRIGHT, replace(XRAI_CONFIG, algorithm="quick"))


@pytest.mark.parametrize("share", [0.1, 0.3, 1.0])
def test_top_regions_cover_their_share_by_whole_regions(share):
    heat = np.random.default_rng(0).integers(0, 12, (32, 32)).astype(float)
    top = top_regions(heat, share)
    assert share <= top.mean() <= share + 1 / 10
    assert not set(heat[top]) & set(heat[~top])


def test_what_xrai_finds_changes_the_answer_sooner_than_random_regions(planted, explained):
    for pixels, heat in explained:
        found = faithfulness(planted, pixels, BRIGHT, heat, FAITHFULNESS, np.random.default_rng(0))
        assert found.deletion < found.random_deletion
        assert found.insertion > found.random_insertion
        assert found.gain > 0


def test_a_heat_map_turned_upside_down_is_worse_than_random(planted, explained):
    pixels, heat = explained[0]
    assert faithfulness(planted, pixels, BRIGHT, -heat, FAITHFULNESS, np.random.default_rng(0)).gain < 0


def test_a_heat_map_of_one_region_is_as_good_as_random(planted):
    heat = np.zeros((32, 32))
    found = faithfulness(planted, blotches(0), BRIGHT, heat, FAITHFULNESS, np.random.default_rng(0))
    assert found.gain == pytest.approx(0, abs=1e-12)


def test_the_same_seed_gives_the_same_areas(planted, explained):
    pixels, heat = explained[0]
    one, same, other = (
        faithfulness(planted, pixels, BRIGHT, heat, FAITHFULNESS, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other
    assert (one.deletion, one.insertion) == (other.deletion, other.insertion)


def test_an_image_that_stays_has_its_probability_as_area(planted):
    pixels = blotches(0)
    probability = planted.probabilities(pixels[None])[0, BRIGHT].item()
    order = order_of(np.arange(1024).reshape(32, 32))
    assert area(planted, pixels, pixels, BRIGHT, order, 8) == pytest.approx(probability)


def test_a_blurred_image_keeps_its_colours_apart():
    red = np.zeros((3, 32, 32), np.uint8)
    red[0, :16] = 200
    gone = blurred(red, 0.3)
    assert not gone[1:].any()
    assert 0 < gone[0, 0, 0] < 200
    assert gone[0, 0, 0] > gone[0, -1, 0]


def test_pixels_take_turns_by_rank():
    rank = np.array([[2, 0], [0, 1]])
    assert order_of(rank).tolist() == [[3, 0], [1, 2]]


def planted_cases():
    """Ten images of two classes; features on a line, centroids at 0 and 10."""
    positive = np.array([0.1, 0.2, 0.48, 0.9, 0.05, 0.9, 0.55, 0.8, 0.3, 0.95])
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    features = np.array([1.0, -2, 0, 0, 1, 10, 10, 12, 7, 11])[:, None]
    return labels, np.stack([1 - positive, positive], axis=1), features


def test_cases_follow_the_written_rule():
    found = find_cases(*planted_cases(), CaseConfig(edge_share=0.2, central_share=0.4, most=10))
    assert found["edge"].tolist() == [2, 6]  # nearest to one half
    assert found["misclassified"].tolist() == [3, 8]  # the surest mistake first
    assert found["central"].tolist() == [0, 5, 4, 9]  # the classes in turn, the nearest first, ties as they come


def test_a_share_of_edge_cases_that_is_no_whole_number_is_rounded_up():
    found = find_cases(*planted_cases(), CaseConfig(edge_share=0.11, central_share=0.4, most=10))
    assert found["edge"].tolist() == [2, 6]


def test_no_image_is_of_two_kinds_and_no_kind_has_more_than_asked():
    config = CaseConfig(edge_share=0.5, central_share=1.0, most=3)
    found = find_cases(*planted_cases(), config)
    places = np.concatenate(list(found.values()))
    assert len(set(places)) == len(places)
    assert max(map(len, found.values())) == 3


def test_a_classifier_without_mistakes_has_no_misclassified_cases():
    _, probabilities, features = planted_cases()
    found = find_cases(probabilities.argmax(axis=1), probabilities, features, CaseConfig(0.1, 0.2, 4))
    assert found["misclassified"].tolist() == []
    assert len(found["edge"]) == 1


def test_the_figure_is_the_same_twice(tmp_path):
    pixels = np.stack([blotches(0), blotches(1)])
    heats = np.random.default_rng(0).random((2, 32, 32))
    for name in ("one.png", "other.png"):
        draw_explanations(tmp_path / name, pixels, heats, {"top 10 %": heats > 0.9}, ["edge", "central"])
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()
    with Image.open(tmp_path / "one.png") as figure:
        assert min(figure.size) > 100
