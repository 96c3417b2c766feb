"""The classifier: its networks, what training looks at, and its files."""

import json
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from skinsynth.classifier import scenario, training
from skinsynth.classifier.augmentation import augment
from skinsynth.classifier.classifier import Architecture, Classifier, load_classifier, normalise, save_classifier
from skinsynth.classifier.networks import build_network
from skinsynth.classifier.training import (
    BALANCES,
    ClassifierConfig,
    Examples,
    class_weights,
    mean_auc,
    train_classifier,
)
from skinsynth.images.archive import write_archive

CPU = torch.device("cpu")
CONFIG = ClassifierConfig(
    network="cnn-108k",
    pretrained=False,
    dropout=0.1,
    epochs=6,
    patience=6,
    learning_rate=2e-3,
    batch_size=16,
    rotation_degrees=30.0,
    flips=True,
    balance="none",
    plateau_factor=0.5,
    plateau_patience=1,
    mixed_precision=False,
    seeds=(0,),
)


def examples(rng, count, classes=2):
    """Dark, and ever brighter, noisy images of 20 px."""
    labels = torch.arange(count) % classes
    noise = torch.randint(-40, 40, (count, 3, 20, 20), generator=rng)
    return Examples((60 + 60 * labels[:, None, None, None] + noise).clamp(0, 255).to(torch.uint8), labels)


@pytest.fixture(scope="module")
def trained():
    rng = torch.Generator().manual_seed(0)
    train, validation = examples(rng, 64), examples(rng, 32)
    return train_classifier(train, validation, CONFIG, 2, 3, CPU)


def weights_of(classifier):
    return torch.cat([tensor.flatten() for tensor in classifier.network.state_dict().values()])


def test_the_compact_cnn_has_the_papers_parameters_with_one_output():
    network = build_network("cnn-108k", 1, pretrained=False, dropout=0.2)
    assert sum(parameter.numel() for parameter in network.parameters()) == 108_225


def test_the_compact_cnn_has_the_papers_maps_at_32_px():
    body = build_network("cnn-108k", 2, pretrained=False, dropout=0.2).body
    sizes, x = [], torch.zeros(1, 3, 32, 32)
    for layer in body:
        x = layer(x)
        sizes.append(x.shape[-1])
    assert list(dict.fromkeys(sizes)) == [32, 16, 15, 8, 7, 3, 2, 512]


def test_the_compact_cnn_pools_before_it_rectifies_and_says_the_same_as_the_papers_order(rng):
    body = build_network("cnn-108k", 2, pretrained=False, dropout=0.0).body
    convolutions = [layer for layer in body if isinstance(layer, torch.nn.Conv2d)]
    pools = [layer for layer in body if isinstance(layer, torch.nn.MaxPool2d | torch.nn.AdaptiveAvgPool2d)]
    images = x = torch.randn(3, 3, 32, 32, generator=rng)
    for convolution, pool in zip(convolutions, pools, strict=True):
        x = pool(convolution(x).relu())
    torch.testing.assert_close(body(images), x.flatten(1))


@pytest.mark.parametrize("name", ["cnn-108k", "resnet18"])
def test_networks_lie_channels_last_and_so_do_loaded_ones(name, tmp_path):
    network = build_network(name, 2, pretrained=False, dropout=0.0)
    save_classifier(tmp_path / "model", Classifier(network, Architecture(name, 2, 0.0)))
    for found in (network, load_classifier(tmp_path / "model", CPU).network):
        kernels = [weight for weight in found.parameters() if weight.dim() == 4]
        assert kernels
        assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


@pytest.mark.parametrize("size", [20, 33, 64])
def test_the_compact_cnn_takes_other_sizes(size):
    network = build_network("cnn-108k", 3, pretrained=False, dropout=0.2)
    assert network(torch.zeros(2, 3, size, size)).shape == (2, 3)


