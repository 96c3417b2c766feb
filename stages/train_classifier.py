"""Train a classifier of lesions on real, synthetic or mixed images and judge it on real test patients."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from skinsynth.classifier.classifier import save_classifier
from skinsynth.classifier.scenario import Scenario, examples, training_examples
from skinsynth.classifier.training import ClassifierConfig, train_classifiers
from skinsynth.partition.split import images_of, read_split
from skinsynth.quality.classification import confusion_rows, headlines, roc_points, score_predictions
from skinsynth.stage import best_device, entry_of, load_params, run, write_metrics, write_rows


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
    scenario = entry_of(settings.scenarios, name, "train_classifier, scenarios")
    rows = {side: images_of(read_split(split), side) for side in ("train", "validation", "test")}
    ids = {side: table["image_id"].tolist() for side, table in rows.items()}
    train = training_examples(scenario, images, ids["train"], synthetic, settings.classes)
    validation, test = examples(images, ids["validation"]), examples(images, ids["test"])
    trained = train_classifiers(train, validation, settings.classifier, len(settings.classes), best_device())
    save_classifier(model, trained[0].classifier)
    write_rows(details / "history.csv", [row for one in trained for row in one.history])
    probabilities = [one.classifier.probabilities(test.pixels).double().cpu().numpy() for one in trained]
    groups = rows["test"]["group"].to_numpy()
    report(np.stack(probabilities), test.labels.numpy(), groups, settings, metrics, details)


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
