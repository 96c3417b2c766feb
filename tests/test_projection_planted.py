"""Projection with the project's own networks: planted images, noise maps, the choice of the loss, shared work."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torch import nn
from torchvision.models.vgg import cfgs, make_layers

from skinsynth.classifier.classifier import Architecture, Classifier, save_classifier
from skinsynth.classifier.networks import build_network
from skinsynth.features.pretrained import Weights
from skinsynth.gan.discriminator import Discriminator, DiscriminatorConfig
from skinsynth.gan.family import save_trained
from skinsynth.gan.generator import Generator, GeneratorConfig, StyledConv, ToRGB
from skinsynth.gan.model import Gan
from skinsynth.gan.pixels import from_pixels, to_pixels
from skinsynth.gan.team import ALONE, Team
from skinsynth.images.archive import write_archive
from skinsynth.projection.archive import project_all
from skinsynth.projection.loss import LossConfig, PerceptualLoss, VggLoss, _UnitGap, build_loss, unit_channels
from skinsynth.projection.noise import GivenNoise, autocorrelation, own_maps, standardise
from skinsynth.projection.projector import ProjectionConfig, Projections, Projector, cut
from tests.tiny import ROOT

CPU = torch.device("cpu")
# As published, but with pixels beside the features and less noise on w: 0.05 drives a w of 64 numbers too far out, and
# 5 to 7 % of the distance between random images remain where 0.02 leaves 1 %.
CONFIG = ProjectionConfig("w", 1000, 0.1, 0.05, 0.25, 0.02, 0.75, None, 1.0, 10_000, 8, 0)
FAST = replace(CONFIG, steps=12, statistics_samples=64)
# Untrained generators overshoot; so much less, images have the contrast of a trained one's.
CONTRAST = 0.35
OWN_WEIGHTS = Weights(None, None)


def gan_of(rng, channel_base=512, channel_max=32, noise_strength=0.0):
    """An untrained conditional GAN at 32 px, by default of the sizes of the scale `phantom`."""
    sizes = GeneratorConfig(32, 3, 64, 64, 2, 2, channel_base, channel_max, None, 0, "bfloat16", False)
    generator = Generator(sizes, rng).requires_grad_(False)
    for layer in generator.modules():
        if isinstance(layer, ToRGB):
            layer.weight.mul_(CONTRAST)
        if isinstance(layer, StyledConv):
            layer.noise_strength.fill_(noise_strength)
    discriminator = DiscriminatorConfig(32, 3, 0, 2, channel_base, channel_max, "orig", 1, 0, None, 0, "float16", False)
    return Gan(generator, Discriminator(discriminator, rng), [0, 1])


def classifier_of():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Classifier(build_network("cnn-108k", 2, False, 0.0), Architecture("cnn-108k", 2, 0.0))


def images_of(gan, count, rng):
    labels = torch.arange(count) % 2
    return to_pixels(gan.sample(torch.randn(count, gan.config.z_size, generator=rng), labels)), labels


def flat(images):
    return images.flatten(1)


@pytest.mark.slow
def test_images_that_the_generator_made_are_found_again(rng):
    gan, features = gan_of(rng), classifier_of().embed_differentiable
    pixels, labels = images_of(gan, 64, rng)
    between = torch.pdist(features(from_pixels(pixels))).median()
    found = Projector(gan, PerceptualLoss(features), CONFIG, CPU).project(pixels[:8], labels[:8], range(8))
    assert found.distances.median() <= 0.05 * between


def test_noise_maps_of_the_generator_give_its_own_images(rng):
    generator = gan_of(rng, 128, 8, noise_strength=0.5).generator
    ws = generator.mapping(torch.randn(2, 64, generator=rng), torch.eye(2))
    given = generator.synthesis(ws, noise_mode="random", draws=GivenNoise(own_maps(generator, 2)))
    torch.testing.assert_close(given, generator.synthesis(ws, noise_mode="const"))


@pytest.mark.parametrize("map_weight", [0.0, 1e5])
def test_an_image_with_noise_maps_is_projected_alike_alone_and_in_company(rng, map_weight):
    gan = gan_of(rng, 128, 8, noise_strength=0.5)
    pixels, labels = images_of(gan, 3, rng)
    projector = Projector(gan, PerceptualLoss(flat), replace(FAST, map_weight=map_weight), CPU)
    together = projector.project(pixels, labels, range(10, 13))
    for place in range(3):
        one = slice(place, place + 1)
        alone = projector.project(pixels[one], labels[one], [10 + place])
        torch.testing.assert_close(alone.ws[0], together.ws[place], rtol=1e-2, atol=1e-2)
        torch.testing.assert_close(alone.distances[0], together.distances[place], rtol=1e-2, atol=1e-3)


def test_noise_maps_find_detail_that_w_has_not(rng):
    gan = gan_of(rng, 128, 8, noise_strength=0.5)
    pixels = torch.randint(0, 256, (2, 3, 32, 32), generator=rng, dtype=torch.uint8)
    without, free, bound = (
        Projector(gan, PerceptualLoss(flat), replace(FAST, steps=60, map_weight=weight), CPU)
        .project(pixels, torch.tensor([0, 1]), [0, 1])
        .distances
        for weight in (None, 0.0, 1e5)
    )
    assert (free < 0.95 * without).all()
    assert (free < bound).all()


def test_autocorrelation_sees_pictures_and_not_noise(rng):
    noise = [torch.randn(2, 1, size, size, generator=rng) for size in (4, 8, 16, 32, 64)]
    wave = torch.arange(64).mul(2 * np.pi / 64).cos() * 2**0.5
    picture = [*noise[:-1], wave.expand(2, 1, 64, 64)]
    assert (autocorrelation(noise) < 0.5).all()
    assert (autocorrelation(picture) > 2).all()


def test_autocorrelation_is_the_paper_s_sum_map_by_map(rng):
    """The pyramids in one go are those of each map by itself; a map of 4 px has no other scale than its own."""
    maps = [torch.randn(2, 1, size, size, generator=rng) for size in (4, 8, 8, 16, 16, 32, 32)]
    expected = torch.zeros(2)
    for noise in maps:
        for halvings in range(max(1, noise.shape[-1].bit_length() - 3)):
            level = nn.functional.avg_pool2d(noise, 2**halvings) * 2**halvings
            right, below = (level * level.roll(1, dims=axis) for axis in (3, 2))
            expected += right.mean(dim=(1, 2, 3)).square() + below.mean(dim=(1, 2, 3)).square()
    torch.testing.assert_close(autocorrelation(maps), expected)


def test_maps_are_standardised_each_by_itself(rng):
    maps = [3 + 2 * torch.randn(2, 1, size, size, generator=rng) for size in (4, 16)]
    standardise(maps)
    for noise in maps:
        torch.testing.assert_close(noise.mean(dim=(1, 2, 3)), torch.zeros(2), rtol=0, atol=1e-5)
        torch.testing.assert_close(noise.square().mean(dim=(1, 2, 3)), torch.ones(2), rtol=1e-5, atol=0)


def test_pixels_that_overshoot_are_cut_and_can_come_back():
    images = torch.tensor([-2.0, 0.5, 3.0], requires_grad=True)
    shown = cut(images)
    torch.testing.assert_close(shown, torch.tensor([-1.0, 0.5, 1.0]))
    shown.sum().backward()
    assert images.grad.tolist() == [1, 1, 1]


def test_a_generator_of_16_bits_is_searched_in_32(rng):
    gan = gan_of(rng, 128, 8)
    in_half = replace(gan.config, half_levels=2)
    halved = Generator(in_half, rng).requires_grad_(False)
    halved.load_state_dict(gan.generator.state_dict())
    projector = Projector(Gan(halved, gan.discriminator, [0, 1]), PerceptualLoss(flat), FAST, CPU)
    assert projector.generator.config.half_levels == 0


class SmallVgg(nn.Module):
    """VGG16's convolutions without the layers that hold nine tenths of its weights."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.features = make_layers(cfgs["D"])


