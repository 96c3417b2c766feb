"""Properties of resampling, of both networks and of their losses."""

import copy
import dataclasses
import inspect

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from skinsynth.gan import discriminator as discriminator_module
from skinsynth.gan import generator as generator_module
from skinsynth.gan.augment import AugmentConfig
from skinsynth.gan.discriminator import Discriminator, DiscriminatorConfig, minibatch_deviation
from skinsynth.gan.draws import RandomDraws
from skinsynth.gan.generator import Generator, GeneratorConfig, bound_for_half, demodulation, in_full_precision
from skinsynth.gan.layers import HALF_TYPES, W_AVERAGE_DECAY, Conv, activate, channels_at, compute_type
from skinsynth.gan.losses import (
    discriminator_loss,
    generator_loss,
    mix_styles,
    path_lengths,
    path_noise,
    path_penalty,
    r1_penalty,
)
from skinsynth.gan.pixels import from_pixels, to_pixels
from skinsynth.gan.presets import FIXED_PRESETS, PresetConfig, trainer_config
from skinsynth.gan.published import from_arrays, to_arrays
from skinsynth.gan.resample import conv_down2, conv_up2, downsample2d, upsample2d
from skinsynth.gan.training import RunConfig, configure
from tests.binomial import filter2d

GENERATOR = GeneratorConfig(16, 3, 8, 12, 2, 2, 128, 16, None, 0, "float16", False)
DISCRIMINATOR = DiscriminatorConfig(16, 3, 2, 8, 128, 16, "resnet", 4, 1, None, 0, "float16", False)


@pytest.fixture
def generator(rng):
    return Generator(GENERATOR, rng)


@pytest.fixture
def discriminator(rng):
    return Discriminator(DISCRIMINATOR, rng)


@pytest.fixture
def classes():
    return torch.eye(2)[[0, 1, 0, 1]]


def test_resampling_keeps_a_constant_away_from_the_border():
    constant = torch.ones(1, 2, 16, 16)
    for operator in (filter2d, upsample2d, downsample2d):
        torch.testing.assert_close(
            operator(constant)[..., 2:-2, 2:-2], torch.ones_like(operator(constant)[..., 2:-2, 2:-2])
        )


def test_resampling_follows_translation(rng):
    images = torch.zeros(1, 1, 24, 24)
    images[..., 8:16, 8:16] = torch.randn(8, 8, generator=rng)
    moved = images.roll((2, 4), dims=(2, 3))
    torch.testing.assert_close(upsample2d(moved), upsample2d(images).roll((4, 8), dims=(2, 3)))
    torch.testing.assert_close(downsample2d(moved), downsample2d(images).roll((1, 2), dims=(2, 3)))


def test_upsampling_is_four_times_the_adjoint_of_downsampling(rng):
    small, large = torch.randn(1, 2, 6, 8, generator=rng), torch.randn(1, 2, 12, 16, generator=rng)
    torch.testing.assert_close((upsample2d(small) * large).sum(), 4 * (small * downsample2d(large)).sum())


