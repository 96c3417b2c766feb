"""Published networks: our door gives the library's own features, weight files are checked, torch-fidelity agrees.

The published weights cannot be had where these tests run: every network gets the same random ones on both sides.
"""

import dataclasses
import hashlib
import io
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from skinsynth.features import pretrained
from skinsynth.features.extractor import EXTRACTORS, Extractor, ExtractorConfig, build_extractor
from skinsynth.features.pretrained import VGG16, Prepared, PublishedNetwork, Weights, load_network
from skinsynth.files import sha256_of
from skinsynth.quality.fid import frechet_distance
from skinsynth.quality.kid import kernel_distance, kernel_distance_of_subsets
from skinsynth.quality.neighbours import neighbour_scores

DOWNLOADED = Weights(None, None)
CPU = torch.device("cpu")


class NoClassifier:
    device = CPU
    network = SimpleNamespace(body=nn.Identity())

    def fingerprint(self):
        raise AssertionError("published networks do not ask the classifier")

    def embed(self, pixels):  # noqa: ARG002
        raise AssertionError("published networks do not ask the classifier")


def brought(file: Path) -> Weights:
    """The file, with its own hash."""
    return Weights(str(file), sha256_of(file))


def build(name: str, weights: Weights) -> Extractor:
    config = ExtractorConfig(name, weights, batch_size=3, cache_gigabytes=0.0)
    return build_extractor(config, NoClassifier(), CPU, Path("nothing is kept"))


def inception_of_the_library():
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")

    class Untrained(module.FeatureExtractorInceptionV3):
        def load_state_dict(self, state_dict):
            assert state_dict == {}

    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    network = Untrained("inception-v3-compat", ["2048"], feature_extractor_weights_path=nothing)
    return network, lambda pixels: network(pixels)[0]


def vgg16_of_the_library():
    from torchvision.models import VGG16_Weights, vgg16
    from torchvision.models.feature_extraction import create_feature_extractor

    with torch.device("meta"):
        network = vgg16(init_weights=False)
    network = network.to_empty(device="cpu").eval()
    prepare = VGG16_Weights.IMAGENET1K_V1.transforms(resize_size=224)
    fc2 = create_feature_extractor(network, {"classifier.4": "fc2"})
    return network, lambda pixels: fc2(prepare(pixels))["fc2"]


