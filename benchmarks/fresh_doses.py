"""What doses of synthetic images are worth: `measure_dose_response` with more trainings, judged by new patients.

    python benchmarks/fresh_doses.py [--seeds 10] [--patients 1100] [--folder FOLDER] [--to FOLDER]

The pipeline judges doses by the few patients of its test side. Here the same doses of the same run (its images, split
and data/synthetic/doses.zip; `make repro`) are trained by as many seeds as are asked for, each with training patients,
synthetic images and an initialisation of its own, and judged by patients of the phantom whom nobody has seen, so that
what is left in the intervals is training. Writes curve.csv, curve.png and README.md. Ten trainings of nine doses take
half an hour on one core; with --folder a killed run goes on.
"""

import argparse
import math
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from tabulate import tabulate

from benchmarks.beside import ROOT, working_folder
from benchmarks.fresh_patients import check_redrawn, draw_unseen, fresh_patients
from benchmarks.gans import IMAGES, SPLIT
from benchmarks.runs import wrapped
from skinsynth.classifier.scenario import examples
from skinsynth.classifier.training import Examples
from skinsynth.files import written_whole
from skinsynth.images.archive import image_size, read_archive
from skinsynth.images.sets import read_image_set
from skinsynth.partition.split import rows_by_side
from skinsynth.process import tune_process
from skinsynth.quality.classification import positive_label
from skinsynth.quality.dose_response import Answers, Dose, Pool, Row, curve_rows, predict_by_dose, seed_aucs
from skinsynth.report.figures import draw_dose_response
from skinsynth.report.tables import CANNOT_BE_TOLD, cell, not_worse
from skinsynth.stage import load_params, load_value
from skinsynth.tables import write_table
from stages import measure_dose_response, prepare_images

DOSES = Path("data/synthetic/doses.zip")


class Judges(NamedTuple):
    """Patients whom nobody has seen, image by image."""

    pixels: torch.Tensor
    labels: np.ndarray
    groups: np.ndarray
    seed: int  # they were drawn with


