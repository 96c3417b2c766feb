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


def kernel_distances(
    real: Float[Tensor, "n dim"], fake: Float[Tensor, "m dim"], parts: Sequence[Part], title: str = "KID"
) -> list[float]:
    """The kernel distance of each of several parts, whose kernels are computed once for all."""
    of_real, of_fake = zip(*parts, strict=True)
    n, m = list(map(len, of_real)), list(map(len, of_fake))
    if min(*n, *m) < 2:
        raise ValueError(f"KID needs two features or more on each side, not {min(n)} real and {min(m)} fake")
    in_real, in_fake = _membership(of_real, real), _membership(of_fake, fake)
    within_real = _sums_within(real, in_real, title) - _kernel_diagonal(real) @ in_real
    within_fake = _sums_within(fake, in_fake, title) - _kernel_diagonal(fake) @ in_fake
    across = _sums_across(real, in_real, fake, in_fake, title)
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


def _sums_within(x: Float[Tensor, "n dim"], in_x: Float64[Tensor, "n parts"], title: str) -> Float64[Tensor, " parts"]:
    """Sum of the kernel over all pairs within each part, those of a feature with itself included."""
    totals, side = torch.zeros_like(in_x[0]), _tile_of(x)
    for top in tqdm(range(0, len(x), side), unit="tile", desc=title, leave=False, delay=5):
        rows, of_rows = x[top : top + side].double(), in_x[top : top + side]
        totals += _tile_sums(rows, of_rows, rows, of_rows)
        for left in range(top + side, len(x), side):  # each tile off the diagonal counts for its twin
            totals += 2 * _tile_sums(rows, of_rows, x[left : left + side].double(), in_x[left : left + side])
    return totals


def _sums_across(
    x: Float[Tensor, "n dim"],
    in_x: Float64[Tensor, "n parts"],
    y: Float[Tensor, "m dim"],
    in_y: Float64[Tensor, "m parts"],
    title: str,
) -> Float64[Tensor, " parts"]:
    """Sum of the kernel over all pairs of each part, one of `x` and one of `y`."""
    totals, side = torch.zeros_like(in_x[0]), _tile_of(x)
    for top in tqdm(range(0, len(x), side), unit="tile", desc=title, leave=False, delay=5):
        rows, of_rows = x[top : top + side].double(), in_x[top : top + side]
        for left in range(0, len(y), side):
            totals += _tile_sums(rows, of_rows, y[left : left + side].double(), in_y[left : left + side])
    return totals


def _tile_of(x: Float[Tensor, "n dim"]) -> int:
    return TILE if x.device.type == "cpu" else TILE_OF_GPU


def _tile_sums(
    x: Float64[Tensor, "rows dim"],
    in_x: Float64[Tensor, "rows parts"],
    y: Float64[Tensor, "columns dim"],
    in_y: Float64[Tensor, "columns parts"],
) -> Float64[Tensor, " parts"]:
    """Sum of (x·y / dim + 1)³ over all pairs of each part."""
    kernel = torch.addmm(x.new_ones(()), x, y.T, alpha=1 / x.shape[1])
    cubes = kernel.square().mul_(kernel)
    return (cubes @ in_y * in_x).sum(dim=0)


def _kernel_diagonal(x: Float[Tensor, "n dim"]) -> Float64[Tensor, " n"]:
    """What each feature makes with itself."""
    lengths = torch.cat([some.double().square().sum(dim=1) for some in x.split(TILE)])
    return (lengths / x.shape[1] + 1) ** 3
