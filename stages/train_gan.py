"""Train one StyleGAN2-ADA on the training images of its classes, from the last checkpoint where there is one."""

import json
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch

from skinsynth.classifier.classifier import load_classifier
from skinsynth.features.extractor import ExtractorConfig, build_extractor, without_cache
from skinsynth.gan.family import Cost, save_cost
from skinsynth.gan.model import flops_per_image, save_gan
from skinsynth.gan.presets import PresetConfig, trainer_config
from skinsynth.gan.process import tune_process
from skinsynth.gan.team import join_team, run_as_team, started_by_torchrun
from skinsynth.gan.trainer import Trainer, TrainerConfig
from skinsynth.gan.training import RunConfig, Schedule, columns_of, configure, plan, train
from skinsynth.gan.transfer import read_networks, start_from
from skinsynth.images.archive import Images, read_archive
from skinsynth.images.grid import save_grid
from skinsynth.partition.split import images_of, read_split
from skinsynth.quality.by_class import features_of
from skinsynth.quality.curve import CurveScorer
from skinsynth.stage import (
    best_device,
    cache_folder,
    checkpoint_folder,
    entry_of,
    load_params,
    run,
    write_metrics,
    write_rows,
)


@dataclass(frozen=True)
class Settings:
    classes: tuple[str, ...]  # in the order of the labels
    runs: dict[str, RunConfig]
    start_from: str | None  # what in the folder of initial weights; None: noise
    processes: int  # that train together, each on a GPU of its own (torchrun); 0: one for each GPU
    schedule: Schedule
    scored_images: int  # generated for each point of the FID curve
    shown_images: int  # in the sample grid
    extractor: ExtractorConfig
    preset: PresetConfig | None  # published numbers for the images' size, instead of `trainer`
    trainer: TrainerConfig | None  # class counts and the augmentation come from the run


SETTINGS = Settings


def main(
    name: Annotated[str, "the GAN: a key of `runs` in params.yaml"],
    images: Annotated[Path, "real images"],
    split: Annotated[Path, "who is on which side"],
    classifier: Annotated[Path, "classifier of real images, the offline extractor of the curves"],
    initial: Annotated[Path, "folder of weights to start from (`start_from` in params.yaml names one, or none)"],
    model: Annotated[Path, "folder for generator, discriminator and their sizes"],
    metrics: Annotated[Path, "headlines: FID and KID at the end, and FID at the start"],
    curves: Annotated[Path, "folder for losses.csv, scores.csv and samples.png"],
    dry_run: Annotated[bool, "say what would be trained, and stop"] = False,
) -> None:
    """Train until the schedule ends; a killed run goes on from its checkpoint and ends with the same weights."""
    settings = load_params("train_gan", Settings)
    if settings.processes != 1 and not dry_run and not started_by_torchrun():
        sys.exit(run_as_team(settings.processes))
    own = entry_of(settings.runs, name, "train_gan, runs")
    label_of = {known: label for label, known in enumerate(settings.classes)}
    labels = sorted(entry_of(label_of, known, "train_gan, classes") for known in own.classes)
    rows = images_of(read_split(split), "train")
    real = read_archive(images, rows.loc[rows["label"].isin(labels), "image_id"].tolist())
    columns = columns_of(torch.from_numpy(real.labels), labels)
    tune_process()
    with join_team() as (team, device):
        config = configure(shared_config(settings, real.pixels.shape), own)
        trainer = Trainer(config, torch.from_numpy(real.pixels), columns, device or best_device(), team)
        weights = initial_weights(initial, settings.start_from, config.frozen_levels)
        for place in weights:
            noise = start_from(trainer, *read_networks(place))
            print(f"starting from {place}, but from noise: {', '.join(noise) or 'nothing'}", file=sys.stderr)
        if dry_run:
            print(json.dumps({"gan": name, **plan(trainer, own, settings.schedule)}, indent=2))
            return
        scorer = scorer_of(trainer, real, labels, settings, classifier) if team.first else None
        effective = (
            replace(config, images_per_pass=None),
            own,
            settings.schedule,
            settings.scored_images,
            settings.extractor,
        )
        checkpoints = checkpoint_folder("train_gan", name, effective, [images, split, classifier, *weights])
        history = train(trainer, settings.schedule, checkpoints, scorer, f"GAN {name}")
    if scorer is None:
        return
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


def initial_weights(folder: Path, name: str | None, frozen_levels: int) -> list[Path]:
    """The file or folder of weights to start from, if any."""
    if name is None:
        if frozen_levels:
            raise ValueError("params.yaml, train_gan: frozen_levels keeps the weights of start_from, but that is null")
        return []
    if not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"params.yaml, train_gan: start_from names what lies in {folder}, but {name} does not")
    if not (folder / name).exists():
        raise FileNotFoundError(f"no {folder / name} to start from: put it there, or set start_from to null")
    return [folder / name]


def scorer_of(trainer: Trainer, real: Images, labels: list[int], settings: Settings, classifier: Path) -> CurveScorer:
    """FID and KID against all training images of the run."""
    network, device = load_classifier(classifier, trainer.device), trainer.device
    extract = build_extractor(settings.extractor, network, device, cache_folder("features"))
    return CurveScorer(
        without_cache(extract),  # no generator in the making draws the same images again
        features_of(extract, real),
        labels,
        trainer.discriminator,
        settings.scored_images,
        trainer.config.batch_size,
        trainer.config.seed,
    )


def shared_config(settings: Settings, shape: tuple[int, ...]) -> TrainerConfig:
    """What all runs share: a preset for images of this shape [n, c, h, w], or the numbers in params.yaml."""
    if settings.preset is None and settings.trainer is not None:
        return settings.trainer
    if settings.preset is None or settings.trainer is not None:
        raise ValueError("params.yaml, train_gan: give either preset or trainer, and set the other to null")
    preset = settings.preset
    return trainer_config(preset.name, shape[2], shape[1], 0, "none", x_flip=preset.x_flip, seed=preset.seed)


if __name__ == "__main__":
    run(main)