def test_images_too_small_for_the_compact_cnn_are_refused():
    with pytest.raises(ValueError, match="at least 20 px, but these have 16 x 16"):
        build_network("cnn-108k", 2, pretrained=False, dropout=0.2)(torch.zeros(1, 3, 16, 16))


def test_the_compact_cnn_has_no_imagenet_weights():
    with pytest.raises(ValueError, match="`pretrained: false`"):
        build_network("cnn-108k", 2, pretrained=True, dropout=0.2)


@pytest.mark.parametrize(("name", "dim"), [("resnet18", 512), ("mobilenetv3_small_050", 1024), ("googlenet", 1024)])
def test_networks_of_the_libraries_stand_behind_the_same_head(name, dim):
    network = build_network(name, 3, pretrained=False, dropout=0.2).eval()
    assert network.body(torch.zeros(2, 3, 32, 32)).shape == (2, dim)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 3)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "levit_128s"])
def test_networks_of_one_size_are_built_for_the_images_and_loaded_so(name, rng, tmp_path):
    pixels = examples(rng, 4).pixels.repeat(1, 1, 2, 2)[:, :, :32, :32]
    network = build_network(name, 2, pretrained=False, dropout=0.0, image_size=32)
    classifier = Classifier(network, Architecture(name, 2, 0.0, network.image_size))
    save_classifier(tmp_path / "model", classifier)
    loaded = load_classifier(tmp_path / "model", CPU)
    assert loaded.logits(pixels).equal(classifier.logits(pixels))
    assert loaded.architecture.image_size == 32


def test_a_training_builds_a_network_of_one_size_for_its_images(rng):
    train = examples(rng, 8)
    size = train.pixels.shape[-1]
    classifier, history = train_classifier(
        train, examples(rng, 8), replace(CONFIG, network="vit_tiny_patch16_224", epochs=1), 2, 1, CPU
    )
    assert classifier.architecture.image_size == size
    assert len(history) == 1


@pytest.mark.parametrize("name", ["inception_v3", "crossvit_9_240", "halonet26t"])
def test_a_network_that_cannot_take_the_images_says_so_in_one_line(name):
    with pytest.raises(ValueError, match=f"{name} takes no images of 32 px .*: choose another `network`") as caught:
        build_network(name, 2, pretrained=False, dropout=0.0, image_size=32)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["cnn-108k", "resnet18"])
def test_trying_a_network_changes_neither_weights_nor_random_numbers(name):
    found = []
    for size in (None, 32):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            network = build_network(name, 2, pretrained=False, dropout=0.2, image_size=size)
            found.append(torch.cat([tensor.flatten() for tensor in (*network.state_dict().values(), torch.rand(3))]))
        assert all(module.training for module in network.modules())
    assert found[0].equal(found[1])


def test_an_unknown_network_names_the_known_ones():
    with pytest.raises(ValueError, match=r"no network is called 'efficientnet_b22': .*cnn-108k.*efficientnet_b"):
        build_network("efficientnet_b22", 2, pretrained=False, dropout=0.2)


def test_missing_imagenet_weights_end_in_one_line_with_the_way_out(monkeypatch):
    def offline(*args, **kwargs):
        raise FileNotFoundError("no connection. A long story follows.")

    monkeypatch.setattr("timm.create_model", offline)
    with pytest.raises(ValueError, match=r"resnet50 cannot be had here \(no connection\): set `pretrained: false`"):
        build_network("resnet50", 2, pretrained=True, dropout=0.2)


def test_a_separable_set_is_learned(trained, rng):
    classifier, history = trained
    fresh = examples(rng, 40)
    assert (classifier.probabilities(fresh.pixels).argmax(dim=1) == fresh.labels).float().mean() > 0.95
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert [row["epoch"] for row in history] == list(range(1, len(history) + 1))
    assert set(history[0]) == {"epoch", "train_loss", "validation_loss", "validation_auc", "learning_rate"}


