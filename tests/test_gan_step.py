"""One step against the losses of the papers, written out here once more, and the images and classes it is given."""

import copy
import dataclasses
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from skinsynth.gan import trainer as training
from skinsynth.gan.batches import TrainingImages
from skinsynth.gan.discriminator import Discriminator
from skinsynth.gan.generator import Generator
from skinsynth.gan.trainer import StepReport
from tests.test_gan_trainer import CONFIG, trainer_of

STEP = dataclasses.replace(CONFIG, batch_size=8, style_mixing_probability=0.0)
# What augmentation does to a pixel here, and each component of the noise that path lengths are taken along.
AUGMENTED, ALONG = 0.5, 1 / 8


@dataclass
class RecordedStep:
    """A step whose updates are recorded but not made, so that all of them are at the weights of the start."""

    generator: Generator
    discriminator: Discriminator
    gradients: list[dict[str, Tensor]] = field(default_factory=list)  # of each update, by the name of the weight
    latents: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # z and c of each mapping
    noise_modes: list[str] = field(default_factory=list)
    real: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # images and classes
    report: StepReport | None = None

    def fakes(self, number: int) -> tuple[Tensor, Tensor]:
        z, c = self.latents[number]
        return self.generator(z, c, noise_mode="none"), c  # the noise has no strength yet

    def logits(self, images: Tensor, c: Tensor) -> Tensor:
        return self.discriminator(AUGMENTED * images, c)

    def discriminator_loss(self) -> Tensor:
        return softplus(-self.logits(*self.real[0])).mean() + softplus(self.logits(*self.fakes(2))).mean()

    def assert_update(self, number: int, network: nn.Module, loss: Tensor) -> None:
        """The step's update with this number was along the gradient of this loss."""
        found = self.gradients[number]
        # How strong the noise is to be depends on the noise.
        names = {name: weight for name, weight in network.named_parameters() if not name.endswith("noise_strength")}
        wanted = torch.autograd.grad(loss, list(names.values()), allow_unused=True, materialize_grads=True)
        assert any(gradient.any() for gradient in wanted)
        for (name, weight), gradient in zip(names.items(), wanted, strict=True):
            torch.testing.assert_close(
                found.get(name, torch.zeros_like(weight)), gradient, rtol=1e-3, atol=1e-5, msg=f"gradient of {name}"
            )


@pytest.fixture(scope="module")
def step() -> RecordedStep:
    trainer = trainer_of(STEP)
    networks = copy.deepcopy(trainer.generator), copy.deepcopy(trainer.discriminator).requires_grad_(True)
    recorded = RecordedStep(*networks)
    adams = {trainer.generator_adam: trainer.generator, trainer.discriminator_adam: trainer.discriminator}
    batch = trainer.data.batch
    trainer.generator.mapping.register_forward_pre_hook(lambda _, inputs: recorded.latents.append(inputs))
    trainer.generator.synthesis.register_forward_pre_hook(lambda _, inputs: recorded.noise_modes.append(inputs[1]))

    def record(network: nn.Module) -> None:
        weights = network.named_parameters()
        recorded.gradients.append({name: weight.grad.clone() for name, weight in weights if weight.grad is not None})

    def record_batch(*which: object) -> tuple[Tensor, Tensor]:
        recorded.real.append(batch(*which))
        return recorded.real[-1]

    with pytest.MonkeyPatch.context() as patch:
        for adam, network in adams.items():
            patch.setattr(adam, "step", lambda network=network: record(network))
        patch.setattr(trainer.data, "batch", record_batch)
        patch.setattr(training, "augment", lambda images, *_: AUGMENTED * images)
        patch.setattr(training, "path_noise", lambda images, _: torch.full_like(images, ALONG))
        recorded.report = trainer.step()
    return recorded


def test_the_generator_is_to_raise_the_logits_of_augmented_fakes(step):
    step.assert_update(0, step.generator, softplus(-step.logits(*step.fakes(0))).mean())


def test_path_lengths_are_drawn_to_their_running_mean_with_the_weight_of_an_interval(step):
    z, c = step.latents[1]
    assert len(z) == STEP.batch_size // 2
    ws = step.generator.mapping(z, c)
    images = step.generator.synthesis(ws, "none")
    (slope,) = torch.autograd.grad((images * ALONG).sum(), ws, create_graph=True)
    lengths = slope.square().sum(dim=2).mean(dim=1).sqrt()
    mean = STEP.path_length_decay * lengths.mean().detach()  # the running mean starts at 0
    penalty = STEP.path_length_weight * (lengths - mean).square().mean()
    step.assert_update(1, step.generator, STEP.path_length_interval * penalty)
    assert step.report.path_length == pytest.approx(mean.item(), rel=1e-4)


