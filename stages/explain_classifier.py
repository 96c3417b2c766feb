"""Which regions argue for the positive class in clear, doubtful and mistaken cases, and do they truly matter?

It is the positive class that is explained, whatever the classifier says: a blank image is benign to it, so that benign
is what is said where no region argues for malignant.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from tqdm import tqdm

from skinsynth.classifier.classifier import Classifier, load_classifier
from skinsynth.explanation.cases import CaseConfig, find_cases
from skinsynth.explanation.faithfulness import FaithfulnessConfig, faithfulness
from skinsynth.explanation.xrai import XraiConfig, heat_map, top_regions
from skinsynth.images.archive import Images, read_archive
from skinsynth.partition.split import images_of, read_split
from skinsynth.quality.classification import positive_label
from skinsynth.report.explanations import draw_explanations
from skinsynth.settings import Count, Names, Seed
from skinsynth.stage import best_device, load_params, run, write_metrics, write_rows

TOP_SHARES = (0.1, 0.3)  # of the image, in the figure


@dataclass(frozen=True)
class Settings:
    classes: Names  # in the order of the labels
    positive: str  # the class whose probability is explained
    cases: CaseConfig
    xrai: XraiConfig
    faithfulness: FaithfulnessConfig
    shown: Count  # cases of each kind in the figure
    seed: Seed  # of the random orders


SETTINGS = Settings


def main(
    classifier: Annotated[Path, "classifier to explain"],
    images: Annotated[Path, "real images"],
    split: Annotated[Path, "CSV of split_patients: who is in train, validation and test"],
    cases: Annotated[Path, "CSV: each explained test image, its kind, deletion and insertion areas"],
    figure: Annotated[Path, "heat maps and top regions of a few cases: shows real images, stays here"],
    metrics: Annotated[Path, "mean areas, beside those of random order"],
) -> None:
    """Explain central, edge and misclassified test images by XRAI and test each explanation by taking regions away."""
    settings = load_params("explain_classifier", Settings)
    positive = positive_label(settings.classes, settings.positive)
    network = load_classifier(classifier, best_device())
    real = read_archive(images, images_of(read_split(split), "test")["image_id"].tolist())
    examined = network.examine(real.pixels)
    probabilities = examined.probabilities.double().cpu().numpy()
    places_of = find_cases(real.labels, probabilities, examined.features.cpu().numpy(), settings.cases)
    heats, rows = explain(network, real, probabilities[:, positive], places_of, positive, settings)
    write_rows(cases, rows)
    show(figure, real, heats, rows, settings)
    write_metrics(metrics, headlines(rows))


def explain(
    network: Classifier,
    real: Images,
    probabilities: np.ndarray,
    places_of: dict[str, np.ndarray],
    positive: int,
    settings: Settings,
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Heat map of each case, and a row about it; probabilities are those of the positive class."""
    rng = np.random.default_rng(settings.seed)
    heats, rows = [], []
    cases = [(kind, place) for kind, places in places_of.items() for place in places.tolist()]
    for kind, place in tqdm(cases, unit="image", desc="explaining"):
        pixels = real.pixels[place]
        heats.append(heat_map(network, pixels, positive, settings.xrai))
        areas = faithfulness(network, pixels, positive, heats[-1], settings.faithfulness, rng)
        about = {"image_id": real.ids[place], "kind": kind, "label": int(real.labels[place])}
        rows.append({**about, "probability": probabilities[place], **areas._asdict(), "gain": areas.gain})
    return np.stack(heats), rows


def show(figure: Path, real: Images, heats: np.ndarray, rows: list[dict[str, Any]], settings: Settings) -> None:
    """The first cases of each kind."""
    kinds = [row["kind"] for row in rows]
    shown = [place for place, kind in enumerate(kinds) if kinds[:place].count(kind) < settings.shown]
    pixels = real.pixels[[real.ids.index(rows[place]["image_id"]) for place in shown]]
    regions = {
        f"top {share:.0%}": np.stack([top_regions(heats[place], share) for place in shown]) for share in TOP_SHARES
    }
    captions = [caption(rows[place], settings) for place in shown]
    draw_explanations(figure, pixels, heats[shown], regions, captions)


def caption(row: dict[str, Any], settings: Settings) -> str:
    """What the image is, and what the classifier says."""
    said = f"{settings.positive}: {row['probability']:.2f}"
    return f"{row['kind']}\n{settings.classes[row['label']]} image\n{said}"


def headlines(rows: list[dict[str, Any]]) -> dict[str, float | int]:
    """Means over cases; `better_than_random` is the share with more between insertion and deletion than at random, of
    all cases and of each kind."""
    areas = ("deletion", "random_deletion", "insertion", "random_insertion")
    means = {name: float(np.mean([row[name] for row in rows])) for name in areas}
    better = {"better_than_random": float(np.mean([row["gain"] > 0 for row in rows]))}
    for kind in dict.fromkeys(row["kind"] for row in rows):
        better[f"better_than_random_{kind}"] = float(np.mean([row["gain"] > 0 for row in rows if row["kind"] == kind]))
    return {"cases": len(rows), **means, **better}


if __name__ == "__main__":
    run(main)
