"""Train one GAN by the hospitals of the split together, or by one of them alone."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from skinsynth.features.extractor import ExtractorConfig
from skinsynth.federated.cohort import hospitals_of, weights_at_start
from skinsynth.federated.hospital import Weights, networks_in
from skinsynth.federated.in_process import run_in_process
from skinsynth.federated.privacy import PrivacyConfig, spent
from skinsynth.federated.server import FederationConfig, FederationState
from skinsynth.federated.strategies import StrategyConfig
from skinsynth.files import write_lines
from skinsynth.gan.checkpoint import keep_finished
from skinsynth.gan.family import save_trained
from skinsynth.gan.presets import PresetConfig, shared_config
from skinsynth.gan.trainer import TrainerConfig
from skinsynth.gan.training import RunConfig, configure
from skinsynth.gan.transfer import initial_weights
from skinsynth.images.archive import read_archive
from skinsynth.images.grid import save_grid
from skinsynth.partition.split import images_of, read_split
from skinsynth.process import tune_process
from skinsynth.quality.curve import scorer_of
from skinsynth.settings import Count, Names
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
    cohorts: dict[str, Names]  # hospitals of the split that train a GAN together
    gan: RunConfig
    start_from: str | None  # what in the folder of initial weights; None: noise
    federation: FederationConfig
    scored_images: Count  # generated for each point of the curve
    shown_images: Count  # in the sample grid
    extractor: ExtractorConfig
    preset: PresetConfig | None  # published numbers for the images' size, instead of `trainer`
    trainer: TrainerConfig | None  # class counts and the augmentation come from `gan`


SETTINGS = Settings


def main(
    name: Annotated[str, "who trains: a key of `cohorts` in params.yaml"],
    images: Annotated[Path, "real images"],
    split: Annotated[Path, "CSV of split_patients: who is in train, validation and test, and at which hospital"],
    classifier: Annotated[Path, "classifier of real images, the offline extractor of the curves"],
    initial: Annotated[Path, "folder of weights to start from (`start_from` in params.yaml names one, or none)"],
    model: Annotated[Path, "folder for generator, discriminator and their sizes"],
    metrics: Annotated[Path, "headlines: FID and KID at the end, and incidents"],
    curves: Annotated[Path, "folder for rounds.csv, hospitals.csv, scores.csv, incidents.jsonl and samples.png"],
) -> None:
    """Run all rounds; a killed run goes on from its last round and ends with the same weights.

    The state at the end is kept: with more rounds in params.yaml, the federation goes on from there.
    """
    settings = load_params("train_federated", Settings)
    cohort = entry_of(settings.cohorts, name, "train_federated, cohorts")
    tune_process()
    rows = images_of(read_split(split), "train")
    real = read_archive(images, rows["image_id"].tolist())
    config = configure(shared_config(settings, real.pixels.shape), settings.gan)
    weights = initial_weights(initial, settings.start_from, config.frozen_levels, settings.preset)
    device = best_device()
    hospitals = hospitals_of(cohort, rows, real, config, device, weights)
    like = hospitals[0].trainer
    labels = list(range(len(settings.gan.classes)))
    scorer = scorer_of(like, real, labels, settings, config.seed, classifier, cache_folder("features"))

    def score(reached: Weights) -> dict[str, float]:
        return scorer(networks_in(reached, like)[0])

    federation = federation_of(settings.federation, len(hospitals))
    logging.getLogger("flwr").setLevel(logging.WARNING)  # at INFO it says twice a round what rounds.csv says
    rounds_apart = replace(federation, rounds=1)
    # With the device, whose random numbers the state holds.
    effective = config, cohort, rounds_apart, settings.scored_images, settings.extractor, device.type
    checkpoints = checkpoint_folder("train_federated", name, effective, [images, split, classifier, *weights])
    start = weights_at_start(config, real, federation.averaged, weights)
    state = run_in_process(federation, hospitals, start, checkpoints, score)
    generator, discriminator = networks_in(state.weights, like)
    save_trained(model, generator, discriminator, scorer.classes, state.images_shown)
    write_curves(curves, state)
    save_grid(curves / "samples.png", scorer.sample(generator, settings.shown_images).numpy(), columns=8)
    write_metrics(metrics, headlines(state, federation.privacy, len(hospitals)))
    keep_finished(checkpoints)


def federation_of(config: FederationConfig, hospitals: int) -> FederationConfig:
    """The settings, but for a hospital alone: it averages with nobody, and sends nothing that could tell of it."""
    alone = replace(config, strategy=StrategyConfig("FedAvg", {}), least_hospitals=1, privacy=None)
    return alone if hospitals == 1 else config


def write_curves(folder: Path, state: FederationState) -> None:
    """What happened round by round, a table of each kind."""
    for table, rows in {"rounds": state.rounds, "hospitals": state.visits, "scores": state.scores}.items():
        write_rows(folder / f"{table}.csv", rows)
    write_lines(folder / "incidents.jsonl", state.incidents)


def headlines(state: FederationState, privacy: PrivacyConfig | None, hospitals: int) -> dict[str, float]:
    """The last point of the curve with what the federation's privacy has spent until then, and counts."""
    counts = {"hospitals": hospitals, "incidents": len(state.incidents)}
    return {**state.scores[-1], **spent(privacy, state.releases), **counts}


if __name__ == "__main__":
    run(main)
