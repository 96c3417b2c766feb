"""A whole training run: ticks of images, each ending with a row of losses and a checkpoint, some with scores too."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from tqdm import tqdm

from skinsynth.gan.checkpoint import read_earlier, write_checkpoint
from skinsynth.gan.generator import Generator
from skinsynth.gan.model import training_flops_per_image
from skinsynth.gan.team import ALONE, Team
from skinsynth.gan.trainer import StepReport, Trainer, TrainerConfig
from skinsynth.images.archive import Images
from skinsynth.settings import Count, Names, Share

Row = dict[str, float | int]


@dataclass(frozen=True)
class RunConfig:
    """What sets one GAN of a study apart from the others."""

    classes: Names  # whose images it is trained on
    conditional: bool
    augment: str  # a key of PRESETS
    adaptive: bool  # whether ADA steers the strength; otherwise it stays
    initial_p: Share | None = None  # strength at the start; None, or left out: as `trainer` or the preset has it


@dataclass(frozen=True)
class Schedule:
    images: Count  # real images shown to the discriminator in all
    images_per_tick: Count  # between two checkpoints
    ticks_per_score: Count


@dataclass
class History:
    """The two curves of a run, by images seen."""

    losses: list[Row]
    scores: list[Row]


def configure(shared: TrainerConfig, run: RunConfig) -> TrainerConfig:
    """The study's settings with the class count and the augmentation of one run."""
    count = len(run.classes) if run.conditional else 0
    initial_p = shared.augment.initial_p if run.initial_p is None else run.initial_p
    if run.augment != "none" and not run.adaptive and initial_p == 0:
        raise ValueError(
            f"adaptive: false keeps the augmentation's strength where it starts, but {run.augment!r} starts at 0, "
            "which is none: give the run an initial_p above 0, or augment: none"
        )
    return dataclasses.replace(
        shared,
        generator=dataclasses.replace(shared.generator, class_count=count),
        discriminator=dataclasses.replace(shared.discriminator, class_count=count),
        augment=dataclasses.replace(shared.augment, preset=run.augment, adaptive=run.adaptive, initial_p=initial_p),
    )


def labels_of(run: RunConfig, classes: Sequence[str]) -> list[int]:
    """The dataset's labels that a run is trained on, in the order of c's columns; `classes` are in theirs."""
    if unknown := [name for name in run.classes if name not in classes]:
        raise ValueError(f"a run is of classes among {', '.join(classes)}, but of {', '.join(unknown)}: correct them")
    return sorted(classes.index(name) for name in run.classes)


def columns_of(labels: Int64[Tensor, " n"], own: Sequence[int]) -> Int64[Tensor, " n"]:
    """The column of c of each label: its place among the run's own labels, which are sorted."""
    return torch.searchsorted(torch.tensor(own), labels)


def begin(config: TrainerConfig, real: Images, own: Sequence[int], device: torch.device, team: Team = ALONE) -> Trainer:
    """A GAN before its first step, on real images, all of the run's own labels."""
    columns = columns_of(torch.from_numpy(real.labels), own)
    return Trainer(config, torch.from_numpy(real.pixels), columns, device, team)


def plan(trainer: Trainer, run: RunConfig, schedule: Schedule) -> dict[str, Any]:
    """What training would do, for JSON."""
    return {
        "run": dataclasses.asdict(run),
        "training_images": len(trainer.data),
        "schedule": dataclasses.asdict(schedule),
        "generator_parameters": sum(entry.numel() for entry in trainer.generator.parameters()),
        "discriminator_parameters": sum(entry.numel() for entry in trainer.discriminator.parameters()),
        "training_gflops_per_image": training_flops_per_image(trainer.generator, trainer.discriminator) / 1e9,
        "device": str(trainer.device),
        "trainer": dataclasses.asdict(trainer.config),
    }


def train(
    trainer: Trainer,
    schedule: Schedule,
    checkpoints: Path,
    score: Callable[[Generator], dict[str, float]] | None,
    title: str,
) -> History:
    """Train to the end of the schedule, from the checkpoint where there is one; ends the same either way.

    Without one it goes on from a training that has ended with fewer images. `score` judges the averaged generator,
    before the first step, every few ticks and at the end. In a team the first process alone scores and saves; `score`
    is None for the others.
    """
    history = _resume(trainer, schedule, checkpoints)
    first = trainer.team.first
    if score is not None and not history.scores:
        history.scores.append({"images": 0, **score(trainer.generator_ema)})
    with tqdm(total=schedule.images, initial=trainer.images_seen, unit="image", desc=title, disable=not first) as bar:
        while trainer.images_seen < schedule.images:
            before = trainer.images_seen // schedule.images_per_tick
            history.losses.append(_tick(trainer, schedule, bar))
            ticks = trainer.images_seen // schedule.images_per_tick
            if score is not None and ticks > before and ticks % schedule.ticks_per_score == 0:
                history.scores.append({"images": trainer.images_seen, **score(trainer.generator_ema)})
            if first:
                _save(trainer, history, checkpoints)
    # Not part of what was saved: a longer training has no score there.
    if score is not None and history.scores[-1]["images"] < trainer.images_seen:
        history.scores.append({"images": trainer.images_seen, **score(trainer.generator_ema)})
    return history


def _tick(trainer: Trainer, schedule: Schedule, bar: Any) -> Row:
    """Steps until the next multiple of a tick; the mean of what they report, and how diverse the images are then."""
    end = min(schedule.images, (trainer.images_seen // schedule.images_per_tick + 1) * schedule.images_per_tick)
    reports: list[StepReport] = []
    while trainer.images_seen < end:
        reports.append(trainer.step())
        bar.update(trainer.config.batch_size)
        bar.set_postfix(p=f"{reports[-1].augment_p:.2f}", refresh=False)
    columns = [field.name for field in dataclasses.fields(StepReport) if field.name != "images_seen"]
    means = {name: float(np.mean([getattr(report, name) for report in reports])) for name in columns}
    return {"images": trainer.images_seen, **means, "diversity": trainer.watch()}


def _resume(trainer: Trainer, schedule: Schedule, checkpoints: Path) -> History:
    steps = math.ceil(schedule.images / trainer.config.batch_size)
    state = read_earlier(checkpoints, lambda numbers: numbers["trainer"]["steps"], steps)
    if state is None:
        return History([], [])
    tensors, numbers = state
    trainer.restore((tensors, numbers["trainer"]))
    return History(**numbers["history"])


def _save(trainer: Trainer, history: History, checkpoints: Path) -> None:
    tensors, numbers = trainer.state()
    write_checkpoint(checkpoints, (tensors, {"trainer": numbers, "history": dataclasses.asdict(history)}))
