"""Train a classifier of lesions on real, synthetic or mixed images and judge it on real test patients."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd

from skinsynth.classifier.classifier import save_classifier
from skinsynth.classifier.scenario import Scenario, examples, training_examples
from skinsynth.classifier.training import ClassifierConfig, train_classifiers
from skinsynth.lesions.table import lesions_of, read_lesions
from skinsynth.partition.split import rows_by_side
from skinsynth.process import tune_process
from skinsynth.quality.classification import confusion_rows, confusion_shares, headlines, positive_label, roc_points
from skinsynth.quality.predictions import prediction_rows
from skinsynth.quality.subgroups import WHOLE, Outcomes, arm_rows, check_arms, subgroup_rows
from skinsynth.settings import Count, Names, Seed
from skinsynth.stage import best_device, entry_of, load_params, run, write_metrics, write_rows


@dataclass(frozen=True)
class Settings:
    classes: Names  # in the order of the labels
    positive: str  # the class that sensitivity is about
    scenarios: dict[str, Scenario]
    classifier: ClassifierConfig
    arms: dict[str, dict[str, str]]  # parts of the test set by values of lesions.csv, beside the whole of it
    bootstrap_draws: Count  # of test patients, behind each interval
    bootstrap_seed: Seed


SETTINGS = Settings


def main(
    name: Annotated[str, "the scenario: a key of `scenarios` in params.yaml"],
    images: Annotated[Path, "real images"],
    lesions: Annotated[Path, "lesions.csv: age, sex, site, artefacts and source of test images"],
    split: Annotated[Path, "CSV of split_patients: who is in train, validation and test"],
    synthetic: Annotated[Path, "synthetic images to take from: a ZIP of ours, or any ZIP or folder of class folders"],
    model: Annotated[Path, "folder for the classifier of the first seed"],
    metrics: Annotated[Path, "headlines: means over seeds"],
    details: Annotated[Path, "folder of CSVs: predictions, intervals, subgroups, confusion, history"],
) -> None:
    """Train once for each seed, stop on validation, report on test."""
    settings = load_params("train_classifier", Settings)
    tune_process()
    positive = positive_label(settings.classes, settings.positive)
    scenario = entry_of(settings.scenarios, name, "train_classifier, scenarios")
    rows = rows_by_side(split)
    ids = {side: table["image_id"].tolist() for side, table in rows.items()}
    train = training_examples(scenario, images, ids["train"], synthetic, settings.classes)
    validation, test = examples(images, ids["validation"]), examples(images, ids["test"])
    about = lesions_of(lesions, ids["test"])
    for line in check_arms(read_lesions(lesions), settings.arms):  # what no lesion has is told before training
        print(line, file=sys.stderr)
    trained = train_classifiers(train, validation, settings.classifier, len(settings.classes), best_device())
    save_classifier(model, trained[0].classifier)
    write_rows(details / "history.csv", [row for one in trained for row in one.history])
    probabilities = [one.classifier.probabilities(test.pixels).double().cpu().numpy() for one in trained]
    groups = rows["test"]["group"].to_numpy()
    outcomes = Outcomes(test.labels.numpy(), np.stack(probabilities), groups, positive)
    seeds = settings.classifier.seeds
    write_rows(details / "predictions.csv", prediction_rows(ids["test"], outcomes, settings.classes, seeds))
    report(outcomes, about, settings, metrics, details)


def report(outcomes: Outcomes, lesions: pd.DataFrame, settings: Settings, metrics: Path, details: Path) -> None:
    """Headlines, and intervals over patients for each arm, each subgroup and each cell of the confusion matrix.

    Numbers are means over seeds; the plots (ROC curve, confusion matrix) are of the mean prediction over seeds.
    """
    draws, seed = settings.bootstrap_draws, settings.bootstrap_seed
    rows = arm_rows(outcomes, lesions, settings.arms, draws, seed)
    write_rows(details / "intervals.csv", [{**row, "seeds": len(outcomes.probabilities)} for row in rows])
    write_rows(details / "subgroups.csv", subgroup_rows(outcomes, lesions, draws, seed))
    labels, said, groups = outcomes.labels, outcomes.probabilities, outcomes.groups
    rng = np.random.default_rng(seed)
    shares = confusion_shares(labels, said, groups, settings.classes, draws, rng)
    write_rows(details / "confusion_shares.csv", shares)
    mean = said.mean(axis=0)
    write_rows(details / "roc.csv", roc_points(labels == outcomes.positive, mean[:, outcomes.positive]))
    write_rows(details / "confusion.csv", confusion_rows(labels, mean.argmax(axis=1), settings.classes))
    counts: dict[str, float] = {"test_images": len(labels), "positives": int((labels == outcomes.positive).sum())}
    write_metrics(metrics, headlines([row for row in rows if row["arm"] == WHOLE]) | counts)


if __name__ == "__main__":
    run(main)