def test_vgg16_features_are_five_layers_of_unit_length_averaged_over_pixels(rng):
    features = VggLoss(SmallVgg(), CPU, False)
    images = (torch.rand(2, 3, 32, 32, generator=rng) * 2 - 1).requires_grad_()
    found = features.features(images)
    blocks = zip((64, 128, 256, 512, 512), (32, 16, 8, 4, 2), strict=True)
    assert found.shape == (2, sum(channels * size**2 for channels, size in blocks))
    torch.testing.assert_close(found.square().sum(dim=1), torch.full((2,), 5.0), rtol=1e-2, atol=0)
    (gradient,) = torch.autograd.grad(found[:, ::7].sum(), images)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


def test_the_gap_of_vgg16_is_the_squared_distance_of_its_features(rng):
    loss = VggLoss(SmallVgg(), CPU, False)
    real, other = (torch.rand(2, 3, 32, 32, generator=rng) * 2 - 1 for _ in range(2))
    images = other.requires_grad_()
    expected = (loss.features(images) - loss.features(real)).square().sum(dim=1)
    gap = loss.towards(real)(images)
    torch.testing.assert_close(gap, expected, rtol=1e-4, atol=0)
    torch.testing.assert_close(
        *(torch.autograd.grad(value.sum(), images)[0] for value in (gap, expected)), rtol=1e-3, atol=1e-6
    )
    torch.testing.assert_close(loss.towards(real)(real), torch.zeros(2), rtol=0, atol=1e-5)


