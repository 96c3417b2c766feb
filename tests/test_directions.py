"""Directions of w: planted ones are found, moves do what they say, and what they change is counted right."""

import math

import numpy as np
import pytest
import torch

from skinsynth.classifier.classifier import Architecture, Classifier
from skinsynth.classifier.networks import build_network
from skinsynth.directions.axes import leading_axes, strides
from skinsynth.directions.edit import move, render_strips
from skinsynth.directions.effects import distances_per_step, effects_of, mean_interval, slopes
from skinsynth.directions.hyperplane import attribute_normal, conditioned, extremes, hyperplane_normal
from skinsynth.directions.principal import explained_share, principal_axes, sample_w, within_classes
from skinsynth.directions.search import find_axes, spread_evenly
from skinsynth.directions.semantic import semantic_axes, style_weights
from skinsynth.gan.discriminator import Discriminator, DiscriminatorConfig
from skinsynth.gan.generator import Generator, GeneratorConfig
from skinsynth.gan.model import Gan
from skinsynth.gan.pixels import to_pixels

SIZE, W_SIZE, LAYERS = 16, 6, 6
STEPS = (-3.0, -1.0, 0.0, 1.0, 3.0)


@pytest.fixture
def gan(rng):
    generator = Generator(GeneratorConfig(SIZE, 3, 6, W_SIZE, 2, 2, 64, 8, None, 0, "float16", False), rng)
    sizes = DiscriminatorConfig(SIZE, 3, 2, 2, 64, 8, "resnet", 2, 1, None, 0, "float16", False)
    return Gan(generator.requires_grad_(False), Discriminator(sizes, rng), classes=[4, 1])


@pytest.fixture
def generator(gan):
    return gan.generator


@pytest.fixture
def ws(generator, rng):
    return torch.randn(3, 1, W_SIZE, generator=rng).expand(-1, LAYERS, -1)


def unit(rng, size=W_SIZE):
    return torch.nn.functional.normalize(torch.randn(size, generator=rng), dim=0)


def plant(generator, layers, direction, rng):
    """Make these layers see nothing of w but one direction."""
    weights = style_weights(generator)
    for layer in layers:
        strength = torch.randn(len(weights[layer]), 1, generator=rng)
        weights[layer].copy_(strength * direction)


def assert_orthonormal(vectors):
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(len(vectors)), atol=1e-5, rtol=0)


def test_sefa_is_the_singular_value_decomposition_of_the_stacked_weights(generator):
    stacked = np.concatenate([weight.numpy() for weight in style_weights(generator)]).astype(np.float64)
    stacked /= np.linalg.norm(stacked, axis=1, keepdims=True)
    _, singular, expected = np.linalg.svd(stacked)
    axes = semantic_axes(generator, W_SIZE)
    np.testing.assert_allclose(axes.values, singular**2, rtol=1e-4)
    cosines = np.abs((axes.vectors.numpy() * expected).sum(axis=1))
    np.testing.assert_allclose(cosines, 1, atol=1e-5)


def test_every_layer_of_ws_has_one_style_weight_and_each_reads_its_own_w(generator, ws):
    assert len(style_weights(generator)) == LAYERS
    before = generator.synthesis(ws)
    for layer, weight in enumerate(style_weights(generator)):
        kept = weight.clone()
        weight.zero_()
        moved = move(ws, torch.ones(W_SIZE), [1.0], (layer, layer))[:, 0]
        change = (generator.synthesis(moved) - generator.synthesis(ws)).abs().max()
        # Blind to w, a layer moves no pixel, but for 1 and 3, whose w a toRGB reads as well. On some machines what was
        # moved rounds otherwise, for where it lies in memory.
        assert (change < 1e-5) == (layer in {0, 2, 4, 5}), (layer, change)
        weight.copy_(kept)
    assert torch.equal(generator.synthesis(ws), before)


def test_directions_are_unit_and_orthogonal_and_the_largest_component_is_positive(generator, rng):
    for axes in (semantic_axes(generator, 4), principal_axes(torch.randn(50, W_SIZE, generator=rng), 4)):
        assert axes.vectors.shape == (4, W_SIZE)
        assert_orthonormal(axes.vectors)
        assert (axes.vectors.gather(1, axes.vectors.abs().argmax(dim=1, keepdim=True)) > 0).all()
        assert (axes.values.diff() <= 0).all()


