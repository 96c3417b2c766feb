"""Is the test side a lucky sample? AUC of every saved classifier on new patients of the phantom, beside that on it.

    python benchmarks/fresh_patients.py [--patients 1100] [--seed 102022] [--run FOLDER] [--to FOLDER]

Intervals of Table 2 are over the patients of one test side. The phantom draws as many others as one likes: here they
come by the settings of the run's params.yaml (but copies), through the pipeline's own preparation, with a seed of their
own, and every saved classifier is asked about them. Only the classifier of the first seed is saved, so that the numbers
of the test side beside it are of that one training, and not the means over seeds of Table 2. Needs the images, the
split, the classifiers and the predictions of a run of the phantom (`make repro`). Writes table.csv, README.md and
differences.png; takes two and a half minutes of CPU (eleven by the clock on 2 cores that much else used).
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tabulate import tabulate
from tqdm import tqdm

from benchmarks.answers import verdicts
from benchmarks.beside import ROOT
from benchmarks.gans import IMAGES
from benchmarks.leak import UNSEEN, with_phantom
from benchmarks.runs import wrapped
from skinsynth.classifier.classifier import Classifier, load_classifier
from skinsynth.files import written_whole
from skinsynth.images.archive import Images, read_archive
from skinsynth.images.decode import Decoding
from skinsynth.intervals import group_draws, percentile_interval
from skinsynth.lesions.sources import load_catalogue
from skinsynth.lesions.table import lesions_of
from skinsynth.quality.classification import Predictions, positive_auc, positive_label
from skinsynth.quality.delong import compare_aucs
from skinsynth.quality.predictions import read_predictions
from skinsynth.report.png import save_figure
from skinsynth.report.tables import cell, not_worse
from skinsynth.stage import load_params, load_value
from skinsynth.tables import write_table
from stages import prepare_images, train_classifier

REAL, ADDED = "real", "aug-"
CLASSIFIERS = Path("models/classifier")
TEST, FRESH = "test side", "fresh"
ALL, NO_FRAME = "all", "no-frame"
REDRAWN = 40  # images of the study, to see that what is drawn here is what the pipeline would make of it
ROUNDING = 0.01  # of a probability, between machines; another training is off by tenths
DRAWS = 1000  # of patients, behind the interval of an AUC
TEST_SIDES = 2000  # drawn from the fresh patients
AT_ONCE = 200  # of these, for memory
SEED = 1  # of both kinds of draws
RARE = 0.05
ENOUGH = 10  # times the patients of a test side; sides drawn from fewer would share too many
COLOURS = {TEST: "#D55E00", FRESH: "#0072B2"}  # told apart by the colour-blind (Okabe and Ito 2008)


class Answers(NamedTuple):
    """What these images are, and how probably malignant every classifier calls each of them."""

    is_positive: Bool[np.ndarray, " n"]
    groups: np.ndarray
    framed: Bool[np.ndarray, " n"]
    score_of: Mapping[str, Float[np.ndarray, " n"]]

    def of(self, images: Bool[np.ndarray, " n"]) -> "Answers":
        """About some of the images."""
        scores = {name: score[images] for name, score in self.score_of.items()}
        return Answers(self.is_positive[images], self.groups[images], self.framed[images], scores)

    def areas(self, name: str, weights: Float[np.ndarray, "draws n"]) -> Float[np.ndarray, " draws"]:
        """AUC of a classifier in each draw."""
        score = self.score_of[name]
        return positive_auc(Predictions(self.is_positive.astype(int), np.stack([1 - score, score], axis=1), 1), weights)


class Facts(NamedTuple):
    """What the page says of the study and of the draw, beside its numbers."""

    seed: int  # of the fresh patients
    training_seeds: Sequence[int]
    margin: float
    counts: Mapping[str, tuple[int, int, int]]  # patients, images, malignant ones of either set


def main() -> None:
    """Draw, ask, compare, write the three files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=1100, help="to draw, with six or seven images each")
    parser.add_argument("--seed", type=int, help=f"of the phantom; left out: the study's and {UNSEEN:,}")
    parser.add_argument("--run", type=Path, default=ROOT, help="folder of the finished run (default: this project)")
    parser.add_argument("--to", type=Path, default=Path("docs/results/fresh_patients"), help="folder to write to")
    flags = parser.parse_args()
    try:
        compare(flags.run, flags.patients, flags.seed, flags.to)
    except (ValueError, OSError) as error:
        raise SystemExit(f"fresh_patients: {error}") from error


