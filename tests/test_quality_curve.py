"""Points of the curve of FID and KID: the same latents at each, classes as in training, KID in percent."""

import dataclasses

import numpy as np
import pytest
import torch

from skinsynth.quality.by_class import Labelled
from skinsynth.quality.curve import CurveScorer
from skinsynth.quality.fid import frechet_distance
from skinsynth.quality.kid import kernel_distance
from tests.test_federated_hospital import tiny_trainer


class Colours:
    """Mean colour of each image: features whose distances are known."""

    name, dim = "colours", 3

    def __call__(self, pixels):
        return torch.as_tensor(np.asarray(pixels)).float().mean(dim=(2, 3)) / 255


@pytest.fixture(scope="module")
def trainer():
    return tiny_trainer()


@pytest.fixture
def scorer(trainer):
    rng = torch.Generator().manual_seed(0)
    real = Labelled(torch.rand(40, 3, generator=rng), (torch.arange(40) % 4 == 0).long())
    return CurveScorer(Colours(), real, [0, 1], trainer.discriminator, images=20, batch_size=8, seed=1)


def test_a_point_is_fid_and_kid_in_percent_of_the_generator_s_images(scorer, trainer):
    fake = Colours()(scorer.sample(trainer.generator, 20))
    assert scorer(trainer.generator) == {
        "fid_colours": pytest.approx(frechet_distance(scorer.real.features, fake)),
        "kid_colours_percent": pytest.approx(100 * kernel_distance(scorer.real.features, fake)),
    }


def test_points_differ_by_the_generator_alone(scorer, trainer):
    assert scorer(trainer.generator) == scorer(trainer.generator)
    other = dataclasses.replace(scorer, seed=2)
    assert not torch.equal(other.sample(trainer.generator, 20), scorer.sample(trainer.generator, 20))


def test_classes_are_drawn_as_often_as_they_are_real(scorer, trainer, monkeypatch):
    def labels_as_pixels(_, labels, *__):
        return labels.to(torch.uint8)[:, None, None, None].expand(-1, 3, 8, 8)

    monkeypatch.setattr("skinsynth.quality.curve.sample_images", labels_as_pixels)
    assert scorer.sample(trainer.generator, 20)[:, 0, 0, 0].tolist() == [0] * 15 + [1] * 5
