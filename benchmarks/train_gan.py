"""Speed of GAN training on this machine, as JSON.

    python benchmarks/train_gan.py              # 32 px on 2 CPU threads, beside what a reference would do here
    python benchmarks/train_gan.py --paper256   # 256 px on a GPU: seconds per 1,000 images, memory, share of each phase

On the CPU a reference implementation does 146 images/s in the two main updates at 170 GFLOP/s of matrix product. On one
H200, 256 px, NVIDIA's own code with its compiled operators takes 5.65 s per 1,000 images and 17.5 GB. On a GPU every
way of computing is measured, each in a process of its own, so that one that fails leaves the others; `fastest` is what
to write into params.yaml. What to expect there is counted by `count_operators.py`, which needs no GPU.
"""

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.measuring import now, rounded
from skinsynth.gan.layers import HALF_TYPES
from skinsynth.gan.model import flops_per_image, training_flops_per_image
from skinsynth.gan.presets import PresetConfig, trainer_config
from skinsynth.gan.trainer import StepReport, Trainer, TrainerConfig
from skinsynth.process import keep_freed_memory

THREADS, LATENT_SIZE = 2, 64
WARM_UP_STEPS, STEPS = 5, 20
REFERENCE_IMAGES_PER_SECOND, REFERENCE_GFLOPS = 146, 170
REFERENCE_SECONDS_PER_1000, REFERENCE_GB = 5.65, 17.5


class TimedTrainer(Trainer):
    """A trainer that knows how long each of its updates took, the device waited for."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def timed(self, phase: str, update: Callable[..., Any], *arguments: Any) -> Any:
        start = now(self.device)
        result = update(*arguments)
        self.seconds[phase].append(now(self.device) - start)
        return result

    def _update_generator(self) -> Any:
        return self.timed("generator", super()._update_generator)

    def _regularise_generator(self) -> None:
        self.timed("path length", super()._regularise_generator)

    def _update_discriminator(self, *arguments: Any) -> Any:
        return self.timed("discriminator", super()._update_discriminator, *arguments)

    def _regularise_discriminator(self, *arguments: Any) -> None:
        self.timed("R1", super()._regularise_discriminator, *arguments)

    def _update_average(self) -> None:
        self.timed("average", super()._update_average)

    def phases(self) -> dict[str, dict[str, float]]:
        """Median milliseconds of each update, and its share of a whole period."""
        total = sum(map(sum, self.seconds.values()))
        return {
            phase: {"ms": 1000 * statistics.median(seconds), "share": sum(seconds) / total}
            for phase, seconds in self.seconds.items()
        }


def small_config(channel_base: int, channel_max: int) -> TrainerConfig:
    """The reference's small networks at 32 px, without regularisers, augmentation and average."""
    config = trainer_config(PresetConfig("auto", x_flip=True, seed=0), 32, 3)
    sizes: dict[str, Any] = {"channel_base": channel_base, "channel_max": channel_max}
    sizes |= {"activation_clamp": None, "half_levels": 0}
    return dataclasses.replace(
        config,
        generator=dataclasses.replace(config.generator, z_size=LATENT_SIZE, w_size=LATENT_SIZE, **sizes),
        discriminator=dataclasses.replace(config.discriminator, **sizes),
        batch_size=32,
        r1_gamma=0.0,
        path_length_weight=0.0,
    )


def with_everything(config: TrainerConfig) -> TrainerConfig:
    """The same with regularisers and augmentation at a usual strength."""
    augment = dataclasses.replace(config.augment, preset="bgc", initial_p=0.3, adaptive=False)
    return dataclasses.replace(config, augment=augment, r1_gamma=0.01, path_length_weight=2.0)


def trainer_of(config: TrainerConfig, device: str, images: int = 512) -> TimedTrainer:
    """A trainer on noise."""
    rng = torch.Generator().manual_seed(0)
    size, classes = config.generator.resolution, max(config.generator.class_count, 1)
    pixels = torch.randint(0, 256, (images, 3, size, size), generator=rng, dtype=torch.uint8)
    return TimedTrainer(config, pixels, torch.arange(images) % classes, device)


def main_updates_per_second(trainer: TimedTrainer) -> float:
    """Images per second of the median of both main updates."""
    for _ in range(WARM_UP_STEPS):
        trainer.step()
    trainer.seconds.clear()
    for _ in range(STEPS):
        trainer.step()
    both = zip(trainer.seconds["generator"], trainer.seconds["discriminator"], strict=True)
    return trainer.config.batch_size / statistics.median(map(sum, both))


def whole_steps_per_second(trainer: Trainer, periods: int = 2) -> float:
    """Images per second over whole periods of the lazy regularisers, the first one left out; nothing waits between."""
    period = trainer.config.r1_interval
    for _ in range(period):
        trainer.step()
    start = now(trainer.device)
    for _ in range(periods * period):
        trainer.step()
    return trainer.config.batch_size * periods * period / (now(trainer.device) - start)


