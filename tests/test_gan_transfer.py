"""Training that starts from the weights of another GAN."""

import dataclasses

import pytest
import torch

from skinsynth.gan.model import save_gan
from skinsynth.gan.presets import PresetConfig
from skinsynth.gan.transfer import initial_weights, read_networks, start_all, start_from
from tests.test_gan_trainer import CONFIG, Trainer, toy_images, trainer_of

PRESET = PresetConfig("auto", x_flip=True, seed=1)


def of_classes(count):
    """The settings for another number of classes."""
    sizes = {
        side: dataclasses.replace(getattr(CONFIG, side), class_count=count) for side in ("generator", "discriminator")
    }
    return dataclasses.replace(CONFIG, **sizes, seed=5)


@pytest.fixture
def teacher(tmp_path):
    """A folder with an unconditional GAN after a few steps."""
    trainer = Trainer(of_classes(0), *toy_images(CONFIG), "cpu")
    for _ in range(3):
        trainer.step()
    save_gan(tmp_path / "teacher", trainer.generator_ema, trainer.discriminator, [0])
    return tmp_path / "teacher"


def test_all_weights_of_an_equal_gan_are_taken(teacher):
    networks = read_networks(teacher)
    pupil = Trainer(of_classes(0), *toy_images(CONFIG), "cpu")
    assert start_from(pupil, *networks) == []
    for own, given in zip(
        (pupil.generator, pupil.generator_ema, pupil.discriminator), (networks[0], *networks), strict=True
    ):
        assert all(torch.equal(own.state_dict()[name], weight) for name, weight in given.state_dict().items())
    pupil.step()


def test_classes_are_added_to_an_unconditional_gan(teacher):
    pupil = trainer_of()
    own = start_from(pupil, *read_networks(teacher))
    assert "generator.mapping.embed.weight" in own
    assert "discriminator.mapping.fc0.weight" in own
    # The last layer makes a vector instead of one number.
    assert "discriminator.b4.out.weight" in own
    assert not any("synthesis" in name or name.startswith("discriminator.b8") for name in own)
    pupil.step()


def test_frozen_levels_stay_those_of_the_teacher(teacher):
    generator, discriminator = read_networks(teacher)
    pupil = trainer_of(dataclasses.replace(CONFIG, frozen_levels=1))
    start_from(pupil, generator, discriminator)
    for _ in range(2):
        pupil.step()
    assert torch.equal(pupil.discriminator.b8.conv1.weight, discriminator.b8.conv1.weight)
    assert not torch.equal(pupil.discriminator.b4.conv.weight, discriminator.b4.conv.weight)


def test_weights_that_are_not_taken_are_not_frozen(teacher):
    networks = read_networks(teacher)
    sizes = {side: dataclasses.replace(getattr(CONFIG, side), resolution=16) for side in ("generator", "discriminator")}
    config = dataclasses.replace(CONFIG, **sizes, frozen_levels=1)
    with pytest.raises(ValueError, match=r"random: discriminator\.b16"):
        start_from(trainer_of(config), *networks)


def test_a_gan_of_other_sizes_is_refused_with_what_to_set(teacher):
    sizes = {
        "generator": dataclasses.replace(CONFIG.generator, channel_max=16, w_size=12),
        "discriminator": dataclasses.replace(CONFIG.discriminator, channel_max=16),
    }
    pupil = trainer_of(dataclasses.replace(CONFIG, **sizes))
    with pytest.raises(ValueError, match="set these as they are there: ") as refused:
        start_from(pupil, *read_networks(teacher))
    generator, discriminator = CONFIG.generator, CONFIG.discriminator
    assert str(refused.value).split("are there: ", 1)[1].split(", ") == [
        f"generator.w_size {generator.w_size} (here 12)",
        f"generator.channel_max {generator.channel_max} (here 16)",
        f"discriminator.channel_max {discriminator.channel_max} (here 16)",
    ]


def test_a_published_pickle_is_a_teacher_too(golden):
    generator, discriminator = read_networks(golden / "network_snapshot_16.pkl")
    config = dataclasses.replace(CONFIG, generator=generator.config, discriminator=discriminator.config, batch_size=6)
    pupil = Trainer(config, *toy_images(config), "cpu")
    assert start_from(pupil, generator, discriminator) == []
    assert pupil.step().images_seen == 6


def test_all_trainers_begin_with_the_weights_of_one_place(teacher):
    pupils = [Trainer(dataclasses.replace(of_classes(0), seed=seed), *toy_images(CONFIG), "cpu") for seed in (1, 2)]
    assert start_all(pupils, []) == []
    assert not torch.equal(pupils[0].generator.mapping.fc0.weight, pupils[1].generator.mapping.fc0.weight)
    starting, average = start_all(pupils, [teacher])
    assert starting == f"starting from {teacher}, but from noise: nothing"
    assert "forgets these weights, since ema_rampup is 0.05: set it to null" in average
    first, second = (pupil.generator.state_dict() for pupil in pupils)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_average_that_keeps_its_weights_is_not_spoken_of(teacher):
    pupil = Trainer(dataclasses.replace(of_classes(0), ema_rampup=None), *toy_images(CONFIG), "cpu")
    assert start_all([pupil], [teacher]) == [f"starting from {teacher}, but from noise: nothing"]


def test_initial_weights_are_one_place_or_none(teacher):
    assert initial_weights(teacher.parent, None, 0, None) == []
    assert initial_weights(teacher.parent, None, 0, PRESET) == []
    assert initial_weights(teacher.parent, "teacher", 1, dataclasses.replace(PRESET, transfer=True)) == [teacher]


def test_a_preset_for_transfer_is_refused_without_weights_to_start_from(tmp_path):
    with pytest.raises(ValueError, match=r"^transfer: true is for weights of start_from, but that is null: set it"):
        initial_weights(tmp_path, None, 0, dataclasses.replace(PRESET, transfer=True))