def test_a_direction_planted_in_all_layers_is_found_first(generator, rng):
    direction = unit(rng)
    plant(generator, range(LAYERS), direction, rng)
    axes = semantic_axes(generator, 2)
    assert abs(float(axes.vectors[0] @ direction)) == pytest.approx(1, abs=1e-5)
    assert axes.values[0] == pytest.approx(sum(len(weight) for weight in style_weights(generator)), rel=1e-4)
    assert axes.values[1] == pytest.approx(0, abs=1e-4)


def test_a_direction_planted_in_some_layers_is_found_where_these_are_chosen(generator, rng):
    early, late = unit(rng), unit(rng)
    plant(generator, (0, 1), early, rng)
    plant(generator, (4, 5), late, rng)
    for direction, layers in ((early, (0, 1)), (late, (4, 5))):
        assert abs(float(semantic_axes(generator, 1, layers).vectors[0] @ direction)) == pytest.approx(1, abs=1e-5)


def test_a_feature_map_counts_the_same_whatever_its_weights_length(generator):
    before = semantic_axes(generator, 3)
    style_weights(generator)[2][0] *= 100
    torch.testing.assert_close(semantic_axes(generator, 3).vectors, before.vectors, atol=1e-4, rtol=0)


def test_a_feature_map_that_sees_nothing_of_w_does_no_harm(generator):
    style_weights(generator)[2][0] = 0
    assert_orthonormal(semantic_axes(generator, 3).vectors)


@pytest.mark.parametrize("layers", [(-1, 2), (3, 2), (0, LAYERS)])
def test_layers_that_do_not_exist_are_named(generator, layers):
    with pytest.raises(ValueError, match=r"first and the last of 0 to 5, but"):
        semantic_axes(generator, 1, layers)


@pytest.mark.parametrize("count", [0, W_SIZE + 1])
def test_there_are_as_many_directions_as_w_is_long(generator, count):
    with pytest.raises(ValueError, match=rf"1 to 6 directions, but {count}"):
        semantic_axes(generator, count)


def test_axes_of_a_diagonal_matrix_are_its_largest_entries():
    axes = leading_axes(torch.diag(torch.tensor([1.0, 9.0, 4.0])), 2)
    torch.testing.assert_close(axes.vectors, torch.eye(3)[[1, 2]])
    torch.testing.assert_close(axes.values, torch.tensor([9.0, 4.0]))


def test_pca_finds_the_axes_and_spreads_of_a_planted_gaussian(rng):
    axes = torch.linalg.qr(torch.randn(W_SIZE, W_SIZE, generator=rng))[0].T
    spreads = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.5, 0.25])
    w = 3 + torch.randn(20_000, W_SIZE, generator=rng) * spreads @ axes
    found = principal_axes(w, 3)
    assert ((found.vectors * axes[:3]).sum(dim=1).abs() > 0.999).all()
    torch.testing.assert_close(found.values, spreads[:3], rtol=0.03, atol=0)
    expected = float(spreads[:3].square().sum() / spreads.square().sum())
    assert explained_share(w, found.vectors) == pytest.approx(expected, rel=1e-2)


def test_a_stride_is_one_standard_deviation_of_w_long(rng):
    w = torch.randn(200, W_SIZE, generator=rng) * torch.arange(1, W_SIZE + 1)
    found = principal_axes(w, 4)
    torch.testing.assert_close(strides(w, found.vectors).norm(dim=1), found.values)
    torch.testing.assert_close(strides(w, torch.eye(W_SIZE)), w.std(dim=0).diag())