def dinov2_of_the_library():
    import timm

    network = timm.create_model("vit_small_patch14_dinov2.lvd142m").eval()
    assert network.pos_embed.shape == (1, 1 + (518 // 14) ** 2, 384), "weights are published for 518 px"
    prepare = timm.data.create_transform(**timm.data.resolve_model_data_config(network, {"input_size": (3, 224, 224)}))

    def embed(pixels):
        network.set_input_size(224)  # the library's other way to resample positions
        images = [Image.fromarray(image) for image in pixels.permute(0, 2, 3, 1).numpy()]
        return network.forward_features(torch.stack([prepare(image) for image in images]))[:, 0]

    return network, embed


LIBRARIES = {
    "inception": (inception_of_the_library, 2048, ".pth"),
    "dinov2": (dinov2_of_the_library, 384, ".safetensors"),
    "vgg16": (vgg16_of_the_library, 4096, ".safetensors"),
}


@dataclasses.dataclass
class Pair:
    name: str
    dim: int
    extract: Extractor  # ours
    library: nn.Module  # with the same weights
    embed: object  # pixels to features, through the library's module
    pixels: torch.Tensor
    features: torch.Tensor  # ours, of these pixels


@pytest.fixture(scope="module", params=LIBRARIES)
def pair(request, tmp_path_factory):
    """Our extractor and the library's module, both with the random weights of one file."""
    build_library, dim, suffix = LIBRARIES[request.param]
    library, embed = build_library()
    rng = torch.Generator().manual_seed(0)
    randomise(library, rng)
    file = tmp_path_factory.mktemp("weights") / f"{request.param}{suffix}"
    if suffix == ".pth":
        torch.save(library.state_dict(), file)
    else:
        save_file(library.state_dict(), file)
    before = torch.get_rng_state()
    extract = build(request.param, brought(file))
    assert torch.get_rng_state().equal(before), "building an extractor draws from torch's generator"
    pixels = torch.randint(0, 256, (2, 3, 40, 40), generator=rng, dtype=torch.uint8)
    yield Pair(request.param, dim, extract, library, torch.no_grad()(embed), pixels, extract(pixels))
    file.unlink()


@torch.no_grad()
def randomise(network, rng):
    """Weights under which features of different images differ, where a library's own start may leave blocks shut."""
    for name, tensor in network.state_dict().items():
        if tensor.dim() > 1:
            nn.init.kaiming_normal_(tensor, nonlinearity="relu", generator=rng)
        elif name.endswith(("bias", "running_mean")):
            tensor.uniform_(-0.1, 0.1, generator=rng)
        elif tensor.is_floating_point():
            tensor.uniform_(0.8, 1.2, generator=rng)


def close(features, expected):
    """Equal but for the order in which a network of another batch size adds."""
    return features.allclose(expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_features_are_those_of_the_librarys_own_module(pair):
    assert isinstance(pair.extract, Extractor)
    assert pair.extract.name == pair.name
    assert (pair.features.shape, pair.features.dtype, pair.features.device) == ((2, pair.dim), torch.float32, CPU)
    assert not pair.features.requires_grad
    assert pair.features.equal(pair.embed(pair.pixels))
    assert not close(pair.features[:1], pair.features[1:]), "two images look alike to these weights: nothing was shown"


def test_features_can_be_kept_under_a_fingerprint(pair):
    assert len(pair.extract.fingerprint()) == 64


def test_batches_and_arrays_do_not_matter(pair):
    assert close(pair.extract(pair.pixels[1:].numpy()), pair.features[1:])


def test_a_flat_colour_has_one_feature_at_any_size(pair):
    grey, small_grey = (torch.full((1, 3, size, size), 100, dtype=torch.uint8) for size in (37, 20))
    features = pair.extract(grey)
    assert close(pair.extract(small_grey), features)
    assert not close(features, pair.features[:1])


@pytest.mark.parametrize("pair", ["vgg16"], indirect=True)
def test_vgg16_agrees_with_torch_fidelitys_where_nothing_is_resized(pair, rng, monkeypatch):
    module = pytest.importorskip("torch_fidelity.feature_extractor_vgg16")
    from torchvision.models import vgg16

    with torch.device("meta"):
        twin = vgg16(init_weights=False)
    twin.load_state_dict(pair.library.state_dict(), assign=True)
    monkeypatch.setattr(module, "torchvision_load_pretrained_vgg16", lambda: twin)
    theirs = module.FeatureExtractorVGG16("vgg16", ["fc2_relu"])
    pixels = torch.randint(0, 256, (1, 3, 224, 224), generator=rng, dtype=torch.uint8)
    assert close(pair.extract(pixels), theirs(pixels)[0])


@pytest.mark.parametrize("pair", ["dinov2"], indirect=True)
def test_dinov2_sees_224_px_with_positions_made_for_518(pair):
    network = pair.extract.model
    assert network.prepare(pair.pixels).shape == (2, 3, 224, 224)
    assert network.network.pos_embed.shape == (1, 1 + (224 // 14) ** 2, 384)


class Tiny(nn.Module):
    """Mean colours, scaled."""

    def __init__(self, state):
        super().__init__()
        self.scale = nn.Linear(3, 3, bias=False)
        self.load_state_dict(state)

    def forward(self, images):
        return self.scale(images.mean(dim=(2, 3)))


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> PublishedNetwork:
    """A network that is published, for once, on this very disk; torch.hub's cache is an empty folder."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    file = tmp_path / "published.safetensors"
    save_file({"scale.weight": 2 * torch.eye(3)}, file)
    return PublishedNetwork(
        name="tiny",
        library="torch",
        url=file.as_uri(),
        file_name="tiny.safetensors",
        sha256=hashlib.sha256(file.read_bytes()).hexdigest()[:8],
        build=lambda state: Prepared(lambda pixels: pixels.float(), Tiny(state)),
    )


def published_file(network: PublishedNetwork) -> Path:
    return Path(network.url.removeprefix("file://"))


def test_weights_are_downloaded_once(tiny, rng):
    pixels = torch.randint(0, 256, (5, 3, 8, 8), generator=rng, dtype=torch.uint8)
    timeout = socket.getdefaulttimeout()
    expected = 2 * pixels.float().mean(dim=(2, 3))
    assert load_network(tiny, DOWNLOADED, CPU, 2).embed(pixels).allclose(expected)
    published_file(tiny).unlink()
    assert load_network(tiny, DOWNLOADED, CPU, 2).embed(pixels).allclose(expected)
    assert socket.getdefaulttimeout() == timeout


def test_a_given_hash_counts_in_full_or_in_part(tiny):
    file = published_file(tiny)
    digits = hashlib.sha256(file.read_bytes()).hexdigest()
    for given in (digits, digits.upper(), digits[:12], None):
        load_network(tiny, Weights(str(file), given), CPU, 2)
    with pytest.raises(ValueError, match=r"'ab' is too short for a SHA-256 of tiny's weights"):
        load_network(tiny, Weights(str(file), "ab"), CPU, 2)


def test_weights_of_no_published_hash_need_one_in_the_settings_which_the_refusal_tells(tiny):
    unknown, file = dataclasses.replace(tiny, sha256=None), published_file(tiny)
    for weights in (DOWNLOADED, Weights(str(file), None)):
        line = refusal(unknown, weights)
        assert f"write its own, {sha256_of(file)}, into `sha256` beside `path` in params.yaml" in line
        load_network(unknown, dataclasses.replace(weights, sha256=sha256_of(file)), CPU, 2)


def refusal(network: PublishedNetwork, weights: Weights) -> str:
    """The one line that refuses these weights; it names the network and the extractor that needs no download."""
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        load_network(network, weights, CPU, 2)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 600
    assert network.name in line
    assert "set extractor.name to classifier" in line
    return line


def test_a_missing_file_is_named(tiny, tmp_path):
    absent = str(tmp_path / "absent.pth")
    assert absent in refusal(tiny, Weights(absent, None))


def test_a_file_with_another_hash_is_refused_wherever_it_lies(tiny):
    file = published_file(tiny)
    assert f"is {hashlib.sha256(file.read_bytes()).hexdigest()}, not 0123456789" in refusal(
        tiny, Weights(str(file), "0123456789")
    )
    load_network(tiny, DOWNLOADED, CPU, 2)
    cached = pretrained.weight_file(tiny, DOWNLOADED)
    changed = bytearray(cached.read_bytes())
    changed[-1] ^= 1
    cached.write_bytes(changed)
    assert str(cached) in refusal(tiny, DOWNLOADED)
    # Brought along, a file is checked too, whatever its name.
    assert str(cached) in refusal(tiny, Weights(str(cached), None))
    renamed = cached.rename(cached.with_name("mine.safetensors"))
    assert str(renamed) in refusal(tiny, Weights(str(renamed), None))


def test_a_download_with_another_hash_leaves_no_file(tiny):
    other = dataclasses.replace(tiny, sha256="01234567")
    assert "invalid hash value" in refusal(other, DOWNLOADED)
    assert not list(published_file(tiny).parent.glob("cache/**/*tiny*"))


def test_files_that_are_cut_short_or_no_weights_are_refused(tiny, tmp_path):
    whole = published_file(tiny).read_bytes()
    for name, content in {"cut.safetensors": whole[:-5], "page.pth": b"<html>", "empty.pth": b""}.items():
        file = tmp_path / name
        file.write_bytes(content)
        assert f"{file} cannot be read" in refusal(tiny, brought(file))
    for value in ([torch.eye(3)], {"epoch": 3}, {}):
        torch.save(value, tmp_path / "list.pth")
        assert "no state dict" in refusal(tiny, brought(tmp_path / "list.pth"))


def test_weights_of_another_network_are_refused(tiny, tmp_path):
    file = tmp_path / "other.safetensors"
    for other in ({"scale.weight": torch.eye(4)}, {f"layer{i}.bias": torch.eye(3) for i in range(300)}):
        save_file(other, file)
        for network in (tiny, VGG16, pretrained.DINOV2):
            assert f"{file} holds other weights" in refusal(network, brought(file))


class Trap:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_code_in_a_weight_file_does_not_run(tiny, tmp_path):
    torch.save({"scale.weight": Trap(tmp_path / "sprung")}, tmp_path / "trap.pth")
    assert "cannot be read" in refusal(tiny, brought(tmp_path / "trap.pth"))
    assert not (tmp_path / "sprung").exists()


def test_a_server_that_stays_silent_is_given_up(tiny, monkeypatch):
    monkeypatch.setattr(pretrained, "PATIENCE_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/tiny.safetensors"
        line = refusal(dataclasses.replace(tiny, url=url), DOWNLOADED)
    assert url in line
    assert "timed out" in line
    assert "cache/hub/checkpoints/tiny.safetensors" in line


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_closed_network_names_the_file_and_the_offline_extractor(name, tmp_path, monkeypatch):
    if name == "inception":
        pytest.importorskip("torch_fidelity")

    def refused(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", refused)
    with pytest.raises(
        ValueError,
        match=rf"^the weights of {name} cannot be had from https://\S+ \(Name .*extractor.name to",
    ):
        build(name, DOWNLOADED)


def test_a_library_that_is_not_installed_is_named(tiny):
    assert "no_such_library, which is not installed" in refusal(
        dataclasses.replace(tiny, library="no_such_library"), DOWNLOADED
    )


def test_no_image_and_no_such_extractor_are_refused(tiny):
    with pytest.raises(ValueError, match="tiny was asked about no image at all"):
        load_network(tiny, DOWNLOADED, CPU, 2).embed(torch.zeros(0, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="no extractor is called 'clip'") as caught:
        build("clip", DOWNLOADED)
    assert all(name in str(caught.value) for name in EXTRACTORS)
    assert set(EXTRACTORS) == {"classifier", "classifier_levels", *LIBRARIES}


@pytest.fixture
def two_sets(rng):
    """Features of 300 real and 200 generated images that overlap in part."""
    real, fake = torch.randn(2, 300, 24, generator=rng, dtype=torch.float64)
    return real, 0.8 * fake[:200] + 0.3


def test_fid_is_torch_fidelitys(two_sets):
    theirs = pytest.importorskip("torch_fidelity.metric_fid")
    statistics = [theirs.fid_features_to_statistics(features) for features in two_sets]
    expected = theirs.fid_statistics_to_metric(*statistics, verbose=False)[theirs.KEY_METRIC_FID]
    assert frechet_distance(*two_sets) == pytest.approx(expected, rel=1e-9)


def test_kid_of_one_subset_of_all_is_torch_fidelitys(two_sets, rng):
    theirs = pytest.importorskip("torch_fidelity.metric_kid")
    real, fake = two_sets[0][:200], two_sets[1]
    expected = theirs.kid_features_to_metric(real, fake, kid_subsets=1, kid_subset_size=200, verbose=False)
    expected = expected[theirs.KEY_METRIC_KID_MEAN]
    assert kernel_distance(real, fake) == pytest.approx(expected, rel=1e-9)
    assert kernel_distance_of_subsets(real, fake, 200, 1, rng)[0] == pytest.approx(expected, rel=1e-9)


def test_kid_of_random_subsets_is_torch_fidelitys_but_for_chance(two_sets, rng):
    theirs = pytest.importorskip("torch_fidelity.metric_kid")
    count = 400
    expected = theirs.kid_features_to_metric(*two_sets, kid_subsets=count, kid_subset_size=50, verbose=False)
    mean, deviation = kernel_distance_of_subsets(*two_sets, 50, count, rng)
    assert deviation == pytest.approx(expected[theirs.KEY_METRIC_KID_STD], rel=0.2)
    assert mean == pytest.approx(expected[theirs.KEY_METRIC_KID_MEAN], abs=4 * deviation * (2 / count) ** 0.5)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_and_recall_are_torch_fidelitys(two_sets, k):
    theirs = pytest.importorskip("torch_fidelity.metric_prc")
    real, fake = two_sets
    expected = theirs.prc_features_to_metric(fake, real, prc_neighborhood=k, verbose=False)
    scores = neighbour_scores(real, fake, k)
    assert scores.precision == pytest.approx(expected[theirs.KEY_METRIC_PRECISION], abs=1e-6)
    assert scores.recall == pytest.approx(expected[theirs.KEY_METRIC_RECALL], abs=1e-6)
    assert 0 < scores.recall < scores.precision < 1