def compare(run: Path, patients: int, seed: int | None, to: Path) -> None:
    """Everything that is written of a run."""
    params = run / "params.yaml"
    prepare = load_params("prepare_images", prepare_images.Settings, params)
    training = load_params("train_classifier", train_classifier.Settings, params)
    margin = float(load_value("write_tables", "margin", path=params))
    positive = positive_label(training.classes, training.positive)
    others = fresh_patients(prepare, patients, seed)
    archive = read_archive(run / IMAGES)
    check_redrawn(prepare, archive)
    classifiers = saved_classifiers(run)
    test = answers_on_test(run, training, archive, classifiers)
    least = ENOUGH * counts_of(test)[0]
    if patients < least:
        raise ValueError(f"test sides are drawn from {ENOUGH} times their patients: --patients {least} or more")
    lesions, pixels = draw_unseen(others, archive)
    fresh = answers(classifiers, lesions, pixels, lesions["patient_id"].to_numpy(), positive)
    counts = {name: counts_of(side) for name, side in {TEST: test, FRESH: fresh}.items()}
    facts = Facts(others.sources.phantom.seed, training.classifier.seeds, margin, counts)
    write(to, compared(test, fresh, margin), facts)


def fresh_patients(prepare: prepare_images.Settings, patients: int, seed: int | None) -> prepare_images.Settings:
    """The same preparation of other patients, none of whose images comes twice."""
    study = prepare.sources.phantom
    seed = study.seed + UNSEEN if seed is None else seed
    if prepare.source != "phantom" or seed == study.seed:
        raise ValueError(
            f"new patients can be drawn of a phantom alone, with another seed than the study's, but the source is "
            f"{prepare.source!r}, its seed {study.seed} and this one {seed}"
        )
    return with_phantom(prepare, replace(study, patients=patients, seed=seed, exact_copies=0.0, near_copies=0.0))


def draw_images(
    prepare: prepare_images.Settings, workers: int, image_ids: Sequence[str] | None = None
) -> tuple[pd.DataFrame, UInt8[np.ndarray, "n 3 size size"]]:
    """Rows and pixels as prepare_images makes them, of all images or of some."""
    catalogue = load_catalogue("phantom", prepare.sources, prepare.classes)
    table = catalogue.table
    if image_ids is not None:
        table = table[table["image_id"].isin(image_ids)]
    tasks = [(image_id, catalogue.pictures[image_id]) for image_id in table["image_id"]]
    decoded = [image.pixels for image in Decoding(tasks, prepare.size, workers, "stop")]
    return table, np.ascontiguousarray(np.stack(decoded).transpose(0, 3, 1, 2))


def check_redrawn(prepare: prepare_images.Settings, archive: Images) -> None:
    """A ValueError where the study's own images, drawn here, are others than those that it holds."""
    places = np.linspace(0, len(archive.ids) - 1, min(REDRAWN, len(archive.ids))).astype(int)
    wanted = archive.at(places)
    lesions, pixels = draw_images(prepare, 1, wanted.ids)
    if lesions["image_id"].tolist() != wanted.ids or not np.array_equal(pixels, wanted.pixels):
        raise ValueError("the study's own images come out otherwise than data/images.zip has them: run dvc repro anew")


def draw_unseen(
    others: prepare_images.Settings, archive: Images
) -> tuple[pd.DataFrame, UInt8[np.ndarray, "n 3 size size"]]:
    """Rows and pixels of new patients; a ValueError where the study holds one of their images."""
    lesions, pixels = draw_images(others, os.cpu_count() or 1)
    if shared := shared_images(pixels, archive.pixels):
        raise ValueError(f"{shared} images of the new patients are in the study: choose another seed")
    return lesions, pixels


def shared_images(first: UInt8[np.ndarray, "n 3 size size"], second: UInt8[np.ndarray, "m 3 size size"]) -> int:
    """How many different images both have, byte for byte."""
    return len({image.tobytes() for image in first} & {image.tobytes() for image in second})


def answers(
    classifiers: Mapping[str, Classifier],
    lesions: pd.DataFrame,
    pixels: UInt8[np.ndarray, "n 3 size size"],
    groups: np.ndarray,
    positive: int,
) -> Answers:
    """Ask every classifier about every image."""
    bar = tqdm(classifiers.items(), unit="classifier", desc="asking", delay=5)
    scores = {name: one.probabilities(pixels)[:, positive].double().numpy() for name, one in bar}
    return Answers(lesions["label"].to_numpy(int) == positive, groups, framed(lesions), scores)


def framed(lesions: pd.DataFrame) -> Bool[np.ndarray, " n"]:
    """Which images have a black frame."""
    return lesions["black_frame"].astype(str).eq("1").to_numpy()


