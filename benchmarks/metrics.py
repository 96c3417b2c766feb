"""Seconds and peak memory of FID, of KID over all pairs and of precision, recall, density and coverage, as JSON.

    python benchmarks/metrics.py [--count 50000] [--dim 2048] [--threads 2]
    python benchmarks/metrics.py --draws 20 --count 10000 --dim 512    # all of them with their intervals, too

Features are random numbers, which take as long as those of images; each metric runs in a process of its own.
"""

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from skinsynth.machine import peak_memory_mb
from skinsynth.quality.fid import frechet_distance
from skinsynth.quality.fidelity import distances_of_parts
from skinsynth.quality.half_samples import half_scores
from skinsynth.quality.kid import kernel_distance
from skinsynth.quality.neighbours import neighbour_scores

NEIGHBOURS = 5
MEASURED: dict[str, Callable[[Tensor, Tensor], object]] = {
    "fid": frechet_distance,
    "kid": kernel_distance,
    "precision_recall_density_coverage": partial(neighbour_scores, k=NEIGHBOURS),
}


def with_intervals(real: Tensor, fake: Tensor, draws: int) -> object:
    """What `score_gan` asks of a comparison, but for extrapolated FID and KID of subsets."""
    scores = partial(distances_of_parts, neighbours=NEIGHBOURS)
    return half_scores(scores, real, fake, draws, torch.Generator().manual_seed(0))


def measure(work: Callable[[Tensor, Tensor], object], count: int, dim: int, threads: int) -> dict[str, float]:
    """One metric on two sets of random features; a process of its own, so that peak memory is its own."""
    torch.set_num_threads(threads)
    rng = torch.Generator().manual_seed(0)
    real, fake = (torch.randn(count, dim, generator=rng) for _ in range(2))
    start = time.perf_counter()
    work(real, fake)
    seconds = time.perf_counter() - start
    peak = peak_memory_mb()
    return {"seconds": round(seconds, 2), "peak_memory_mb": round(peak), "features_mb": round(2 * real.nbytes / 2**20)}


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50_000, help="features on each side")
    parser.add_argument("--dim", type=int, default=2048, help="numbers of a feature")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU")
    parser.add_argument("--draws", type=int, default=0, help="halves behind intervals; 0 leaves these out")
    flags = parser.parse_args()
    result: dict[str, object] = vars(flags).copy()
    measured = MEASURED | ({"all_with_intervals": partial(with_intervals, draws=flags.draws)} if flags.draws else {})
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for name, work in measured.items():
            result[name] = pool.apply(measure, (work, flags.count, flags.dim, flags.threads))
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
