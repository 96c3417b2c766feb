"""A federation's hospitals as a split has them: who trains on which images, from which seed and with which weights."""

import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from skinsynth.federated.hospital import Hospital, Weights, weights_of
from skinsynth.gan.trainer import Trainer, TrainerConfig
from skinsynth.gan.transfer import start_all
from skinsynth.images.archive import Images


def hospitals_of(
    cohort: tuple[str, ...],
    rows: pd.DataFrame,
    real: Images,
    config: TrainerConfig,
    device: torch.device,
    initial: list[Path],
) -> list[Hospital]:
    """Each with the images of its rows of the split, which are those of `real`, and with the initial weights if any."""
    pixels, labels = torch.from_numpy(real.pixels), torch.from_numpy(real.labels)
    seed_of = seeds_of(rows["hospital"], config.seed)
    trainers = {
        name: Trainer(replace(config, seed=seed_of[name]), pixels[own], labels[own], device)
        for name, own in _parts_of(cohort, rows).items()
    }
    start_all(list(trainers.values()), initial)
    return [Hospital(name, trainer) for name, trainer in trainers.items()]


def seeds_of(hospitals: Iterable[str], seed: int) -> dict[str, int]:
    """Hospital k of all, by name, draws from seed + k: the same in a federation as alone."""
    return {name: seed + place for place, name in enumerate(sorted(set(hospitals)))}


def weights_at_start(config: TrainerConfig, real: Images, averaged: tuple[str, ...], initial: list[Path]) -> Weights:
    """Those that a federation begins with, whoever is in it: the initial ones, or noise of the settings' own seed."""
    first = Trainer(config, torch.from_numpy(real.pixels[:1]), torch.from_numpy(real.labels[:1]), "cpu")
    for line in start_all([first], initial):
        print(line, file=sys.stderr)
    return weights_of(first, averaged)


def _parts_of(cohort: tuple[str, ...], rows: pd.DataFrame) -> dict[str, torch.Tensor]:
    """Which rows of the split are whose; a ValueError names a hospital that has none."""
    parts = {name: torch.tensor([own == name for own in rows["hospital"]]) for name in cohort}
    empty = [name for name, own in parts.items() if not bool(own.any())]
    if empty:
        raise ValueError(f"the split has no training image of {', '.join(empty)}: see split_patients, hospitals")
    return parts
