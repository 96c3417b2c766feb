"""Score one GAN against the real images of its classes: FID, KID, precision, recall, density, coverage, path length."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch

from skinsynth.classifier.classifier import load_classifier
from skinsynth.features.extractor import ExtractorConfig, build_extractors
from skinsynth.gan.family import load_family
from skinsynth.images.archive import Images, numbered_ids
from skinsynth.quality.fidelity import FidelityConfig
from skinsynth.quality.image_set import judge_images, real_sides
from skinsynth.quality.path_length import PathConfig, build_path_distance, path_row
from skinsynth.quality.proportions import in_proportion
from skinsynth.settings import Count, Names, Seed
from skinsynth.stage import best_device, cache_folder, load_params, run, seed_of, write_metrics, write_rows


@dataclass(frozen=True)
class Settings:
    classes: Names
    images: Count  # generated, in the proportions of the real training images
    extractor: ExtractorConfig  # of the headlines
    further_extractors: tuple[ExtractorConfig, ...]  # each with rows of its own
    fidelity: FidelityConfig
    path: PathConfig
    batch_size: Count
    seed: Seed


SETTINGS = Settings


def main(
    name: Annotated[str, "the GAN's name"],
    gan: Annotated[Path, "its folder"],
    images: Annotated[Path, "real images"],
    split: Annotated[Path, "CSV of split_patients: who is in train, validation and test"],
    classifier: Annotated[Path, "classifier of real images, the offline extractor"],
    metrics: Annotated[Path, "headlines, pooled over the GAN's classes"],
    details: Annotated[
        Path,
        "folder for intervals.csv and colour.csv (pooled and by class, with the real-against-real floor), hues.csv",
    ],
) -> None:
    """Compare generated with training images, without truncation; held-out real images give the floor."""
    settings = load_params("score_gan", Settings)
    device = best_device()
    family, network = load_family([gan], device), load_classifier(classifier, device)
    if len(family.members) > 1:
        raise ValueError(f"{gan} holds the GANs {', '.join(family.members)}: score them one by one")
    configs = (settings.extractor, *settings.further_extractors)
    extractors = build_extractors(configs, network, device, cache_folder("features"))
    distance = build_path_distance(settings.path.distance, network.embed_differentiable, device)
    real = real_sides(images, split, family.labels)
    rng = torch.Generator(device).manual_seed(seed_of(settings.seed, "score_gan", name))
    labels = in_proportion(torch.from_numpy(real.train.labels), settings.images)
    pixels = family.sample(labels, settings.batch_size, rng, truncation_psi=1.0)
    fake = Images(numbered_ids(name, len(labels)), pixels.numpy(), labels.numpy())
    found = judge_images(fake, real, extractors, settings.classes, settings.fidelity, settings.seed)
    path = path_row(next(iter(family.members.values())), labels, distance, settings.path, rng)
    write_rows(details / "intervals.csv", [*found.fidelity, path])
    write_rows(details / "colour.csv", found.colours)
    write_rows(details / "hues.csv", found.hues)
    write_metrics(metrics, {**found.headline, f"ppl_{path['extractor']}": path["value"]})


if __name__ == "__main__":
    run(main)
