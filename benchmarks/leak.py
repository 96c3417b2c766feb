"""AUC that the paper's image-level split makes up: what each protocol says against patients nobody has seen, as JSON.

    python benchmarks/leak.py [--settings planted] [--seeds 1 2 3 4]

Draws phantoms of its own and trains a classifier for each setting, seed and protocol, on the CPU; it reads params.yaml,
and nothing of a run. The protocols are the paper's (split by image) and ours (split by patient). For each: the AUC that
it reports (`said`), that on patients who were drawn only for this (`true`), and the difference (`inflation`).

Settings: `default` is the pipeline's at the scale `phantom`; in `planted` every image comes twice, half of the copies
without a name, and the network may learn images by heart; in `twins` it is the lesion that comes twice, photographed
anew.

What is found replaces that in docs/results/leak: table.csv and chart.png. Takes some twenty minutes on one core.
"""

import argparse
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import dacite
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from scipy import stats
from tqdm import tqdm

from benchmarks.beside import ROOT, phantom_settings
from benchmarks.measuring import rounded
from skinsynth.classifier.classifier import Classifier
from skinsynth.classifier.training import ClassifierConfig, Examples, train_classifier
from skinsynth.files import folder_written_whole
from skinsynth.images.decode import Decoding
from skinsynth.images.duplicates import find_duplicates
from skinsynth.intervals import Interval, group_draws, percentile_interval, student_interval
from skinsynth.lesions.phantom import PhantomConfig, Rate
from skinsynth.lesions.sources import load_catalogue
from skinsynth.partition.leakage import measure_leakage
from skinsynth.partition.split import SplitConfig, images_of, split_patients
from skinsynth.process import tune_process
from skinsynth.quality.classification import Predictions, auc
from skinsynth.report.png import save_figure
from skinsynth.tables import write_table
from stages import prepare_images

SPLIT_BY = {"paper": "image", "patient": "patient"}
PROTOCOLS = tuple(SPLIT_BY)
POSITIVE = 1  # malignant; of two classes both have the same AUC
SAID = {"said": "what the protocol says", "true": "among patients drawn only for this", "inflation": "the difference"}
MEAN = "mean"  # in the place of a seed
UNSEEN = 100_000  # added to a seed: a phantom with other patients
UNSEEN_PATIENTS = 120
DRAWS = 1000  # of patients, behind each interval
T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    prepare: prepare_images.Settings
    split: SplitConfig
    classifier: ClassifierConfig


class Study(NamedTuple):
    """Lesions and their images, row by row; `drawn_lesion` is the lesion that was drawn, known or not."""

    lesions: pd.DataFrame
    examples: Examples


def default() -> Setting:
    """The pipeline's own settings at the scale `phantom`."""
    scale = phantom_settings()
    return Setting(
        _read(scale["prepare_images"], prepare_images.Settings),
        _read(scale["split_patients"], SplitConfig),
        _read(scale["train_classifier"]["classifier"], ClassifierConfig),
    )


def _read(values: dict[str, Any], schema: type[T]) -> T:
    return dacite.from_dict(schema, values, dacite.Config(strict=True, cast=[tuple], type_hooks={float: float}))


def planted() -> Setting:
    """Every image comes twice, half of the copies without a name, and the network may learn its images by heart.

    What tells the classes apart is hard (keratoses against melanomas, artefacts alike in both), so that knowing an
    image helps. The test share is large, so that what the patient protocol says is more than chance.
    """
    usual = default()
    never, half = Rate(0.0, 0.0), Rate(0.5, 0.5)
    phantom = replace(
        usual.prepare.sources.phantom,
        patients=100,
        lesions_per_patient=5.0,
        second_images=0.0,
        nevus_share=0.0,
        keratosis_share=0.5,
        height=48,
        hair=half,
        black_frame=never,
        ruler=never,
        bubbles=never,
        exact_copies=0.5,
        near_copies=0.5,
    )
    epochs = 30
    by_heart = replace(
        usual.classifier,
        dropout=0.0,
        rotation_degrees=0.0,
        flips=False,
        batch_size=16,
        learning_rate=2e-3,
        epochs=epochs,
        patience=epochs,
        plateau_patience=epochs,
    )
    split = replace(usual.split, test_share=0.35)
    return Setting(with_phantom(usual.prepare, phantom), split, by_heart)


