"""More of what the classifier finds hard: neighbours, in w, of projected edge and misclassified training images.

`train_classifier` adds them to the real images (scenario aug-edges) beside as many random ones (aug-edges-control), and
`compare_classifiers` says what that did.
"""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import numpy as np
import torch

from skinsynth.classifier.classifier import load_classifier
from skinsynth.explanation.cases import hard_cases
from skinsynth.gan.family import Family, load_family
from skinsynth.gan.model import render
from skinsynth.images.archive import Images, numbered_ids, read_archive, write_archive
from skinsynth.partition.split import images_of, read_split
from skinsynth.process import tune_process
from skinsynth.projection.archive import project_all
from skinsynth.projection.loss import LossConfig, build_loss
from skinsynth.projection.projector import ProjectionConfig, Projections, Projector, projectors_of
from skinsynth.projection.surroundings import Neighbours, draw_neighbours
from skinsynth.quality.proportions import labels_of_counts
from skinsynth.settings import Count, Names, NotNegative, Positive, Seed, Share, Whole
from skinsynth.stage import best_device, checkpoint_folder, entry_of, load_params, run, write_metrics, write_rows


@dataclass(frozen=True)
class Settings:
    classes: Names
    edge_share: Share  # of the training images, nearest to the threshold
    most: Count  # hard cases of each class that are projected: edge cases first, then the surest mistakes
    loss: LossConfig
    projection: ProjectionConfig
    radius: Positive  # of a neighbour from its centre, Euclidean in w
    images: dict[str, Whole]  # neighbours of each class, and as many random images
    truncation_psi: NotNegative  # of the random ones
    batch_size: Count
    seed: Seed


SETTINGS = Settings


def main(
    gan: Annotated[Path, "the selected GAN"],
    images: Annotated[Path, "real images"],
    split: Annotated[Path, "CSV of split_patients: who is in train, validation and test"],
    classifier: Annotated[Path, "classifier of real images, whose hard cases are looked for"],
    edges: Annotated[Path, "ZIP of neighbours: they resemble real patients' images, so it stays on this machine"],
    cases: Annotated[Path, "CSV: each hard training image, its kind and the distance of its projection"],
    control: Annotated[Path, "ZIP of as many random images of the same GAN"],
    metrics: Annotated[Path, "headlines"],
) -> None:
    """Find hard training images, project them and draw images around them; a killed run goes on with the next batch."""
    settings = load_params("augment_edges", Settings)
    tune_process()
    device = best_device()
    judge, family = load_classifier(classifier, device), load_family([gan], device)
    family.check_makes(range(len(settings.classes)))
    real = read_archive(images, images_of(read_split(split), "train")["image_id"].tolist())
    kinds = find_hard(real, judge.probabilities(real.pixels).double().cpu().numpy(), settings)
    projectors = projectors_of(family, build_loss(settings.loss, judge, device), settings.projection, device)
    # Which cases are hard may differ from device to device: they are part of what a checkpoint is of.
    asked = settings, list(kinds)
    checkpoints = checkpoint_folder("augment_edges", "selected", asked, [gan, images, split, classifier])
    hard = real.at(np.array(list(kinds)))
    found = project_cases(hard, list(kinds), projectors, settings.projection.batch_size, checkpoints)
    rng = torch.Generator(device).manual_seed(settings.seed)
    counts = [entry_of(settings.images, name, "augment_edges, images") for name in settings.classes]
    labels = torch.from_numpy(hard.labels)
    centres = [(projectors[label].gan, found.ws[labels == label]) for label in range(len(counts))]
    around = [
        draw_neighbours(maker, ws, count, settings.radius, rng)
        for (maker, ws), count in zip(centres, counts, strict=True)
    ]
    write_set(edges, "edge", torch.cat([one.pixels for one in around]), counts)
    write_set(control, "random", random_images(family, counts, settings, rng), counts)
    write_rows(cases, case_rows(hard, kinds.values(), found))
    about = headlines(kinds, found, around, [render(maker.generator, ws) for maker, ws in centres])
    write_metrics(metrics, {**about, "radius_in_spreads_of_w": settings.radius / widest_spread(projectors)})
    shutil.rmtree(checkpoints, ignore_errors=True)


def find_hard(real: Images, probabilities: np.ndarray, settings: Settings) -> dict[int, str]:
    """Place and kind of the hard cases, class by class; a ValueError names a class that has none."""
    found = hard_cases(real.labels, probabilities, settings.edge_share)
    kinds: dict[int, str] = {}
    for label, name in enumerate(settings.classes):
        own = [(int(place), kind) for kind, places in found.items() for place in places if real.labels[place] == label]
        if not own:
            raise ValueError(f"no training image of {name} is an edge case or misclassified: raise edge_share")
        kinds |= dict(own[: settings.most])
    return kinds


def random_images(family: Family, counts: list[int], settings: Settings, rng: torch.Generator) -> torch.Tensor:
    """As many of each class as there are neighbours, so that numbers alone explain no difference."""
    return family.sample(labels_of_counts(counts), settings.batch_size, rng, settings.truncation_psi)


def project_cases(
    hard: Images, places: list[int], projectors: Mapping[int, Projector], batch_size: int, checkpoints: Path
) -> Projections:
    """Each hard image found again by the GAN of its class; `places` name each image's random draws."""
    pixels, labels = torch.from_numpy(hard.pixels), torch.from_numpy(hard.labels)
    found = project_all(projectors.__getitem__, pixels, labels, places, batch_size, checkpoints)
    assert found is not None  # a single process has the result
    return found


def case_rows(hard: Images, kinds: Iterable[str], found: Projections) -> list[dict[str, Any]]:
    """A row for each hard image."""
    return [
        {"image_id": image_id, "label": label, "kind": kind, "projection_distance": gap}
        for image_id, label, kind, gap in zip(
            hard.ids, hard.labels.tolist(), kinds, found.distances.tolist(), strict=True
        )
    ]


def widest_spread(projectors: Mapping[int, Projector]) -> float:
    """The largest spread of w among all GANs and classes."""
    return max(one.statistics(column).spread for one in projectors.values() for column in range(columns_of(one)))


def columns_of(projector: Projector) -> int:
    """How many classes its generator tells apart; one where it has none."""
    return max(1, projector.gan.config.class_count)


def write_set(path: Path, name: str, pixels: torch.Tensor, counts: list[int]) -> None:
    """Images in the order of their classes."""
    write_archive(path, numbered_ids(name, sum(counts)), pixels.numpy(), labels_of_counts(counts).tolist())


def headlines(
    kinds: dict[int, str], found: Projections, around: list[Neighbours], centres: list[torch.Tensor]
) -> dict[str, Any]:
    """Cases of each kind, how far projections are, and how much a neighbour differs from its centre (levels of 255)."""
    said = list(kinds.values())
    gaps = [
        float((image.float() - centre[place].float()).abs().mean())
        for one, centre in zip(around, centres, strict=True)
        for image, place in zip(one.pixels, one.centres.tolist(), strict=True)
    ]
    return {
        "edge_cases": said.count("edge"),
        "misclassified_cases": said.count("misclassified"),
        "median_projection_distance": float(found.distances.median()),
        "images": sum(len(one.pixels) for one in around),
        "mean_change_of_a_neighbour_in_levels": fmean(gaps),
    }


if __name__ == "__main__":
    run(main)
