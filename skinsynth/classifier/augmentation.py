"""What training images go through so that a classifier does not learn how a lesion happens to be turned."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample


def augment(
    images: Float[Tensor, "n 3 size size"], rotation_degrees: float, flips: bool, rng: torch.Generator
) -> Float[Tensor, "n 3 size size"]:
    """Each image turned by up to `rotation_degrees` either way, and flipped along each axis half of the time."""
    transforms = _flips(len(images), flips, rng) @ _rotations(len(images), rotation_degrees, rng)
    grid = affine_grid(transforms.to(images.device), list(images.shape), align_corners=False)
    # Reflection, since black corners would look like the black frames that malignant lesions have more often.
    return grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def _rotations(count: int, degrees: float, rng: torch.Generator) -> Float[Tensor, "n 2 3"]:
    draws = torch.rand(count, generator=rng, device=rng.device)
    angles = (2 * draws - 1) * math.radians(degrees)
    cosines, sines, zeros = angles.cos(), angles.sin(), torch.zeros_like(angles)
    rows = torch.stack([cosines, -sines, zeros, sines, cosines, zeros], dim=1)
    return rows.reshape(count, 2, 3)


def _flips(count: int, wanted: bool, rng: torch.Generator) -> Float[Tensor, "n 2 2"]:
    draws = torch.rand(count, 2, generator=rng, device=rng.device)
    signs = torch.where(draws < 0.5, -1.0, 1.0) if wanted else torch.ones_like(draws)
    return torch.diag_embed(signs)
