"""LPIPS: our door gives the library's own numbers, is a distance, and says in one line which weights are missing."""

import hashlib
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from skinsynth.features import perceptual
from skinsynth.features.perceptual import levels, lpips_vgg16
from skinsynth.features.pretrained import Weights
from skinsynth.quality.path_length import PathDistanceConfig, build_path_distance, feature_distance

library = pytest.importorskip("torch_fidelity.sample_similarity_lpips")

CPU = torch.device("cpu")
DOWNLOADED = Weights(None, None)
CHANNELS = (64, 128, 256, 512, 512)  # of the five layers that are compared
PARTS = (perceptual.NETWORK, perceptual.LINEAR_LAYERS)


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A folder for torch.hub with random weights under their published names."""
    from torchvision.models import vgg16

    rng = torch.Generator().manual_seed(0)
    folder = tmp_path_factory.mktemp("home") / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in vgg16(init_weights=False).state_dict().items()}
    torch.save(
        {name: random_weights(name, shape, rng) for name, shape in shapes.items()}, folder / "vgg16-397923af.pth"
    )
    # Never negative, as trained ones are not.
    linear = {f"lin{i}.model.1.weight": torch.rand(1, n, 1, 1, generator=rng) for i, n in enumerate(CHANNELS)}
    torch.save(linear, folder / "weights-vgg16-lpips.pth")
    yield folder
    (folder / "vgg16-397923af.pth").unlink()


def random_weights(name, shape, rng):
    """Weights under which images differ to the last layer; the classifier, of no use to LPIPS, takes no room."""
    if name.startswith("classifier"):
        return torch.zeros(()).expand(shape)
    return torch.randn(shape, generator=rng) * (2 / shape[1:].numel()) ** 0.5


@pytest.fixture
def weights(hub, monkeypatch):
    """What our door takes the random weights from: torch.hub's cache, by their hash, so without a download."""
    monkeypatch.setenv("TORCH_HOME", str(hub.parents[1]))
    return [Weights(None, hashlib.sha256((hub / part.file_name).read_bytes()).hexdigest()) for part in PARTS]


@pytest.fixture
def images(rng):
    return 2 * torch.rand(2, 3, 3, 32, 32, generator=rng) - 1


@torch.no_grad()
def test_numbers_are_those_of_the_librarys_own_module(weights, images):
    before = torch.get_rng_state()
    distance = lpips_vgg16(*weights, CPU)
    assert torch.get_rng_state().equal(before), "building a distance draws from torch's generator"
    # The library builds itself, from the same folder.
    theirs = library.SampleSimilarityLPIPS("lpips-vgg16")
    found = distance(*images)
    assert found.equal(theirs(*(127.5 * (images + 1))))
    assert found.shape == (3,)
    assert found.unique().shape == (3,)
    assert found.min() > 0


def test_it_is_a_distance_of_pairs_with_a_gradient(weights, images):
    a, b = images
    distance = lpips_vgg16(*weights, CPU)
    assert distance(a, a).equal(torch.zeros(3))
    assert distance(a, b).equal(distance(b, a))
    torch.testing.assert_close(distance(a[1:2], b[1:2]), distance(a, b)[1:2])
    assert (distance(a, torch.lerp(a, b, 0.01)) < distance(a, b)).all()
    a.requires_grad_()
    distance(a, b).sum().backward()
    assert a.grad.abs().sum() > 0
    # 16 px are just enough.
    assert distance(a[..., :16, :16], b[..., :16, :16]).isfinite().all()


def test_images_are_put_on_the_scale_of_8_bits_at_256_px_at_most(rng):
    greys = torch.tensor([-1.0, 0, 1])[:, None, None, None].expand(3, 3, 16, 16)
    assert levels(greys)[:, 0, 0, 0].tolist() == [0, 127.5, 255]
    large = torch.rand(1, 3, 512, 512, generator=rng)
    assert levels(large).shape == (1, 3, 256, 256)
    torch.testing.assert_close(levels(large).mean(), 127.5 * (large.mean() + 1))
    assert levels(large[..., :256, :256]).equal(127.5 * (large[..., :256, :256] + 1))


def test_images_too_small_for_four_poolings_are_refused():
    with pytest.raises(ValueError, match=r"at least 16 px, but these have 8: set path.distance.name to classifier"):
        levels(torch.zeros(1, 3, 8, 8))


def refusal(network: Weights, linear_layers: Weights) -> str:
    """The one line that refuses these weights; it names the distance that needs no download."""
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        lpips_vgg16(network, linear_layers, CPU)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 600
    assert "set path.distance.name to classifier" in line
    assert "extractor.name" not in line
    return line


def test_missing_weights_are_named(weights, tmp_path):
    network, _ = weights
    absent = Weights(str(tmp_path / "absent.pth"), None)
    assert f"LPIPS's vgg16 are not at {absent.path}" in refusal(absent, absent)
    assert f"LPIPS's linear layers are not at {absent.path}" in refusal(network, absent)


def test_weights_of_another_network_are_refused_and_leave_the_library_as_it_was(weights, tmp_path):
    network, linear_layers = weights
    functions = library.load_state_dict_from_url, library.torchvision_load_pretrained_vgg16
    save_file({"lin0.model.1.weight": torch.zeros(1, 3, 1, 1)}, tmp_path / "other.safetensors")
    file = tmp_path / "other.safetensors"
    other = Weights(str(file), hashlib.sha256(file.read_bytes()).hexdigest())
    assert "other weights than those of LPIPS's linear layers" in refusal(network, other)
    assert "other weights than those of LPIPS's vgg16" in refusal(other, linear_layers)
    assert "its SHA-256 is" in refusal(replace(network, sha256="0123456789"), linear_layers)
    assert f"write its own, {linear_layers.sha256}, into `sha256`" in refusal(network, DOWNLOADED)
    assert (library.load_state_dict_from_url, library.torchvision_load_pretrained_vgg16) == functions


def test_a_closed_network_names_the_file_and_the_offline_distance(hub, weights, tmp_path, monkeypatch):
    def refused(*_, **__):
        raise OSError("Name or service not known")

    network, linear_layers = (tmp_path / "hub" / "checkpoints" / part.file_name for part in PARTS)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", refused)
    line = refusal(DOWNLOADED, DOWNLOADED)
    assert "LPIPS's vgg16 cannot be had from https://" in line
    assert str(network) in line
    line = refusal(Weights(str(hub / network.name), weights[0].sha256), DOWNLOADED)
    assert "LPIPS's linear layers cannot be had from https://" in line
    assert str(linear_layers) in line


def test_a_library_without_the_functions_that_we_replace_is_an_error_and_no_download(weights, monkeypatch):
    monkeypatch.delattr(library, "load_state_dict_from_url")
    with pytest.raises(AttributeError, match="load_state_dict_from_url"):
        lpips_vgg16(*weights, CPU)


def test_the_settings_choose_the_path_distance(weights, images):
    config = PathDistanceConfig("classifier", DOWNLOADED, DOWNLOADED)

    def embed(x):
        return x.flatten(1)

    assert build_path_distance(config, embed, CPU)(*images).equal(feature_distance(embed)(*images))
    lpips = build_path_distance(PathDistanceConfig("vgg16", *weights), embed, CPU)
    assert lpips(*images).equal(lpips_vgg16(*weights, CPU)(*images))
    known = r"no path distance is called 'alex' \(known: classifier, vgg16\): set path.distance.name to classifier"
    with pytest.raises(ValueError, match=known):
        build_path_distance(replace(config, name="alex"), embed, CPU)
