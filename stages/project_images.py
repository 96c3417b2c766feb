"""Find real training images again in the latent space of the selected GAN."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from safetensors.torch import save_file

from skinsynth.classifier.classifier import load_classifier
from skinsynth.files import written_whole
from skinsynth.gan.family import load_family
from skinsynth.gan.team import ensure_team, join_team
from skinsynth.images.archive import read_archive
from skinsynth.partition.split import images_of, read_split
from skinsynth.process import tune_process
from skinsynth.projection.archive import project_all
from skinsynth.projection.loss import LossConfig, build_loss
from skinsynth.projection.pairs import Pairs, write_pairs
from skinsynth.projection.projector import ProjectionConfig, Projections, projectors_of
from skinsynth.settings import Count, Whole
from skinsynth.stage import best_device, checkpoint_folder, load_params, run, write_metrics, write_rows


@dataclass(frozen=True)
class Settings:
    images: Count  # at most, drawn at random from the training images
    processes: Whole  # that share the batches, each on a GPU of its own (torchrun); 0: one for each GPU
    loss: LossConfig
    projection: ProjectionConfig


SETTINGS = Settings


def main(
    gan: Annotated[Path, "the selected GAN"],
    images: Annotated[Path, "real images"],
    split: Annotated[Path, "CSV of split_patients: who is in train, validation and test"],
    classifier: Annotated[Path, "classifier of real images: its features are the loss that needs no download"],
    latents: Annotated[Path, "w of each image, in the order of the distances, as safetensors"],
    distances: Annotated[Path, "CSV: image_id, label, distance_<network of the loss>"],
    pairs: Annotated[Path, "ZIP of <id>.projected and <id>.real images: shows real images, stays on this machine"],
    metrics: Annotated[Path, "headlines"],
) -> None:
    """Project images with their class, many at a time; a killed run goes on with the next batch."""
    settings = load_params("project_images", Settings)
    ensure_team(settings.processes)
    rows = images_of(read_split(split), "train")
    chosen = np.random.default_rng(settings.projection.seed).permutation(len(rows))[: settings.images]
    real = read_archive(images, rows["image_id"].iloc[np.sort(chosen)].tolist())
    pixels, labels = torch.from_numpy(real.pixels), torch.from_numpy(real.labels)
    batch = settings.projection.batch_size
    tune_process()
    with join_team() as (team, gpu):
        device = gpu or best_device()
        family = load_family([gan], device)
        family.check_makes(labels.unique().tolist())
        loss = build_loss(settings.loss, load_classifier(classifier, device), device)
        projector_of = projectors_of(family, loss, settings.projection, device)
        # How many processes share the work does not change it.
        effective = settings.images, settings.loss, settings.projection
        checkpoints = checkpoint_folder("project_images", "selected", effective, [gan, images, split, classifier])
        numbers = np.sort(chosen).tolist()
        found = project_all(projector_of.__getitem__, pixels, labels, numbers, batch, checkpoints, team)
    if found is None:
        return
    with written_whole(latents) as aside:
        save_file({"ws": found.ws, "labels": labels}, aside)
    column = f"distance_{settings.loss.name}"
    table = zip(real.ids, real.labels.tolist(), found.distances.tolist(), strict=True)
    write_rows(distances, [{"image_id": i, "label": label, column: gap} for i, label, gap in table])
    write_pairs(pairs, Pairs(real.ids, real.pixels, found.pixels.numpy(), real.labels))
    write_metrics(metrics, headlines(found, column))
    shutil.rmtree(checkpoints, ignore_errors=True)


def headlines(found: Projections, distance: str) -> dict[str, float | int]:
    """Count, mean and median distance in the features of the loss."""
    return {
        "images": len(found.distances),
        f"mean_{distance}": float(found.distances.mean()),
        f"median_{distance}": float(found.distances.median()),
    }


if __name__ == "__main__":
    run(main)
