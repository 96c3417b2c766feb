"""Speed of GAN training on this machine, as JSON: images per second of the two main updates and of whole steps.

    python benchmarks/train_gan.py

A reference implementation does 146 images/s in the two main updates at 170 GFLOP/s of matrix product, on 2 threads.
"""

import dataclasses
import json
import statistics
import time

import torch

from skinsynth.gan.augment import AugmentConfig
from skinsynth.gan.discriminator import DiscriminatorConfig
from skinsynth.gan.generator import GeneratorConfig
from skinsynth.gan.memory import keep_freed_memory
from skinsynth.gan.model import flops_per_image, training_flops_per_image
from skinsynth.gan.trainer import Trainer, TrainerConfig

RESOLUTION, BATCH_SIZE, LATENT_SIZE, THREADS = 32, 32, 64, 2
WARM_UP_STEPS, STEPS = 5, 20
REFERENCE_IMAGES_PER_SECOND, REFERENCE_GFLOPS = 146, 170


def config_of(channel_base: int, channel_max: int) -> TrainerConfig:
    """Small networks without regularisers, augmentation and average."""
    return TrainerConfig(
        generator=GeneratorConfig(
            RESOLUTION, 3, LATENT_SIZE, LATENT_SIZE, 0, 2, channel_base, channel_max, None, 0, "float16"
        ),
        discriminator=DiscriminatorConfig(
            RESOLUTION, 3, 0, 8, channel_base, channel_max, True, 4, 1, None, 0, "float16"
        ),
        augment=AugmentConfig("none", 0.0, False, 0.6, 4, 500_000),
        batch_size=BATCH_SIZE,
        learning_rate=0.0025,
        betas=(0.0, 0.99),
        r1_gamma=0.0,
        r1_interval=16,
        path_length_weight=0.0,
        path_length_interval=4,
        path_length_decay=0.01,
        style_mixing_probability=0.9,
        ema_half_life_images=5000.0,
        ema_rampup=0.05,
        x_flip=True,
        seed=0,
    )


def trainer_of(config: TrainerConfig) -> Trainer:
    """A trainer on noise."""
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (512, 3, RESOLUTION, RESOLUTION), generator=rng, dtype=torch.uint8)
    return Trainer(config, images, torch.zeros(len(images), dtype=torch.int64), "cpu")


def seconds_of_steps(trainer: Trainer, warm_up: int, steps: int) -> list[float]:
    """Wall seconds of each step after the warm-up."""
    for _ in range(warm_up):
        trainer.step()
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        trainer.step()
        seconds.append(time.perf_counter() - start)
    return seconds


def main_updates_per_second(trainer: Trainer) -> float:
    """Images per second of a median step of both main updates."""
    return BATCH_SIZE / statistics.median(seconds_of_steps(trainer, WARM_UP_STEPS, STEPS))


def whole_steps_per_second(trainer: Trainer) -> float:
    """Images per second over whole periods of the lazy regularisers."""
    seconds = seconds_of_steps(trainer, trainer.config.r1_interval, 2 * trainer.config.r1_interval)
    return BATCH_SIZE * len(seconds) / sum(seconds)


def with_everything(config: TrainerConfig) -> TrainerConfig:
    """The same with regularisers and augmentation at a usual strength."""
    augment = dataclasses.replace(config.augment, preset="bgc", initial_p=0.3, adaptive=True)
    return dataclasses.replace(config, augment=augment, r1_gamma=0.01, path_length_weight=2.0)


def matrix_gflops() -> float:
    """Billions of operations per second of a product of 2048x2048 by 2048x8192 numbers, the best of five."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 8192)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - start)
    return 2 * 2048 * 2048 * 8192 / min(seconds) / 1e9


def main() -> None:
    """Print the measurements."""
    torch.set_num_threads(THREADS)
    keep_freed_memory()
    small, smaller = config_of(1024, 64), config_of(512, 32)
    before = matrix_gflops()
    trainer = trainer_of(small)
    rate = main_updates_per_second(trainer)
    # The machine may be shared: its speed is taken on both sides of the measurement.
    gflops = (before + matrix_gflops()) / 2
    target = REFERENCE_IMAGES_PER_SECOND * gflops / REFERENCE_GFLOPS
    result = {
        "threads": THREADS,
        "matrix_gflops": gflops,
        "main_images_per_second": rate,
        "target_images_per_second": target,
        "of_target": rate / target,
        "whole_step_images_per_second": whole_steps_per_second(trainer_of(with_everything(small))),
        "whole_step_images_per_second_512_32": whole_steps_per_second(trainer_of(with_everything(smaller))),
        "generator_mflops_per_image": flops_per_image(trainer.generator) / 1e6,
        "training_mflops_per_image": training_flops_per_image(trainer.generator, trainer.discriminator) / 1e6,
    }
    print(json.dumps({name: round(value, 2) for name, value in result.items()}, indent=2))


if __name__ == "__main__":
    main()
