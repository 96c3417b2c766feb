"""Train a classifier of lesions on real, synthetic or mixed images and judge it on real test patients."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch

from skinsynth.classifier.classifier import save_classifier
from skinsynth.classifier.training import ClassifierConfig, Examples, train_classifier
from skinsynth.images.archive import read_archive
from skinsynth.partition.split import images_of, read_split
from skinsynth.quality.classification import confusion_rows, headlines, roc_points, score_predictions
from skinsynth.stage import best_device, entry_of, load_params, run, write_metrics, write_rows


@dataclass(frozen=True)
class Scenario:
    real: bool  # whether the real training images are used
    synthetic: dict[str, int]  # synthetic images added, by class


@dataclass(frozen=True)
class Settings:
    classes: tuple[str, ...]  # in the order of the labels
    positive: str  # the class that sensitivity is about
    scenarios: dict[str, Scenario]
    classifier: ClassifierConfig
    bootstrap_draws: int  # of test patients, behind each interval
    bootstrap_seed: int


SETTINGS = Settings


def main(
    name: Annotated[str, "the scenario: a key of `scenarios` in params.yaml"],
    images: Annotated[Path, "real images"],
    split: Annotated[Path, "who is on which side"],
    synthetic: Annotated[Path, "synthetic images to take from"],
    model: Annotated[Path, "folder for the classifier of the first seed"],
    metrics: Annotated[Path, "headlines: means over seeds"],
    details: Annotated[Path, "folder for intervals.csv, history.csv, roc.csv and confusion.csv"],
) -> None:
    """Train once for each seed, stop on validation, report on test."""
    settings = load_params("train_classifier", Settings)
    sides = read_split(split)
    train = training_examples(
        images_of(sides, "train")["image_id"].tolist(),
        images,
        synthetic,
        entry_of(settings.scenarios, name, "train_classifier, scenarios"),
        settings,
    )
    validation, test = (
        examples(images, images_of(sides, side)["image_id"].tolist()) for side in ("validation", "test")
    )
    probabilities: list[np.ndarray] = []
    history: list[dict[str, float]] = []
    for seed in settings.classifier.seeds:
        classifier, epochs = train_classifier(
            train, validation, settings.classifier, len(settings.classes), seed, best_device()
        )
        if not history:
            save_classifier(model, classifier)
        history += [{"seed": seed, **epoch} for epoch in epochs]
        probabilities.append(classifier.probabilities(test.pixels).double().cpu().numpy())
    report(
        np.stack(probabilities),
        test.labels.numpy(),
        images_of(sides, "test")["group"].to_numpy(),
        settings,
        metrics,
        details,
    )
    write_rows(details / "history.csv", history)


def examples(archive: Path, image_ids: list[str]) -> Examples:
    """Images of one archive as tensors."""
    read = read_archive(archive, image_ids)
    return Examples(torch.from_numpy(read.pixels), torch.from_numpy(read.labels))


def training_examples(
    real_ids: list[str], images: Path, synthetic: Path, scenario: Scenario, settings: Settings
) -> Examples:
    """Real and synthetic images as the scenario asks; the first synthetic ones of each class are taken."""
    parts = [examples(images, real_ids)] if scenario.real else []
    if scenario.synthetic:
        pool = read_archive(synthetic)
    label_of = {name: label for label, name in enumerate(settings.classes)}
    for name, count in scenario.synthetic.items():
        chosen = np.flatnonzero(pool.labels == entry_of(label_of, name, "train_classifier, synthetic"))[:count]
        if len(chosen) < count:
            raise ValueError(
                f"{synthetic} holds {len(chosen)} images of {name}, the scenario asks for {count}: generate more"
            )
        parts.append(Examples(torch.from_numpy(pool.pixels[chosen]), torch.from_numpy(pool.labels[chosen])))
    return Examples(torch.cat([part.pixels for part in parts]), torch.cat([part.labels for part in parts]))


def report(
    probabilities: np.ndarray, labels: np.ndarray, groups: np.ndarray, settings: Settings, metrics: Path, details: Path
) -> None:
    """Headlines and intervals over all seeds, ROC curve and confusion matrix of their mean prediction."""
    positive = settings.classes.index(settings.positive)
    rng = np.random.default_rng(settings.bootstrap_seed)
    rows = score_predictions(labels, probabilities, groups, positive, settings.bootstrap_draws, rng)
    counts = {"test_images": len(labels), "test_groups": len(set(groups)), "seeds": len(probabilities)}
    write_rows(details / "intervals.csv", [{**row, **counts} for row in rows])
    mean = probabilities.mean(axis=0)
    write_rows(details / "roc.csv", roc_points(labels == positive, mean[:, positive]))
    write_rows(details / "confusion.csv", confusion_rows(labels, mean.argmax(axis=1), settings.classes))
    write_metrics(metrics, headlines(rows))


if __name__ == "__main__":
    run(main)
