"""What a classifier sees on its way to its last features: mean and spread of its maps at every resolution.

The last features keep what tells the classes apart and may drop all else: blurred lesions, squares of one colour and
noise can come to lie among real images (benchmarks/blind_spots.py). Colours and textures are in the maps before. Means
and spreads of them are what style is measured by (Huang and Belongie 2017, eq. 8).
"""

import hashlib
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

# What these give is no map: convolutions before their activation, and what attention multiplies.
NO_MAPS = (nn.Conv2d, nn.Dropout, nn.Linear, nn.Softmax)
MOST_CHANNELS = 128  # of a map: wide networks have thousands, in which FID would take hours


@runtime_checkable
class HasBody(Protocol):
    @property
    def body(self) -> nn.Module: ...


@runtime_checkable
class WatchedClassifier(Protocol):
    """A classifier whose body, a network of convolutions, can be looked into."""

    @property
    def network(self) -> HasBody: ...

    @property
    def device(self) -> torch.device: ...

    def fingerprint(self) -> str: ...

    def embed(self, pixels: UInt8[np.ndarray | Tensor, "n 3 size size"]) -> Tensor: ...


class Levels:
    """Mean and standard deviation of each channel of the last map of every size, finest first.

    The last map of a size may be an inner one of the block that makes the next. Of more than 128 channels as many are
    taken, evenly spaced: their order means nothing. Larger images may have more sizes, and so more features.
    """

    def __init__(self, classifier: WatchedClassifier) -> None:
        self.classifier = classifier

    @property
    def device(self) -> torch.device:
        return self.classifier.device

    def fingerprint(self) -> str:
        """Another one whenever features might be others: by the classifier or this file's code."""
        digest = hashlib.sha256(self.classifier.fingerprint().encode())
        digest.update(Path(__file__).read_bytes())
        return digest.hexdigest()

    def embed(self, pixels: UInt8[np.ndarray | Tensor, "n 3 size size"]) -> Float[Tensor, "n dim"]:
        """Features, on the classifier's device; a ValueError where its network makes no square maps, as a ViT."""
        with Watch(self.classifier.network.body) as watch:
            self.classifier.embed(pixels)
        return torch.cat(watch.of_batches)


class Watch:
    """The levels of each batch that goes through a body meanwhile."""

    def __init__(self, body: nn.Module) -> None:
        self.body = body
        self.images = 0  # of the batch
        self.maps: dict[int, Tensor] = {}  # the last of each side, in pixels
        self.of_batches: list[Float[Tensor, "batch dim"]] = []

    def __enter__(self) -> "Watch":
        self.hooks = [
            self.body.register_forward_pre_hook(self._begin),
            *(layer.register_forward_hook(self._keep) for layer in self.body.modules()),
            self.body.register_forward_hook(self._sum_up),
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def _begin(self, _: nn.Module, given: tuple[Tensor]) -> None:
        self.images = len(given[0])
        self.maps.clear()

    def _keep(self, layer: nn.Module, _: object, output: object) -> None:
        if isinstance(output, Tensor) and not isinstance(layer, NO_MAPS) and self._is_map(output):
            self.maps[output.shape[-1]] = output

    def _is_map(self, output: Tensor) -> bool:
        """Whether it is square, one for each image (windows of attention are more), with a spread over places."""
        return output.ndim == 4 and len(output) == self.images and output.shape[2] == output.shape[3] > 1

    def _sum_up(self, *_: object) -> None:
        self.of_batches.append(_moments(self.maps))
        self.maps.clear()


def _moments(maps: dict[int, Float[Tensor, "n channels side side"]]) -> Float[Tensor, "n dim"]:
    if not maps:
        raise ValueError(
            "the classifier's network makes no square maps, of which classifier_levels are means and spreads: take "
            "classifier_levels out of `extractor` and `further_extractors`, or train a network of convolutions"
        )
    finest_first = [_evenly_spaced(maps[side]).float() for side in sorted(maps, reverse=True)]
    return torch.cat([part for found in finest_first for part in (found.mean((2, 3)), found.std((2, 3)))], dim=1)


def _evenly_spaced(maps: Float[Tensor, "n channels side side"]) -> Float[Tensor, "n fewer side side"]:
    channels = maps.shape[1]
    if channels <= MOST_CHANNELS:
        return maps
    return maps[:, torch.arange(MOST_CHANNELS, device=maps.device) * channels // MOST_CHANNELS]
