"""What a classifier sees on its way to its last features: mean and spread of its maps at every resolution.

The last features keep what tells the classes apart and may drop all else: blurred lesions, squares of one colour and
noise can come to lie among real images (benchmarks/blind_spots.py). Colours and textures are in the maps before. Means
and spreads of them are what style is measured by (Huang and Belongie 2017, eq. 8).
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

MOST_CHANNELS = 128  # of a resolution: wide networks have thousands, in which FID would take hours


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
    """Mean and standard deviation of each channel of the last map at every resolution, finest first.

    Of more than 128 channels as many are taken, evenly spaced: their order means nothing. Larger images may have more
    resolutions, and so more features.
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
        with _watched(self.classifier.network.body) as of_batches:
            self.classifier.embed(pixels)
        return torch.cat(of_batches)


@contextmanager
def _watched(body: nn.Module) -> Iterator[list[Float[Tensor, "batch dim"]]]:
    """The levels of each batch that goes through a body meanwhile."""
    maps: dict[int, Tensor] = {}  # the last of each side, in pixels
    of_batches: list[Tensor] = []

    def keep(layer: nn.Module, _: object, output: object) -> None:
        # What a bare convolution gives is summed up after the activation that follows.
        if isinstance(output, Tensor) and not isinstance(layer, nn.Conv2d) and _is_square_map(output):
            maps[output.shape[-1]] = output

    def sum_up(*_: object) -> None:
        of_batches.append(_moments(maps))
        maps.clear()

    hooks = [layer.register_forward_hook(keep) for layer in body.modules()]
    hooks.append(body.register_forward_hook(sum_up))
    try:
        yield of_batches
    finally:
        for hook in hooks:
            hook.remove()


def _is_square_map(output: Tensor) -> bool:
    """Whether there is a spread over places."""
    return output.ndim == 4 and output.shape[2] == output.shape[3] > 1


def _moments(maps: dict[int, Float[Tensor, "n channels side side"]]) -> Float[Tensor, "n dim"]:
    if not maps:
        raise ValueError(
            "the classifier's network makes no square maps, of which classifier_levels are means and spreads: set "
            "extractor.name to classifier, or train one of convolutions"
        )
    finest_first = [_evenly_spaced(maps[side]).float() for side in sorted(maps, reverse=True)]
    return torch.cat([part for found in finest_first for part in (found.mean((2, 3)), found.std((2, 3)))], dim=1)


def _evenly_spaced(maps: Float[Tensor, "n channels side side"]) -> Float[Tensor, "n fewer side side"]:
    channels = maps.shape[1]
    count = min(channels, MOST_CHANNELS)
    return maps[:, torch.arange(count, device=maps.device) * channels // count]
