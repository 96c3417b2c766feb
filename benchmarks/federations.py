"""What benchmarks of federations share: data, settings, hospitals and scorer, as train_federated makes its own."""

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from flwr.clientapp.typing import Mod
from jaxtyping import UInt8
from torch import Tensor

from benchmarks.gans import CLASSIFIER, IMAGES
from skinsynth.federated.cohort import hospitals_of, weights_at_start
from skinsynth.federated.hospital import Weights
from skinsynth.federated.in_process import run_in_process
from skinsynth.federated.server import FederationConfig, FederationState
from skinsynth.gan.presets import shared_config
from skinsynth.gan.trainer import Trainer, TrainerConfig
from skinsynth.gan.training import configure
from skinsynth.gan.transfer import initial_weights
from skinsynth.images.archive import Images, read_archive
from skinsynth.process import tune_process
from skinsynth.quality.curve import CurveScorer, scorer_of
from skinsynth.stage import best_device, cache_folder, checkpoint_folder, load_params
from stages.train_federated import Settings

INITIAL = Path("data/initial")
SHOWN = 8  # a strip: half of the first class, half of the last

Row = dict[str, Any]
Strip = UInt8[np.ndarray, "n 3 height width"]


class Judged(NamedTuple):
    """What became of one run: a row of the table, and a strip of images."""

    row: Row
    strip: Strip


class Study(NamedTuple):
    """What all runs of a benchmark share."""

    hospitals: tuple[str, ...]
    rows: pd.DataFrame  # training images and whose they are
    real: Images
    config: TrainerConfig
    federation: FederationConfig
    initial: list[Path]  # weights that a hospital starts from, if any
    start: Weights
    like: Trainer
    scorer: CurveScorer
    checkpoints: Path


def command(name: str, doc: str | None, steps: int, data: Path, compare: Callable[[int, int, Path], Row]) -> None:
    """A benchmark's command line: `compare` takes rounds, steps and the folder of results; its answer is printed."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4, help="of each federation")
    parser.add_argument("--steps", type=int, default=steps, help="of each hospital's trainer, a round")
    parser.add_argument("--out", type=Path, default=Path("docs/results") / name, help="folder of the results")
    flags = parser.parse_args()
    missing = [str(path) for path in (IMAGES, data, CLASSIFIER) if not path.exists()]
    if missing:
        sys.exit(f"{name}: no {', '.join(missing)} here: run dvc repro first, in the project's root")
    began = time.monotonic(), time.process_time()
    tune_process()
    logging.getLogger("flwr").setLevel(logging.WARNING)
    try:
        found = compare(flags.rounds, flags.steps, flags.out)
    except (ValueError, OSError) as error:
        sys.exit(f"{name}: {error}")
    seconds = {"seconds": round(time.monotonic() - began[0]), "cpu_seconds": round(time.process_time() - began[1])}
    print(json.dumps(found | seconds, indent=2))


def study_of(
    name: str,
    rows: pd.DataFrame,
    federation_of: Callable[[FederationConfig], FederationConfig],
    data: Sequence[Path],
    varied: Any = None,
) -> Study:
    """The study called `name` on these rows of a split; a killed one goes on if nothing it depends on has changed.

    `federation_of` changes the settings of train_federated; `varied` is what else sets the runs apart from others.
    """
    settings = load_params("train_federated", Settings)
    hospitals = tuple(sorted(set(rows["hospital"])))
    real = read_archive(IMAGES, rows["image_id"].tolist())
    config = configure(shared_config(settings, real.pixels.shape), settings.gan)
    initial = initial_weights(INITIAL, settings.start_from, config.frozen_levels, settings.preset)
    federation = federation_of(settings.federation)
    start = weights_at_start(config, real, federation.averaged, initial)
    like = hospitals_of(hospitals[:1], rows, real, config, best_device(), initial)[0].trainer
    labels = list(range(len(settings.gan.classes)))
    scorer = scorer_of(like, real, labels, settings, config.seed, CLASSIFIER, cache_folder("features"))
    effective = config, federation, rows["hospital"].tolist(), varied
    checkpoints = checkpoint_folder(name, "runs", effective, [IMAGES, *data, *initial])
    return Study(hospitals, rows, real, config, federation, initial, start, like, scorer, checkpoints)


def federate(study: Study, name: str, federation: FederationConfig, mods: Sequence[Mod] = ()) -> FederationState:
    """All rounds of one run, or what is left of them."""
    hospitals = hospitals_of(study.hospitals, study.rows, study.real, study.config, best_device(), study.initial)
    return run_in_process(federation, hospitals, study.start, study.checkpoints / name, mods=mods)


def strip_of(pixels: UInt8[Tensor, "n 3 height width"]) -> Strip:
    """The first and the last few images, which are of the first and the last class."""
    return torch.cat([pixels[: SHOWN // 2], pixels[-SHOWN // 2 :]]).numpy()