def test_pixels_where_every_channel_is_silent_have_a_gap_too(rng):
    x = torch.rand(2, 4, 3, 3, generator=rng, dtype=torch.float64)
    x[0, :, 1, 1] = 0
    unit = unit_channels(torch.rand(2, 4, 3, 3, generator=rng, dtype=torch.float64))
    unit[1, :, 0, 0] = 0
    expected = (unit_channels(x) - unit).square().sum(dim=1).mean(dim=(1, 2))
    torch.testing.assert_close(_UnitGap.apply(x, unit), expected)
    loud = torch.rand(2, 4, 3, 3, generator=rng, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: _UnitGap.apply(x, unit), (loud,))


def test_vgg16_sees_large_images_at_256_px():
    features = VggLoss(SmallVgg(), CPU, False)
    image = torch.linspace(-1, 1, 256).expand(1, 3, 256, 256)
    twice = image.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(features.features(twice), features.features(image))


def test_images_too_small_for_vgg16_are_refused():
    with pytest.raises(ValueError, match=r"vgg16 takes images of at least 16 px.*classifier"):
        VggLoss(SmallVgg(), CPU, False).features(torch.zeros(1, 3, 8, 8))


def test_weights_that_are_not_there_name_the_loss_that_works_offline(tmp_path):
    config = LossConfig("vgg16", Weights(str(tmp_path / "vgg16.pth"), None), False)
    with pytest.raises(FileNotFoundError, match=r"weights of vgg16 are not at .*set loss\.name to classifier"):
        build_loss(config, classifier_of(), CPU)


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match=r"one of classifier, vgg16, but 'lpips' came"):
        build_loss(LossConfig("lpips", OWN_WEIGHTS, False), classifier_of(), CPU)


class Unmet(Team):
    """A process of a team whose others have been here before."""

    def sum_(self, tensors):  # noqa: ARG002
        assert self.size > 1


def test_shares_of_two_processes_together_are_the_whole(rng, tmp_path):
    gan = gan_of(rng, 128, 8)
    pixels, labels = images_of(gan, 10, rng)
    projector = Projector(gan, PerceptualLoss(flat), replace(FAST, steps=2), CPU)
    calls = []

    def projector_of(label):
        calls.append(label)
        return projector

    def project(folder, team):
        return project_all(projector_of, pixels, labels, range(10), 2, tmp_path / folder, team)

    alone = project("alone", ALONE)
    assert project("shared", Unmet(1, 2)) is None
    assert len(list((tmp_path / "shared").iterdir())) == 3
    together = project("shared", Unmet(0, 2))
    assert all(a.equal(b) for a, b in zip(alone, together, strict=True))
    # Another number of processes goes on with the same batches.
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "shared").iterdir()}
    assert project("shared", ALONE).ws.equal(alone.ws)
    assert before == {file: file.stat().st_mtime_ns for file in (tmp_path / "shared").iterdir()}


def test_the_bar_counts_every_step(rng):
    gan = gan_of(rng, 128, 8)
    pixels, labels = images_of(gan, 2, rng)
    steps = []
    Projector(gan, PerceptualLoss(flat), FAST, CPU).project(pixels, labels, [0, 1], lambda: steps.append(1))
    assert len(steps) == FAST.steps


