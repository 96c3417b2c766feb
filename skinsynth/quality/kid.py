"""Kernel distance between two sets of features: unbiased, so fit for a few hundred images."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from tqdm import tqdm

from skinsynth.quality.half_samples import Part, is_member, whole

# Rows and columns of a kernel matrix held at once: what a processor's cache holds, and what keeps a GPU busy.
TILE, TILE_OF_GPU = 512, 8192


def kernel_distance(real: Float[Tensor, "n dim"], fake: Float[Tensor, "m dim"]) -> float:
    """Squared MMD with the cubic kernel over all pairs, unbiased, so it may be < 0 (Bińkowski et al. 2018, eq. 4)."""
    return kernel_distances(real, fake, [whole(real, fake)])[0]


def kernel_distances(real: Float[Tensor, "n dim"], fake: Float[Tensor, "m dim"], parts: Sequence[Part]) -> list[float]:
    """The kernel distance of each of several parts, whose kernels are computed once for all."""
    of_real, of_fake = zip(*parts, strict=True)
    n, m = list(map(len, of_real)), list(map(len, of_fake))
    if min(*n, *m) < 2:
        raise ValueError(f"KID needs two features or more on each side, not {min(n)} real and {min(m)} fake")
    in_real, in_fake = _membership(of_real, real), _membership(of_fake, fake)
    within_real = _kernel_sums(real, in_real) - _kernel_diagonal(real) @ in_real
    within_fake = _kernel_sums(fake, in_fake) - _kernel_diagonal(fake) @ in_fake
    across = _kernel_sums(real, in_real, fake, in_fake)
    sums = zip(within_real.tolist(), within_fake.tolist(), across.tolist(), n, m, strict=True)
    return [rr / (n * (n - 1)) + ff / (m * (m - 1)) - 2 * rf / (n * m) for rr, ff, rf, n, m in sums]


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


def _membership(parts: Sequence[Int64[Tensor, " _"]], rows: Float[Tensor, "n dim"]) -> Float64[Tensor, "n parts"]:
    """1 where a row is of a part."""
    return torch.stack([is_member(places, len(rows)) for places in parts], dim=1).double()


def _kernel_sums(
    x: Float[Tensor, "n dim"],
    in_x: Float64[Tensor, "n parts"],
    y: Float[Tensor, "m dim"] | None = None,
    in_y: Float64[Tensor, "m parts"] | None = None,
) -> Float64[Tensor, " parts"]:
    """Sum of (x·y / dim + 1)³ over all pairs of each part, in float64; without `y` of those within `x`, where a tile
    off the diagonal counts for its twin."""
    side = TILE if x.device.type == "cpu" else TILE_OF_GPU
    totals = torch.zeros(in_x.shape[1], dtype=torch.float64, device=x.device)
    one = torch.ones((), dtype=torch.float64, device=x.device)
    others, in_others = (x, in_x) if y is None or in_y is None else (y, in_y)
    for top in tqdm(range(0, len(x), side), unit="tile", desc="kernels", leave=False, delay=5):
        rows, of_rows = x[top : top + side].double() / x.shape[1], in_x[top : top + side]
        for left in range(top if y is None else 0, len(others), side):
            kernel = torch.addmm(one, rows, others[left : left + side].double().T)
            cubes = kernel.square().mul_(kernel) @ in_others[left : left + side]
            totals += (2 if y is None and left > top else 1) * (cubes * of_rows).sum(dim=0)
    return totals


def _kernel_diagonal(x: Float[Tensor, "n dim"]) -> Float64[Tensor, " n"]:
    """What each feature makes with itself."""
    lengths = torch.cat([some.double().square().sum(dim=1) for some in x.split(TILE)])
    return (lengths / x.shape[1] + 1) ** 3