def saved_classifiers(run: Path) -> dict[str, Classifier]:
    """Those that have predictions of the test side: `real`, then synthetic images alone, then added to real ones."""
    names = [folder.name for folder in (run / CLASSIFIERS).glob("*") if (run / predictions_of(folder.name)).is_file()]
    if REAL not in names:
        raise ValueError(f"no classifier {REAL!r} with its predictions in {run}: run dvc repro there first")
    ordered = sorted(names, key=lambda name: (name != REAL, name.startswith(ADDED), name))
    return {name: load_classifier(run / CLASSIFIERS / name, torch.device("cpu")) for name in ordered}


def predictions_of(name: str) -> Path:
    """Where a run has what a scenario's classifiers said of the test side."""
    return Path("metrics/train_classifier") / name / "predictions.csv"


def answers_on_test(
    run: Path, training: train_classifier.Settings, archive: Images, classifiers: Mapping[str, Classifier]
) -> Answers:
    """What the run's predictions of the first seed say of the study's test side.

    A ValueError where a saved classifier says something else: it is another training's.
    """
    tables = {
        name: read_predictions(run / predictions_of(name), training.classes, training.positive) for name in classifiers
    }
    place = sorted(training.classifier.seeds).index(training.classifier.seeds[0])
    ids, outcomes = tables[REAL]
    lesions = lesions_of(run / "data/lesions.csv", ids)
    pixels = archive.at(np.searchsorted(archive.ids, ids)).pixels
    asked = answers(classifiers, lesions, pixels, np.asarray(outcomes.groups), outcomes.positive)
    scores = {}
    for name, table in tables.items():
        if table.image_ids != ids:
            raise ValueError(f"{name} predicts other test images than {REAL}: train both on the same split")
        scores[name] = table.outcomes.probabilities[place, :, outcomes.positive]
        if np.abs(asked.score_of[name] - scores[name]).max() > ROUNDING:
            raise ValueError(f"the saved classifier {name} is not the one of the first seed: run dvc repro anew")
    return asked._replace(score_of=scores)


def counts_of(side: Answers) -> tuple[int, int, int]:
    """Patients, images, malignant images."""
    return len(np.unique(side.groups)), len(side.groups), int(side.is_positive.sum())


def compared(test: Answers, fresh: Answers, margin: float) -> pd.DataFrame:
    """A row for each part of the images, set of patients and scenario; `as_kind` stands in those of all test images."""
    found = []
    for part in (ALL, NO_FRAME):
        for patients, side in {TEST: test, FRESH: fresh}.items():
            own = side if part == ALL else side.of(~side.framed)
            found += [{"images": part, "patients": patients, **row} for row in rows_of(own, margin)]
    rows = pd.DataFrame(found)
    is_test = rows["images"].eq(ALL) & rows["patients"].eq(TEST) & rows["scenario"].ne(REAL)
    committed = dict(zip(rows["scenario"][is_test], rows["auc_difference"][is_test], strict=True))
    rows.loc[is_test, "as_kind"] = list(shares_as_kind(fresh, committed, counts_of(test)[0]).values())
    return rows


def rows_of(side: Answers, margin: float) -> list[dict[str, str | float]]:
    """Of each scenario the AUC and the difference to `real`, both with intervals over patients."""
    weights = group_draws(side.groups, DRAWS, np.random.default_rng(SEED))
    rows = []
    for name, score in tqdm(side.score_of.items(), unit="classifier", desc="intervals", delay=5):
        area = percentile_interval(side.areas(name, weights))
        row = {"scenario": name, "auc": area.value, "auc_low": area.low, "auc_high": area.high}
        if name != REAL:
            less = compare_aucs(side.is_positive, score, side.score_of[REAL], side.groups)
            row |= {"auc_difference": less.difference, "low": less.low, "high": less.high}
            row["not_worse"] = not_worse(less.low, less.high, margin)
        rows.append(row)
    return rows


def shares_as_kind(fresh: Answers, committed: Mapping[str, float], patients: int) -> dict[str, float]:
    """Of test sides of so many fresh patients, the share whose difference to `real` is at least the committed one.

    Sides without one of the classes have no AUC and do not count.
    """
    _, group_of = np.unique(fresh.groups, return_inverse=True)
    rng = np.random.default_rng(SEED)
    differences: dict[str, list[np.ndarray]] = {name: [] for name in committed}
    for _ in tqdm(range(0, TEST_SIDES, AT_ONCE), unit=f"{AT_ONCE} test sides", desc="drawing", delay=5):
        drawn = draw_sides(group_of.max() + 1, patients, AT_ONCE, rng)[:, group_of]
        of_real = fresh.areas(REAL, drawn)
        for name, found in differences.items():
            found.append(fresh.areas(name, drawn) - of_real)
    known = {name: np.concatenate(found) for name, found in differences.items()}
    return {name: float((found[~np.isnan(found)] >= committed[name]).mean()) for name, found in known.items()}


