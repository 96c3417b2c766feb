"""Projection: planted latents are found, and an image's result does not depend on its company."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from skinsynth.gan.discriminator import Discriminator, DiscriminatorConfig
from skinsynth.gan.generator import Generator, GeneratorConfig
from skinsynth.gan.model import Gan
from skinsynth.gan.pixels import to_pixels
from skinsynth.projection.loss import PerceptualLoss
from skinsynth.projection.projector import LatentStatistics, ProjectionConfig, Projector, _ramp, latent_statistics
from tests.plain_mapping import PlainMapping

SIZES = GeneratorConfig(8, 3, 6, 6, 0, 2, 32, 4, None, 0, "float16", False)
CPU = torch.device("cpu")
CONFIG = ProjectionConfig(
    space="w",
    steps=80,
    learning_rate=0.1,
    ramp_up=0.05,
    ramp_down=0.25,
    noise=0.05,
    noise_ramp=0.75,
    map_weight=None,
    pixel_weight=0.0,
    statistics_samples=500,
    batch_size=4,
    seed=0,
)


class TinyGenerator(Generator):
    """A smooth map of w to 8 px images."""

    def __init__(self, class_count, rng):
        nn.Module.__init__(self)
        self.config = replace(SIZES, class_count=class_count)
        self.mapping = PlainMapping(6, 3, 3 * torch.randn(class_count, 6, generator=rng) if class_count else None)
        self.weight = torch.randn(3, 6, 3 * 8 * 8, generator=rng) / 6

    def synthesis(self, ws, noise_mode):
        assert noise_mode == "const"
        return torch.einsum("nlw,lwp->np", ws, self.weight).tanh().reshape(-1, 3, 8, 8)


def with_labels(generator, rng):
    discriminator = Discriminator(DiscriminatorConfig(8, 3, 0, 2, 32, 4, "orig", 1, 0, None, 0, "float16", False), rng)
    return Gan(generator, discriminator, [4, 7])


def gan_of(class_count, rng):
    return with_labels(TinyGenerator(class_count, rng), rng)


def pixels_of(gan, count, rng):
    z = torch.randn(count, 6, generator=rng)
    c = torch.eye(2)[torch.arange(count) % 2] if gan.generator.config.class_count else torch.zeros(count, 0)
    return to_pixels(gan.generator.synthesis(gan.generator.mapping(z, c), noise_mode="const"))


def labels_of(count):
    return torch.tensor([4, 7])[torch.arange(count) % 2]


def flat(images):
    return images.flatten(1)


@pytest.mark.parametrize("class_count", [0, 2])
@pytest.mark.parametrize("space", ["w", "w+"])
def test_planted_latents_are_found(rng, class_count, space):
    gan = gan_of(class_count, rng)
    pixels = pixels_of(gan, 4, rng)
    projector = Projector(gan, PerceptualLoss(flat), replace(CONFIG, space=space), CPU)
    found = projector.project(pixels, labels_of(4), range(4))
    between = torch.pdist(pixels.flatten(1) / 127.5).median()
    assert found.distances.median() < 0.05 * between
    assert found.ws.shape == (4, 3, 6)
    assert (found.pixels.int() - pixels.int()).abs().float().mean() < 5


def test_the_projects_own_generator_is_searched_as_well(rng):
    sizes = GeneratorConfig(
        resolution=16,
        image_channels=3,
        z_size=8,
        w_size=8,
        class_count=2,
        mapping_layers=2,
        channel_base=128,
        channel_max=16,
        activation_clamp=None,
        half_levels=0,
        half_type="float16",
        fused=False,
    )
    generator = Generator(sizes, rng).requires_grad_(False)
    gan = with_labels(generator, rng)
    c = torch.eye(2)[torch.arange(4) % 2]
    with torch.no_grad():
        pixels = to_pixels(generator(torch.randn(4, 8, generator=rng), c))
    starts, ends = (
        Projector(gan, PerceptualLoss(flat), replace(CONFIG, steps=steps), CPU)
        .project(pixels, labels_of(4), range(4))
        .distances
        for steps in (0, 100)
    )
    assert ends.median() < 0.5 * starts.median()


def test_one_w_serves_all_layers_in_w_and_not_in_w_plus(rng):
    gan = gan_of(0, rng)
    pixels = torch.randint(0, 256, (2, 3, 8, 8), generator=rng, dtype=torch.uint8)
    results = [
        Projector(gan, PerceptualLoss(flat), replace(CONFIG, space=space), CPU).project(pixels, labels_of(2), [0, 1])
        for space in ("w", "w+")
    ]
    assert results[0].ws[:, 0].equal(results[0].ws[:, 2])
    assert not results[1].ws[:, 0].equal(results[1].ws[:, 2])
    assert (results[1].distances < results[0].distances).all()


def test_an_image_is_projected_alike_alone_and_in_company(rng):
    gan = gan_of(2, rng)
    pixels, config = pixels_of(gan, 5, rng), replace(CONFIG, pixel_weight=1.0)
    together = Projector(gan, PerceptualLoss(flat), config, CPU).project(pixels, labels_of(5), range(10, 15))
    for place in (0, 3):
        alone = Projector(gan, PerceptualLoss(flat), config, CPU).project(
            pixels[place : place + 1].numpy(), labels_of(5)[place : place + 1], [10 + place]
        )
        torch.testing.assert_close(alone.ws[0], together.ws[place], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(alone.distances[0], together.distances[place], rtol=1e-2, atol=1e-3)


def test_the_seed_and_the_image_number_decide_the_noise(rng):
    gan = gan_of(0, rng)
    pixels = pixels_of(gan, 1, rng)
    few = replace(CONFIG, steps=5)
    ws = [
        Projector(gan, PerceptualLoss(flat), replace(few, seed=seed), CPU).project(pixels, labels_of(1), [number]).ws
        for seed, number in ((0, 0), (0, 0), (0, 1), (1, 0))
    ]
    assert ws[0].equal(ws[1])
    assert not ws[0].equal(ws[2])
    assert not ws[0].equal(ws[3])


def test_images_are_written_without_the_noise_that_the_search_had(rng):
    gan = gan_of(0, rng)
    found = Projector(gan, PerceptualLoss(flat), replace(CONFIG, steps=3, noise=10.0), CPU).project(
        pixels_of(gan, 2, rng), labels_of(2), [0, 1]
    )
    assert found.pixels.equal(to_pixels(gan.generator.synthesis(found.ws, noise_mode="const")))


def test_each_class_starts_from_its_own_mean(rng):
    gan = gan_of(2, rng)
    means = [latent_statistics(gan.generator, column, CONFIG, CPU) for column in (0, 1)]
    for column, statistics in enumerate(means):
        torch.testing.assert_close(statistics.mean, gan.generator.mapping.directions[column], rtol=0, atol=0.3)
        assert statistics.spread == pytest.approx(6**0.5, rel=0.1)


def test_a_label_that_the_generator_does_not_know_is_named(rng):
    projector = Projector(gan_of(2, rng), PerceptualLoss(flat), CONFIG, CPU)
    with pytest.raises(ValueError, match=r"knows the labels \[4, 7\], but images have \[5\]"):
        projector.project(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.tensor([5]), [0])


def test_an_unknown_space_is_refused(rng):
    with pytest.raises(ValueError, match=r"space is one of \['w', 'w\+'\], not 'z'"):
        Projector(gan_of(0, rng), PerceptualLoss(flat), replace(CONFIG, space="z"), CPU)


def test_the_rate_rises_stays_and_falls_as_a_cosine():
    config = replace(CONFIG, steps=80, ramp_up=0.1, ramp_down=0.25)
    rates = [_ramp(step, config) for step in (0, 3, 7, 40, 60, 70)]
    assert rates == pytest.approx([1 / 8, 4 / 8, 1, 1, 1, 0.5])


def test_noise_on_w_falls_by_the_square_of_the_time_left_and_grows_with_the_spread():
    """StyleGAN2, appendix D: 0.05 of the deviation of w times (1 - t / 0.75)²."""
    config = replace(CONFIG, steps=8, noise=0.05, noise_ramp=0.5)
    projector = Projector(gan_of(0, torch.Generator().manual_seed(0)), PerceptualLoss(flat), config, CPU)
    near, far = (LatentStatistics(torch.zeros(20_000), spread) for spread in (1.0, 3.0))
    noise = projector._noise([near, far], [0, 0])
    assert noise.shape == (4, 2, 1, 20_000)
    deviations = [float(drawn.std()) for drawn in noise[:, 0, 0]]
    assert deviations == pytest.approx([0.05 * left**2 for left in (1, 0.75, 0.5, 0.25)], rel=0.03)
    torch.testing.assert_close(noise[:, 1], 3 * noise[:, 0])
