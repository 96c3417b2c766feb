"""Kernel distance between two sets of features: unbiased, so fit for a few hundred images."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

# Rows and columns of a kernel matrix held at once: what a processor's cache holds, and what keeps a GPU busy.
TILE, TILE_OF_GPU = 512, 8192


def kernel_distance(real: Float[Tensor, "n dim"], fake: Float[Tensor, "m dim"]) -> float:
    """Squared MMD with the cubic kernel over all pairs, unbiased, so it may be < 0 (Bińkowski et al. 2018, eq. 4)."""
    n, m = len(real), len(fake)
    if min(n, m) < 2:
        raise ValueError(f"KID needs two features or more on each side, not {n} real and {m} fake")
    within_real = (_kernel_sum(real) - _kernel_diagonal(real).sum()) / (n * (n - 1))
    within_fake = (_kernel_sum(fake) - _kernel_diagonal(fake).sum()) / (m * (m - 1))
    return float(within_real + within_fake - 2 * _kernel_sum(real, fake) / (n * m))


def kernel_distance_of_subsets(
    real: Float[Tensor, "n dim"], fake: Float[Tensor, "m dim"], subset_size: int, subsets: int, rng: torch.Generator
) -> tuple[float, float]:
    """Mean of `subsets` kernel distances, each between random subsets of both sides, and their standard deviation.

    This is the published KID. Its deviation describes one subset; the interval of the whole is in `half_samples`.
    """
    if subset_size > min(len(real), len(fake)):
        raise ValueError(
            f"KID draws subsets of {subset_size}, but there are {len(real)} real and {len(fake)} fake features: "
            "lower kid_subset_size or give more images"
        )
    distances = torch.tensor(
        [kernel_distance(_draw(real, subset_size, rng), _draw(fake, subset_size, rng)) for _ in range(subsets)],
        dtype=torch.float64,
    )
    return float(distances.mean()), float(distances.std(correction=min(1, subsets - 1)))


def _draw(features: Float[Tensor, "n dim"], count: int, rng: torch.Generator) -> Float[Tensor, "count dim"]:
    chosen = torch.randperm(len(features), generator=rng, device=rng.device)[:count]
    return features[chosen.to(features.device)]


def _kernel_sum(x: Float[Tensor, "n dim"], y: Float[Tensor, "m dim"] | None = None) -> Float64[Tensor, ""]:
    """Sum of (x·y / dim + 1)³ over all pairs, in float64; without `y` of those within `x`, where a tile off the
    diagonal counts for its twin."""
    side = TILE if x.device.type == "cpu" else TILE_OF_GPU
    total = torch.zeros((), dtype=torch.float64, device=x.device)
    one = torch.ones_like(total)
    for top, some in enumerate(x.split(side)):
        rows = some.double() / x.shape[1]
        for left, columns in enumerate((x if y is None else y).split(side)):
            if y is None and left < top:
                continue
            kernel = torch.addmm(one, rows, columns.double().T).flatten()
            cubes = torch.dot(kernel.square(), kernel)
            total += 2 * cubes if y is None and left > top else cubes
    return total


def _kernel_diagonal(x: Float[Tensor, "n dim"]) -> Float64[Tensor, " n"]:
    """What each feature makes with itself."""
    lengths = torch.cat([some.double().square().sum(dim=1) for some in x.split(TILE)])
    return (lengths / x.shape[1] + 1) ** 3
