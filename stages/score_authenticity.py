"""Are the synthetic images new? Authenticity, distances to training images and membership attacks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch

from skinsynth.classifier.classifier import load_classifier
from skinsynth.features.extractor import ExtractorConfig, build_extractor
from skinsynth.gan.family import load_family
from skinsynth.images.archive import Images, image_size, read_archive
from skinsynth.images.grid import save_grid
from skinsynth.images.sets import read_image_set
from skinsynth.lesions.table import read_lesions
from skinsynth.partition.split import images_of, read_split
from skinsynth.privacy.authenticity import without_duplicates
from skinsynth.privacy.distances import nearest
from skinsynth.privacy.membership import AttackConfig, Attacked, membership_rows
from skinsynth.privacy.novelty import distance_histogram, novelty_rows, projection_distances
from skinsynth.stage import best_device, cache_folder, load_params, run, write_metrics, write_rows


@dataclass(frozen=True)
class Settings:
    classes: tuple[str, ...]
    extractor: ExtractorConfig
    close: float  # cosine distance under which a projection is suspiciously close (the paper: 1e-5)
    attacks: AttackConfig
    shown_pairs: int  # closest pairs in the figure


SETTINGS = Settings


def main(
    synthetic: Annotated[Path, "images to judge: a ZIP of ours, or any ZIP or folder of class folders"],
    images: Annotated[Path, "real images"],
    lesions: Annotated[Path, "lesions.csv, for duplicates"],
    split: Annotated[Path, "who is on which side"],
    classifier: Annotated[Path, "classifier whose features distances are measured in"],
    metrics: Annotated[Path, "headlines"],
    details: Annotated[Path, "folder for authenticity.csv (by class), attacks.csv and histogram.csv"],
    nearest_pairs: Annotated[Path, "closest synthetic and training images side by side: shows real images, stays here"],
    pairs: Annotated[Path | None, "real images and their projections, where a generator was asked for them"] = None,
    gan: Annotated[Path | None, "the generator's folder, where there is one: its discriminator is attacked too"] = None,
) -> None:
    """Judge by features; duplicates leave the training set first. Far away does not mean private."""
    settings = load_params("score_authenticity", Settings)
    device = best_device()
    network = load_classifier(classifier, device)
    extract = build_extractor(settings.extractor, network, device, cache_folder("features"))
    train, held_out, group_of = distinct_sides(images, lesions, split)
    fake = read_image_set(synthetic, settings.classes, image_size(images))
    of_train, of_held_out, of_fake = (extract(part.pixels) for part in (train, held_out, fake))
    rows = [{"class": "all", **row} for row in novelty_rows(of_train, of_held_out, of_fake)]
    for label in np.unique(fake.labels):
        name = settings.classes[label]
        parts = (of_train[train.labels == label], of_held_out[held_out.labels == label], of_fake[fake.labels == label])
        rows += [{"class": name, **row} for row in novelty_rows(*parts)]
    write_rows(details / "authenticity.csv", [{**row, "extractor": f"{extract.name} {network.name}"} for row in rows])
    family = None if gan is None else load_family([gan], device)
    members, others = (
        Attacked(part, features, group_of.loc[part.ids].to_numpy())
        for part, features in ((train, of_train), (held_out, of_held_out))
    )
    attacks = membership_rows(members, others, of_fake, family, settings.attacks)
    write_rows(details / "attacks.csv", [{**row, "extractor": f"{extract.name} {network.name}"} for row in attacks])
    histogram = distance_histogram(of_train, {"generated": of_fake, "held-out real": of_held_out})
    write_rows(details / "histogram.csv", histogram)
    show_nearest(nearest_pairs, fake, train, of_fake, of_train, settings.shown_pairs)
    of_projections = {}
    if pairs is not None:
        projected, real = (extract(part) for part in both_sides(read_archive(pairs)))
        of_projections = projection_distances(real, projected, settings.close)
    write_metrics(metrics, {"features_of": network.name, **headlines(rows), **of_projections})


def distinct_sides(images: Path, lesions: Path, split: Path) -> tuple[Images, Images, pd.Series]:
    """Training images without duplicates, held-out images, and the group of patients by image id."""
    sides = read_split(split)
    train = images_of(sides, "train").merge(read_lesions(lesions)[["image_id", "duplicate_group"]], on="image_id")
    distinct = train["image_id"].iloc[without_duplicates(train["duplicate_group"].tolist())]
    held_out = sides.loc[sides["split"] != "train", "image_id"]
    group_of = sides.set_index("image_id")["group"]
    return read_archive(images, distinct.tolist()), read_archive(images, held_out.tolist()), group_of


def both_sides(pairs: Images) -> tuple[np.ndarray, np.ndarray]:
    """Projected and real pixels, row by row of the same image."""
    place_of = {name: place for place, name in enumerate(pairs.ids)}
    ids = [name.removesuffix(".real") for name in pairs.ids if name.endswith(".real")]
    projected, real = ([place_of[f"{image_id}.{kind}"] for image_id in ids] for kind in ("projected", "real"))
    return pairs.pixels[projected], pairs.pixels[real]


def headlines(rows: list[dict[str, str | float | int]]) -> dict[str, float]:
    """Pooled over classes: authenticity of generated and of held-out real images, and C_T."""
    value_of = {(row["metric"], row["of"]): float(row["value"]) for row in rows if row["class"] == "all"}
    return {
        "authenticity": value_of["authenticity", "generated"],
        "authenticity_of_held_out_real": value_of["authenticity", "held-out real"],
        "copying_statistic": value_of["copying_statistic", "generated"],
    }


def show_nearest(
    path: Path, fake: Images, train: Images, of_fake: torch.Tensor, of_train: torch.Tensor, count: int
) -> None:
    """The closest pairs, synthetic left and training right, the closest first."""
    gaps, partners = nearest(of_fake, of_train, "cosine")
    closest = gaps.argsort(stable=True)[:count].cpu().numpy()
    pixels = np.stack([fake.pixels[closest], train.pixels[partners.cpu().numpy()[closest]]], axis=1)
    shown = pixels.reshape(-1, *fake.pixels.shape[1:])
    save_grid(path, shown, columns=8, scale=max(1, 64 // shown.shape[-1]))


if __name__ == "__main__":
    run(main)