def write_inputs(folder: Path, rng: torch.Generator) -> None:
    """A GAN, a classifier and 10 images on the side of training, as the stage reads them."""
    gan = gan_of(rng, 128, 8)
    save_trained(folder / "gan/cgan", gan.generator, gan.discriminator, gan.classes, images_seen=1)
    save_classifier(folder / "classifier", classifier_of())
    pixels, labels = images_of(gan, 10, rng)
    ids = [f"image-{number}" for number in range(10)]
    write_archive(folder / "images.zip", ids, pixels.numpy(), labels.tolist())
    table = {"image_id": ids, "label": labels.numpy(), "split": "train", "hospital": "a", "group": range(10)}
    pd.DataFrame(table).to_csv(folder / "split.csv", index=False)


@pytest.mark.slow
def test_two_processes_write_what_one_does(rng, tmp_path):
    """`processes: 2` starts torchrun by itself, and its processes meet over gloo."""
    write_inputs(tmp_path, rng)
    section = {
        "images": 10,
        "loss": {"name": "classifier", "weights": {"path": None, "sha256": None}, "bfloat16": False},
        "projection": {**vars(FAST), "batch_size": 2, "map_weight": 100_000},
    }
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for processes in (1, 2):
        params = {"scale": "own", "scales": {"own": {"project_images": {**section, "processes": processes}}}}
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
        flags = ["--gan", "gan", "--images", "images.zip", "--split", "split.csv", "--classifier", "classifier"]
        for name in ("latents.safetensors", "distances.csv", "pairs.zip", "metrics.json"):
            flags += [f"--{name.split('.')[0]}", f"{processes}/{name}"]
        command = [sys.executable, ROOT / "stages/project_images.py", *flags]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    for file in sorted((tmp_path / "1").iterdir()):
        assert file.read_bytes() == (tmp_path / "2" / file.name).read_bytes(), file.name
    assert list(pd.read_csv(tmp_path / "2/distances.csv")) == ["image_id", "label", "distance_classifier"]
    assert "median_distance_classifier" in json.loads((tmp_path / "2/metrics.json").read_text())
    assert not list((tmp_path / ".checkpoints").rglob("*.*"))


class Echo:
    """Projects every image to itself, and its number to the distance."""

    config, device = FAST, CPU

    def project(self, pixels, labels, image_numbers, on_step):  # noqa: ARG002
        numbers = torch.tensor(image_numbers, dtype=torch.float32)
        return Projections(numbers[:, None, None], pixels, numbers.clone())


def test_projections_come_in_the_order_of_the_images_whatever_their_classes(rng, tmp_path):
    pixels = torch.randint(0, 256, (5, 3, 4, 4), generator=rng, dtype=torch.uint8)
    found = project_all(lambda _: Echo(), pixels, torch.tensor([1, 0, 1, 0, 0]), [7, 3, 9, 5, 4], 2, tmp_path)
    assert found.distances.tolist() == [7, 3, 9, 5, 4]
    assert found.pixels.equal(pixels)


class KilledError(Exception):
    pass


def test_a_batch_whose_writing_was_cut_off_is_projected_again(rng, tmp_path, monkeypatch):
    pixels = torch.randint(0, 256, (4, 3, 4, 4), generator=rng, dtype=torch.uint8)

    def project():
        return project_all(lambda _: Echo(), pixels, torch.zeros(4, dtype=torch.int64), [7, 3, 9, 5], 2, tmp_path)

    def killed(tensors, path):
        Path(path).write_bytes(b"half a batch")
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr("skinsynth.projection.archive.save_file", killed)
        with pytest.raises(KilledError):
            project()
    assert project().distances.tolist() == [7, 3, 9, 5]


def test_the_gap_is_the_squared_distance_of_the_features(rng):
    real, images = torch.randn(2, 4, 3, 8, 8, generator=rng)
    gap = PerceptualLoss(flat).towards(real)(images)
    torch.testing.assert_close(gap, (images - real).square().sum(dim=(1, 2, 3)))


def test_vgg16_is_tapped_behind_its_rectifiers(rng):
    images = torch.rand(2, 3, 32, 32, generator=rng) * 2 - 1
    assert (VggLoss(SmallVgg(), CPU, False).features(images) >= 0).all()
