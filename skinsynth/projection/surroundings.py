"""New images from the neighbourhood of projected ones: more of what a classifier finds hard."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn.functional import normalize

from skinsynth.gan.model import Gan, render


class Neighbours(NamedTuple):
    """Images around centres, and whose neighbour each one is."""

    pixels: UInt8[Tensor, "m 3 size size"]
    centres: Int64[Tensor, " m"]  # rows of the latents given


def on_sphere(ws: Float[Tensor, "n layers w"], radius: float, rng: torch.Generator) -> Float[Tensor, "n layers w"]:
    """Each latent moved by `radius` (Euclidean) in a random direction of w, the same one in all its layers.

    Where all layers have one w, as in W, the radius is that of w. Where they differ, as in W+, it is that of the move
    over all layers together, each of which takes an equal part. The layers tell which: no two of W+ are equal.

    The authors of papers/000 cut every coordinate of z to -1 … 1 beside a shift of up to 0.1 each, which moved z by 8.7
    in all.
    """
    directions = normalize(torch.randn(ws.shape[0], 1, ws.shape[2], generator=rng, device=rng.device), dim=2)
    in_w = (ws == ws[:, :1]).all(dim=2).all(dim=1)
    lengths = torch.where(in_w, radius, radius / math.sqrt(ws.shape[1])).to(ws)
    return ws + lengths[:, None, None] * directions.to(ws)


def draw_neighbours(
    gan: Gan, ws: Float[Tensor, "n layers w"], count: int, radius: float, rng: torch.Generator
) -> Neighbours:
    """`count` neighbours of the centres, in turn; `rng` lies on the GAN's device."""
    centres = torch.arange(count) % len(ws)
    moved = on_sphere(ws[centres.to(ws.device)], radius, rng)
    return Neighbours(render(gan.generator, moved), centres)
