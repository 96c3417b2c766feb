"""Draw synthetic images of each class from trained GANs, with a manifest that says how each was made."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch

from skinsynth.gan.family import load_family
from skinsynth.images.archive import numbered_ids, write_archive
from skinsynth.images.grid import save_grid
from skinsynth.quality.proportions import labels_of_counts
from skinsynth.settings import Count, Names, NotNegative, Seed, Whole
from skinsynth.stage import best_device, entry_of, load_params, run, seed_of, write_rows


@dataclass(frozen=True)
class Settings:
    classes: Names  # in the order of the labels
    images: dict[str, dict[str, Whole]]  # images of each class, by set
    truncation_psi: NotNegative  # 1: the whole distribution; below 1 closer to the mean
    batch_size: Count
    shown: Count  # images of each class in the sample grid
    seed: Seed  # of which every set has its own


SETTINGS = Settings


def main(
    name: Annotated[str, "the set: a key of `images` in params.yaml"],
    gans: Annotated[list[Path], "folders of GANs that together make every class"],
    synthetic: Annotated[Path, "the ZIP to write"],
    manifest: Annotated[Path, "the CSV to write: image_id, class, seed, truncation, GAN of each image"],
    samples: Annotated[Path, "the grid to write: one block of rows for each class"],
) -> None:
    """Draw the images of one set, each from a latent of the set's own seed in the order of the manifest."""
    settings = load_params("generate_images", Settings)
    family = load_family(gans, best_device())
    asked = entry_of(settings.images, name, "generate_images, images")
    counts = [entry_of(asked, entry, f"generate_images, images, {name}") for entry in settings.classes]
    labels = labels_of_counts(counts)
    seed = seed_of(settings.seed, "generate_images", name)
    rng = torch.Generator(family.device).manual_seed(seed)
    pixels = family.sample(labels, settings.batch_size, rng, settings.truncation_psi)
    ids = numbered_ids(name, len(labels))
    write_archive(synthetic, ids, pixels, labels.tolist())
    row = {"seed": seed, "truncation_psi": settings.truncation_psi}
    rows = [
        {"image_id": image_id, "class": settings.classes[label], **row, "gan": family.member_name(label)}
        for image_id, label in zip(ids, labels.tolist(), strict=True)
    ]
    write_rows(manifest, rows)
    shown = torch.cat([torch.nonzero(labels == label)[: settings.shown, 0] for label in range(len(counts))])
    save_grid(samples, pixels[shown].numpy(), columns=16)


if __name__ == "__main__":
    run(main)
