"""Where a run of the pipeline has put what GANs are trained with; these GANs, also with other seeds; their training."""

from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from skinsynth.gan.presets import shared_config
from skinsynth.gan.trainer import Trainer
from skinsynth.gan.training import begin, configure, labels_of
from skinsynth.images.archive import Images
from skinsynth.stage import entry_of
from stages.train_gan import Settings

IMAGES, SPLIT, CLASSIFIER = Path("data/images.zip"), Path("data/splits/main.csv"), Path("models/classifier/real")


def with_seed(settings: Settings, seed: int) -> Settings:
    """The same, from another seed."""
    if settings.preset is not None:
        return replace(settings, preset=replace(settings.preset, seed=seed))
    assert settings.trainer is not None, "params.yaml gives either preset or trainer"
    return replace(settings, trainer=replace(settings.trainer, seed=seed))


def labels_in(settings: Settings, name: str) -> list[int]:
    """The dataset's labels that a GAN of params.yaml is trained on."""
    return labels_of(entry_of(settings.runs, name, "train_gan, runs"), settings.classes)


def begin_gan(settings: Settings, name: str, real: Images, device: torch.device) -> Trainer:
    """A GAN of params.yaml before its first step, as `train_gan` would begin with it."""
    config = configure(shared_config(settings, real.pixels.shape), settings.runs[name])
    return begin(config, real, labels_in(settings, name), device)


def train_until(trainer: Trainer, images: int, bar: tqdm) -> None:
    """Steps until so many images were shown in all; the bar counts them."""
    while trainer.images_seen < images:
        trainer.step()
        bar.update(trainer.images_seen - bar.n)
