"""Where do real, projected and synthetic images lie in a classifier's eyes, and where do these blur (Figure 2)?

Panel a: training images that were projected, and their projections. Panel b: test images, which no classifier has seen,
and synthetic images, as many of each class as there are real ones, so that shares of neighbours can be compared; the
second classifier was trained on these synthetic images, so that seen against unseen and synthetic against real are one
difference there. Of more images than asked for, those shown are drawn with the seed. Images count as cases among those
of their own kind.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd

from skinsynth.classifier.classifier import Classifier, load_classifier
from skinsynth.embedding.clusters import cluster_rows
from skinsynth.embedding.layout import EmbeddingConfig
from skinsynth.embedding.panel import Panel, embed, point_rows, shares
from skinsynth.embedding.points import KINDS, Points, counts_of, draw_of_classes
from skinsynth.explanation.cases import CaseConfig, find_cases
from skinsynth.images.archive import Images, image_size, read_archive
from skinsynth.images.sets import read_image_set
from skinsynth.lesions.table import FLAGS, lesions_of
from skinsynth.partition.split import images_of, read_split
from skinsynth.projection.pairs import Pairs, read_pairs
from skinsynth.quality.classification import positive_label
from skinsynth.report.embedding import draw_maps, write_interactive
from skinsynth.settings import Count, Names
from skinsynth.stage import best_device, load_params, run, write_metrics, write_rows

TITLES = {
    "a": "(a) training images and their projections,\nseen by a classifier of real and synthetic images",
    "b": "(b) test images, and synthetic images,\nseen by a classifier trained on these synthetic images alone",
}


@dataclass(frozen=True)
class Settings:
    classes: Names  # in the order of the labels
    positive: str  # the class whose probability is told
    images_per_class: Count  # at most, of each kind
    cases: CaseConfig
    embedding: EmbeddingConfig


SETTINGS = Settings


def main(
    images: Annotated[Path, "real images"],
    lesions: Annotated[Path, "lesions.csv, for artefacts"],
    split: Annotated[Path, "CSV of split_patients: who is in train, validation and test"],
    synthetic: Annotated[Path, "synthetic images: a ZIP of ours, or any ZIP or folder of class folders"],
    classifier: Annotated[Path, "classifier of real and synthetic images: features of panel a"],
    synthetic_classifier: Annotated[Path, "classifier of synthetic images alone: features of panel b"],
    points: Annotated[Path, "CSV: each image, its place, case, cluster, nearest neighbour and artefacts"],
    clusters: Annotated[Path, "CSV: what each cluster is made of, artefacts beside those of all real images"],
    interactive: Annotated[Path, "HTML: both maps to turn and to colour by artefact; shows no image, asks no network"],
    figure: Annotated[Path, "PNG: both maps"],
    metrics: Annotated[Path, "headlines"],
    pairs: Annotated[Path | None, "ZIP of real images and their projections; without it there is no panel a"] = None,
) -> None:
    """Map classifier features of real, projected and synthetic images in 3-D, with neighbours and clusters."""
    settings = load_params("embed_images", Settings)
    positive = positive_label(settings.classes, settings.positive)
    shown = {} if pairs is None else {"a": (classifier, both_of_pairs(read_pairs(pairs), settings))}
    fake = read_image_set(synthetic, settings.classes, image_size(images))
    real = unseen_images(images, split, counts_of(fake.labels), settings)
    chosen = draw(fake.labels, counts_of(real.labels), settings)
    shown["b"] = (synthetic_classifier, {"real": real, "synthetic": fake.at(chosen)})
    rows, of_clusters, found = [], [], {}
    for name, (seen_by, images_of_kind) in shown.items():
        panel = embed(as_points(load_classifier(seen_by, best_device()), images_of_kind), settings.embedding)
        flags, found[name] = flags_of(lesions, panel.points), shares(panel)
        rows += [{"panel": name, **row} for row in rows_of(panel, flags, positive, settings)]
        of_clusters += [
            {"panel": name, **row} for row in cluster_rows(panel.points, panel.clusters, flags, settings.classes)
        ]
    write_rows(points, rows)
    write_rows(clusters, of_clusters)
    titles = {name: f"{TITLES[name]}\n{told(of_panel)}" for name, of_panel in found.items()}
    table = pd.DataFrame(rows)
    draw_maps(figure, table, settings.classes, FLAGS, titles)
    write_interactive(interactive, table, settings.classes, FLAGS, titles)
    write_metrics(metrics, {**headlines(found), "seed": settings.embedding.seed})


def both_of_pairs(pairs: Pairs, settings: Settings) -> dict[str, Images]:
    """Real images and their projections, in the same order and under one id."""
    chosen = draw(pairs.labels, counts_of(pairs.labels), settings)
    sides = {"real": pairs.real, "projected": pairs.projected}
    return {kind: Images(pairs.ids, pixels, pairs.labels).at(chosen) for kind, pixels in sides.items()}


def unseen_images(images: Path, split: Path, synthetic: Mapping[int, int], settings: Settings) -> Images:
    """Real images that no classifier was trained on, of each class at most as many as there are synthetic ones."""
    rows = images_of(read_split(split), "test")
    labels = rows["label"].to_numpy(np.int64)
    most_of = {label: min(count, synthetic.get(label, 0)) for label, count in counts_of(labels).items()}
    chosen = draw(labels, most_of, settings)
    return read_archive(images, rows["image_id"].iloc[chosen].tolist())


def draw(labels: np.ndarray, count_of: Mapping[int, int], settings: Settings) -> np.ndarray:
    """Places of at most so many of each class, and of no more than settings allow; one draw does not move another."""
    most_of = {label: min(count, settings.images_per_class) for label, count in count_of.items()}
    return draw_of_classes(labels, most_of, np.random.default_rng(settings.embedding.seed))


def as_points(network: Classifier, images_of_kind: dict[str, Images]) -> Points:
    """What the classifier sees in the images of all kinds, and says of them."""
    parts = list(images_of_kind.values())
    examined = network.examine(np.concatenate([part.pixels for part in parts]))
    return Points(
        [image_id for part in parts for image_id in part.ids],
        [kind for kind, part in images_of_kind.items() for _ in part.ids],
        np.concatenate([part.labels for part in parts]),
        examined.features.cpu().numpy(),
        examined.probabilities.double().cpu().numpy(),
    )


def flags_of(lesions: Path, points: Points) -> pd.DataFrame:
    """Artefacts of the real images; of what a GAN has drawn nothing is known."""
    flags = pd.DataFrame("", index=range(len(points.ids)), columns=list(FLAGS))
    real = points.places("real")
    flags.iloc[real] = lesions_of(lesions, [points.ids[place] for place in real])[list(FLAGS)].to_numpy()
    return flags


def rows_of(panel: Panel, flags: pd.DataFrame, positive: int, settings: Settings) -> list[dict[str, Any]]:
    """The table of a panel, with the cases among the images of each kind."""
    points, cases = panel.points, [""] * len(panel.points.ids)
    for places in filter(len, map(points.places, KINDS)):
        of_kind = points.labels[places], points.probabilities[places], points.features[places]
        for case, found in find_cases(*of_kind, settings.cases).items():
            for place in places[found].tolist():
                cases[place] = case
    return point_rows(panel, cases, flags, settings.classes, positive)


def told(of_panel: dict[str, float | int]) -> str:
    """The panel's numbers in words, one line each."""
    lines = [
        f"nearest neighbour of the same class: {of_panel['same_class']:.0%} of the points "
        f"({of_panel['same_class_by_chance']:.0%} by chance)"
    ]
    if "own_original_nearest" in of_panel:
        lines.append(f"nearest to their own original: {of_panel['own_original_nearest']:.0%} of the projections")
    if "synthetic_near_real" in of_panel:
        lines.append(
            f"synthetic among the neighbours of real images: {of_panel['synthetic_near_real']:.0%} "
            f"({of_panel['synthetic_near_real_expected']:.0%} if the two mixed perfectly)"
        )
    return "\n".join(lines)


def headlines(found: dict[str, dict[str, float | int]]) -> dict[str, float | int]:
    """Points in all, and what each panel says, under its letter; what chance gives stands in the figure only."""
    left_out = ("points", "same_class_by_chance")
    of_panels = {
        f"{name}_{value}": of_panel[value] for name, of_panel in found.items() for value in of_panel.keys() - left_out
    }
    return {"points": sum(of_panel["points"] for of_panel in found.values()), **dict(sorted(of_panels.items()))}


if __name__ == "__main__":
    run(main)