def test_the_discriminator_tells_augmented_images_from_augmented_fakes_of_their_own_classes(step):
    loss = step.discriminator_loss()
    step.assert_update(2, step.discriminator, loss)
    assert step.report.discriminator_loss == pytest.approx(loss.item(), rel=1e-4)


def test_r1_is_the_slope_at_images_before_their_augmentation_with_the_weight_of_an_interval(step):
    images, classes = step.real[0]
    images = images.clone().requires_grad_()
    (slope,) = torch.autograd.grad(step.logits(images, classes).sum(), images, create_graph=True)
    penalty = STEP.r1_gamma / 2 * slope.square().sum(dim=(1, 2, 3)).mean()
    step.assert_update(3, step.discriminator, STEP.r1_interval * penalty)
    assert step.report.r1 == pytest.approx(penalty.item(), rel=1e-4)


def test_the_strength_is_steered_by_the_signs_at_augmented_real_images(step):
    real_sign, fake_sign = (step.logits(*some).sign().mean().item() for some in (step.real[0], step.fakes(2)))
    assert real_sign != fake_sign
    assert step.report.real_sign == pytest.approx(real_sign)


def test_all_fakes_of_a_step_have_noise_of_their_own(step):
    assert step.noise_modes == ["random"] * 3
    assert len(step.gradients) == 4


def test_a_step_hands_the_buffers_on_to_the_average():
    trainer = trainer_of()
    trainer.step()
    averaged, latest = (dict(network.named_buffers()) for network in (trainer.generator_ema, trainer.generator))
    assert latest["mapping.w_avg"].any()
    assert averaged.keys() == latest.keys()
    assert [name for name in latest if not torch.equal(averaged[name], latest[name])] == []


@pytest.mark.parametrize("adam", ["generator_adam", "discriminator_adam"])
def test_adam_hardly_smooths(adam):
    assert getattr(trainer_of(), adam).param_groups[0]["eps"] == 1e-8


def training_images(classes: list[int], x_flip: bool = False) -> TrainingImages:
    """Images of which the left half is white and the right one black, except that the first row tells their class."""
    labels = torch.tensor(classes)
    images = torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8)
    images[:, :, 1, 0] = 255
    images[:, :, 0] = 255 * labels[:, None, None].to(torch.uint8)
    return TrainingImages(images, labels, 2, torch.device("cpu"), x_flip=x_flip, seed=0)


@pytest.mark.parametrize(("x_flip", "share"), [(True, 0.5), (False, 0.0)])
def test_half_of_the_images_are_mirrored_where_asked_for_and_else_none(rng, x_flip, share):
    real, classes = training_images([0, 1] * 500, x_flip).batch(0, 4000, rng)
    mirrored = real[:, 0, 1, 0] < real[:, 0, 1, 1]
    assert mirrored.float().mean() == pytest.approx(share, abs=0.03 if x_flip else 0)
    # Either way each keeps its class.
    assert torch.equal(real[:, 0, 0] > 0, classes[:, 1:].bool().expand(-1, 2))


def test_fakes_are_of_each_class_as_often_as_images_are(rng):
    drawn = training_images([0] * 90 + [1] * 10).drawn_classes(4000, rng)
    assert drawn.sum(dim=1).unique().tolist() == [1]
    assert drawn.mean(dim=0).tolist() == pytest.approx([0.9, 0.1], abs=0.02)


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_styles_of_fakes_are_mixed_as_often_as_asked_for(probability):
    trainer, given = trainer_of(dataclasses.replace(STEP, style_mixing_probability=probability)), []
    trainer.generator.synthesis.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].detach()))
    trainer.step()
    for ws in (given[0], given[2]):  # of both main updates
        assert ((ws[:, -1] != ws[:, 0]).any(dim=1)).float().mean() == probability


def test_latents_are_not_drawn_from_the_numbers_that_decide():
    trainer = trainer_of()
    decisions, latents = (torch.rand(8, generator=rng) for rng in (trainer.decisions, trainer.rng))
    assert not torch.equal(decisions, latents)


def test_the_ramp_of_the_average_counts_the_batch_that_was_just_seen():
    trainer = trainer_of(dataclasses.replace(STEP, ema_rampup=1.0))
    trainer.step()
    averaged, latest = (network.synthesis.b8.conv1.weight for network in (trainer.generator_ema, trainer.generator))
    before = averaged.clone()
    trainer.step()
    # The half-life is that of two batches.
    torch.testing.assert_close(averaged, before.lerp(latest, 1 - 0.5**0.5), rtol=0, atol=1e-6)
