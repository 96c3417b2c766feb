"""Extractors: a name, a size, and features that are those of the model behind them."""

from dataclasses import replace

import pytest
import torch

from skinsynth.features.extractor import Extractor, ExtractorConfig, build_extractor
from skinsynth.features.pretrained import Weights

CPU = torch.device("cpu")
OFFLINE = ExtractorConfig("classifier", Weights(None, None), 64, cache_gigabytes=0.0)


class MeanColour:
    dim = 3
    device = CPU

    def fingerprint(self):
        return "mean colour"

    def embed(self, pixels):
        return torch.as_tensor(pixels).double().mean(dim=(2, 3))


def test_the_offline_extractor_gives_its_models_features(rng, tmp_path):
    pixels = torch.randint(0, 256, (5, 3, 4, 4), generator=rng, dtype=torch.uint8)
    extract = build_extractor(OFFLINE, MeanColour(), CPU, tmp_path)
    assert isinstance(extract, Extractor)
    assert (extract.name, extract.dim) == ("classifier", 3)
    torch.testing.assert_close(extract(pixels), pixels.float().mean(dim=(2, 3)))
    assert extract(pixels.numpy()).equal(extract(pixels))
    assert not list(tmp_path.iterdir())


def test_an_unknown_extractor_names_the_one_that_works_offline(tmp_path):
    known = r"no extractor is called 'dino' \(known: classifier, inception, dinov2, vgg16\): set extractor.name to"
    with pytest.raises(ValueError, match=known):
        build_extractor(replace(OFFLINE, name="dino"), MeanColour(), CPU, tmp_path)
