"""Who turns images into the features that distances are measured in; every number names its extractor."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from skinsynth.features.cache import CachedExtractor, IdentifiedExtractor
from skinsynth.features.levels import Levels, WatchedClassifier
from skinsynth.features.pretrained import (
    DINOV2,
    INCEPTION,
    OFFLINE,
    VGG16,
    PublishedNetwork,
    Weights,
    load_network,
)
from skinsynth.settings import Count, NotNegative


@runtime_checkable
class Extractor(Protocol):
    """Pixels in, one feature vector an image out, on the device that it computes on."""

    @property
    def name(self) -> str: ...

    def __call__(self, pixels: UInt8[np.ndarray | Tensor, "n 3 size size"]) -> Float32[Tensor, "n dim"]: ...


@runtime_checkable
class Embedder(Protocol):
    """A model that has features of its own, such as a classifier."""

    @property
    def device(self) -> torch.device: ...  # of its features

    def fingerprint(self) -> str:
        """Another one whenever its features might be others."""
        ...

    def embed(self, pixels: UInt8[np.ndarray | Tensor, "n 3 size size"]) -> Tensor: ...


@dataclass(frozen=True)
class ModelExtractor:
    """The features of a model of our own."""

    name: str
    model: Embedder

    @property
    def device(self) -> torch.device:
        return self.model.device

    def fingerprint(self) -> str:
        return self.model.fingerprint()

    def __call__(self, pixels: UInt8[np.ndarray | Tensor, "n 3 size size"]) -> Float32[Tensor, "n dim"]:
        return self.model.embed(pixels).float()


@dataclass(frozen=True)
class ExtractorConfig:
    name: str  # a key of EXTRACTORS
    weights: Weights  # of a published network; the classifier has its own
    batch_size: Count  # of a published network
    cache_gigabytes: NotNegative  # of features kept on disk, whoever computed them; 0: none are kept


Builder = Callable[[WatchedClassifier, Weights, torch.device, int], ModelExtractor]


def classifier_features(model: WatchedClassifier, *_: object) -> ModelExtractor:
    """The project's own extractor, which needs no download: the last layer but one of the classifier of real images."""
    return ModelExtractor("classifier", model)


def classifier_levels(model: WatchedClassifier, *_: object) -> ModelExtractor:
    """The same classifier's maps of all resolutions, which see colours and textures that its last features drop."""
    return ModelExtractor("classifier_levels", Levels(model))


def published_features(network: PublishedNetwork) -> Builder:
    """The extractor that a network with weights of its own makes, whatever the classifier."""

    def build(_: WatchedClassifier, weights: Weights, device: torch.device, batch_size: int) -> ModelExtractor:
        return ModelExtractor(network.name, load_network(network, weights, device, batch_size))

    return build


OF_CLASSIFIERS: dict[str, Builder] = {"classifier": classifier_features, "classifier_levels": classifier_levels}
EXTRACTORS: dict[str, Builder] = OF_CLASSIFIERS | {
    "inception": published_features(INCEPTION),
    "dinov2": published_features(DINOV2),
    "vgg16": published_features(VGG16),
}


def build_extractor(
    config: ExtractorConfig, classifier: WatchedClassifier, device: torch.device, cache: Path
) -> Extractor:
    """The extractor of the settings, which keeps its features in the folder `cache` if it may.

    `classifier` is the model behind the extractors that work offline, on a device of its own.
    """
    if config.name not in EXTRACTORS:
        raise ValueError(f"no extractor is called {config.name!r} (known: {', '.join(EXTRACTORS)}): {OFFLINE}")
    extract = EXTRACTORS[config.name](classifier, config.weights, device, config.batch_size)
    return extract if config.cache_gigabytes == 0 else CachedExtractor(extract, cache, config.cache_gigabytes)


def build_extractors(
    configs: Sequence[ExtractorConfig], classifier: WatchedClassifier, device: torch.device, cache: Path
) -> list[Extractor]:
    """Several that look at the same images; one that is asked for twice is a ValueError."""
    names = [config.name for config in configs]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise ValueError(
            f"the extractor {', '.join(twice)} is asked for twice: strike it from `further_extractors` in params.yaml"
        )
    return [build_extractor(config, classifier, device, cache) for config in configs]


def without_cache(extract: Extractor) -> Extractor:
    """The same features, computed every time: for images that nobody draws twice."""
    return extract.extract if isinstance(extract, CachedExtractor) else extract


def weights_digest(extract: Extractor) -> str:
    """Eight hex digits that change with the extractor's weights: numbers in other features cannot be compared."""
    if isinstance(extract, CachedExtractor):
        return extract.fingerprint[:8]
    return extract.fingerprint()[:8] if isinstance(extract, IdentifiedExtractor) else "none"
