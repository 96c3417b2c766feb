"""Extractors: a name, a size, and features that are those of the model behind them."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from skinsynth.features.extractor import Extractor, ExtractorConfig, build_extractor, build_extractors
from skinsynth.features.pretrained import Weights

CPU = torch.device("cpu")
OFFLINE = ExtractorConfig("classifier", Weights(None, None), 64, cache_gigabytes=0.0)


class MeanColour:
    device = CPU
    network = SimpleNamespace(body=nn.Identity())

    def fingerprint(self):
        return "mean colour"

    def embed(self, pixels):
        return torch.as_tensor(pixels).double().mean(dim=(2, 3))


def test_the_offline_extractor_gives_its_models_features(rng, tmp_path):
    pixels = torch.randint(0, 256, (5, 3, 4, 4), generator=rng, dtype=torch.uint8)
    extract = build_extractor(OFFLINE, MeanColour(), CPU, tmp_path)
    assert isinstance(extract, Extractor)
    assert extract.name == "classifier"
    torch.testing.assert_close(extract(pixels), pixels.float().mean(dim=(2, 3)))
    assert extract(pixels.numpy()).equal(extract(pixels))
    assert not list(tmp_path.iterdir())


def test_an_unknown_extractor_names_the_one_that_works_offline(tmp_path):
    known = (
        r"'dino' \(known: classifier, classifier_levels, inception, dinov2, vgg16\): set extractor.name to classifier"
    )
    with pytest.raises(ValueError, match=known):
        build_extractor(replace(OFFLINE, name="dino"), MeanColour(), CPU, tmp_path)


def test_several_extractors_come_in_the_order_of_the_settings_and_none_twice(tmp_path):
    levels = replace(OFFLINE, name="classifier_levels")
    for configs in ((OFFLINE, levels), (levels, OFFLINE), (levels,), ()):
        found = build_extractors(configs, MeanColour(), CPU, tmp_path)
        assert [extract.name for extract in found] == [config.name for config in configs]
    with pytest.raises(ValueError, match="the extractor classifier is asked for twice"):
        build_extractors([OFFLINE, levels, replace(OFFLINE, batch_size=1)], MeanColour(), CPU, tmp_path)