def main() -> None:
    """Draw, train, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="trainings of each dose")
    parser.add_argument("--patients", type=int, default=1100, help="to draw, with six or seven images each")
    parser.add_argument("--run", type=Path, default=ROOT, help="folder of the finished run (default: this project)")
    parser.add_argument("--folder", type=Path, help="for what is trained; a temporary one, removed at the end, if none")
    parser.add_argument("--to", type=Path, default=Path("docs/results/fresh_doses"), help="folder to write to")
    flags = parser.parse_args()
    tune_process()
    params = flags.run / "params.yaml"
    try:
        settings = with_seeds(load_params("measure_dose_response", measure_dose_response.Settings, params), flags.seeds)
        margin = float(load_value("write_tables", "margin", path=params))
        judges = new_patients(flags.run, flags.patients)
        with working_folder(flags.folder) as folder:
            answers = trained(flags.run, settings, judges, folder)
    except (ValueError, OSError) as error:
        raise SystemExit(f"fresh_doses: {error}") from error
    write(flags.to, answers, settings, judges, margin)


def with_seeds(settings: measure_dose_response.Settings, count: int) -> measure_dose_response.Settings:
    """The same doses, each trained with the seeds from 1 on."""
    seeds = tuple(range(1, count + 1))
    classifier = replace(settings.doses.classifier, seeds=seeds)
    return replace(settings, doses=replace(settings.doses, classifier=classifier, seeds_below_all_patients=seeds))


def new_patients(run: Path, patients: int) -> Judges:
    """Those of fresh_patients.py; a ValueError where the phantom cannot be drawn as the run has it."""
    prepare = load_params("prepare_images", prepare_images.Settings, run / "params.yaml")
    archive = read_archive(run / IMAGES)
    check_redrawn(prepare, archive)
    others = fresh_patients(prepare, patients, seed=None)
    lesions, pixels = draw_unseen(others, archive)
    labels, groups = lesions["label"].to_numpy(int), lesions["patient_id"].to_numpy()
    return Judges(torch.from_numpy(pixels), labels, groups, others.sources.phantom.seed)


def trained(run: Path, settings: measure_dose_response.Settings, judges: Judges, folder: Path) -> dict[Dose, Answers]:
    """What every training of every dose says of the new patients; trainings of before in the folder are kept."""
    rows = rows_by_side(run / SPLIT)
    train, validation = (examples(run / IMAGES, rows[side]["image_id"].tolist()) for side in ("train", "validation"))
    given = read_image_set(run / DOSES, settings.classes, image_size(run / IMAGES))
    added = Examples(torch.from_numpy(given.pixels), torch.from_numpy(given.labels))
    patients = torch.tensor(rows["train"]["group"].tolist())
    pools = {seed: Pool(train, patients, added, seed) for seed in settings.doses.seeds}
    classes, device = len(settings.classes), torch.device("cpu")
    folder.mkdir(parents=True, exist_ok=True)
    return dict(predict_by_dose(pools, validation, judges.pixels, settings.doses, classes, device, folder))


def write(
    to: Path,
    answers: dict[Dose, Answers],
    settings: measure_dose_response.Settings,
    judges: Judges,
    margin: float,
) -> None:
    """The table, the picture, the page."""
    positive = positive_label(settings.classes, settings.positive)
    points = curve_rows(
        answers, judges.labels, judges.groups, positive, settings.bootstrap_draws, settings.bootstrap_seed
    )
    dots = [seed_aucs(one, judges.labels, positive) for one in answers.values()]
    to.mkdir(parents=True, exist_ok=True)
    write_table(to / "curve.csv", pd.DataFrame(points))
    draw_dose_response(to / "curve.png", [{**row, "seed_aucs": own} for row, own in zip(points, dots, strict=True)])
    with written_whole(to / "README.md") as aside:
        aside.write_text(page(points, judges, margin))


def page(points: list[Row], judges: Judges, margin: float) -> str:
    """What was asked, the table, and what it says in words that follow from the numbers."""
    told = [row for row in points if compared(row)]
    asked = (
        f"The doses of `measure_dose_response`, each trained {points[0]['seeds']} times with training patients, "
        "synthetic images and an initialisation of its own, and judged by "
        f"{len(np.unique(judges.groups)):,} patients of the phantom whom nobody has seen ({len(judges.labels):,} "
        f"images, seed {judges.seed}). A difference is AUC less that of the same patients without synthetic images, of "
        "synthetic images alone less that of all real ones, in brackets its 95 % interval over these patients and over "
        "trainings. By `python benchmarks/fresh_doses.py`."
    )
    limits = (
        "All trainings stop by the same real validation images, those of few patients too, and the generator has seen "
        "all training patients: what its images add to a few of them is an upper bound. It is one training of the "
        "generator, and the phantom alone."
    )
    parts = [
        "# Doses, judged by patients whom nobody has seen",
        wrapped(asked),
        table_of(points, margin),
        "![AUC over doses](curve.png)",
        wrapped(" ".join(sentence(row, margin) for row in told)),
        wrapped(limits),
    ]
    return "\n\n".join(parts) + "\n"


def table_of(points: list[Row], margin: float) -> str:
    """One line a dose."""
    lines = []
    for row in points:
        line = [row["patients"], row["real_images"], row["synthetic_images"]]
        line.append(cell("auc", *(float(row[name]) for name in ("value", "low", "high"))))
        if compared(row):
            spread = f"{row['less_seed_min']:+.3f} to {row['less_seed_max']:+.3f}"
            line += [difference_of(row), spread, judged(row, margin)]
        lines.append(line)
    headers = ["real patients", "real images", "synthetic images", "AUC", "difference", "single trainings"]
    headers.append(f"at most {margin:g} below")
    return tabulate(lines, headers=headers, tablefmt="github", disable_numparse=True)


def compared(row: Row) -> bool:
    """Whether the dose has synthetic images, and there is one without them."""
    return not math.isnan(float(row["less_without"]))


def difference_of(row: Row) -> str:
    """As in +0.047 (-0.023 to +0.117)."""
    return cell("auc_difference", *(float(row[name]) for name in ("less_without", "less_low", "less_high")))


def judged(row: Row, margin: float) -> str:
    """Yes, no, or that it cannot be told."""
    return not_worse(float(row["less_low"]), float(row["less_high"]), margin)


def sentence(row: Row, margin: float) -> str:
    """What one dose of synthetic images does."""
    beside = f"beside {row['patients']:,} real patients" if row["patients"] else "alone"
    images, found = f"{row['synthetic_images']:,} synthetic images {beside}", difference_of(row)
    if float(row["less_low"]) > 0:
        return f"{images} raise the AUC: {found}."
    if float(row["less_high"]) < 0:
        size = {"yes": f" (by at most {margin:g})", "no": f" (by more than {margin:g})"}.get(judged(row, margin), "")
        return f"{images} lower the AUC{size}: {found}."
    return f"Whether {images} raise or lower it {CANNOT_BE_TOLD}: {found}."


if __name__ == "__main__":
    main()
