"""The way through 16 bits and another device, on tensors without contents: what a GPU would be given.

Sizes, types and devices are checked by PyTorch as on a GPU; values are not, and nothing is timed.
"""

import dataclasses

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.count_operators import META, Gpu, MetaGenerator, MetaTrainer, counted, counted_projection
from skinsynth.classifier.classifier import Architecture, Classifier
from skinsynth.classifier.networks import build_network
from skinsynth.classifier.training import Examples, _resident
from skinsynth.directions.learnt import Critics, LearningConfig, learn_vector
from skinsynth.gan.discriminator import Discriminator
from skinsynth.gan.generator import Generator
from skinsynth.gan.layers import HALF_TYPES
from skinsynth.privacy.thumbnails import nearest_in_any_orientation, thumbnails
from tests.pretended_gpu import forget_constants
from tests.test_gan_trainer import CONFIG

ONE_A_SECOND = Gpu(1.0, {2: 1.0, 4: 1.0}, 1.0)


@pytest.fixture(autouse=True, scope="module")
def nothing_kept():
    """Tensors without contents that functions of ours would keep meet no others."""
    forget_constants()
    yield
    forget_constants()


def config_of(channels=8, **changes):
    sizes = {"channel_base": 8 * channels, "channel_max": channels, "activation_clamp": 256.0, "half_levels": 2}
    how = {key: changes.pop(key) for key in ("half_type", "class_count") if key in changes}
    architecture = changes.pop("architecture", "resnet")
    return dataclasses.replace(
        CONFIG,
        generator=dataclasses.replace(CONFIG.generator, **sizes, **how),
        discriminator=dataclasses.replace(CONFIG.discriminator, **sizes, **how, architecture=architecture),
        **changes,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"half_type": "float16"},
        {"half_type": "bfloat16", "class_count": 0},
        {"half_type": "float16", "architecture": "skip"},
        {"half_type": "bfloat16", "architecture": "orig"},
        {"half_type": "float16", "images_per_pass": 2},
    ],
    ids=str,
)
def test_every_update_fits_together_in_16_bits_away_from_the_cpu(changes):
    counts = counted(MetaTrainer(config_of(**changes)), ONE_A_SECOND)
    assert all(count["tflop"] > 0 for count in counts["updates"].values())


@pytest.mark.parametrize(("name", "half_type"), HALF_TYPES.items())
def test_the_top_levels_and_no_others_are_computed_in_16_bits(rng, name, half_type):
    types = {}

    def note(block, _, made):
        types[block] = (made[0] if isinstance(made, tuple) else made).dtype

    config, sizes = config_of(), {"resolution": 16, "half_levels": 2, "half_type": name}
    generator = Generator(dataclasses.replace(config.generator, **sizes), rng).to("meta")
    discriminator = Discriminator(dataclasses.replace(config.discriminator, **sizes), rng).to("meta")
    for network in (generator.synthesis, discriminator):
        for level in (4, 8, 16):
            network.get_submodule(f"b{level}").register_forward_hook(note)
    ws = torch.empty(2, generator.synthesis.layer_count, generator.config.w_size, device="meta")
    images = generator.synthesis(ws, "none")
    logits = discriminator(images, torch.empty(2, 2, device="meta"))
    assert list(types.values()) == [torch.float32, half_type, half_type, half_type, half_type, torch.float32]
    assert images.dtype == logits.dtype == torch.float32


def test_no_update_runs_an_operator_for_each_channel():
    # The first also makes constants, which are kept.
    _, few, many = (counted(MetaTrainer(config_of(channels)), ONE_A_SECOND)["updates"] for channels in (8, 8, 32))
    # A step's decisions are drawn: some transforms meet no image and fall out.
    for update, count in few.items():
        assert many[update]["operators"] == count["operators"], update


@pytest.mark.slow
def test_memory_that_is_alive_grows_with_the_batch():
    peaks = [
        counted(MetaTrainer(config_of(batch_size=size)), ONE_A_SECOND)["updates"]["R1"]["peak_gigabytes"]
        for size in (4, 64)
    ]
    assert peaks[1] > 4 * peaks[0]


def test_tensors_of_two_devices_do_not_meet_unseen():
    trainer = MetaTrainer(config_of())
    trainer.generator.mapping.fc0.to_empty(device="cpu")
    with pytest.raises(RuntimeError, match="device"):
        trainer.updates()["generator"][0]()


@pytest.mark.slow
def test_a_step_of_projection_fits_together_away_from_the_cpu():
    one, two = (counted_projection(images, True, ONE_A_SECOND) for images in (1, 2))
    assert two["operators"] == one["operators"]
    assert two["tflop"] > 1.9 * one["tflop"]


def test_copies_are_sought_where_the_thumbnails_lie():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), np.uint8)
    with FakeTensorMode():
        gaps, partners = nearest_in_any_orientation(pixels, thumbnails(pixels).to("cuda"))
    assert (gaps.shape, gaps.device.type, partners.device.type) == ((3,), "cpu", "cpu")


GPU = torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("free", "kept", "where"), [(79, 0, "cuda"), (45, 34, "cuda"), (45, 0, "cpu"), (10, 34, "cpu")]
)
def test_pixels_lie_on_the_gpu_whatever_an_earlier_training_has_left_there(monkeypatch, free, kept, where):
    # 140,000 images of 256 px, in GB, on a GPU of 80: a dose of 4.
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda _: (free * 10**9, 80 * 10**9))
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda _: (kept + 1) * 10**9)
    monkeypatch.setattr("torch.cuda.memory_allocated", lambda _: 10**9)
    with FakeTensorMode():
        pixels, labels = torch.empty(140_000, 3, 256, 256, dtype=torch.uint8), torch.empty(140_000, dtype=torch.int64)
        resident = _resident(Examples(pixels, labels), GPU)
    assert (resident.pixels.device.type, resident.labels.device.type) == (where, "cuda")


def laid_on_the_gpu(network):
    """A network with weights without contents there; `to` does not know such tensors."""
    for module in network.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                there = torch.empty_like(tensor, device=GPU)
                held[name] = torch.nn.Parameter(there) if held is module._parameters else there
    return network


@pytest.mark.parametrize("pixels_lie", ["cpu", "cuda"])
def test_a_classifier_answers_where_its_weights_lie(pixels_lie):
    network = build_network("cnn-108k", 2, False, 0.1)
    with FakeTensorMode(allow_non_fake_inputs=True):
        classifier = Classifier(laid_on_the_gpu(network), Architecture("cnn-108k", 2, 0.1))
        pixels = torch.zeros(5, 3, 32, 32, dtype=torch.uint8, device=pixels_lie)
        features, probabilities = classifier.examine(pixels)
        answers = [features, probabilities, classifier.embed(pixels), classifier.probabilities(pixels)]
    assert [answer.device for answer in answers] == 4 * [GPU]


def test_a_learnt_move_fits_together_away_from_the_cpu(rng):
    generator = Generator(CONFIG.generator, rng).requires_grad_(False).to(META)
    w = torch.empty(6, CONFIG.generator.w_size, device=META)
    critics = Critics(
        artefact=lambda images: images.mean(dim=(1, 2, 3)),
        changes=lambda before, after: [(after - before).abs().mean(dim=(1, 2, 3))],
    )
    learning = LearningConfig(steps=2, learning_rate=0.1, batch_size=4)
    vector = learn_vector(generator, w, w.std(dim=0), (0, 2), critics, learning, MetaGenerator())
    assert (vector.device, vector.shape) == (META, (CONFIG.generator.w_size,))