def test_three_classes_are_learned_as_well(rng):
    config = replace(CONFIG, epochs=10)
    classifier, _ = train_classifier(examples(rng, 90, 3), examples(rng, 30, 3), config, 3, 0, CPU)
    fresh = examples(rng, 60, 3)
    assert (classifier.logits(fresh.pixels).argmax(dim=1) == fresh.labels).float().mean() > 0.8


def test_the_seed_alone_decides_the_weights(trained, rng):
    train, validation = examples(rng, 64), examples(rng, 32)
    torch.rand(5)
    before = torch.get_rng_state()
    again, history = train_classifier(train, validation, CONFIG, 2, 3, CPU)
    other, _ = train_classifier(train, validation, CONFIG, 2, 4, CPU)
    assert weights_of(again).equal(weights_of(trained[0]))
    assert history == trained[1]
    assert not weights_of(other).equal(weights_of(again))
    assert torch.get_rng_state().equal(before)


def test_a_training_that_diverges_is_no_result(rng):
    wild = replace(CONFIG, learning_rate=1e18, epochs=2)
    with pytest.raises(ValueError, match="cnn-108k, seed 5: the validation loss was not finite after any of 2 epochs"):
        train_classifier(examples(rng, 32), examples(rng, 16), wild, 2, 5, CPU)


def test_training_stops_on_validation_alone_and_keeps_its_best_epoch(rng):
    train, validation = examples(rng, 64), examples(rng, 32)
    # Labels turned round: whatever training learns, validation gets worse.
    against = Examples(validation.pixels, 1 - validation.labels)
    config = replace(CONFIG, epochs=20, patience=2, dropout=0.0, flips=False, rotation_degrees=0.0)
    classifier, history = train_classifier(train, against, config, 2, 0, CPU)
    best = min(history, key=lambda row: row["validation_loss"])
    assert len(history) == best["epoch"] + 2 < 20
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    losses = torch.nn.functional.cross_entropy(classifier.logits(against.pixels), against.labels)
    assert float(losses) == pytest.approx(best["validation_loss"], rel=1e-4)


def sides(rng, count):
    """Noisy images whose class is the side on which they are brighter."""
    labels = torch.arange(count) % 2
    side = (torch.arange(20) >= 10) == labels[:, None].bool()
    noise = torch.randint(-40, 40, (count, 3, 20, 20), generator=rng)
    return Examples((100 + 60 * side[:, None, None, :] + noise).clamp(0, 255).to(torch.uint8), labels)


@pytest.mark.parametrize(
    ("rotation_degrees", "flips", "is_learned"), [(0, False, True), (0, True, False), (180, False, False)]
)
def test_training_images_are_turned_and_flipped_as_asked(rng, rotation_degrees, flips, is_learned):
    config = replace(CONFIG, rotation_degrees=float(rotation_degrees), flips=flips)
    _, history = train_classifier(sides(rng, 64), sides(rng, 32), config, 2, 0, CPU)
    assert (history[-1]["train_loss"] < 0.3) == is_learned
    assert (history[-1]["train_loss"] > 0.6) == (not is_learned)


def test_validation_counts_classes_as_training_does(rng):
    train, validation = examples(rng, 32), examples(rng, 32)
    chosen = torch.cat([torch.arange(0, 32, 2), torch.tensor([1, 3])])
    uneven = Examples(validation.pixels[chosen], validation.labels[chosen])
    even = Examples(validation.pixels[[0, 2, 1, 3]], validation.labels[[0, 2, 1, 3]])
    repeated = Examples(
        torch.cat([even.pixels[:2], even.pixels[2:].repeat(9, 1, 1, 1)]),
        torch.cat([even.labels[:2], even.labels[2:].repeat(9)]),
    )
    losses = [
        train_classifier(train, side, replace(CONFIG, epochs=1), 2, 0, CPU)[1][0] for side in (even, repeated, uneven)
    ]
    assert losses[0]["validation_loss"] == pytest.approx(losses[1]["validation_loss"], rel=1e-4)