def twins() -> Setting:
    """As planted, but what comes twice is the lesion: another photograph, turned otherwise and with other hair."""
    setting = planted()
    phantom = replace(setting.prepare.sources.phantom, second_images=1.0, exact_copies=0.0, near_copies=0.0)
    return replace(setting, prepare=with_phantom(setting.prepare, phantom))


SETTINGS = {"planted": planted, "twins": twins, "default": default}


def with_phantom(prepare: prepare_images.Settings, phantom: PhantomConfig) -> prepare_images.Settings:
    """The same preparation of another phantom."""
    return replace(prepare, sources=replace(prepare.sources, phantom=phantom))


def draw_study(prepare: prepare_images.Settings) -> Study:
    """What prepare_images does, without its files."""
    catalogue = load_catalogue("phantom", prepare.sources, prepare.classes)
    pictures = [catalogue.pictures[image_id] for image_id in catalogue.table["image_id"]]
    tasks = list(zip(catalogue.table["image_id"], pictures, strict=True))
    decoded = list(Decoding(tasks, prepare.size, 1, "stop"))
    found = find_duplicates(
        [image.key for image in decoded],
        [image.sha256 for image in decoded],
        np.stack([image.hash for image in decoded]),
        catalogue.listed_pairs,
        prepare.duplicates,
    )
    lesions = catalogue.table.assign(
        duplicate_group=found.groups, given_split="", drawn_lesion=[str(picture.lesion.seed) for picture in pictures]
    )
    pixels = torch.from_numpy(np.stack([image.pixels for image in decoded])).permute(0, 3, 1, 2).contiguous()
    return Study(lesions, Examples(pixels, torch.tensor(lesions["label"].tolist())))


def draw_unseen(prepare: prepare_images.Settings) -> Study:
    """Patients of the same kind whom no study holds, each lesion photographed once."""
    phantom = replace(
        prepare.sources.phantom,
        seed=prepare.sources.phantom.seed + UNSEEN,
        patients=UNSEEN_PATIENTS,
        second_images=0.0,
        exact_copies=0.0,
        near_copies=0.0,
    )
    return draw_study(with_phantom(prepare, phantom))


def repeat(setting: Setting, seed: int) -> list[dict[str, Any]]:
    """One finding of each protocol; phantom, split and training all take the seed."""
    prepare = with_phantom(setting.prepare, replace(setting.prepare.sources.phantom, seed=seed))
    study, unseen = draw_study(prepare), draw_unseen(prepare)
    return [find(setting, study, unseen, protocol, seed) for protocol in PROTOCOLS]


def find(setting: Setting, study: Study, unseen: Study, protocol: str, seed: int) -> dict[str, Any]:
    """What a protocol says of its classifier, what is true of it, and 95 % intervals over patients."""
    split = split_patients(study.lesions, replace(setting.split, protocol=protocol, seed=seed))
    train, validation, reported = (images_of(split, side) for side in ("train", "validation", "test"))
    classifier, history = train_classifier(
        _pick(study, train["image_id"]),
        _pick(study, validation["image_id"]),
        setting.classifier,
        len(setting.prepare.classes),
        seed,
        torch.device("cpu"),
    )
    rng = np.random.default_rng(seed)
    said = _areas(classifier, _pick(study, reported["image_id"]), reported["group"], rng)
    true = _areas(classifier, unseen.examples, unseen.lesions["patient_id"], rng)
    return {
        "protocol": protocol,
        "seed": seed,
        "said": percentile_interval(said),
        "true": percentile_interval(true),
        "inflation": percentile_interval(said - true),
        "epochs": len(history),
        "train_images": len(train),
        "unseen_images": len(unseen.lesions),
        **shared(study.lesions, split),
    }


