"""Who turns images into the features that distances are measured in; every number names its extractor."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8
from torch import Tensor


@runtime_checkable
class Extractor(Protocol):
    """Pixels in, one feature vector an image out, on the CPU."""

    @property
    def name(self) -> str: ...

    @property
    def dim(self) -> int: ...

    def __call__(self, pixels: UInt8[np.ndarray | Tensor, "n 3 size size"]) -> Float32[Tensor, "n dim"]: ...


@runtime_checkable
class Embedder(Protocol):
    """A model that has features of its own, such as a classifier."""

    dim: int

    def embed(self, pixels: UInt8[np.ndarray | Tensor, "n 3 size size"]) -> Tensor: ...


@dataclass(frozen=True)
class ModelExtractor:
    """The features of a model of our own."""

    name: str
    model: Embedder

    @property
    def dim(self) -> int:
        return self.model.dim

    def __call__(self, pixels: UInt8[np.ndarray | Tensor, "n 3 size size"]) -> Float32[Tensor, "n dim"]:
        return self.model.embed(pixels).float().cpu()


def classifier_features(model: Embedder) -> Extractor:
    """The project's own extractor, which needs no download: the last layer but one of the classifier of real images."""
    return ModelExtractor("classifier", model)


EXTRACTORS: dict[str, Callable[[Embedder], Extractor]] = {"classifier": classifier_features}


def build_extractor(name: str, classifier: Embedder) -> Extractor:
    """The extractor called `name`; `classifier` is the model behind the one that works offline."""
    if name not in EXTRACTORS:
        raise ValueError(
            f"no extractor is called {name!r} (known: {', '.join(sorted(EXTRACTORS))}): "
            "set `extractor: classifier`, the project's own, which needs no download"
        )
    return EXTRACTORS[name](classifier)
