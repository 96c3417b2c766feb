"""XRAI: the regions of an image that an answer rests on (Kapishnikov et al. 2019, arXiv 1906.02825).

The method is PAIR's `saliency`; here stand its door to our classifier and what changes with the size of the images.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped, UInt8
from saliency.core.base import INPUT_OUTPUT_GRADIENTS
from saliency.core.xrai import XRAI, XRAIParameters, _get_segments_felzenszwalb

from skinsynth.classifier.classifier import Classifier, normalise
from skinsynth.settings import Count

ALGORITHMS = ("full", "fast")  # of the paper's appendix: with or without what earlier regions hold already
# The library means its numbers for images of this side; it segments at this side whatever the image's own.
PUBLISHED_SIDE = 224
DILATION = 5  # pixels that a segment is widened by, so that it holds its own edge
SMALLEST_GAIN = 50  # pixels that a segment must add to those before it


@dataclass(frozen=True)
class XraiConfig:
    steps: Count  # of the path from each baseline to the image (the paper: 100)
    algorithm: str  # one of ALGORITHMS
    batch_size: Count  # steps at once


def heat_map(
    classifier: Classifier, pixels: UInt8[np.ndarray, "3 size size"], answer: int, config: XraiConfig
) -> Float[np.ndarray, "size size"]:
    """Mean attribution to the probability of `answer` of the region that each pixel came in with (section 3, alg. 1).

    Integrated gradients are averaged over a black and a white baseline, so that neither dark nor light pixels vanish.
    """
    if config.algorithm not in ALGORITHMS:
        raise ValueError(f"XRAI's algorithm is {config.algorithm!r}: choose one of {', '.join(ALGORITHMS)}")
    image = pixels.transpose(1, 2, 0).astype(np.float32) / 255
    parameters = XRAIParameters(steps=config.steps, algorithm=config.algorithm)
    parameters.experimental_params["min_pixel_diff"] = _at_side(SMALLEST_GAIN, image, dimensions=2)
    return XRAI().GetMask(
        image,
        gradient_of(classifier, answer),
        baselines=[np.zeros_like(image), np.ones_like(image)],
        segments=segments(image),
        batch_size=config.batch_size,
        extra_parameters=parameters,
    )


def gradient_of(classifier: Classifier, answer: int) -> Callable[..., dict[str, np.ndarray]]:
    """The library's `call_model_function`: gradient of the probability of `answer` by images in [0, 1], as NHWC."""

    def call_model_function(
        images: Float[np.ndarray, "n size size 3"], call_model_args: Any = None, expected_keys: Any = None
    ) -> dict[str, np.ndarray]:
        del call_model_args, expected_keys  # what the library passes to everyone; one class and one key are all here
        x = torch.as_tensor(images, dtype=torch.float32, device=classifier.device).permute(0, 3, 1, 2)
        x = x.contiguous().requires_grad_()
        probability = classifier.network(normalise(x)).softmax(dim=1)[:, answer]
        (gradient,) = torch.autograd.grad(probability.sum(), x)
        return {INPUT_OUTPUT_GRADIENTS: gradient.permute(0, 2, 3, 1).cpu().numpy()}

    return call_model_function


def segments(image: Float[np.ndarray, "size size 3"]) -> list[Bool[np.ndarray, "size size"]]:
    """Overlapping segments at the paper's six scales (section 3.2), at 224 px the library's own.

    The library segments at 224 px but widens segments in pixels of the image: at 32 px, 5 of them would drown all.
    """
    if image.min() == image.max():  # the library would divide by zero
        return [np.ones(image.shape[:2], dtype=bool)]
    radius = _at_side(DILATION, image, dimensions=1)
    return [mask for mask in _get_segments_felzenszwalb(image, dilation_rad=radius) if mask.any()]


def _at_side(published: int, image: Shaped[np.ndarray, "size size 3"], dimensions: int) -> int:
    """A length (1 dimension) or an area (2) of the paper's 224 px in pixels of this image, at least 1."""
    return max(1, round(published * (len(image) / PUBLISHED_SIDE) ** dimensions))


def top_regions(heat: Float[np.ndarray, "size size"], share: float) -> Bool[np.ndarray, "size size"]:
    """Whole regions, the most important first, until they cover `share` of the image or somewhat more."""
    return heat >= np.quantile(heat, 1 - share, method="lower")