def test_w_is_sampled_for_each_label_as_the_gan_maps_it(gan):
    labels = torch.tensor([4, 1, 1])
    w = sample_w(gan, labels, torch.Generator().manual_seed(3), 0.7)
    z = torch.randn(3, 6, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(w, gan.generator.mapping(z, gan.condition(labels), 0.7)[:, -1])


def test_the_gap_between_classes_is_no_component_within_them(rng):
    labels = torch.arange(1000) % 2
    gap = 20 * torch.eye(W_SIZE)[0]
    w = torch.randn(1000, W_SIZE, generator=rng) + labels[:, None] * gap
    w[:, 3] *= 2
    assert principal_axes(w, 1).vectors[0].argmax() == 0
    centred = within_classes(w, labels)
    assert principal_axes(centred, 1).vectors[0].argmax() == 3
    torch.testing.assert_close(centred[labels == 1].mean(dim=0), torch.zeros(W_SIZE), atol=1e-5, rtol=0)


def test_one_latent_has_no_principal_component():
    with pytest.raises(ValueError, match="two latents or more, but 1 came"):
        principal_axes(torch.zeros(1, W_SIZE), 1)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_hyperplane_of_a_planted_attribute_is_found(rng, scale):
    direction = unit(rng)
    w = torch.randn(3000, W_SIZE, generator=rng)
    scores = w @ direction + 0.3 * torch.randn(3000, generator=rng)
    normal = attribute_normal(w * scale, scores, 0.2)
    assert float(normal @ direction) > 0.95
    assert float(normal.norm()) == pytest.approx(1, abs=1e-5)
    assert float(hyperplane_normal(w * scale, scores > 0) @ direction) > 0.95


def test_a_hyperplane_is_found_where_w_is_wide_in_other_coordinates(rng):
    w = torch.randn(3000, W_SIZE, generator=rng) * torch.tensor([0.1, 10, 10, 10, 10, 10])
    assert hyperplane_normal(w, w[:, 0] > 0)[0] > 0.999


def test_extremes_are_the_lowest_and_the_highest_scores():
    chosen, high = extremes(torch.tensor([5.0, 1.0, 3.0, 2.0, 4.0]), 0.4)
    assert chosen.tolist() == [1, 3, 4, 0]
    assert high.tolist() == [False, False, True, True]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6])
def test_extremes_without_an_image_or_with_shared_ones_are_refused(share):
    with pytest.raises(ValueError, match="score more images or raise the share"):
        extremes(torch.arange(5.0), share)


def test_a_hyperplane_needs_both_kinds(rng):
    with pytest.raises(ValueError, match="only one came"):
        hyperplane_normal(torch.randn(4, W_SIZE, generator=rng), torch.ones(4, dtype=torch.bool))


def test_conditioning_makes_a_normal_orthogonal_and_keeps_what_is_its_own(rng):
    normal, other = unit(rng), unit(rng)
    alone = conditioned(normal, other)
    assert float(alone @ other) == pytest.approx(0, abs=1e-6)
    assert float(alone.norm()) == pytest.approx(1, abs=1e-6)
    assert float(alone @ normal) == pytest.approx(math.sqrt(1 - float(normal @ other) ** 2), abs=1e-5)
    torch.testing.assert_close(conditioned(alone, other), alone)
    with pytest.raises(ValueError, match="one direction"):
        conditioned(normal, -normal)


def test_moving_by_nothing_changes_nothing(ws, rng):
    assert torch.equal(move(ws, unit(rng), [0.0, 0.0]), ws[:, None].expand(-1, 2, -1, -1))


def test_a_move_adds_the_direction_to_the_chosen_layers_and_leaves_the_others(ws, rng):
    direction = unit(rng)
    moved = move(ws, direction, STEPS, (2, 3))
    assert moved.shape == (3, len(STEPS), LAYERS, W_SIZE)
    for number, step in enumerate(STEPS):
        torch.testing.assert_close(moved[:, number, 2:4], ws[:, 2:4] + step * direction)
        assert torch.equal(moved[:, number, [0, 1, 4, 5]], ws[:, [0, 1, 4, 5]])


def test_the_middle_of_a_strip_is_the_image_itself_and_the_rest_is_not(gan, ws, rng):
    pixels = render_strips(gan.generator, ws, unit(rng), STEPS)
    assert pixels.shape == (3, len(STEPS), 3, SIZE, SIZE)
    gaps = (pixels.int() - to_pixels(gan.generator.synthesis(ws))[:, None].int()).abs().amax(dim=(0, 2, 3, 4))
    assert gaps[2] <= 1
    assert (gaps[[0, 1, 3, 4]] > 5).all()


def test_a_direction_to_which_all_weights_are_blind_moves_no_pixel(generator, ws, rng):
    blind = unit(rng)
    for weight in [value for name, value in generator.synthesis.named_parameters() if name.endswith("affine.weight")]:
        weight.sub_((weight @ blind)[:, None] * blind)
    pixels = render_strips(generator, ws, blind, STEPS).int()
    assert (pixels - pixels[:, 2:3]).abs().max() <= 1


