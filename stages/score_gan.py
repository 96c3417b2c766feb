"""Score one GAN against the real images of its classes: FID, KID, precision, recall, density, coverage, path length."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch

from skinsynth.classifier.classifier import Classifier, load_classifier
from skinsynth.features.extractor import ExtractorConfig, build_extractor
from skinsynth.gan.family import load_family
from skinsynth.gan.generator import in_full_precision
from skinsynth.gan.model import Gan
from skinsynth.images.archive import read_archive
from skinsynth.partition.split import images_of, read_split
from skinsynth.quality.by_class import Judged, Labelled, features_of, in_proportion, score_by_class
from skinsynth.quality.colour import ColourHistograms, colour_rows_by_class, hue_rows
from skinsynth.quality.fidelity import FidelityConfig
from skinsynth.quality.path_length import feature_distance, path_length, path_lengths
from skinsynth.quality.resampling import mean_interval
from skinsynth.stage import best_device, load_params, run, write_metrics, write_rows


@dataclass(frozen=True)
class Settings:
    classes: tuple[str, ...]
    images: int  # generated, in the proportions of the real training images
    extractor: ExtractorConfig
    fidelity: FidelityConfig
    path_samples: int
    path_epsilon: float
    batch_size: int
    seed: int


SETTINGS = Settings


def main(
    name: Annotated[str, "the GAN's name"],
    gan: Annotated[Path, "its folder"],
    images: Annotated[Path, "real images"],
    split: Annotated[Path, "who is on which side"],
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
    extract = build_extractor(settings.extractor, network, device)
    sides = read_split(split)
    sides = sides[sides["label"].isin(family.labels)]
    train, held_out = (
        read_archive(images, rows["image_id"].tolist())
        for rows in (images_of(sides, "train"), sides[sides["split"] != "train"])
    )
    rng = torch.Generator(device).manual_seed(settings.seed)
    labels = in_proportion(torch.from_numpy(train.labels), settings.images)
    fake = family.sample(labels, settings.batch_size, rng, truncation_psi=1.0)
    features, colours = (
        Judged(features_of(seen, train), Labelled(seen(fake), labels), features_of(seen, held_out))
        for seen in (extract, ColourHistograms())
    )
    fidelity, seed = settings.fidelity, settings.seed
    scores = score_by_class(features, settings.classes, fidelity, seed, extract.name)
    path = score_paths(family.members[name], network, labels, settings, rng)
    write_rows(details / "intervals.csv", [*scores.rows, path])
    write_metrics(metrics, {**scores.headline, "ppl_classifier": path["value"]})
    write_rows(details / "colour.csv", colour_rows_by_class(colours, settings.classes, fidelity.interval_draws, seed))
    write_rows(details / "hues.csv", hue_rows({name: part.features for name, part in colours.named().items()}))


def score_paths(
    gan: Gan, network: Classifier, labels: torch.Tensor, settings: Settings, rng: torch.Generator
) -> dict[str, str | float | int]:
    """A row of perceptual path length in the classifier's features, with the interval of its mean."""
    chosen = in_proportion(labels, settings.path_samples)
    z = torch.randn(len(chosen), 2, gan.config.z_size, generator=rng, device=rng.device)
    distance = feature_distance(network.embed_differentiable)
    lengths = path_lengths(
        in_full_precision(gan.generator), z, gan.condition(chosen), distance, settings.path_epsilon, settings.batch_size
    )
    interval = mean_interval(lengths, path_length(lengths))._asdict()
    about = {"extractor": "classifier", "compared": "generated", "compared_count": len(lengths)}
    return {"class": "all", "metric": "ppl", **interval, **about}


if __name__ == "__main__":
    run(main)
