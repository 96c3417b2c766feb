"""Speed of projection: images an hour, one image at a time against many at once, as JSON.

    python benchmarks/project.py                                # 256 px and VGG16: for a GPU
    python benchmarks/project.py --batch 1 16 64 --bfloat16     # other batches, VGG16 in 16 bits
    python benchmarks/project.py --noise-maps                   # the noise maps are searched too
    python benchmarks/project.py --steps 2 --warm-up 1 --batch 1 2 --resolution 32   # tiny, for a CPU

The generator has the sizes of a published preset at the resolution asked for, in 32 bits. It and VGG16 have random
weights, which take as long as trained ones: nothing is downloaded. Some steps are timed; images an hour are those of a
whole projection of --full-steps of them. Peak memory is a GPU's own; on a CPU it is that of the process so far, so
that batches come from the smallest on.
"""

import argparse
import json
from dataclasses import dataclass, replace

import torch
from torchvision.models import vgg16

from benchmarks.measuring import now, rounded
from skinsynth.gan.discriminator import Discriminator
from skinsynth.gan.generator import Generator
from skinsynth.gan.model import Gan
from skinsynth.gan.presets import FIXED_PRESETS, PresetConfig, trainer_config
from skinsynth.machine import peak_memory_mb
from skinsynth.process import tune_process
from skinsynth.projection.loss import VggLoss
from skinsynth.projection.projector import ProjectionConfig, Projector

# StyleGAN2, appendix D.
PUBLISHED = ProjectionConfig(
    space="w",
    steps=1000,
    learning_rate=0.1,
    ramp_up=0.05,
    ramp_down=0.25,
    noise=0.05,
    noise_ramp=0.75,
    map_weight=None,
    pixel_weight=0.0,
    statistics_samples=10_000,
    batch_size=1,
    seed=0,
)
MAP_WEIGHT = 1e5


@dataclass
class StepClock:
    """The times at which steps ended, the device waited for at the end of the warm-up and at the last one."""

    device: torch.device
    warm_up: int
    steps: int
    done: int = 0
    start: float = 0.0
    end: float = 0.0

    def __call__(self) -> None:
        self.done += 1
        if self.done == self.warm_up:
            self.start = now(self.device)
        if self.done == self.warm_up + self.steps:
            self.end = now(self.device)

    @property
    def seconds_a_step(self) -> float:
        return (self.end - self.start) / self.steps


def random_gan(preset: str, resolution: int, device: torch.device) -> Gan:
    """An untrained GAN of a preset's sizes, without classes."""
    config = trainer_config(PresetConfig(preset, x_flip=True, seed=0), resolution, 3)
    rng = torch.Generator().manual_seed(0)
    generator = Generator(config.generator, rng).requires_grad_(False).to(device)
    return Gan(generator, Discriminator(config.discriminator, rng), [0])


def peak_memory_gb(device: torch.device) -> float:
    """Of the device since the last reset; on a CPU of the process since it began."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return peak_memory_mb() * 2**20 / 1e9


def measure(gan: Gan, loss: VggLoss, batch: int, flags: argparse.Namespace, device: torch.device) -> dict[str, float]:
    """One batch of noise images, projected for the warm-up and the timed steps."""
    config = replace(
        PUBLISHED,
        steps=flags.warm_up + flags.steps,
        map_weight=MAP_WEIGHT if flags.noise_maps else None,
        batch_size=batch,
    )
    size, rng = flags.resolution, torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (batch, 3, size, size), generator=rng, dtype=torch.uint8)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    clock = StepClock(device, flags.warm_up, flags.steps)
    projector = Projector(gan, loss, config, device)
    projector.project(pixels, torch.zeros(batch, dtype=torch.int64), range(batch), clock)
    return {
        "ms_a_step": 1000 * clock.seconds_a_step,
        "images_an_hour": 3600 * batch / (clock.seconds_a_step * flags.full_steps),
        "peak_memory_gb": peak_memory_gb(device),
    }


def parsed() -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="paper256", choices=FIXED_PRESETS, help="sizes of the generator")
    parser.add_argument("--resolution", type=int, default=256, help="pixels, a power of two from 16 on")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32, 64], help="images at once, several sizes")
    parser.add_argument("--steps", type=int, default=20, help="timed, after the warm-up")
    parser.add_argument("--warm-up", type=int, default=5, help="steps before, 1 or more")
    parser.add_argument("--full-steps", type=int, default=1000, help="of a whole projection, for images an hour")
    parser.add_argument("--noise-maps", action="store_true", help="search the noise maps too")
    parser.add_argument("--bfloat16", action="store_true", help="VGG16 in 16 bits (GPU)")
    flags = parser.parse_args()
    if min(flags.warm_up, flags.steps, *flags.batch) < 1:
        parser.error("--warm-up, --steps and every --batch are 1 or more")
    return flags


def main() -> None:
    """Print one JSON object."""
    flags = parsed()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tune_process()
    torch.manual_seed(0)
    gan = random_gan(flags.preset, flags.resolution, device)
    loss = VggLoss(vgg16(weights=None), device, flags.bfloat16)
    batches = {size: rounded(measure(gan, loss, size, flags, device)) for size in sorted(set(flags.batch))}
    rates = {size: batch["images_an_hour"] for size, batch in batches.items()}
    result = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads",
        **vars(flags),
        "batches": batches,
        "fastest_batch": max(rates, key=rates.__getitem__),
        "speed_of_fastest_to_smallest": round(max(rates.values()) / rates[min(rates)], 2),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
