"""Find directions of w without labels (SeFa, PCA) and measure what the classifier sees of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import torch
from jaxtyping import UInt8
from safetensors.torch import save_file
from torch import Tensor

from skinsynth.classifier.classifier import load_classifier
from skinsynth.directions.edit import render_strips
from skinsynth.directions.effects import Effects, effects_of, mean_interval
from skinsynth.directions.principal import sample_w
from skinsynth.directions.search import Found, find_axes, spread_evenly
from skinsynth.directions.strips import METHODS, Strip, draw_strips, step_names
from skinsynth.files import written_whole
from skinsynth.gan.family import load_family
from skinsynth.gan.model import Gan
from skinsynth.quality.classification import positive_label
from skinsynth.settings import Count, Names, NotNegative, Numbers, Seed
from skinsynth.stage import best_device, load_params, run, write_metrics, write_rows


@dataclass(frozen=True)
class Settings:
    classes: Names  # in the order of the labels
    positive: str  # the class whose probability is followed
    sefa_layers: tuple[int, int] | None  # first and last layer of w that SeFa looks at and moves; null: all
    directions: Count  # of each method, the leading ones
    images: Count  # of each GAN, moved along each of its directions
    steps: Numbers  # in standard deviations of w along the direction; 0 is the image itself
    pca_samples: Count  # latents behind PCA and the standard deviations
    truncation_psi: NotNegative  # of the images that are moved
    seed: Seed


SETTINGS = Settings


def main(
    gan: Annotated[Path, "the selected GAN"],
    classifier: Annotated[Path, "classifier of real images, which judges the moved ones"],
    directions: Annotated[Path, "safetensors: directions, strides and order of each GAN and method"],
    strips: Annotated[
        Path,
        "picture: a block of rows for each class, a row for each direction by SeFa and PCA, a column for each step",
    ],
    effects: Annotated[Path, "CSV: change of the positive class's probability and of the features, by direction"],
    metrics: Annotated[Path, "headlines"],
) -> None:
    """Find directions in each GAN, move generated images along them and ask the classifier about every step."""
    settings = load_params("find_directions", Settings)
    device, positive = best_device(), positive_label(settings.classes, settings.positive)
    family, judge = load_family([gan], device), load_classifier(classifier, device)
    rng = torch.Generator(device).manual_seed(settings.seed)
    search = settings.directions, settings.sefa_layers, settings.pca_samples, rng
    found_by = {name: find_axes(member, *search) for name, member in family.members.items()}
    rows: list[dict[str, Any]] = []
    shown: dict[int, list[Strip]] = {label: [] for label in family.labels}
    for name, member in family.members.items():
        for method, number, pixels in moved_images(member, found_by[name], settings, rng):
            seen = effects_of(judge, pixels, settings.steps, positive)
            rows.append({"gan": name, "method": method, "direction": number, **effect_row(seen)})
            # The first images are one of each class, in turn.
            for label, strip in zip(member.classes, pixels, strict=False):
                about = f"{METHODS[method]} {number}, {settings.classes[label]}"
                # A copy, since a part would keep all images in memory.
                shown[label].append(Strip(about, strip.numpy().copy()))
    write_directions(directions, found_by)
    columns = step_names(settings.steps, " SD")
    title = "Steps in standard deviations (SD) of w along the direction"
    draw_strips(strips, title, columns, [strip for label in family.labels for strip in shown[label]])
    write_rows(effects, rows)
    explained = [found.explained for founds in found_by.values() for found in founds if found.method == "pca"]
    write_metrics(metrics, headlines(rows, explained, settings.images))


def moved_images(
    member: Gan, founds: Sequence[Found], settings: Settings, rng: torch.Generator
) -> Iterator[tuple[str, int, UInt8[Tensor, "n steps 3 size size"]]]:
    """The same images of one GAN moved along each direction, with its method and its number."""
    w = sample_w(member, spread_evenly(member.classes, settings.images), rng, settings.truncation_psi)
    ws = member.generator.mapping.every_layer(w)
    for found in founds:
        for number, stride in enumerate(found.strides, start=1):
            yield found.method, number, render_strips(member.generator, ws, stride, settings.steps, found.layers)


def effect_row(seen: Effects) -> dict[str, float]:
    """Means over the images, with the interval of the change."""
    change = mean_interval(seen.changes, float(seen.changes.mean()))
    named = dict(zip(("change_per_step", "low", "high"), change, strict=True))
    return {**named, "feature_distance_per_step": float(seen.distances.mean())}


def write_directions(path: Path, found_by: Mapping[str, Sequence[Found]]) -> None:
    """Unit vectors, strides and values, under <GAN>.<method>."""
    arrays: dict[str, Tensor] = {}
    for name, founds in found_by.items():
        for found in founds:
            key = f"{name}.{found.method}"
            parts = {key: found.axes.vectors, f"{key}.strides": found.strides, f"{key}.values": found.axes.values}
            arrays |= {part: array.cpu().contiguous() for part, array in parts.items()}
    with written_whole(path) as aside:
        save_file(arrays, aside)


def headlines(rows: list[dict[str, Any]], explained: list[float], images: int) -> dict[str, float | int]:
    """Of each method the direction that changes the probability most, with its sign, and the mean feature distance."""
    found: dict[str, float | int] = {"images": images}
    for method in METHODS:
        own = [row for row in rows if row["method"] == method]
        found[f"{method}_largest_change_per_step"] = max((row["change_per_step"] for row in own), key=abs)
        found[f"{method}_feature_distance_per_step"] = fmean(row["feature_distance_per_step"] for row in own)
    return {**found, "pca_explained_share": fmean(explained)}


if __name__ == "__main__":
    run(main)
