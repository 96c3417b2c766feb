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
from skinsynth.images.archive import read_archive, write_archive
from skinsynth.partition.split import images_of, read_split
from skinsynth.projection.archive import project_all
from skinsynth.projection.projector import ProjectionConfig, Projections, Projector
from skinsynth.stage import best_device, checkpoint_folder, load_params, run, write_metrics, write_rows


@dataclass(frozen=True)
class Settings:
    images: int  # at most, drawn at random from the training images
    projection: ProjectionConfig


SETTINGS = Settings


def main(
    gan: Annotated[Path, "the selected GAN"],
    images: Annotated[Path, "real images"],
    split: Annotated[Path, "who is on which side"],
    classifier: Annotated[Path, "classifier of real images: its features are the loss"],
    latents: Annotated[Path, "w of each image, in the order of the distances, as safetensors"],
    distances: Annotated[Path, "CSV: image_id, label, distance in the loss's features"],
    pairs: Annotated[Path, "ZIP of <id>.projected and <id>.real images: shows real images, stays on this machine"],
    metrics: Annotated[Path, "headlines"],
) -> None:
    """Project images with their class, many at a time; a killed run goes on with the next batch."""
    settings = load_params("project_images", Settings)
    device = best_device()
    rows = images_of(read_split(split), "train")
    chosen = np.random.default_rng(settings.projection.seed).permutation(len(rows))[: settings.images]
    real = read_archive(images, rows["image_id"].iloc[np.sort(chosen)].tolist())
    network, family = load_classifier(classifier, device), load_family([gan], device)
    projector_of = {
        label: Projector(member, network.embed_differentiable, settings.projection, device)
        for member in family.members.values()
        for label in member.classes
    }
    checkpoints = checkpoint_folder("project_images", "selected", settings, [gan, images, split, classifier])
    pixels, labels = torch.from_numpy(real.pixels), torch.from_numpy(real.labels)
    batch = settings.projection.batch_size
    found = project_all(projector_of.__getitem__, pixels, labels, np.sort(chosen).tolist(), batch, checkpoints)
    with written_whole(latents) as aside:
        save_file({"ws": found.ws, "labels": labels}, aside)
    table = zip(real.ids, real.labels.tolist(), found.distances.tolist(), strict=True)
    write_rows(distances, [{"image_id": i, "label": label, "distance": gap} for i, label, gap in table])
    write_pairs(pairs, real.ids, real.pixels, found.pixels.numpy(), real.labels)
    write_metrics(metrics, headlines(found))
    shutil.rmtree(checkpoints, ignore_errors=True)


def write_pairs(path: Path, ids: list[str], real: np.ndarray, projected: np.ndarray, labels: np.ndarray) -> None:
    """Both images of each pair side by side in the order of the archive."""
    names = [f"{image_id}.{kind}" for image_id in ids for kind in ("projected", "real")]
    pixels = np.stack([projected, real], axis=1).reshape(-1, *real.shape[1:])
    order = np.argsort(names)
    write_archive(path, [names[place] for place in order], pixels[order], labels.repeat(2)[order].tolist())


def headlines(found: Projections) -> dict[str, float | int]:
    """Count, mean and median distance in the classifier's features."""
    return {
        "images": len(found.distances),
        "mean_distance_classifier": float(found.distances.mean()),
        "median_distance_classifier": float(found.distances.median()),
    }


if __name__ == "__main__":
    run(main)
