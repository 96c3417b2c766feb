"""Train one StyleGAN2-ADA on the training images of its classes, from the last checkpoint where there is one."""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from skinsynth.features.extractor import ExtractorConfig
from skinsynth.gan.checkpoint import keep_finished
from skinsynth.gan.family import save_trained
from skinsynth.gan.presets import PresetConfig, shared_config
from skinsynth.gan.team import ensure_team, join_team, team_size
from skinsynth.gan.trainer import Trainer, TrainerConfig
from skinsynth.gan.training import History, RunConfig, Schedule, begin, configure, labels_of, plan, train
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
    split: Annotated[Path, "CSV of split_patients: who is in train, validation and test"],
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
    if not dry_run:
        ensure_team(settings.processes)
    own = entry_of(settings.runs, name, "train_gan, runs")
    labels = labels_of(own, settings.classes)
    rows = images_of(read_split(split), "train")
    real = read_archive(images, rows.loc[rows["label"].isin(labels), "image_id"].tolist())
    tune_process()
    with join_team() as (team, device):
        # A dry run is alone, and plans for all.
        config = configure(shared_config(settings, real.pixels.shape, team_size(settings.processes)), own)
        trainer = begin(config, real, labels, device or best_device(), team)
        weights = initial_weights(initial, settings.start_from, config.frozen_levels, settings.preset)
        for line in start_all([trainer], weights):
            print(line, file=sys.stderr)
        if dry_run:
            print(json.dumps({"gan": name, **plan(trainer, own, settings.schedule)}, indent=2))
            return
        cache = cache_folder("features")
        scorer = scorer_of(trainer, real, labels, settings, config.seed, classifier, cache) if team.first else None
        effective = settings_of_states(trainer, own, settings)
        checkpoints = checkpoint_folder("train_gan", name, effective, [images, split, classifier, *weights])
        history = train(trainer, settings.schedule, checkpoints, scorer, f"GAN {name}")
    if scorer is None:
        return
    save_trained(model, trainer.generator_ema, trainer.discriminator, labels, trainer.images_seen)
    write_rows(curves / "losses.csv", history.losses)
    write_rows(curves / "scores.csv", history.scores)
    save_grid(curves / "samples.png", scorer.sample(trainer.generator_ema, settings.shown_images).numpy(), columns=8)
    write_metrics(metrics, headlines(history))
    keep_finished(checkpoints)


def settings_of_states(trainer: Trainer, own: RunConfig, settings: Settings) -> tuple[object, ...]:
    """What two trainings have in common whose states may go on from one another."""
    return (
        replace(trainer.config, images_per_pass=None),
        own,
        # Without its end: a longer training goes on where a shorter one has ended.
        (settings.schedule.images_per_tick, settings.schedule.ticks_per_score),
        settings.scored_images,
        settings.extractor,
        trainer.device.type,  # whose random numbers the state holds
    )


def headlines(history: History) -> dict[str, float]:
    """The last point of the curve, and FID at the start."""
    start = {f"{key}_at_start": value for key, value in history.scores[0].items() if key.startswith("fid")}
    return {**history.scores[-1], **start}


if __name__ == "__main__":
    run(main)
