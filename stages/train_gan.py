"""Train one StyleGAN2-ADA on the training images of its classes, from the last checkpoint where there is one."""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch

from skinsynth.features.extractor import ExtractorConfig
from skinsynth.gan.checkpoint import keep_finished
from skinsynth.gan.family import Cost, save_cost
from skinsynth.gan.model import flops_per_image, save_gan
from skinsynth.gan.presets import PresetConfig, shared_config
from skinsynth.gan.team import join_team, run_as_team, started_by_torchrun
from skinsynth.gan.trainer import TrainerConfig
from skinsynth.gan.training import RunConfig, Schedule, begin, configure, labels_of, plan, train
from skinsynth.gan.transfer import initial_weights, start_all
from skinsynth.images.archive import read_archive
from skinsynth.images.grid import save_grid
from skinsynth.partition.split import images_of, read_split
from skinsynth.process import tune_process
from skinsynth.quality.curve import scorer_of
from skinsynth.settings import Count, Names, Whole
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
    classes: Names  # in the order of the labels
    runs: dict[str, RunConfig]
    start_from: str | None  # what in the folder of initial weights; None: noise
    processes: Whole  # that train together, each on a GPU of its own (torchrun); 0: one for each GPU
    schedule: Schedule
    scored_images: Count  # generated for each point of the FID curve
    shown_images: Count  # in the sample grid
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
    """Train until the schedule ends; a killed run goes on from its checkpoint and ends with the same weights.

    The state at the end is kept: with more images in params.yaml, training goes on from there.
    """
    settings = load_params("train_gan", Settings)
    if settings.processes != 1 and not dry_run and not started_by_torchrun():
        sys.exit(run_as_team(settings.processes))
    own = entry_of(settings.runs, name, "train_gan, runs")
    labels = labels_of(own, settings.classes)
    rows = images_of(read_split(split), "train")
    real = read_archive(images, rows.loc[rows["label"].isin(labels), "image_id"].tolist())
    tune_process()
    with join_team() as (team, device):
        # A dry run is alone, and plans for all.
        processes = team.size if started_by_torchrun() else settings.processes or max(torch.cuda.device_count(), 1)
        config = configure(shared_config(settings, real.pixels.shape, processes), own)
        trainer = begin(config, real, labels, device or best_device(), team)
        weights = initial_weights(initial, settings.start_from, config.frozen_levels, settings.preset)
        for line in start_all([trainer], weights):
            print(line, file=sys.stderr)
        if dry_run:
            print(json.dumps({"gan": name, **plan(trainer, own, settings.schedule)}, indent=2))
            return
        cache = cache_folder("features")
        scorer = scorer_of(trainer, real, labels, settings, config.seed, classifier, cache) if team.first else None
        effective = (
            replace(config, images_per_pass=None),
            own,
            # Without its end: a longer training goes on where a shorter one has ended.
            (settings.schedule.images_per_tick, settings.schedule.ticks_per_score),
            settings.scored_images,
            settings.extractor,
            trainer.device.type,  # whose random numbers the state holds
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
    save_grid(curves / "samples.png", shown, columns=8)
    first, last = history.scores[0], history.scores[-1]
    start = {f"{key}_at_start": value for key, value in first.items() if key.startswith("fid")}
    write_metrics(metrics, {**last, **start})
    keep_finished(checkpoints)


if __name__ == "__main__":
    run(main)
