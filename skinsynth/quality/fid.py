"""Fréchet distance between two sets of features."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

# Rows taken at once: bounds what is held beside the features themselves.
ROWS_AT_ONCE = 8192


def frechet_distance(real: Float[Tensor, "n dim"], fake: Float[Tensor, "m dim"]) -> float:
    """Squared Fréchet distance between Gaussians fitted to both sets (FID, Heusel et al. 2017), in float64.

    With Σ = RᵀR, the trace of (Σ₁Σ₂)^½ is the sum of the singular values of R₁R₂ᵀ: no covariance is formed and no
    square root is taken of what rounding left of an eigenvalue, so that nearly degenerate sets stay exact.
    """
    if min(len(real), len(fake)) < 2:
        raise ValueError(f"FID needs two features or more on each side, not {len(real)} real and {len(fake)} fake")
    gap = real.mean(dim=0, dtype=torch.float64) - fake.mean(dim=0, dtype=torch.float64)
    root_real, root_fake = covariance_root(real), covariance_root(fake)
    cross = torch.linalg.svdvals(root_real @ root_fake.T).sum()
    return float(gap.square().sum() + root_real.square().sum() + root_fake.square().sum() - 2 * cross)


def covariance_root(features: Float[Tensor, "n dim"]) -> Float64[Tensor, "rank dim"]:
    """R with RᵀR = the covariance, by QR of the centred features, block by block."""
    mean = features.mean(dim=0, dtype=torch.float64)
    root = torch.empty(0, features.shape[1], dtype=torch.float64, device=features.device)
    for block in features.split(ROWS_AT_ONCE):
        root = torch.linalg.qr(torch.cat([root, block.double() - mean]), mode="r").R
    return root / (len(features) - 1) ** 0.5
