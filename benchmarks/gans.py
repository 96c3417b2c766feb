"""The GANs of params.yaml as `train_gan` begins them, on the images, the split and the classifier of a run."""

from dataclasses import replace
from pathlib import Path

import torch

from skinsynth.gan.presets import shared_config
from skinsynth.gan.trainer import Trainer
from skinsynth.gan.training import columns_of, configure
from skinsynth.images.archive import Images
from skinsynth.stage import best_device, entry_of
from stages.train_gan import Settings

IMAGES, SPLIT, CLASSIFIER = Path("data/images.zip"), Path("data/splits/main.csv"), Path("models/classifier/real")


def labels_of(settings: Settings, name: str) -> list[int]:
    """The dataset's labels that a GAN is trained on, in the order of c's columns."""
    own = entry_of(settings.runs, name, "train_gan, runs")
    return sorted(settings.classes.index(known) for known in own.classes)


def begin(settings: Settings, name: str, images: Images, seed: int | None = None) -> Trainer:
    """Before the first step, on these images of its classes; another seed than that of params.yaml where one comes."""
    config = configure(shared_config(settings, images.pixels.shape, 1), settings.runs[name])
    config = config if seed is None else replace(config, seed=seed)
    columns = columns_of(torch.from_numpy(images.labels), labels_of(settings, name))
    return Trainer(config, torch.from_numpy(images.pixels), columns, best_device())