def matrix_gflops() -> float:
    """Billions of operations per second of a product of 2048x2048 by 2048x8192 numbers, the best of five."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 8192)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - start)
    return 2 * 2048 * 2048 * 8192 / min(seconds) / 1e9


def measure_cpu() -> dict[str, Any]:
    """The reference's small setting, and whole steps at that size and at the default study's."""
    torch.set_num_threads(THREADS)
    keep_freed_memory()
    small = small_config(1024, 64)
    before = matrix_gflops()
    trainer = trainer_of(small, "cpu")
    rate = main_updates_per_second(trainer)
    # The machine may be shared: its speed is taken on both sides of the measurement.
    gflops = (before + matrix_gflops()) / 2
    target = REFERENCE_IMAGES_PER_SECOND * gflops / REFERENCE_GFLOPS
    whole = trainer_of(with_everything(small), "cpu")
    return {
        "threads": THREADS,
        "matrix_gflops": gflops,
        "main_images_per_second": rate,
        "reference_images_per_second_here": target,
        "of_reference": rate / target,
        "whole_step_images_per_second": whole_steps_per_second(whole),
        "phases": whole.phases(),
        "whole_step_images_per_second_512_32": whole_steps_per_second(
            trainer_of(with_everything(small_config(512, 32)), "cpu")
        ),
        "generator_mflops_per_image": flops_per_image(trainer.generator) / 1e6,
        "training_mflops_per_image": training_flops_per_image(trainer.generator, trainer.discriminator) / 1e6,
    }


def paper256(half_type: str, fused: bool) -> TrainerConfig:
    """`paper256`, conditional, ADA bgc at p = 0.3, everything included."""
    config = trainer_config(PresetConfig("paper256", x_flip=True, seed=0), 256, 3)
    how: dict[str, Any] = {"class_count": 2, "half_type": half_type, "fused": fused}
    return dataclasses.replace(
        config,
        generator=dataclasses.replace(config.generator, **how),
        discriminator=dataclasses.replace(config.discriminator, **how),
        augment=dataclasses.replace(config.augment, preset="bgc", initial_p=0.3, adaptive=False),
    )


def measure_gpu(config: TrainerConfig) -> dict[str, Any]:
    """Seconds per 1,000 images in the steady state, memory, time to the first step, and each phase by itself."""
    start = time.perf_counter()
    torch.backends.cudnn.benchmark = True
    trainer = trainer_of(config, "cuda")
    first: StepReport = trainer.step()
    first_step = now(trainer.device) - start
    first_memory = torch.cuda.max_memory_reserved() / 1e9  # with what cuDNN tries convolutions in
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    plain = Trainer.step  # whole steps are timed without waiting for the device between updates
    trainer.timed = lambda _, update, *arguments: update(*arguments)  # type: ignore[method-assign]
    seconds_per_1000 = 1000 / whole_steps_per_second(trainer)
    memory = torch.cuda.max_memory_reserved() / 1e9
    del trainer.timed
    trainer.seconds.clear()
    for _ in range(config.r1_interval):
        plain(trainer)
    return {
        "device": torch.cuda.get_device_name(),
        "half_type": config.generator.half_type,
        "fused": config.generator.fused,
        "seconds_per_1000_images": seconds_per_1000,
        "reference_seconds_per_1000_images": REFERENCE_SECONDS_PER_1000,
        "memory_gb": memory,
        "memory_gb_first_step": first_memory,
        "reference_memory_gb": REFERENCE_GB,
        "first_step_seconds": first_step,
        "first_generator_loss": first.generator_loss,
        "phases": trainer.phases(),
        "training_gflops_per_image": training_flops_per_image(trainer.generator, trainer.discriminator) / 1e9,
    }


def measure_every_way() -> dict[str, Any]:
    """Plain and fused in each type of 16 bits; a way that ends with an error says its last line."""
    ways: dict[str, Any] = {}
    for half_type in HALF_TYPES:
        for how, flags in (("plain", []), ("fused", ["--fused"])):
            command = [sys.executable, __file__, "--paper256", "--half-type", half_type, *flags]
            run = subprocess.run(command, capture_output=True, text=True, check=False)
            last_line = (run.stderr.strip().splitlines() or ["no word"])[-1]
            way = f"{how} {half_type}"
            ways[way] = json.loads(run.stdout) if run.returncode == 0 else {"failed": last_line}
            # Known even if the rest is cut off.
            print(way, json.dumps(ways[way]), file=sys.stderr, flush=True)
    rates = {way: row["seconds_per_1000_images"] for way, row in ways.items() if "failed" not in row}
    return {"fastest": min(rates, key=rates.__getitem__, default=None), "ways": ways}


def main() -> None:
    """Print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paper256", action="store_true", help="256 px on a GPU")
    parser.add_argument("--fused", action="store_true", help="with --paper256, this way alone: with Triton kernels")
    parser.add_argument("--half-type", choices=HALF_TYPES, help="with --paper256, this way alone: top levels in it")
    flags = parser.parse_args()
    if not flags.paper256 and (flags.fused or flags.half_type):
        parser.error("--fused and --half-type say how --paper256 computes: give this too")
    if flags.paper256 and not torch.cuda.is_available():
        raise SystemExit(
            "train_gan: --paper256 wants a GPU, but torch sees none: leave the flag out to measure the CPU, or count "
            "with benchmarks/count_operators.py"
        )
    if not flags.paper256:
        measured = measure_cpu()
    elif flags.fused or flags.half_type:
        measured = measure_gpu(paper256(flags.half_type or "float16", flags.fused))
    else:
        measured = measure_every_way()
    print(json.dumps(rounded(measured), indent=2))


if __name__ == "__main__":
    main()
