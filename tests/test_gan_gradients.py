"""Gradients of both orders of the GAN's own operators and layers against finite differences.

The convolutions with resampling and the warp are checked beside their other properties.
"""

from functools import partial

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

from skinsynth.gan.augment import augment
from skinsynth.gan.discriminator import Discriminator, DiscriminatorConfig, minibatch_deviation
from skinsynth.gan.draws import RandomDraws
from skinsynth.gan.generator import GeneratorConfig, StyledConv, Synthesis, ToRGB, bound_for_half, demodulation
from skinsynth.gan.layers import Conv, Linear, MappingNetwork, activate, unit_second_moment
from skinsynth.gan.losses import discriminator_loss, generator_loss, path_lengths, r1_penalty
from skinsynth.gan.resample import conv_down2, conv_up2, downsample2d, upsample2d
from skinsynth.gan.warp import sample
from tests.binomial import filter2d

GENERATOR = GeneratorConfig(8, 3, 3, 3, 2, 2, 16, 2, 2.0, 0, "float16", False)


@pytest.fixture(autouse=True)
def double_precision():
    """Finite differences need 64 bits, in random draws and in weights too."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def normal(rng, *shape):
    return torch.randn(*shape, generator=rng).requires_grad_()


def check(operator, *inputs):
    """Derivatives of both orders along random directions."""
    assert gradcheck(operator, inputs, fast_mode=True)
    assert gradgradcheck(operator, inputs, fast_mode=True)


def with_parameters(layer, rng):
    """The layer as a function of its arguments and its parameters, and these, none of them left at zero."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=rng), alpha=0.3)
    names, parameters = zip(*layer.named_parameters(), strict=True)
    return lambda arguments, weights: functional_call(
        layer, dict(zip(names, weights, strict=True)), arguments
    ), parameters


def check_layer(rng, layer, inputs, *constants):
    """As `check`, in the layer's inputs and in its parameters."""
    call, parameters = with_parameters(layer, rng)
    count = len(inputs)
    check(lambda *tensors: call((*tensors[:count], *constants), tensors[count:]), *inputs, *parameters)


def demodulated_in_bounds(weight, style):
    """Scales through which no gradient goes must cancel."""
    weight, style = bound_for_half(weight, style)
    return torch.einsum("oikl,ni->no", weight, style) * demodulation(weight, style)


@pytest.mark.parametrize("size", [(4, 4), (3, 5)])
@pytest.mark.parametrize("operator", [filter2d, upsample2d, downsample2d])
def test_gradients_of_resampling(rng, operator, size):
    check(operator, normal(rng, 1, 2, *size))


def test_gradients_of_resampling_convolutions_of_odd_images_and_single_pixel_kernels(rng):
    images, weight, bias = normal(rng, 1, 2, 3, 5), normal(rng, 2, 2, 3, 3), normal(rng, 2)
    check(conv_up2, images, weight)
    check(conv_down2, images, weight, bias)
    check(conv_down2, images, normal(rng, 2, 2, 1, 1), bias)


def test_gradients_of_sampling_at_inner_and_outer_points(rng):
    x, y = (6 * torch.rand(2, 3, 3, generator=rng) - 1 for _ in range(2))
    check(lambda image: sample(image, x, y).square(), normal(rng, 2, 2, 4, 5))


@pytest.mark.parametrize("preset", ["bg", "color", "filter", "noise", "cutout", "bgcfnc"])
def test_gradients_of_augmentation(rng, preset):
    def change(images):
        return augment(images, preset, 0.8, RandomDraws(len(images), torch.Generator().manual_seed(2))).square()

    check(change, normal(rng, 2, 3, 8, 8))


@pytest.mark.parametrize("clamp", [None, 0.7])
def test_gradients_of_activation(rng, clamp):
    # In place, hence a copy.
    check(lambda x: activate(x.clone(), clamp), normal(rng, 2, 3, 2, 2))


def test_gradients_of_normalisation(rng):
    check(unit_second_moment, normal(rng, 3, 4))
    weight, style = normal(rng, 3, 2, 3, 3), normal(rng, 2, 2)
    check(demodulation, weight, style)
    check(demodulated_in_bounds, weight, style)
    check(partial(minibatch_deviation, group=2, channels=2), normal(rng, 4, 4, 2, 2))


@pytest.mark.parametrize("active", [True, False])
def test_gradients_of_linear_layers(rng, active):
    check_layer(rng, Linear(3, 2, rng, active=active, rate=0.5), [normal(rng, 2, 3)])


@pytest.mark.parametrize(("kernel", "down", "active"), [(3, False, True), (3, True, True), (1, True, False)])
def test_gradients_of_convolutions(rng, kernel, down, active):
    layer = Conv(2, 3, kernel, rng, active=active, down=down, clamp=1.0)
    check_layer(rng, layer, [normal(rng, 1, 2, 4, 4)], 0.5)


def test_gradients_of_the_mapping(rng):
    check_layer(rng, MappingNetwork(3, 3, 2, 2, rng), [normal(rng, 2, 3), normal(rng, 2, 2)])


@pytest.mark.parametrize("noise_mode", ["const", "none"])
@pytest.mark.parametrize("up", [True, False])
def test_gradients_of_styled_convolutions(rng, up, noise_mode):
    layer = StyledConv(GENERATOR, 2, 8 if up else 4, up=up, rng=rng)
    check_layer(rng, layer, [normal(rng, 2, 2, 4, 4), normal(rng, 2, 3)], noise_mode, None)


def test_gradients_of_torgb(rng):
    check_layer(rng, ToRGB(GENERATOR, 2, rng), [normal(rng, 2, 2, 3, 3), normal(rng, 2, 3)])


def test_gradients_of_losses(rng):
    check(generator_loss, normal(rng, 3, 1))
    check(discriminator_loss, normal(rng, 3, 1), normal(rng, 3, 1))


@pytest.mark.parametrize("architecture", ["resnet", "skip", "orig"])
def test_gradient_of_r1_through_the_discriminator(rng, architecture):
    """The first order of the penalty, which is the second order of the network."""
    config = DiscriminatorConfig(8, 3, 2, 2, 16, 2, architecture, 2, 1, 5.0, 0, "float16", False)
    call, parameters = with_parameters(Discriminator(config, rng), rng)

    def penalty(images, *weights):
        # The logarithm, so that a small penalty is not lost in the check's absolute tolerance.
        return r1_penalty(images, call((images, torch.eye(2)), weights), gamma=2.0).log()

    assert gradcheck(penalty, (normal(rng, 2, 3, 8, 8), *parameters), fast_mode=True)


def test_gradient_of_path_lengths_through_the_generator(rng):
    call, parameters = with_parameters(Synthesis(GENERATOR, rng), rng)
    direction = normal(rng, 2, 3, 8, 8).detach()

    def lengths(ws, *weights):
        return path_lengths(call((ws,), weights), ws, direction)

    assert gradcheck(lengths, (normal(rng, 2, 4, 3), *parameters), fast_mode=True)
