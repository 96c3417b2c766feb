"""Perceptual path length: how much an image changes per small step in the latent space."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from skinsynth.gan.generator import Generator

Distance = Callable[[Tensor, Tensor], Tensor]


def feature_distance(perceptual: Callable[[Tensor], Tensor]) -> Distance:
    """Squared distance between the unit-length features of image pairs in [-1, 1]: for networks without trained weights
    per channel, what LPIPS is for VGG16 (Zhang et al. 2018, eq. 1)."""

    def distance(a: Float[Tensor, "n 3 size size"], b: Float[Tensor, "n 3 size size"]) -> Float[Tensor, " n"]:
        both = torch.nn.functional.normalize(perceptual(torch.cat([a, b])).flatten(1), dim=1)
        return (both[: len(a)] - both[len(a) :]).square().sum(dim=1)

    return distance


@torch.no_grad()
def path_lengths(
    generator: Generator,
    z: Float[Tensor, "n 2 z"],
    c: Float[Tensor, "n classes"],
    distance: Distance,
    epsilon: float,
    batch_size: int,
) -> Float[Tensor, " n"]:
    """Distance over ε² between each image and its neighbour ε along the way to another of its class.

    In W, at the start of each way (t = 0), without crop (StyleGAN, Karras et al. 2019, eq. 3; `ppl2_wend`, for which
    ε is 1e-4). Both images have the same noise.
    """
    lengths = []
    for pair, label in zip(z.split(batch_size), c.split(batch_size), strict=True):
        start, end = (generator.mapping(pair[:, side], label) for side in (0, 1))
        # TF32 rounds away what a step of ε changes.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            first = generator.synthesis(start, noise_mode="const")
            second = generator.synthesis(torch.lerp(start, end, epsilon), noise_mode="const")
            lengths.append(distance(first, second) / epsilon**2)
    return torch.cat(lengths)


def path_length(lengths: Float[Tensor, " n"]) -> float:
    """Mean of what lies within the 1st and the 99th percentile, as published: a few jumps would outweigh the rest."""
    lengths = lengths.double()
    low = lengths.quantile(0.01, interpolation="lower")
    high = lengths.quantile(0.99, interpolation="higher")
    return float(lengths[(lengths >= low) & (lengths <= high)].mean())