def test_the_learning_rate_falls_on_a_plateau(rng):
    train, validation = examples(rng, 32), examples(rng, 16)
    against = Examples(validation.pixels, 1 - validation.labels)
    _, history = train_classifier(train, against, replace(CONFIG, epochs=6, patience=6, plateau_patience=0), 2, 0, CPU)
    rates = [row["learning_rate"] for row in history]
    assert rates[-1] < rates[0]
    assert all(later in (earlier, earlier * 0.5) for earlier, later in pairwise(rates))


def test_class_weights_make_every_class_count_the_same():
    counts = torch.tensor([90.0, 10.0])
    assert (class_weights(counts) * counts).tolist() == pytest.approx([50, 50])


def test_balanced_sampling_draws_every_class_alike_and_weighs_none(rng):
    labels = torch.tensor([0] * 900 + [1] * 80 + [2] * 20)
    drawn = torch.cat([labels[BALANCES["balanced_sampling"].order(labels, rng)] for _ in range(10)])
    assert len(drawn) == 10 * len(labels)
    assert (drawn.bincount() / len(drawn) - 1 / 3).abs().max() < 0.02
    counts = labels.bincount().float()
    assert BALANCES["balanced_sampling"].in_loss(counts).tolist() == [1, 1, 1]
    assert sorted(BALANCES["none"].order(labels, rng).tolist()) == list(range(len(labels)))


def test_balanced_sampling_calls_a_rare_class_more_often(rng):
    def overlapping(count, rare):
        labels = (torch.arange(count) % rare == 0).long()
        level = 100 + 12 * labels + 10 * torch.randn(count, generator=rng)
        return Examples(level[:, None, None, None].expand(-1, 3, 20, 20).to(torch.uint8), labels)

    train, validation = overlapping(400, 10), overlapping(200, 2)
    called = {}
    for balance in BALANCES:
        classifier, _ = train_classifier(train, validation, replace(CONFIG, balance=balance), 2, 1, CPU)
        called[balance] = float((classifier.probabilities(validation.pixels).argmax(dim=1) == 1).double().mean())
    assert called["none"] < 0.2 < min(called["balanced_sampling"], called["class_weights"])


def test_training_reads_no_file_after_its_images_are_in_memory(rng, tmp_path):
    """Every file that Python opens passes an audit hook, Pillow's and zipfile's too."""
    train = examples(rng, 32)
    write_archive(tmp_path / "images.zip", [f"{n:02d}" for n in range(32)], train.pixels, train.labels.tolist())
    read = scenario.examples(tmp_path / "images.zip", [f"{n:02d}" for n in range(32)])
    train_classifier(read, read, replace(CONFIG, epochs=1), 2, 0, CPU)  # imports and caches of the first epoch
    opened, watching = [], True
    sys.addaudithook(lambda event, args: opened.append(args[0]) if event == "open" and watching else None)
    train_classifier(read, read, replace(CONFIG, epochs=3, patience=3), 2, 0, CPU)
    watching = False
    assert opened == []


def test_a_last_batch_of_one_image_does_not_stop_batch_normalisation(rng):
    train, validation = examples(rng, 9), examples(rng, 4)
    config = replace(CONFIG, network="mobilenetv3_small_050", epochs=1, batch_size=4)
    _, history = train_classifier(train, validation, config, 2, 0, CPU)
    assert len(history) == 1


@pytest.mark.parametrize("synthetic", [{}, {"benign": 0}])
def test_a_scenario_without_images_is_refused_in_one_line(tmp_path, synthetic):
    nothing = scenario.Scenario(real=False, synthetic=synthetic)
    with pytest.raises(ValueError, match="neither real nor synthetic images: set real to true or add"):
        scenario.training_examples(nothing, tmp_path / "images.zip", [], tmp_path / "synthetic.zip", ("benign",))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"balance": "weights"}, r"one of \['balanced_sampling', 'class_weights', 'none'\], not 'weights'"),
        ({"network": "cnn"}, "no network is called 'cnn'"),
    ],
)
def test_an_unknown_setting_is_refused(rng, change, said):
    with pytest.raises(ValueError, match=said):
        train_classifier(examples(rng, 8), examples(rng, 8), replace(CONFIG, **change), 2, 0, CPU)


