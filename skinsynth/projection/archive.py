"""Projections of many images, batch by batch, each batch on disk as soon as it is done."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Int64, UInt8
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from skinsynth.files import written_whole
from skinsynth.gan.team import ALONE, Team
from skinsynth.projection.projector import Projections, Projector


def project_all(
    projector_of: Callable[[int], Projector],
    pixels: UInt8[Tensor, "n 3 size size"],
    labels: Int64[Tensor, " n"],
    image_numbers: Sequence[int],
    batch_size: int,
    folder: Path,
    team: Team = ALONE,
) -> Projections | None:
    """Project image by image's class; batches found in `folder` are not done again. Rows come in the order given.

    Process r of k does every k-th batch from the r-th on. The first one waits for all and has the result, the others
    have None. Batches are the same however many processes there are, so that a killed run may go on with others.
    """
    batches = batches_by_class(labels, batch_size)
    files = [_file(folder, batch, labels, image_numbers) for batch in batches]
    own = list(zip(files, batches, strict=True))[team.rank :: team.size]
    missing = [(file, batch) for file, batch in own if not file.is_file()]
    total = sum(projector_of(int(labels[batch[0]])).config.steps for _, batch in missing)
    count = sum(len(batch) for _, batch in missing)
    with tqdm(total=total, unit="step", desc=_description(count, team), disable=not team.first) as bar:
        for file, batch in missing:
            numbers = [image_numbers[place] for place in batch.tolist()]
            projector = projector_of(int(labels[batch[0]]))
            _write(file, projector.project(pixels[batch], labels[batch], numbers, bar.update))
    team.meet(projector_of(int(labels[0])).device)
    if not team.first:
        return None
    done = [_read(file) for file in files]
    back = torch.argsort(torch.cat(batches))
    return Projections(*(torch.cat(parts)[back] for parts in zip(*done, strict=True)))


def batches_by_class(labels: Int64[Tensor, " n"], batch_size: int) -> list[Int64[Tensor, " _"]]:
    """Places of the images that are projected together, each batch of one class."""
    return [batch for label in labels.unique() for batch in torch.nonzero(labels == label).flatten().split(batch_size)]


def _description(count: int, team: Team) -> str:
    return f"projecting {count} images" + (f", process 1 of {team.size}" if team.size > 1 else "")


def _file(folder: Path, batch: Tensor, labels: Tensor, image_numbers: Sequence[int]) -> Path:
    return folder / f"class-{int(labels[batch[0]])}-image-{image_numbers[int(batch[0])]}.safetensors"


def _write(file: Path, projections: Projections) -> None:
    with written_whole(file) as aside:
        save_file({name: tensor.contiguous() for name, tensor in projections._asdict().items()}, aside)


def _read(file: Path) -> Projections:
    return Projections(**load_file(file))
