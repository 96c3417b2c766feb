"""Where a run of the pipeline has put what GANs are trained with; these GANs with other seeds, and their training."""

from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from skinsynth.gan.trainer import Trainer
from stages.train_gan import Settings

IMAGES, SPLIT, CLASSIFIER = Path("data/images.zip"), Path("data/splits/main.csv"), Path("models/classifier/real")


def with_seed(settings: Settings, seed: int) -> Settings:
    """The same, from another seed."""
    if settings.preset is not None:
        return replace(settings, preset=replace(settings.preset, seed=seed))
    assert settings.trainer is not None, "params.yaml gives either preset or trainer"
    return replace(settings, trainer=replace(settings.trainer, seed=seed))


def train_until(trainer: Trainer, images: int, bar: tqdm) -> None:
    """Steps until so many images were shown in all; the bar counts them."""
    while trainer.images_seen < images:
        trainer.step()
        bar.update(trainer.images_seen - bar.n)
