"""The cache of features: equal to computed ones, keyed by content, never trusted when damaged, bounded, shared."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from skinsynth.classifier.classifier import Architecture, Classifier
from skinsynth.classifier.networks import build_network
from skinsynth.features.cache import CachedExtractor
from skinsynth.features.extractor import Extractor, ExtractorConfig, build_extractor, without_cache
from skinsynth.features.pretrained import FrozenNetwork, Prepared, PublishedNetwork, Weights

CPU = torch.device("cpu")
KILOBYTES_60 = 60e-6  # of features, in gigabytes


class Counting:
    """Features of 1,000 numbers an image (4 kB), and how often they were computed."""

    name = "counting"
    device = CPU

    def __init__(self, fingerprint="a"):
        self.calls = 0
        self.print = fingerprint

    def fingerprint(self):
        return self.print

    def __call__(self, pixels):
        self.calls += 1
        images = torch.as_tensor(pixels).float().flatten(1)
        return torch.nn.functional.interpolate(images[:, None], 1000, mode="linear")[:, 0].sin()


def pixels_of(rng, count=2):
    return torch.randint(0, 256, (count, 3, 8, 8), generator=rng, dtype=torch.uint8)


def files(folder):
    return sorted(folder.glob("*.safetensors"))


@pytest.fixture
def cached(tmp_path):
    return CachedExtractor(Counting(), tmp_path / "features", 1.0)


def classifier(seed=0, dropout=0.2, classes=2):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Classifier(
            build_network("cnn-108k", classes, False, dropout), Architecture("cnn-108k", classes, dropout)
        )


def test_kept_features_are_the_computed_ones_to_the_bit(tmp_path, rng):
    model = classifier()
    config = ExtractorConfig("classifier", Weights(None, None), 4, cache_gigabytes=1.0)
    pixels = torch.randint(0, 256, (5, 3, 32, 32), generator=rng, dtype=torch.uint8)
    plain = build_extractor(ExtractorConfig("classifier", Weights(None, None), 4, 0.0), model, CPU, tmp_path)(pixels)
    assert not files(tmp_path)
    extract = build_extractor(config, model, CPU, tmp_path)
    assert isinstance(extract, Extractor)
    assert extract.name == "classifier"
    first, second = extract(pixels), extract(pixels)
    assert len(files(tmp_path)) == 1
    for features in (first, second):
        assert features.equal(plain)
        assert (features.dtype, features.stride()) == (plain.dtype, plain.stride())
    # Whoever changes what was read leaves the file alone.
    second.zero_()
    assert extract(pixels).equal(plain)


def test_features_are_computed_once_for_an_image_set_wherever_it_comes_from(cached, rng):
    pixels = pixels_of(rng, 4)
    expected = cached(pixels)
    strided = pixels.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    read_only = pixels.numpy().copy()
    read_only.setflags(write=False)
    for same in (pixels, pixels.clone(), pixels.numpy(), strided, strided.numpy(), read_only, torch.cat([pixels])):
        assert cached(same).equal(expected)
    assert cached.extract.calls == 1
    for other in (pixels.flip(0), pixels[:3], pixels.transpose(2, 3), 255 - pixels, pixels.reshape(16, 3, 4, 4)):
        cached(other)
    assert cached.extract.calls == 6


@pytest.mark.parametrize("image", [0, 3])
@pytest.mark.parametrize("byte", [0, 100, -1])
def test_one_other_byte_anywhere_is_another_image_set(cached, rng, image, byte):
    pixels = pixels_of(rng, 4)
    cached(pixels)
    pixels[image].view(-1)[byte] ^= 1
    assert cached(pixels).equal(Counting()(pixels))
    assert cached.extract.calls == 2


def test_another_stage_finds_them_and_another_extractor_does_not(cached, rng):
    pixels = pixels_of(rng)
    cached(pixels)
    same, other, renamed = Counting(), Counting("b"), Counting()
    renamed.name = "renamed"
    for extract in (same, other, renamed):
        CachedExtractor(extract, cached.folder, 1.0)(pixels)
    assert [extract.calls for extract in (same, other, renamed)] == [0, 1, 1]


def test_damaged_files_are_computed_again(cached, rng):
    pixels = pixels_of(rng)
    expected = cached(pixels)
    (file,) = files(cached.folder)
    whole = file.read_bytes()
    damages = [
        lambda: file.write_bytes(b""),
        lambda: file.write_bytes(whole[:-1]),
        lambda: file.write_bytes(whole[:20]),
        lambda: file.write_bytes(b"\0" * len(whole)),
        lambda: save_file({"features": expected[:1].contiguous()}, file),
        lambda: save_file({"features": expected[0].contiguous()}, file),
        lambda: save_file({"features": expected.double()}, file),
        lambda: save_file({"others": expected}, file),
    ]
    for calls, damage in enumerate(damages, start=2):
        damage()
        assert cached(pixels).equal(expected)
        assert cached.extract.calls == calls
        assert file.read_bytes() == whole


def test_the_folder_stays_within_its_bound_and_the_least_recently_used_go_first(tmp_path, rng):
    cached = CachedExtractor(Counting(), tmp_path, KILOBYTES_60)
    sets = [pixels_of(rng) for _ in range(9)]
    # 8 kB each: seven fit.
    for age, pixels in enumerate(sets[:7]):
        before = set(files(tmp_path))
        cached(pixels)
        (new,) = set(files(tmp_path)) - before
        os.utime(new, (age, age))
    cached(sets[0])
    assert cached.extract.calls == 7
    cached(sets[7])
    assert sum(file.stat().st_size for file in files(tmp_path)) <= 60_000
    cached(sets[0])
    assert cached.extract.calls == 8, "what was used last is still there"
    cached(sets[1])
    assert cached.extract.calls == 9, "what was used first is gone"


def test_leftovers_of_killed_runs_count_and_go(tmp_path, rng):
    leftover = tmp_path / ".abc.safetensors.x.safetensors"
    leftover.write_bytes(b"\0" * 55_000)
    os.utime(leftover, (0, 0))
    CachedExtractor(Counting(), tmp_path, KILOBYTES_60)(pixels_of(rng))
    assert len(files(tmp_path)) == 1
    assert not leftover.exists()


def test_features_beyond_the_bound_are_not_kept_and_drive_nothing_out(tmp_path, rng):
    cached = CachedExtractor(Counting(), tmp_path, KILOBYTES_60)
    cached(pixels_of(rng))
    kept = files(tmp_path)
    cached(pixels_of(rng, 20))
    assert files(tmp_path) == kept


@pytest.mark.parametrize("bound", [-1.0, float("nan")])
def test_a_bound_that_cannot_be_is_refused(tmp_path, bound):
    config = ExtractorConfig("classifier", Weights(None, None), 4, bound)
    with pytest.raises(ValueError, match=r"bound is .*: set extractor.cache_gigabytes to a positive number, or to 0 "):
        build_extractor(config, classifier(), CPU, tmp_path)


def test_a_folder_that_vanishes_meanwhile_is_no_harm(cached, rng):
    pixels = pixels_of(rng)
    expected = cached(pixels)
    shutil.rmtree(cached.folder)
    assert cached(pixels).equal(expected)
    assert cached.extract.calls == 2


def test_stages_share_the_folder(tmp_path, rng):
    sets = [pixels_of(rng) for _ in range(6)]
    expected = [Counting()(pixels) for pixels in sets]

    def stage(seed):
        cached = CachedExtractor(Counting(), tmp_path, KILOBYTES_60 / 3)
        order = np.random.default_rng(seed).integers(0, len(sets), 40)
        return all(cached(sets[place]).equal(expected[place]) for place in order)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(stage, range(8)))
    assert sum(file.stat().st_size for file in files(tmp_path)) <= 20_000


def test_no_image_is_refused_as_without_a_cache(tmp_path):
    config = ExtractorConfig("classifier", Weights(None, None), 4, 1.0)
    with pytest.raises(ValueError, match="no image at all"):
        build_extractor(config, classifier(), CPU, tmp_path)(torch.zeros(0, 3, 32, 32, dtype=torch.uint8))
    assert not files(tmp_path)


def test_a_classifiers_fingerprint_is_its_weights_and_its_architecture():
    same, again = classifier(), classifier()
    assert same.fingerprint() == again.fingerprint()
    again.network.head.bias[0] += 1e-6
    others = [again, classifier(seed=1), classifier(dropout=0.3), classifier(classes=3)]
    assert len({model.fingerprint() for model in [same, *others]}) == 5


def test_a_published_networks_fingerprint_is_its_weights_and_how_it_is_asked():
    def frozen(name="tiny", scale=2.0, batch_size=4, swapped=False):
        layers = {"a": torch.nn.Linear(3, 3), "b": torch.nn.Linear(3, 3)}
        for layer, value in zip(reversed(layers.values()) if swapped else layers.values(), (scale, 1.0), strict=True):
            torch.nn.init.constant_(layer.weight, value)
            torch.nn.init.zeros_(layer.bias)
        prepared = Prepared(lambda pixels: pixels.float().mean(dim=(2, 3)), torch.nn.ModuleDict(layers))
        published = PublishedNetwork(
            name=name, library="torch", url="", file_name="", sha256=None, build=lambda _: prepared
        )
        return FrozenNetwork(published, prepared, CPU, batch_size).fingerprint()

    assert frozen() == frozen()
    others = [frozen(name="other"), frozen(scale=3.0), frozen(batch_size=5), frozen(swapped=True)]
    assert len({frozen(), *others}) == 5


def test_an_extractor_without_its_cache_keeps_nothing(cached, rng):
    assert without_cache(cached) is cached.extract
    assert without_cache(cached.extract) is cached.extract
    without_cache(cached)(pixels_of(rng))
    assert not cached.folder.exists()