def test_a_class_without_image_is_named(rng):
    train = examples(rng, 8)
    alone = Examples(train.pixels, torch.zeros(8, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"validation has no image of class 1 \(images per class: \[8, 0\]\)"):
        train_classifier(train, alone, CONFIG, 2, 0, CPU)
    with pytest.raises(ValueError, match="training has label 2, but there are 2 classes"):
        train_classifier(examples(rng, 9, 3), train, CONFIG, 2, 0, CPU)


def test_the_curves_auc_is_scikit_learns(rng):
    labels = torch.arange(60) % 3
    probabilities = (torch.randn(60, 3, generator=rng) + torch.eye(3)[labels]).softmax(dim=1).mul(10).round() / 10
    areas = [roc_auc_score(labels == index, probabilities[:, index]) for index in range(3)]
    assert mean_auc(probabilities, labels) == pytest.approx(np.mean(areas))


def test_what_is_saved_says_the_same_when_loaded(trained, rng, tmp_path):
    classifier, _ = trained
    pixels = examples(rng, 10).pixels
    save_classifier(tmp_path / "model", classifier)
    first = (tmp_path / "model" / "weights.safetensors").read_bytes()
    save_classifier(tmp_path / "model", classifier)
    loaded = load_classifier(tmp_path / "model", CPU)
    assert loaded.logits(pixels).equal(classifier.logits(pixels))
    assert loaded.name == "cnn-108k"
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["config.json", "weights.safetensors"]
    assert (tmp_path / "model" / "weights.safetensors").read_bytes() == first


def test_a_folder_without_a_classifier_is_named(trained, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no classifier at .*: weights\.safetensors is missing"):
        load_classifier(tmp_path, CPU)
    save_classifier(tmp_path, trained[0])
    (tmp_path / "config.json").write_text(json.dumps({"network": "cnn-108k", "class_count": 5, "dropout": 0.1}))
    with pytest.raises(ValueError, match="no classifier of ours"):
        load_classifier(tmp_path, CPU)
    (tmp_path / "weights.safetensors").write_bytes(b"\x08")
    with pytest.raises(ValueError, match="no classifier of ours"):
        load_classifier(tmp_path, CPU)


def test_batches_and_arrays_do_not_change_what_is_said(trained, rng, monkeypatch):
    classifier, _ = trained
    pixels = examples(rng, 11).pixels
    whole = classifier.embed(pixels)
    monkeypatch.setitem(__import__("skinsynth.classifier.classifier", fromlist=["x"]).PIXELS_AT_ONCE, "cpu", 3 * 400)
    torch.testing.assert_close(classifier.embed(pixels.numpy()), whole)
    assert whole.shape == (11, classifier.dim)
    assert classifier.probabilities(pixels).sum(dim=1).tolist() == pytest.approx([1] * 11, rel=1e-5)


@pytest.mark.parametrize("name", ["cnn-108k", "googlenet"])
def test_one_pass_gives_features_and_probabilities_to_the_bit(name, rng, monkeypatch):
    classifier = Classifier(build_network(name, 2, False, 0.5), Architecture(name, 2, 0.5))
    pixels = examples(rng, 11).pixels
    monkeypatch.setattr("skinsynth.classifier.classifier.PIXELS_AT_ONCE", {"cpu": 4 * pixels[0, 0].numel()})
    examined = classifier.examine(pixels)
    assert examined.features.equal(classifier.embed(pixels))
    assert examined.probabilities.equal(classifier.probabilities(pixels))


def test_no_image_at_all_is_refused(trained):
    with pytest.raises(ValueError, match="give at least one"):
        trained[0].embed(torch.zeros(0, 3, 32, 32, dtype=torch.uint8))


def test_differentiable_features_are_the_features_and_have_a_gradient(trained, rng):
    classifier, _ = trained
    pixels = examples(rng, 4).pixels
    images = (pixels / 127.5 - 1).requires_grad_()
    features = classifier.embed_differentiable(images)
    torch.testing.assert_close(features, classifier.embed(pixels), rtol=1e-4, atol=1e-5)
    features.sum().backward()
    assert images.grad.abs().sum() > 0


def test_normalised_noise_has_imagenets_mean_and_spread():
    images = torch.tensor([0.485, 0.456, 0.406])[None, :, None, None].expand(1, 3, 2, 2)
    assert normalise(images).abs().max() < 1e-6


def test_augmentation_without_turns_and_flips_changes_nothing(rng):
    images = torch.rand(3, 3, 8, 8, generator=rng)
    torch.testing.assert_close(augment(images, 0.0, flips=False, rng=rng), images, rtol=0, atol=1e-5)


def test_flips_mirror_each_axis_in_half_of_the_images(rng):
    image = torch.rand(1, 3, 8, 8, generator=rng)
    seen = augment(image.expand(400, -1, -1, -1).contiguous(), 0.0, flips=True, rng=rng)
    for axes in ([], [2], [3], [2, 3]):
        share = (seen - image.flip(axes)).abs().amax(dim=(1, 2, 3)).lt(1e-4).float().mean()
        assert 0.17 < share < 0.33


def test_turns_stay_within_their_limit_and_leave_no_black_corners(rng):
    row = torch.zeros(1, 3, 33, 33)
    row[..., 16, :] = 1
    turned = augment(row.expand(50, -1, -1, -1).contiguous(), 30.0, flips=False, rng=rng)
    heights = turned[:, 0, :, 16 + 10].argmax(dim=1) - 16
    assert heights.abs().max() <= 10 * np.tan(np.pi / 6) + 1
    assert heights.float().std() > 1
    light = augment(torch.ones(20, 3, 16, 16), 45.0, flips=True, rng=rng)
    torch.testing.assert_close(light, torch.ones_like(light))


def test_an_architecture_names_its_classifier():
    architecture = Architecture("cnn-108k", 2, 0.1)
    assert Classifier(build_network("cnn-108k", 2, False, 0.1), architecture).name == "cnn-108k"


def test_another_seed_shows_the_images_in_another_order(rng, monkeypatch):
    train, validation, shown = examples(rng, 64), examples(rng, 32), []
    monkeypatch.setattr(training, "augment", lambda images, *_: shown.append(images) or images)
    for seed in (3, 4, 3):
        train_classifier(train, validation, replace(CONFIG, epochs=1, batch_size=64), 2, seed, CPU)
    first, other, again = shown
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_validation_weighs_classes_by_their_shares_in_training(rng):
    train, validation = examples(rng, 32), examples(rng, 16)
    chosen = torch.cat([torch.arange(0, 32, 2), torch.arange(1, 9, 2)])  # 16 of one class and 4 of the other
    uneven = Examples(train.pixels[chosen], train.labels[chosen])
    classifier, (row,) = train_classifier(uneven, validation, replace(CONFIG, epochs=1), 2, 0, CPU)
    losses = torch.nn.functional.cross_entropy(
        classifier.logits(validation.pixels), validation.labels, reduction="none"
    )
    expected = 0.8 * losses[validation.labels == 0].mean() + 0.2 * losses[validation.labels == 1].mean()
    assert row["validation_loss"] == pytest.approx(float(expected), rel=1e-4)


def test_differentiable_logits_are_the_logits_and_have_a_gradient(trained, rng):
    pixels = examples(rng, 4).pixels
    images = (pixels / 127.5 - 1).requires_grad_()
    logits = trained[0].logits_differentiable(images)
    torch.testing.assert_close(logits, trained[0].logits(pixels), rtol=1e-4, atol=1e-4)
    (gradient,) = torch.autograd.grad(logits.sum(), images)
    assert gradient.abs().sum() > 0