def shared(lesions: pd.DataFrame, split: pd.DataFrame) -> dict[str, float]:
    """What is reported on but known from training: by the table, and by the lesions that were drawn."""
    reported, train = (
        lesions[lesions["image_id"].isin(images_of(split, side)["image_id"])] for side in ("test", "train")
    )
    return {
        "reported_images": len(reported),
        "reported_patients": images_of(split, "test")["group"].nunique(),
        "sharing_patient_percent": 100 * measure_leakage(lesions, split).patient_share,
        "sharing_lesion_percent": 100 * float(reported["drawn_lesion"].isin(train["drawn_lesion"]).mean()),
    }


def _pick(study: Study, image_ids: Iterable[str]) -> Examples:
    rows = np.flatnonzero(study.lesions["image_id"].isin(image_ids))
    return Examples(study.examples.pixels[rows], study.examples.labels[rows])


def _areas(classifier: Classifier, examples: Examples, groups: pd.Series, rng: np.random.Generator) -> np.ndarray:
    """AUC of the images, then of each draw of patients."""
    probabilities = classifier.probabilities(examples.pixels).double().numpy()
    predictions = Predictions(examples.labels.numpy(), probabilities, POSITIVE)
    return auc(predictions, group_draws(groups.to_numpy(), DRAWS, rng))


def mean_over_seeds(findings: Sequence[dict[str, Any]], name: str) -> Interval:
    """Mean of a number over seeds, with its 95 % interval by Student's t; of one seed it has no reach."""
    values = np.array([finding[name].value for finding in findings])
    if len(values) == 1:
        return Interval(float(values[0]), math.nan, math.nan)
    return student_interval(float(values.mean()), float(stats.sem(values)), len(values) - 1)[0]


def main() -> None:
    """Repeat each setting, keep what is found and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", choices=SETTINGS, nargs="+", default=list(SETTINGS), help="left out: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4], help="a repetition each")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/leak", help="where the table and chart go")
    flags = parser.parse_args()
    tune_process()
    rows: list[dict[str, Any]] = []
    for name, seed in tqdm([(name, seed) for name in flags.settings for seed in flags.seeds], unit="repetition"):
        rows += [{"setting": name, **finding} for finding in repeat(SETTINGS[name](), seed)]
    rows += means_of(rows)
    with folder_written_whole(flags.out) as aside:
        write_table(aside / "table.csv", [flat(row) for row in rows])
        draw(aside / "chart.png", rows)
    print(json.dumps([rounded(flat(row)) for row in rows], indent=2))


def means_of(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row more for each setting and protocol: the means over its seeds."""
    return [
        {"setting": setting, "protocol": protocol, "seed": MEAN, **{name: mean_over_seeds(own, name) for name in SAID}}
        for (setting, protocol), own in grouped(rows).items()
    ]


def grouped(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """By setting and protocol, in the order in which they come."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["setting"], row["protocol"]), []).append(row)
    return groups


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """An interval takes three columns: the value under its own name, then its ends."""
    cells: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Interval):
            cells |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
        else:
            cells[name] = value
    return cells


def draw(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """What each protocol says beside what is true: the means with their intervals, every seed as a dot."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    groups = grouped(rows)
    for place, own in enumerate(groups.values()):
        for name, aside, colour in (("said", -0.12, "#D55E00"), ("true", 0.12, "#0072B2")):
            by_seed, mean = [row[name].value for row in own[:-1]], own[-1][name]
            label = SAID[name] if place == 0 else None
            each = f"{label}, each seed" if label else None
            axes.plot([place + aside] * len(by_seed), by_seed, ".", color=colour, alpha=0.5, label=each)
            reach = [[mean.value - mean.low], [mean.high - mean.value]]
            axes.errorbar(place + aside, mean.value, reach, color=colour, marker="o", capsize=3, label=label)
    axes.set_xticks(range(len(groups)), [f"{setting},\nsplit by {SPLIT_BY[way]}" for setting, way in groups])
    axes.set_ylabel("AUC")
    axes.legend(fontsize=8, frameon=False)
    save_figure(path, figure)


if __name__ == "__main__":
    main()
