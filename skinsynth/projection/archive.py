"""Projections of many images, batch by batch, each batch on disk as soon as it is done."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Int64, UInt8
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from skinsynth.files import written_whole
from skinsynth.projection.projector import Projections, Projector


def project_all(
    projector_of: Callable[[int], Projector],
    pixels: UInt8[Tensor, "n 3 size size"],
    labels: Int64[Tensor, " n"],
    image_numbers: Sequence[int],
    batch_size: int,
    folder: Path,
) -> Projections:
    """Project image by image's class; batches found in `folder` are not done again. Rows come in the order given."""
    order = torch.argsort(labels, stable=True)
    done: list[Projections] = []
    with tqdm(total=len(labels), unit="image", desc="projecting") as bar:
        for label in labels.unique().tolist():
            places = order[labels[order] == label]
            for batch in places.split(batch_size):
                numbers = [image_numbers[place] for place in batch.tolist()]
                file = folder / f"class-{label}-image-{numbers[0]}.safetensors"
                if not file.is_file():
                    _write(file, projector_of(label).project(pixels[batch], labels[batch], numbers))
                done.append(_read(file))
                bar.update(len(batch))
    back = torch.argsort(order)
    return Projections(*(torch.cat(parts)[back] for parts in zip(*done, strict=True)))


def _write(file: Path, projections: Projections) -> None:
    with written_whole(file) as aside:
        save_file({name: tensor.contiguous() for name, tensor in projections._asdict().items()}, aside)


def _read(file: Path) -> Projections:
    return Projections(**load_file(file))
