"""Do synthetic images stand in for real ones, or add to them? Test AUC over doses of both."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch

from skinsynth.classifier.scenario import examples
from skinsynth.classifier.training import Examples
from skinsynth.images.archive import image_size
from skinsynth.images.sets import read_image_set
from skinsynth.partition.split import rows_by_side
from skinsynth.process import tune_process
from skinsynth.quality.classification import positive_label
from skinsynth.quality.dose_response import (
    DoseConfig,
    Pool,
    curve_rows,
    doses,
    predict_by_dose,
    seed_aucs,
)
from skinsynth.report.figures import draw_dose_response
from skinsynth.settings import Count, Names, Seed
from skinsynth.stage import best_device, checkpoint_folder, entry_of, load_params, run, write_metrics, write_rows


@dataclass(frozen=True)
class Settings:
    classes: Names
    positive: str
    doses: DoseConfig
    headlines: tuple[str, ...]  # doses whose AUC goes into the metrics
    bootstrap_draws: Count  # of test patients, behind each interval
    bootstrap_seed: Seed


SETTINGS = Settings


def main(
    synthetic: Annotated[Path, "synthetic images: a ZIP of ours, or any ZIP or folder of class folders"],
    images: Annotated[Path, "real images"],
    split: Annotated[Path, "CSV of split_patients: who is in train, validation and test"],
    metrics: Annotated[Path, "AUC of a few doses"],
    curve: Annotated[
        Path, "CSV: AUC with its interval, its least and its best seed at each dose; note: too few test patients"
    ],
    figure: Annotated[Path, "AUC against the synthetic share and against the number of real patients"],
) -> None:
    """Train classifiers on each dose and report AUC on real test patients; a killed run goes on with the next training.

    Each seed takes other patients and other synthetic images. The generator has seen all training patients: what its
    images add to a few of them is an upper bound.
    """
    settings = load_params("measure_dose_response", Settings)
    tune_process()
    positive = positive_label(settings.classes, settings.positive)
    names = {dose.name: dose for dose in doses(settings.doses)}
    wanted = {name: entry_of(names, name, "measure_dose_response, headlines") for name in settings.headlines}
    rows = rows_by_side(split)
    train, validation, test = (examples(images, table["image_id"].tolist()) for table in rows.values())
    given = read_image_set(synthetic, settings.classes, image_size(images))
    patients = torch.tensor(rows["train"]["group"].tolist())
    added = Examples(torch.from_numpy(given.pixels), torch.from_numpy(given.labels))
    pools = {seed: Pool(train, patients, added, seed) for seed in settings.doses.seeds}
    checkpoints = checkpoint_folder("measure_dose_response", "all", settings, [synthetic, images, split])
    labels, groups = test.labels.numpy(), rows["test"]["group"].to_numpy()
    device, class_count = best_device(), len(settings.classes)
    answers_of = dict(predict_by_dose(pools, validation, test.pixels, settings.doses, class_count, device, checkpoints))
    points = curve_rows(answers_of, labels, groups, positive, settings.bootstrap_draws, settings.bootstrap_seed)
    write_rows(curve, points)
    dots = [seed_aucs(answers, labels, positive) for answers in answers_of.values()]
    draw_dose_response(figure, [{**row, "seed_aucs": own} for row, own in zip(points, dots, strict=True)])
    auc_of = {row["dose"]: row["value"] for row in points}
    write_metrics(metrics, {f"auc_{name}": auc_of[name] for name in wanted})
    shutil.rmtree(checkpoints, ignore_errors=True)


if __name__ == "__main__":
    run(main)
