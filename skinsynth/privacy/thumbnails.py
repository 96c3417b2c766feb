"""Images compared without any network: small, without their colour cast, in every orientation."""

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d
from tqdm import tqdm

from skinsynth.privacy.distances import nearest

SIZE = 16


def nearest_in_any_orientation(
    pixels: UInt8[np.ndarray, "n 3 size size"], among: Float[Tensor, "m 3 s s"]
) -> tuple[Float64[Tensor, " n"], Int64[Tensor, " n"]]:
    """Distance of each image, turned by quarters or mirrored as it may be, to the nearest of others' thumbnails, and
    which one that is.

    Distances are 1 - r, 0 to 2, with the correlation r of thumbnails: brightness and contrast of colours do not matter.
    """
    others = among.flatten(1)
    ways = tqdm(orientations(thumbnails(pixels)), unit="orientation", desc="looking for copies", leave=False, delay=5)
    found = [nearest(turned.flatten(1), others, "cosine") for turned in ways]
    gaps, partners = (torch.stack(part) for part in zip(*found, strict=True))
    best = gaps.min(dim=0)
    return best.values, partners.gather(0, best.indices[None])[0]


def thumbnails(pixels: UInt8[np.ndarray, "n 3 size size"]) -> Float[Tensor, "n 3 s s"]:
    """Images of at most 16 px, each colour with mean 0 and deviation 1 (0 where it is the same all over)."""
    parts = []
    for start in range(0, len(pixels), 1024):
        part = torch.from_numpy(np.ascontiguousarray(pixels[start : start + 1024])).float()
        small = adaptive_avg_pool2d(part, min(SIZE, part.shape[-1]))
        centred = small - small.mean(dim=(2, 3), keepdim=True)
        parts.append(centred / centred.square().mean(dim=(2, 3), keepdim=True).sqrt().clamp(min=1e-3))
    return torch.cat(parts)


def orientations(images: Float[Tensor, "n 3 s s"]) -> list[Float[Tensor, "n 3 s s"]]:
    """The images in the eight ways that a square can lie, as they are first."""
    return [torch.rot90(side, quarters, (2, 3)) for side in (images, images.flip(3)) for quarters in range(4)]
