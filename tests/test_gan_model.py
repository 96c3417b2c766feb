"""A GAN's files, its samples and its cost."""

import json

import pytest
import torch

from skinsynth.gan.discriminator import Discriminator, DiscriminatorConfig
from skinsynth.gan.family import Cost, Family, load_family, save_trained
from skinsynth.gan.generator import Generator, GeneratorConfig
from skinsynth.gan.model import (
    FORMAT,
    Gan,
    flops_per_image,
    load_gan,
    sample_images,
    save_gan,
    training_flops_per_image,
)


def networks_of(class_count):
    rng = torch.Generator().manual_seed(0)
    generator = Generator(GeneratorConfig(8, 3, 6, 6, class_count, 2, 64, 8, None, 0, "float16", False), rng)
    return generator, Discriminator(
        DiscriminatorConfig(8, 3, class_count, 2, 64, 8, "resnet", 2, 1, None, 0, "float16", False), rng
    )


@pytest.fixture
def folder(tmp_path):
    save_gan(tmp_path / "gan", *networks_of(2), classes=[4, 1])
    return tmp_path / "gan"


def test_a_saved_gan_comes_back(folder, rng):
    generator, discriminator = networks_of(2)
    gan = load_gan(folder, "cpu")
    z = torch.randn(3, 6, generator=rng)
    expected = generator(z, torch.eye(2)[[1, 0, 1]]).clamp(-1, 1)
    assert torch.equal(gan.sample(z, torch.tensor([1, 4, 1])), expected)
    assert gan.classes == [4, 1]
    assert gan.config == generator.config
    assert gan.discriminator.config == discriminator.config


def test_saving_again_replaces_the_folder_whole(folder):
    (folder / "left over").touch()
    save_gan(folder, *networks_of(0), classes=[1])
    assert sorted(file.name for file in folder.iterdir()) == [
        "config.json",
        "discriminator.safetensors",
        "generator.safetensors",
    ]


def test_samples_do_not_depend_on_the_batch_size(folder):
    gan = load_gan(folder, "cpu")
    labels = torch.tensor([4, 1, 1, 4, 1])
    pixels = [sample_images(gan, labels, size, torch.Generator().manual_seed(1), 0.7) for size in (2, 5)]
    assert pixels[0].shape == (5, 3, 8, 8)
    assert (pixels[0].int() - pixels[1].int()).abs().max() <= 1


def test_no_samples_are_an_empty_tensor(folder, rng):
    assert sample_images(load_gan(folder, "cpu"), torch.zeros(0, dtype=torch.int64), 4, rng).shape == (0, 3, 8, 8)


def test_an_unconditional_gan_makes_the_labels_it_was_trained_on(rng):
    gan = Gan(*networks_of(0), classes=[1])
    assert gan.sample(torch.randn(2, 6, generator=rng), torch.tensor([1, 1])).shape == (2, 3, 8, 8)
    with pytest.raises(ValueError, match=r"makes the labels \[1\]"):
        gan.sample(torch.randn(2, 6, generator=rng), torch.tensor([1, 0]))


def test_samples_stay_in_range(rng):
    gan = Gan(*networks_of(0), classes=[0])
    with torch.no_grad():
        gan.generator.synthesis.b8.torgb.bias.fill_(9.0)
    assert gan.sample(torch.randn(2, 6, generator=rng), torch.tensor([0, 0])).max() == 1


def test_images_of_a_gan_that_makes_every_class_are_held_once(folder, monkeypatch):
    made = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    monkeypatch.setattr("skinsynth.gan.family.sample_images", lambda *_: made)
    family, rng = Family({"cgan": load_gan(folder, "cpu")}, {}), torch.Generator()
    assert family.sample(torch.tensor([1, 4]), 2, rng, 1.0).data_ptr() == made.data_ptr()


def test_broken_folders_are_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        load_gan(tmp_path / "nothing", "cpu")
    (folder / "generator.safetensors").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"generator\.safetensors"):
        load_gan(folder, "cpu")
    (folder / "generator.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"generator\.safetensors"):
        load_gan(folder, "cpu")
    index = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(index | {"format": "another"}))
    with pytest.raises(ValueError, match="another"):
        load_gan(folder, "cpu")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: {"format": FORMAT},
        lambda index: index | {"generator": None},
        lambda index: index | {"classes": 2},
        lambda index: index | {"discriminator": index["discriminator"] | {"resolution": "8"}},
        lambda index: [index],
    ],
)
def test_an_index_that_is_of_no_gan_is_named_in_one_line(folder, spoil):
    file = folder / "config.json"
    file.write_text(json.dumps(spoil(json.loads(file.read_text()))))
    with pytest.raises(ValueError, match=r"gan/config\.json (is of no GAN of ours|says format None).*: train[^\n]*$"):
        load_gan(folder, "cpu")


def test_an_index_that_was_cut_off_is_named(folder):
    whole = (folder / "config.json").read_text()
    (folder / "config.json").write_text(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"gan/config\.json is damaged \(.*train the GAN again$"):
        load_gan(folder, "cpu")


@pytest.mark.parametrize("damaged", ["{}", "[]", '{"images_seen": 1', '{"images": 1, "flops_per_image": 2}'])
def test_a_gan_without_its_cost_is_named(folder, damaged):
    with pytest.raises(
        FileNotFoundError, match=r"its cost\.json beside its weights, but .*gan has none: train it again"
    ):
        load_family([folder], torch.device("cpu"))
    (folder / "cost.json").write_text(damaged)
    with pytest.raises(ValueError, match=r"gan/cost\.json says no cost of a GAN \(.*train it again$"):
        load_family([folder], torch.device("cpu"))
    generator, discriminator = networks_of(0)
    save_trained(folder, generator, discriminator, [1], images_seen=3)
    assert load_family([folder], torch.device("cpu")).cost() == Cost(3, flops_per_image(generator))


def test_a_conditional_gan_names_as_many_labels_as_it_has_classes(tmp_path):
    with pytest.raises(ValueError, match="one label per class"):
        save_gan(tmp_path / "gan", *networks_of(2), classes=[0])


def test_operations_are_counted():
    """By hand for 8 px and 8 feature maps: 3x3 convolutions at 4, up to 9 and at 8 px, depthwise filter, toRGB."""
    generator, discriminator = networks_of(0)
    convolutions = 2 * 9 * 8 * 8 * (16 + 16 + 64)
    assert convolutions < flops_per_image(generator) < 1.5 * convolutions
    assert training_flops_per_image(generator, discriminator) > 6 * flops_per_image(generator)
    assert all(parameter.grad is None for parameter in generator.parameters())


def test_samples_truncated_to_zero_are_all_the_image_of_the_mean(folder, rng):
    pixels = sample_images(load_gan(folder, "cpu"), torch.tensor([4, 1, 1, 4, 1]), 2, rng, 0.0)
    assert (pixels == pixels[:1]).all()