def draw_sides(groups: int, patients: int, sides: int, rng: np.random.Generator) -> Float[np.ndarray, "sides groups"]:
    """1 for each patient of a side, 0 for the others; nobody comes twice."""
    order = rng.permuted(np.tile(np.arange(groups), (sides, 1)), axis=1)
    return (order < patients).astype(float)


def write(folder: Path, rows: pd.DataFrame, facts: Facts) -> None:
    """The table, the page, the picture."""
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "table.csv", rows)
    with written_whole(folder / "README.md") as aside:
        aside.write_text(page(rows, facts))
    draw(folder / "differences.png", rows, facts)


def page(rows: pd.DataFrame, facts: Facts) -> str:
    """What was asked, both tables, and what they show in words that follow from the numbers."""
    (test_patients, test_images, _), (patients, images, positives) = facts.counts[TEST], facts.counts[FRESH]
    asked = (
        f"The intervals of Table 2 are over the {test_patients} groups of patients ({test_images:,} images) of one "
        f"test side. The phantom draws as many patients as one likes: here {patients:,} ({images:,} images, "
        f"{positives:,} malignant) with the seed {facts.seed}, by the study's settings (but copies) and through its "
        "preparation; none of their images is in the study, and nothing was trained or chosen on them. Every saved "
        f"classifier was asked about all of them. **The saved one is that of the first seed "
        f"({facts.training_seeds[0]}), and so are the numbers of the test side beside it; Table 2 is of "
        f"{len(facts.training_seeds)}.** By `python benchmarks/fresh_patients.py`, from the classifiers and "
        "predictions of the run."
    )
    legend = (
        "Differences are AUC less that of `real`, in brackets 95 % intervals over patients. As kind: the share of "
        f"{TEST_SIDES:,} test sides of {test_patients} fresh patients each, drawn at random (seed {SEED}), in which "
        "the difference is at least that on the study's test side."
    )
    parts = [
        "# The test side beside patients whom nobody has seen",
        wrapped(asked),
        wrapped(legend),
        table_of(rows, ALL, facts.margin),
        "Without the images that have a black frame:",
        table_of(rows, NO_FRAME, facts.margin),
        "![Difference of AUC to real images by scenario, on the test side and on fresh patients](differences.png)",
        wrapped(shown(rows, facts)),
        wrapped(not_shown(facts)),
    ]
    return "\n\n".join(parts) + "\n"


def table_of(rows: pd.DataFrame, part: str, margin: float) -> str:
    """One line a scenario, the test side's numbers beside those of fresh patients."""
    sides = [rows[rows["images"].eq(part) & rows["patients"].eq(name)].set_index("scenario") for name in (TEST, FRESH)]
    lines = []
    for name in sides[0].index:
        test, fresh = (side.loc[name] for side in sides)
        line = [f"`{name}`", *(cell("auc", one["auc"], one["auc_low"], one["auc_high"]) for one in (test, fresh))]
        if name != REAL:
            line += [cell("auc_difference", one["auc_difference"], one["low"], one["high"]) for one in (test, fresh)]
            line += [test["not_worse"], fresh["not_worse"]]
            line += [f"{100 * test['as_kind']:.1f} %"] if part == ALL else []
        lines.append(line)
    headers = ["scenario", *(f"{what}, {name}" for what in ("AUC", "difference") for name in (TEST, FRESH))]
    headers += [f"at most {margin:g} below real, {name}" for name in (TEST, FRESH)]
    headers += ["as kind"] if part == ALL else []
    return tabulate(lines, headers=headers, tablefmt="github", disable_numparse=True)


def beside(rows: pd.DataFrame, part: str) -> pd.DataFrame:
    """Of each scenario but `real`, what both sets of patients say, as columns `…_test` and `…_fresh`."""
    own = rows[rows["images"].eq(part) & rows["scenario"].ne(REAL)]
    test, fresh = (own[own["patients"] == name].set_index("scenario") for name in (TEST, FRESH))
    return test.join(fresh, suffixes=("_test", "_fresh"))


