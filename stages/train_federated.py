"""Train one GAN by the hospitals of the split together, by one of them alone, or on all their images at one place."""

import json
import logging
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import pandas as pd
import torch

from skinsynth.classifier.classifier import load_classifier
from skinsynth.features.extractor import ExtractorConfig, build_extractor, without_cache
from skinsynth.federated.hospital import Hospital, Weights, networks_in, weights_of
from skinsynth.federated.in_process import run_in_process
from skinsynth.federated.server import FederationConfig
from skinsynth.federated.strategies import StrategyConfig
from skinsynth.files import written_whole
from skinsynth.gan.family import Cost, save_cost
from skinsynth.gan.model import flops_per_image, save_gan
from skinsynth.gan.process import tune_process
from skinsynth.gan.trainer import Trainer, TrainerConfig
from skinsynth.gan.training import RunConfig, configure
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
class Cohort:
    """Who trains a GAN together."""

    hospitals: tuple[str, ...]  # of the split
    pooled: bool  # all their images at one place, as if nothing kept them apart


@dataclass(frozen=True)
class Settings:
    cohorts: dict[str, Cohort]
    gan: RunConfig
    federation: FederationConfig
    scored_images: int  # generated for each point of the curve
    shown_images: int  # in the sample grid
    extractor: ExtractorConfig
    trainer: TrainerConfig  # class counts and the augmentation come from `gan`; hospital k draws from seed + k


SETTINGS = Settings


def main(
    name: Annotated[str, "who trains: a key of `cohorts` in params.yaml"],
    images: Annotated[Path, "real images"],
    split: Annotated[Path, "who is on which side, and at which hospital"],
    classifier: Annotated[Path, "classifier of real images, the offline extractor of the curves"],
    model: Annotated[Path, "folder for generator, discriminator and their sizes"],
    metrics: Annotated[Path, "headlines: FID and KID at the end, and incidents"],
    curves: Annotated[Path, "folder for rounds.csv, hospitals.csv, scores.csv, incidents.jsonl and samples.png"],
) -> None:
    """Run all rounds; a killed run goes on from its last round and ends with the same weights."""
    settings = load_params("train_federated", Settings)
    cohort = entry_of(settings.cohorts, name, "train_federated, cohorts")
    tune_process()
    rows = images_of(read_split(split), "train")
    real = read_archive(images, rows["image_id"].tolist())
    config = configure(settings.trainer, settings.gan)
    hospitals = hospitals_of(cohort, rows, real, config, best_device())
    like = hospitals[0].trainer
    scorer = scorer_of(like, real, settings, classifier)

    def score(weights: Weights) -> dict[str, float]:
        return scorer(networks_in(weights, like)[0])

    federation = federation_of(settings.federation, len(hospitals))
    logging.getLogger("flwr").setLevel(logging.WARNING)  # at INFO it says twice a round what rounds.csv says
    effective = config, cohort, replace(federation, rounds=1), settings.scored_images, settings.extractor
    checkpoints = checkpoint_folder("train_federated", name, effective, [images, split, classifier])
    start = weights_of(like, federation.averaged)
    state = run_in_process(federation, hospitals, start, checkpoints, score)
    generator, discriminator = networks_in(state.weights, like)
    save_gan(model, generator, discriminator, scorer.classes)
    save_cost(model, Cost(state.images_shown, flops_per_image(generator)))
    tables = {"rounds": state.rounds, "hospitals": state.visits, "scores": state.scores}
    for table, entries in tables.items():
        write_rows(curves / f"{table}.csv", entries)
    with written_whole(curves / "incidents.jsonl") as aside:
        aside.write_text("".join(json.dumps(incident) + "\n" for incident in state.incidents))
    shown = scorer.sample(generator, settings.shown_images).numpy()
    save_grid(curves / "samples.png", shown, columns=8, scale=max(1, 64 // shown.shape[-1]))
    write_metrics(metrics, {**state.scores[-1], "hospitals": len(hospitals), "incidents": len(state.incidents)})
    shutil.rmtree(checkpoints, ignore_errors=True)


def federation_of(config: FederationConfig, hospitals: int) -> FederationConfig:
    """The settings, but for a hospital alone: it averages with nobody, and no strategy changes that."""
    return replace(config, strategy=StrategyConfig("FedAvg", {}), least_hospitals=1) if hospitals == 1 else config


def hospitals_of(
    cohort: Cohort, rows: pd.DataFrame, real: Images, config: TrainerConfig, device: torch.device
) -> list[Hospital]:
    """Each with the images of its rows of the split, which are those of `real`."""
    parts = {name: torch.tensor([own == name for own in rows["hospital"]]) for name in cohort.hospitals}
    empty = [name for name, own in parts.items() if not bool(own.any())]
    if empty:
        raise ValueError(f"the split has no training image of {', '.join(empty)}: see split_patients, hospitals")
    if cohort.pooled:
        parts = {"all": torch.stack(list(parts.values())).any(dim=0)}
    pixels, labels = torch.from_numpy(real.pixels), torch.from_numpy(real.labels)
    return [
        Hospital(name, Trainer(replace(config, seed=config.seed + number), pixels[own], labels[own], device))
        for number, (name, own) in enumerate(parts.items())
    ]


def scorer_of(trainer: Trainer, real: Images, settings: Settings, classifier: Path) -> CurveScorer:
    """FID and KID against the training images of all hospitals, whoever trains."""
    network, device = load_classifier(classifier, trainer.device), trainer.device
    extract = build_extractor(settings.extractor, network, device, cache_folder("features"))
    return CurveScorer(
        without_cache(extract),  # no generator in the making draws the same images again
        features_of(extract, real),
        list(range(len(settings.gan.classes))),
        trainer.discriminator,
        settings.scored_images,
        trainer.config.batch_size,
        settings.trainer.seed,
    )


if __name__ == "__main__":
    run(main)
