"""Seconds and peak memory of FID, of KID over all pairs and of precision, recall, density and coverage, as JSON.

    python benchmarks/metrics.py [--count 50000] [--dim 2048] [--threads 2]

Features are random numbers, which take as long as those of images; each metric runs in a process of its own.
"""

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable

import torch
from torch import Tensor

from skinsynth.machine import peak_memory_mb
from skinsynth.quality.fid import frechet_distance
from skinsynth.quality.kid import kernel_distance
from skinsynth.quality.neighbours import neighbour_scores

MEASURED: dict[str, Callable[[Tensor, Tensor], object]] = {
    "fid": frechet_distance,
    "kid": kernel_distance,
    "precision_recall_density_coverage": lambda real, fake: neighbour_scores(real, fake, k=5),
}


def measure(name: str, count: int, dim: int, threads: int) -> dict[str, float]:
    """One metric on two sets of random features; a process of its own, so that peak memory is its own."""
    torch.set_num_threads(threads)
    rng = torch.Generator().manual_seed(0)
    real, fake = (torch.randn(count, dim, generator=rng) for _ in range(2))
    start = time.perf_counter()
    MEASURED[name](real, fake)
    seconds = time.perf_counter() - start
    peak = peak_memory_mb()
    return {"seconds": round(seconds, 2), "peak_memory_mb": round(peak), "features_mb": round(2 * real.nbytes / 2**20)}


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50_000, help="features on each side")
    parser.add_argument("--dim", type=int, default=2048, help="numbers of a feature")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU")
    flags = parser.parse_args()
    result: dict[str, object] = vars(flags).copy()
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for name in MEASURED:
            result[name] = pool.apply(measure, (name, flags.count, flags.dim, flags.threads))
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
