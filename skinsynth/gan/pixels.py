"""Images outside the networks (uint8) and inside (float in [-1, 1])."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor


def from_pixels(pixels: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Images in [-1, 1]: 0 is -1 and 255 is 1."""
    return pixels.to(torch.float32) / 127.5 - 1


def to_pixels(images: Float[Tensor, "n c h w"]) -> UInt8[Tensor, "n c h w"]:
    """The nearest of 256 levels; what lies outside [-1, 1] is cut. The inverse of `from_pixels`."""
    return (images.to(torch.float32) * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
