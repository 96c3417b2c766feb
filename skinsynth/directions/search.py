"""The directions of one GAN that need no labels."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from skinsynth.directions.axes import Axes, strides
from skinsynth.directions.edit import LayerRange
from skinsynth.directions.principal import explained_share, principal_axes, sample_w, within_classes
from skinsynth.directions.semantic import semantic_axes
from skinsynth.gan.model import Gan


class Found(NamedTuple):
    """The directions that one method finds."""

    method: str
    axes: Axes
    strides: Float[Tensor, "k w"]  # the axes, each as long as the standard deviation of w within a class
    layers: LayerRange | None  # of ws, in which images move; None: all
    explained: float  # share of the variance of w within a class


def find_axes(
    gan: Gan, count: int, sefa_layers: LayerRange | None, latents: int, rng: torch.Generator
) -> tuple[Found, Found]:
    """The leading directions by SeFa and by PCA; both make steps of the same kind, so that effects compare."""
    labels = spread_evenly(gan.classes, latents)
    w = within_classes(sample_w(gan, labels, rng), labels)
    semantic, principal = semantic_axes(gan.generator, count, sefa_layers), principal_axes(w, count)
    return _found("sefa", semantic, sefa_layers, w), _found("pca", principal, None, w)


def spread_evenly(classes: Sequence[int], count: int) -> Int64[Tensor, " count"]:
    """`count` labels, each class in turn."""
    if count < len(classes):
        raise ValueError(
            f"each of {len(classes)} classes takes an image or more, but {count} in all came: ask for more"
        )
    return torch.tensor(classes)[torch.arange(count) % len(classes)]


def _found(method: str, axes: Axes, layers: LayerRange | None, w: Float[Tensor, "n w"]) -> Found:
    return Found(method, axes, strides(w, axes.vectors), layers, explained_share(w, axes.vectors))
