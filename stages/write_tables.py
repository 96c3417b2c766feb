"""Table 1 and Table 2 with intervals and tests, the paper's values beside ours, as CSV, Markdown and LaTeX."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd

from skinsynth.files import folder_written_whole
from skinsynth.partition.split import images_of, read_split
from skinsynth.quality.multiplicity import holm
from skinsynth.quality.predictions import PredictionTable, always_most_frequent, comparison_row, read_predictions
from skinsynth.quality.subgroups import arm_rows
from skinsynth.report.published import Facts
from skinsynth.report.tables import (
    COMPARISON_COLUMNS,
    MAJORITY,
    Table,
    as_latex,
    as_markdown,
    fidelity_table,
    prediction_table,
)
from skinsynth.settings import Count, Names, ProperShare, Seed
from skinsynth.stage import load_params, load_value, run
from skinsynth.tables import read_table, write_table


@dataclass(frozen=True)
class Settings:
    classes: Names
    positive: str
    bootstrap_draws: Count  # of test patients, behind the interval of the majority-class baseline
    bootstrap_seed: Seed
    margin: ProperShare  # of AUC, that one would give up for synthetic images; to be chosen before the run


SETTINGS = Settings
REFERENCE = "real"  # the scenario that the others are tested against


def main(
    gans: Annotated[
        list[Path], "folders of score_gan, or of score_images (sets from elsewhere), in the order of the rows"
    ],
    trainings: Annotated[list[Path], "folders of train_gan, for those of them that were trained here"],
    scenarios: Annotated[list[Path], "folders of train_classifier, in the order of the rows"],
    split: Annotated[Path, "CSV of split_patients: who is in train, validation and test"],
    tables: Annotated[Path, "folder for table1 and table2, each as .csv, .md and .tex"],
) -> None:
    """Gather what score_gan and train_classifier found; nothing is trained or generated."""
    settings = load_params("write_tables", Settings)
    sides = read_split(split)
    facts = facts_of_run(len(sides), settings)
    said = {
        folder.name: read_predictions(folder / "predictions.csv", settings.classes, settings.positive)
        for folder in scenarios
    }
    if REFERENCE not in said:
        raise ValueError(f"scenarios are tested against {REFERENCE!r}, which is not among {', '.join(said)}: add it")
    strengths = {folder.name: mean_strength(folder) for folder in trainings}
    rows_of = {folder.name: intervals(folder) for folder in scenarios}
    rows_of[MAJORITY] = majority_rows(said[REFERENCE], images_of(sides, "train")["label"], settings)
    others = [comparison_row(name, one, said[REFERENCE]) for name, one in said.items() if name != REFERENCE]
    comparisons = pd.DataFrame(others, columns=list(COMPARISON_COLUMNS))
    comparisons["p_holm"] = holm(comparisons["p_patients"].tolist())
    with folder_written_whole(tables) as aside:
        fidelity = fidelity_table({folder.name: intervals(folder) for folder in gans}, strengths, facts)
        write(aside / "table1", fidelity)
        write(aside / "table2", prediction_table(rows_of, comparisons, settings.margin, facts))


def intervals(folder: Path) -> pd.DataFrame:
    """The table that score_gan, score_images or train_classifier left in its folder."""
    return read_table(
        folder / "intervals.csv", ("metric", "value", "low", "high"), "score_gan, score_images or train_classifier"
    )


def mean_strength(folder: Path) -> float:
    """Of a GAN's augmentation over the ticks of its training."""
    return float(read_table(folder / "losses.csv", ("augment_p",), "train_gan")["augment_p"].mean())


def facts_of_run(images: int, settings: Settings) -> Facts:
    """What the notes under the tables need to know of the other stages' settings."""
    scenarios: Mapping[str, Mapping] = load_value("train_classifier", "scenarios")
    return Facts(
        source=load_value("prepare_images", "source"),
        images=images,
        image_size=load_value("prepare_images", "size"),
        protocol=load_value("split_patients", "protocol"),
        network=load_value("train_classifier", "classifier", "network"),
        pretrained=load_value("train_classifier", "classifier", "pretrained"),
        synthetic={name: sum(scenario["synthetic"].values()) for name, scenario in scenarios.items()},
        classes=settings.classes,
        positive=settings.positive,
    )


def majority_rows(tested: PredictionTable, train_labels: pd.Series, settings: Settings) -> pd.DataFrame:
    """What always saying the most frequent class of training scores on the same test images."""
    shares = np.bincount(train_labels, minlength=len(settings.classes)) / len(train_labels)
    outcomes = always_most_frequent(tested.outcomes, shares)
    rows = arm_rows(outcomes, pd.DataFrame(), {}, settings.bootstrap_draws, settings.bootstrap_seed)
    return pd.DataFrame(rows).assign(seeds=1)


def write(path: Path, table: Table) -> None:
    """The three forms of one table."""
    write_table(path.with_suffix(".csv"), table.numbers)
    path.with_suffix(".md").write_text(as_markdown(table))
    path.with_suffix(".tex").write_text(as_latex(table))


if __name__ == "__main__":
    run(main)
