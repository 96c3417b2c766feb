"""Train one StyleGAN2-ADA on the training images of its classes, from the last checkpoint where there is one."""

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch

from skinsynth.classifier.classifier import load_classifier
from skinsynth.features.extractor import build_extractor
from skinsynth.gan.family import Cost, save_cost
from skinsynth.gan.memory import keep_freed_memory
from skinsynth.gan.model import flops_per_image, save_gan, training_flops_per_image
from skinsynth.gan.trainer import Trainer, TrainerConfig
from skinsynth.gan.training import RunConfig, Schedule, configure, train
from skinsynth.images.archive import Images, read_archive
from skinsynth.images.grid import save_grid
from skinsynth.partition.split import images_of, read_split
from skinsynth.quality.curve import CurveScorer
from skinsynth.stage import best_device, checkpoint_folder, entry_of, load_params, run, write_metrics, write_rows


@dataclass(frozen=True)
class Settings:
    classes: tuple[str, ...]  # in the order of the labels
    runs: dict[str, RunConfig]
    schedule: Schedule
    scored_images: int  # generated for each point of the FID curve
    shown_images: int  # in the sample grid
    extractor: str  # a key of EXTRACTORS
    trainer: TrainerConfig  # class counts and the augmentation come from the run


SETTINGS = Settings


def main(
    name: Annotated[str, "the GAN: a key of `runs` in params.yaml"],
    images: Annotated[Path, "real images"],
    split: Annotated[Path, "who is on which side"],
    classifier: Annotated[Path, "classifier of real images, the offline extractor of the curves"],
    model: Annotated[Path, "folder for generator, discriminator and their sizes"],
    metrics: Annotated[Path, "headlines: FID and KID at the end, and FID at the start"],
    curves: Annotated[Path, "folder for losses.csv, scores.csv and samples.png"],
    dry_run: Annotated[bool, "say what would be trained, and stop"] = False,
) -> None:
    """Train until the schedule ends; a killed run goes on from its checkpoint and ends with the same weights."""
    keep_freed_memory()
    settings = load_params("train_gan", Settings)
    own = entry_of(settings.runs, name, "train_gan, runs")
    config = configure(settings.trainer, own)
    labels = labels_of(own.classes, settings.classes)
    rows = images_of(read_split(split), "train")
    real = read_archive(images, rows.loc[rows["label"].isin(labels), "image_id"].tolist())
    trainer = Trainer(config, torch.from_numpy(real.pixels), columns_of(real, labels), best_device())
    if dry_run:
        print_plan(name, settings, trainer, len(real.ids))
        return
    scorer = scorer_of(trainer, real, labels, settings, classifier)
    effective = (config, own, settings.schedule, settings.scored_images, settings.extractor)
    checkpoints = checkpoint_folder("train_gan", name, effective, [images, split, classifier])
    history = train(trainer, settings.schedule, checkpoints, scorer, f"GAN {name}")
    save_gan(model, trainer.generator_ema, trainer.discriminator, labels)
    save_cost(model, Cost(trainer.images_seen, flops_per_image(trainer.generator_ema)))
    write_rows(curves / "losses.csv", history.losses)
    write_rows(curves / "scores.csv", history.scores)
    shown = scorer.sample(trainer.generator_ema, settings.shown_images).numpy()
    save_grid(curves / "samples.png", shown, columns=8, scale=max(1, 64 // shown.shape[-1]))
    first, last = history.scores[0], history.scores[-1]
    start = {f"{key}_at_start": value for key, value in first.items() if key.startswith("fid")}
    write_metrics(metrics, {**last, **start})
    shutil.rmtree(checkpoints, ignore_errors=True)


def labels_of(names: tuple[str, ...], classes: tuple[str, ...]) -> list[int]:
    """Labels of classes by name, in the order of the labels."""
    label_of = {name: label for label, name in enumerate(classes)}
    return sorted(entry_of(label_of, name, "train_gan, classes") for name in names)


def columns_of(real: Images, labels: list[int]) -> torch.Tensor:
    """The column of c of each image: the place of its label among those of the run."""
    return torch.from_numpy(np.searchsorted(labels, real.labels))


def scorer_of(trainer: Trainer, real: Images, labels: list[int], settings: Settings, classifier: Path) -> CurveScorer:
    """FID and KID against all training images of the run, in the extractor's features."""
    extract = build_extractor(settings.extractor, load_classifier(classifier, best_device()))
    return CurveScorer(
        extract=extract,
        extractor=extract.name,
        real=extract(real.pixels),
        real_labels=torch.from_numpy(real.labels),
        classes=labels,
        discriminator=trainer.discriminator,
        images=settings.scored_images,
        batch_size=trainer.config.batch_size,
        seed=trainer.config.seed,
    )


def print_plan(name: str, settings: Settings, trainer: Trainer, image_count: int) -> None:
    """What a run would do, as JSON."""
    plan = {
        "gan": name,
        "run": dataclasses.asdict(settings.runs[name]),
        "training_images": image_count,
        "schedule": dataclasses.asdict(settings.schedule),
        "generator_parameters": sum(entry.numel() for entry in trainer.generator.parameters()),
        "discriminator_parameters": sum(entry.numel() for entry in trainer.discriminator.parameters()),
        "training_gflops_per_image": training_flops_per_image(trainer.generator, trainer.discriminator) / 1e9,
        "device": str(trainer.device),
        "trainer": dataclasses.asdict(trainer.config),
    }
    print(json.dumps(plan, indent=2))


if __name__ == "__main__":
    run(main)