def test_convolutions_with_resampling_are_the_two_steps_joined(rng):
    images, weight = torch.randn(2, 3, 12, 12, generator=rng), torch.randn(4, 3, 3, 3, generator=rng)
    joined = conv_up2(images, weight)
    steps = torch.nn.functional.conv2d(upsample2d(images), weight.flip(2, 3), padding=1)
    torch.testing.assert_close(joined[..., 2:-2, 2:-2], steps[..., 2:-2, 2:-2], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("operator", [conv_up2, conv_down2])
def test_gradients_of_resampling_convolutions(rng, operator):
    images = torch.randn(1, 2, 4, 4, generator=rng, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 2, 3, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    assert gradcheck(operator, (images, weight))
    assert gradgradcheck(operator, (images, weight))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_a_bounded_activation_is_flat_beyond_its_bound_and_leaky_below_zero(dtype):
    # 181.02 is no number of 16 bits: the bound is the nearest one.
    x = torch.tensor([-2000.0, -10.0, 10.0, 170.0, 500.0], dtype=dtype, requires_grad=True)
    y = activate(x.clone(), 181.02)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    bound = torch.tensor(181.02, dtype=dtype).item()
    torch.testing.assert_close(y.float(), torch.tensor([-bound, -2.0, 10.0, 170.0, bound]), atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(gradient.float(), torch.tensor([0.0, 0.2, 1.0, 1.0, 0.0]), atol=1e-2, rtol=0)


def test_demodulated_kernels_have_unit_norm(rng):
    weight, style = torch.randn(5, 4, 3, 3, generator=rng), torch.randn(3, 4, generator=rng)
    kernels = weight * style[:, None, :, None, None] * demodulation(weight, style)[:, :, None, None, None]
    torch.testing.assert_close(kernels.square().sum(dim=(2, 3, 4)), torch.ones(3, 5))


def test_bounding_for_16_bits_does_not_change_demodulated_kernels(rng):
    def kernels(weight, style):
        return weight * style[:, None, :, None, None] * demodulation(weight, style)[:, :, None, None, None]

    weight, style = 1e3 * torch.randn(5, 4, 3, 3, generator=rng), 1e3 * torch.randn(3, 4, generator=rng)
    bounded = bound_for_half(weight, style)
    assert max(tensor.abs().max() for tensor in bounded) <= 1
    torch.testing.assert_close(kernels(*bounded), kernels(weight, style), atol=1e-5, rtol=1e-4)


def test_mapping_does_not_see_the_scale_of_z(generator, rng, classes):
    z = torch.randn(4, 8, generator=rng)
    torch.testing.assert_close(generator.mapping(z, classes), generator.mapping(7 * z, classes))


def test_truncation_to_zero_is_the_mean_and_the_cutoff_spares_later_layers(generator, rng, classes):
    z = torch.randn(4, 8, generator=rng)
    generator.mapping.w_avg.normal_(generator=rng)
    ws = generator.mapping(z, classes)
    drawn = generator.mapping(z, classes, 0.0, truncation_cutoff=2)
    torch.testing.assert_close(drawn[:, :2], generator.mapping.w_avg.expand(4, 2, -1))
    assert torch.equal(drawn[:, 2:], ws[:, 2:])


def test_mean_of_w_moves_by_its_share(generator):
    generator.mapping.update_average(torch.ones(4, 6, 12))
    torch.testing.assert_close(generator.mapping.w_avg, torch.full([12], 1 - W_AVERAGE_DECAY))


def test_noise_is_drawn_kept_or_left_out(generator, rng, classes):
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            torch.nn.init.ones_(parameter)
    z = torch.randn(4, 8, generator=rng)

    def image(mode, seed):
        return generator(z, classes, noise_mode=mode, rng=torch.Generator().manual_seed(seed))

    assert torch.equal(image("const", 1), image("const", 2))
    assert torch.equal(image("random", 1), image("random", 1))
    assert not torch.equal(image("random", 1), image("random", 2))
    assert not torch.equal(image("none", 1), image("const", 1))
    with pytest.raises(ValueError, match="pass rng"):
        generator(z, classes, noise_mode="random")


def test_classes_change_images_and_logits(generator, discriminator, rng, classes):
    z = torch.randn(4, 8, generator=rng)
    assert not torch.allclose(generator(z, classes), generator(z, classes.flip(1)))
    images = torch.randn(4, 3, 16, 16, generator=rng)
    assert not torch.allclose(discriminator(images, classes), discriminator(images, classes.flip(1)))


def test_active_layers_keep_unit_variance(rng):
    """E lrelu(x)² = (1 + 0.2²) / 2, times the squared gain of 2."""
    y = Conv(32, 64, 3, rng)(torch.randn(8, 32, 16, 16, generator=rng))[..., 1:-1, 1:-1]
    assert float(y.detach().square().mean()) == pytest.approx(1.04, rel=0.05)


def test_identical_images_have_no_minibatch_deviation(rng):
    same = torch.randn(1, 6, 4, 4, generator=rng).expand(4, -1, -1, -1)
    torch.testing.assert_close(minibatch_deviation(same, 4, 1), torch.zeros(4, 1, 4, 4), atol=2e-4, rtol=0)


def test_minibatch_deviation_of_two_images_is_half_their_distance():
    x = torch.stack([torch.full((2, 4, 4), value) for value in (0.0, 10.0, 4.0, 16.0)])
    torch.testing.assert_close(minibatch_deviation(x, 2, 1)[:, 0, 0, 0], torch.tensor([2.0, 3.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match="whole groups"):
        minibatch_deviation(x[:3], 2, 1)


def test_clamped_layers_stay_in_bounds(rng, classes):
    config = dataclasses.replace(GENERATOR, activation_clamp=0.01)
    images = Generator(config, rng)(torch.randn(4, 8, generator=rng), classes)
    # Three toRGB layers, each within the bound; upsampling adds nothing to a bound.
    assert images.abs().max() <= 0.03 * (1 + 1e-5)


def test_16_bits_are_for_gpus_only(rng, classes):
    half = dataclasses.replace(GENERATOR, half_levels=2)
    z = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
    networks = [Generator(config, torch.Generator().manual_seed(0)) for config in (GENERATOR, half)]
    assert torch.equal(networks[0](z, classes), networks[1](z, classes))


@pytest.mark.parametrize("resolution", [8, 64, 1024])
@pytest.mark.parametrize("class_count", [0, 3])
@pytest.mark.parametrize("architecture", ["resnet", "skip", "orig"])
def test_sizes_are_read_off_the_weights(rng, resolution, class_count, architecture):
    generator = Generator(
        GeneratorConfig(resolution, 1, 5, 7, class_count, 3, 1300, 24, None, 0, "float16", False), rng
    )
    sizes = DiscriminatorConfig(resolution, 1, class_count, 4, 1100, 20, architecture, 2, 1, None, 0, "float16", False)
    arrays = to_arrays(generator, Discriminator(sizes, rng))
    again = to_arrays(*from_arrays(arrays, mbstd_group=2))
    assert again.keys() == arrays.keys()
    assert all(np.array_equal(again[name], arrays[name]) for name in arrays)


def test_with_input_skips_every_resolution_sees_the_image_for_itself(rng):
    """Whatever block's reading of the image is cut off, the others still tell two images apart."""
    network = Discriminator(
        dataclasses.replace(DISCRIMINATOR, architecture="skip", class_count=0, mbstd_channels=0), rng
    )
    images = torch.randn(2, 3, 16, 16, generator=rng)
    readers = [name for name, _ in network.named_parameters() if name.endswith("fromrgb.weight")]
    assert readers == ["b16.fromrgb.weight", "b8.fromrgb.weight", "b4.fromrgb.weight"]
    for kept in readers:
        with torch.no_grad():
            alone = copy.deepcopy(network)
            for name in readers:
                if name != kept:
                    alone.get_parameter(name).zero_()
            first, second = alone(images, torch.zeros(2, 0))
        assert first != second


def test_in_full_precision_a_generator_makes_the_same_images(rng, classes):
    half = Generator(dataclasses.replace(GENERATOR, half_levels=2), rng)
    full = in_full_precision(half)
    z = torch.randn(4, 8, generator=rng)
    assert full.config.half_levels == 0
    assert torch.equal(full(z, classes), half(z, classes))


def test_a_resolution_is_a_power_of_two(rng):
    with pytest.raises(ValueError, match="power of two"):
        Generator(dataclasses.replace(GENERATOR, resolution=24), rng)


def test_losses_of_an_undecided_discriminator():
    logits = torch.zeros(5, 1)
    assert generator_loss(logits) == pytest.approx(np.log(2))
    assert discriminator_loss(logits, logits) == pytest.approx(2 * np.log(2))


def test_r1_of_a_linear_discriminator_is_half_gamma_times_its_slope(rng):
    slope = torch.randn(3, 4, 4, generator=rng)
    real = torch.randn(6, 3, 4, 4, generator=rng).requires_grad_()
    logits = (real * slope).sum(dim=(1, 2, 3))[:, None]
    torch.testing.assert_close(r1_penalty(real, logits, gamma=10.0), 5 * slope.square().sum())


def test_no_path_penalty_for_an_isometry_of_w():
    """A rotation of w has all path lengths equal to the noise's norm."""
    rotation = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(1))).Q
    ws = torch.zeros(4, 1, 12, requires_grad=True)
    images = (ws[:, 0] @ rotation).view(4, 3, 2, 2)
    lengths = path_lengths(images, ws, torch.ones(4, 3, 2, 2) / np.sqrt(12))
    assert float(path_penalty(lengths, torch.ones([]))) == pytest.approx(0, abs=1e-10)


def test_path_penalty_is_the_mean_squared_distance_from_the_running_mean():
    assert float(path_penalty(torch.tensor([2.0, 4.0]), torch.ones([]))) == pytest.approx((1 + 9) / 2)


def test_path_noise_has_the_norm_of_one_pixel(rng):
    noise = path_noise(torch.zeros(64, 3, 16, 16), RandomDraws(64, rng))
    assert noise.square().sum(dim=(1, 2, 3)).mean() == pytest.approx(3, rel=0.1)


def test_mixed_styles_start_with_the_first_and_end_with_others(generator, rng, classes):
    ws = generator.mapping(torch.randn(4, 8, generator=rng), classes)
    assert mix_styles(generator.mapping, ws, classes, 0.0, rng, rng) is ws
    mixed = mix_styles(generator.mapping, ws, classes, 1.0, rng, rng)
    assert torch.equal(mixed[:, 0], ws[:, 0])
    assert not torch.equal(mixed[:, -1], ws[:, -1])


def test_each_image_is_mixed_by_itself_and_as_often_as_asked(generator, rng):
    count = 2000
    ws = torch.zeros(count, 6, generator.config.w_size)
    mixed = mix_styles(generator.mapping, ws, torch.eye(2)[torch.arange(count) % 2], 0.6, rng, rng)
    own = (mixed == 0).all(dim=2)
    layers, counts = own.sum(dim=1).unique(return_counts=True)
    # All six are its own in four tenths; else they are not from the second, the third … or the sixth on, equally often.
    assert layers.tolist() == [1, 2, 3, 4, 5, 6]
    assert (counts / count).tolist() == pytest.approx([*5 * [0.12], 0.4], abs=0.05)
    assert not (own[:, 1:] & ~own[:, :-1]).any()


def test_pixels_survive_the_way_into_the_networks_and_out():
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(to_pixels(from_pixels(pixels)), pixels)
    assert from_pixels(pixels).aminmax() == (-1, 1)


@pytest.mark.parametrize("name", ["auto", *FIXED_PRESETS])
def test_presets_make_networks(rng, name):
    config = trainer_config(PresetConfig(name, x_flip=True, seed=0), 32, 3)
    assert channels_at(4, config.generator.channel_base, config.generator.channel_max) == 512
    assert config.batch_size % config.discriminator.mbstd_group == 0


@pytest.mark.parametrize(
    ("resolution", "processes", "batch_size", "group"),
    [
        (256, 1, 16, 4),
        (256, 2, 32, 4),
        (256, 8, 64, 4),
        (1024, 1, 4, 4),
        (1024, 2, 8, 4),
        (1024, 8, 32, 4),
        (128, 4, 64, 4),
        (256, 32, 64, 2),
        (256, 128, 128, 1),
        (128, 3, 60, 4),
        (128, 6, 72, 4),
        (256, 9, 72, 4),
        (128, 20, 40, 2),
    ],
)
def test_auto_preset_grows_with_the_processes_as_published(resolution, processes, batch_size, group):
    config = trainer_config(PresetConfig("auto", x_flip=False, seed=0), resolution, 3, processes)
    assert (config.batch_size, config.discriminator.mbstd_group) == (batch_size, group)
    assert config.r1_gamma == pytest.approx(0.0002 * resolution**2 / batch_size)
    assert config.ema_half_life_images == pytest.approx(batch_size * 10_000 / 32)


@pytest.mark.parametrize("name", FIXED_PRESETS)
def test_other_presets_do_not_depend_on_the_processes(name):
    preset = PresetConfig(name, x_flip=True, seed=0)
    assert trainer_config(preset, 32, 3, processes=1) == trainer_config(preset, 32, 3, processes=8)


def test_auto_preset_at_256_is_the_published_one():
    config = trainer_config(PresetConfig("auto", x_flip=False, seed=0), 256, 3)
    assert (config.batch_size, config.r1_gamma, config.ema_half_life_images) == (16, pytest.approx(0.8192), 5000)
    with pytest.raises(ValueError, match="paper256"):
        trainer_config(PresetConfig("paper", x_flip=False, seed=0), 256, 3)


def test_an_unknown_noise_mode_is_refused_with_those_there_are(generator):
    ws = torch.zeros(1, generator.synthesis.layer_count, 12)
    # While tests run, calls are checked for their types; outside nothing but the function itself is there.
    unchecked = inspect.unwrap(type(generator.synthesis).forward)
    with pytest.raises(ValueError, match="one of const, random, none, but 'bogus' came"):
        unchecked(generator.synthesis, ws, "bogus")


@pytest.mark.parametrize("extra", [-1, 1])
def test_another_number_of_ws_than_layers_is_refused(generator, extra):
    with pytest.raises(ValueError, match=f"each of the 6 layers takes one w, but {6 + extra} came"):
        generator.synthesis(torch.zeros(1, 6 + extra, 12))


def test_a_generator_truncates_as_many_layers_as_its_mapping(generator, rng, classes):
    z = torch.randn(4, 8, generator=rng)
    expected = generator.synthesis(generator.mapping(z, classes, 0.5, 2))
    assert torch.equal(generator(z, classes, 0.5, truncation_cutoff=2), expected)
    assert not torch.equal(generator(z, classes, 0.5), expected)


@pytest.mark.parametrize(
    (
        *("name", "batch_size", "mbstd_group", "channel_share", "learning_rate", "r1_gamma", "ema_kimg", "ema_rampup"),
        *("mapping_layers", "path_length_weight", "style_mixing", "architecture"),
    ),
    [
        ("auto", 16, 4, 0.5, 0.0025, 0.8192, 5, 0.05, 2, 2, 0.9, "resnet"),  # at 256 pixels on one GPU
        ("stylegan2", 32, 4, 1, 0.002, 10, 10, None, 8, 2, 0.9, "resnet"),
        ("paper256", 64, 8, 0.5, 0.0025, 1, 20, None, 8, 2, 0.9, "resnet"),
        ("paper512", 64, 8, 1, 0.0025, 0.5, 20, None, 8, 2, 0.9, "resnet"),
        ("paper1024", 32, 4, 1, 0.002, 2, 10, None, 8, 2, 0.9, "resnet"),
        ("cifar", 64, 32, 1, 0.0025, 0.01, 500, 0.05, 2, 0, 0, "orig"),
    ],
)
def test_presets_have_the_published_numbers(
    name,
    batch_size,
    mbstd_group,
    channel_share,
    learning_rate,
    r1_gamma,
    ema_kimg,
    ema_rampup,
    mapping_layers,
    path_length_weight,
    style_mixing,
    architecture,
):
    config = trainer_config(PresetConfig(name, x_flip=True, seed=0), 256, 3)
    assert (config.batch_size, config.discriminator.mbstd_group) == (batch_size, mbstd_group)
    assert config.generator.channel_base == config.discriminator.channel_base == 32768 * channel_share
    assert (config.learning_rate, config.r1_gamma) == (learning_rate, pytest.approx(r1_gamma))
    assert (config.ema_half_life_images, config.ema_rampup) == (1000 * ema_kimg, ema_rampup)
    assert config.generator.mapping_layers == mapping_layers
    assert (config.path_length_weight, config.style_mixing_probability) == (path_length_weight, style_mixing)
    assert config.discriminator.architecture == architecture


@pytest.mark.parametrize("name", ["auto", *FIXED_PRESETS])
def test_what_all_presets_share_is_as_published(name):
    run = RunConfig(("benign", "malignant"), conditional=True, augment="bgc", adaptive=True)
    config = configure(trainer_config(PresetConfig(name, x_flip=True, seed=0), 256, 3), run)
    assert config.augment == AugmentConfig(
        preset="bgc", initial_p=0.0, adaptive=True, target_sign=0.6, interval=4, images_to_full=500_000
    )
    assert (config.betas, config.r1_interval) == ((0.0, 0.99), 16)
    assert (config.path_length_interval, config.path_length_decay, config.frozen_levels) == (4, 0.01, 0)
    assert (config.generator.z_size, config.generator.w_size, config.discriminator.mbstd_channels) == (512, 512, 1)
    for network in (config.generator, config.discriminator):
        assert (network.channel_max, network.activation_clamp, network.half_levels) == (512, 256, 4)
        assert (network.half_type, network.image_channels, network.class_count) == ("float16", 3, 2)


@pytest.mark.parametrize(("name", "half_type"), HALF_TYPES.items())
def test_away_from_the_cpu_the_levels_that_are_to_be_half_are(name, half_type):
    elsewhere, here = torch.empty(1, device="meta"), torch.empty(1)
    assert compute_type(elsewhere, True, name) == half_type
    assert compute_type(elsewhere, False, name) == compute_type(here, True, name) == torch.float32


@pytest.mark.parametrize(("half_type", "apart"), [("float16", 0.005), ("bfloat16", 0.04)])
def test_16_bits_change_images_and_logits_by_rounding_only(monkeypatch, classes, half_type, apart):
    """On a CPU, which is told to compute as a GPU does; great kernels as they are would leave float16's range."""
    for module in (generator_module, discriminator_module):
        monkeypatch.setattr(
            module, "compute_type", lambda images, half, name: HALF_TYPES[name] if half else images.dtype
        )
    z = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
    made = []
    for half_levels in (0, 3):
        rng = torch.Generator().manual_seed(0)
        changes = {"half_levels": half_levels, "half_type": half_type, "activation_clamp": 256.0}
        generator = Generator(dataclasses.replace(GENERATOR, **changes), rng)
        discriminator = Discriminator(dataclasses.replace(DISCRIMINATOR, **changes), rng)
        with torch.no_grad():
            for name, weight in generator.synthesis.named_parameters():
                if name.endswith("noise_strength"):
                    weight.fill_(0.3)
                if name.endswith(("conv0.weight", "conv1.weight")):
                    weight.mul_(1e4)
            images = generator(z, classes)
            made.append((images, discriminator(made[0][0] if made else images, classes)))
    for whole, half in zip(*made, strict=True):
        assert half.dtype == torch.float32
        assert not torch.equal(half, whole)
        assert (half - whole).abs().max() <= apart * whole.abs().max()


@pytest.mark.parametrize("down", [False, True])
def test_the_bound_of_a_layer_takes_part_in_its_gain(rng, down):
    y = Conv(4, 4, 3, rng, clamp=0.01, down=down)(torch.randn(2, 4, 8, 8, generator=rng), gain=0.5)
    assert y.abs().max().item() == pytest.approx(0.005)