def shown(rows: pd.DataFrame, facts: Facts) -> str:
    """What the numbers say of the test side."""
    both, unframed = beside(rows, ALL), beside(rows, NO_FRAME)
    gap = both["auc_difference_fresh"] - both["auc_difference_test"]
    outside = (both["auc_difference_fresh"] < both["low_test"]) | (both["auc_difference_fresh"] > both["high_test"])
    lower, other = int((gap < 0).sum()), "lower" if gap.mean() < 0 else "higher"
    real = rows[rows["images"].eq(ALL) & rows["scenario"].eq(REAL)].set_index("patients")["auc"]
    kind, unkind = both["as_kind_test"] < RARE, both["as_kind_test"] > 1 - RARE
    sentences = [
        f"What it shows: `real` has an AUC of {real[FRESH]:.3f} on fresh patients and of {real[TEST]:.3f} on the test "
        f"side. The difference to it is lower on fresh patients than on the test side for {lower} of {len(both)} "
        f"scenarios, and {abs(gap.mean()):.3f} {other} on average; what fresh patients say lies outside of the test "
        f"side's 95 % interval for {listed(both.index[outside])}.",
        f"Whether a scenario is at most {facts.margin:g} below real images: {verdicts(both['not_worse_test'])} "
        f"by the test side, {verdicts(both['not_worse_fresh'])} by fresh patients; without black frames "
        f"{verdicts(unframed['not_worse_test'])}, and {verdicts(unframed['not_worse_fresh'])}. Over all "
        f"images, {changes(both)}.",
        f"Fewer than {100 * RARE:g} in 100 test sides of as many patients would be as kind to "
        f"{listed(both.index[kind])}, and fewer than {100 * RARE:g} as unkind to {listed(both.index[unkind])}.",
    ]
    return " ".join(sentences)


def listed(names: Sequence[str] | pd.Index) -> str:
    """How many scenarios, and which."""
    return f"{len(names)} ({', '.join(f'`{name}`' for name in names)})" if len(names) else "none"


def changes(both: pd.DataFrame) -> str:
    """Which scenarios have another answer on fresh patients."""
    changed = both[both["not_worse_test"] != both["not_worse_fresh"]]
    by_answer = changed.groupby(["not_worse_test", "not_worse_fresh"]).groups.items()
    said = [f"“{test}” becomes “{fresh}” for {listed(names)}" for (test, fresh), names in by_answer]
    return "; ".join(said) if said else "no scenario has another answer on fresh patients"


def not_shown(facts: Facts) -> str:
    """What no number here can say."""
    return (
        f"What it does not show: this is one training of each network (seed {facts.training_seeds[0]}), and intervals "
        "over patients hold nothing of what another training would give; [runs](../runs/README.md) show how much that "
        "is. Scenarios share `real`, the test side and some of their GANs, so that they are not as many witnesses: a "
        "test side that suits `real` badly is kind to all of them. It is the phantom alone: how lucky a test side of "
        "real patients is, drawn ones cannot say."
    )


def draw(path: Path, rows: pd.DataFrame, facts: Facts) -> None:
    """AUC on the left, its difference to `real` on the right; two dots with intervals a scenario."""
    own = rows[rows["images"] == ALL]
    names = own["scenario"].drop_duplicates().tolist()
    figure = Figure(figsize=(10.5, 0.42 * len(names) + 1.3), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, columns in ((left, ("auc", "auc_low", "auc_high")), (right, ("auc_difference", "low", "high"))):
        for shift, patients in ((-0.15, TEST), (0.15, FRESH)):
            draw_dots(axes, own[own["patients"] == patients], columns, shift, label_of(patients, facts))
        axes.grid(axis="y", alpha=0.3)
    left.set_yticks(range(len(names)), names)
    left.invert_yaxis()
    left.set_xlabel("AUC")
    right.set_xlabel("AUC less that of real")
    right.axvline(0, color="grey", linewidth=1)
    right.axvline(-facts.margin, color="black", linestyle=":", label=f"{facts.margin:g} below real: the margin")
    figure.legend(*right.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    save_figure(path, figure)


def draw_dots(axes: Axes, rows: pd.DataFrame, columns: tuple[str, str, str], shift: float, label: str) -> None:
    """A dot and its interval a scenario, a little above or below its line."""
    value, low, high = (rows[column].to_numpy() for column in columns)
    colour = COLOURS[rows["patients"].iloc[0]]
    places = np.arange(len(rows)) + shift
    axes.errorbar(value, places, xerr=(value - low, high - value), fmt="o", ms=5, capsize=3, color=colour, label=label)


def label_of(patients: str, facts: Facts) -> str:
    """Of the legend."""
    count = facts.counts[patients][0]
    return f"the study's test side, {count:,} groups of patients" if patients == TEST else f"{count:,} fresh patients"


if __name__ == "__main__":
    main()