def test_the_slope_of_a_straight_line_is_its_rise_per_step():
    steps = torch.tensor(STEPS)
    values = torch.stack([0.5 + 0.1 * steps, 2 - 3 * steps, steps.square()])
    torch.testing.assert_close(slopes(values, STEPS), torch.tensor([0.1, -3.0, 0.0]), atol=1e-6, rtol=1e-5)
    with pytest.raises(ValueError, match="two different steps"):
        slopes(values[:, :2], (1.0, 1.0))


def test_a_mean_s_interval_is_two_standard_errors_wide_either_way():
    low, high = mean_interval(torch.tensor([0.0, 1.0, 2.0, 3.0]), 1.5)[1:]
    error = (5 / 3 / 4) ** 0.5
    assert (1.5 - low, high - 1.5) == (pytest.approx(1.96 * error, rel=1e-4), pytest.approx(1.96 * error, rel=1e-4))


def test_features_on_a_straight_way_have_its_pace_as_distance_per_step(rng):
    way = torch.randn(4, 1, 7, generator=rng)
    features = torch.randn(4, 1, 7, generator=rng) + torch.tensor(STEPS)[:, None] * way
    torch.testing.assert_close(distances_per_step(features, STEPS), way[:, 0].norm(dim=1))
    for steps in ((1.0, 2.0), (0.0,)):
        with pytest.raises(ValueError, match="steps hold 0"):
            distances_per_step(features[:, : len(steps)], steps)


def test_images_that_do_not_move_have_no_effect_and_others_have(rng):
    classifier = Classifier(build_network("cnn-108k", 2, False, 0.0), Architecture("cnn-108k", 2, 0.0))
    pixels = torch.randint(0, 256, (3, len(STEPS), 3, 32, 32), generator=rng, dtype=torch.uint8)
    still = effects_of(classifier, pixels[:, :1].expand(-1, len(STEPS), -1, -1, -1), STEPS, 1)
    torch.testing.assert_close(still.changes, torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(still.distances, torch.zeros(3), atol=1e-5, rtol=0)
    benign, malignant = (effects_of(classifier, pixels, STEPS, label) for label in (0, 1))
    assert (malignant.distances > 0).all()
    torch.testing.assert_close(benign.changes, -malignant.changes, atol=1e-6, rtol=0)


def test_a_search_gives_the_directions_of_both_methods_in_steps_of_one_spread(gan, rng):
    sefa, pca = find_axes(gan, 3, (0, 2), 400, rng)
    assert (sefa.method, sefa.layers, pca.method, pca.layers) == ("sefa", (0, 2), "pca", None)
    torch.testing.assert_close(sefa.axes.vectors, semantic_axes(gan.generator, 3, (0, 2)).vectors)
    torch.testing.assert_close(pca.strides.norm(dim=1), pca.axes.values, rtol=1e-3, atol=1e-6)
    assert 0 < sefa.explained <= pca.explained <= 1


def test_labels_are_spread_in_turn_and_no_class_goes_without():
    assert spread_evenly([4, 1], 5).tolist() == [4, 1, 4, 1, 4]
    with pytest.raises(ValueError, match="each of 2 classes"):
        spread_evenly([4, 1], 1)


def test_a_slanted_hyperplane_keeps_its_slant_where_w_is_wide_in_some_coordinates(rng):
    direction = torch.nn.functional.normalize(torch.ones(W_SIZE), dim=0)
    w = torch.randn(3000, W_SIZE, generator=rng) * torch.tensor([1.0, 1, 1, 5, 5, 5])
    assert float(hyperplane_normal(w, w @ direction > 0) @ direction) > 0.99


def test_a_search_looks_within_classes(gan):
    labels, seeds = spread_evenly(gan.classes, 400), [torch.Generator().manual_seed(7) for _ in range(2)]
    w = within_classes(sample_w(gan, labels, seeds[0]), labels)
    _, pca = find_axes(gan, 3, None, 400, seeds[1])
    torch.testing.assert_close(pca.axes, principal_axes(w, 3))
    assert pca.explained == pytest.approx(explained_share(w, pca.axes.vectors))
