"""Do synthetic images stand in for real ones, or add to them? Classifiers trained on doses of both.

Two limits of the design: the generator has seen all training patients, so that what its images add to a few patients is
an upper bound; and the validation images that stop training are the same, and real, at every dose.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor
from tqdm import tqdm

from skinsynth.classifier.training import ClassifierConfig, Examples, train_classifiers
from skinsynth.files import written_whole
from skinsynth.quality.delong import AucDifference, compare_aucs
from skinsynth.quality.proportions import counts_in_proportion
from skinsynth.settings import NotNegative, Seed, Share


@dataclass(frozen=True)
class DoseConfig:
    patient_shares: tuple[Share, ...]  # of the training patients, 0 to 1: a curve for each of `beside_patients`
    beside_patients: tuple[NotNegative, ...]  # synthetic shares
    synthetic_shares: tuple[NotNegative, ...]  # synthetic images for each real one: a curve for `beside_synthetic`
    beside_synthetic: tuple[Share, ...]  # patient shares
    classifier: ClassifierConfig
    seed: Seed  # of the order in which patients and synthetic images are taken


class Dose(NamedTuple):
    """How much of both kinds a classifier is trained on, as in `DoseConfig`."""

    patient_share: float
    synthetic_share: float

    @property
    def name(self) -> str:
        """Such as `5_percent_of_patients_and_4x_synthetic`."""
        real = f"{100 * self.patient_share:g}_percent_of_patients" if self.patient_share else ""
        synthetic = f"{self.synthetic_share:g}x_synthetic" if self.synthetic_share else ""
        return "_and_".join(part for part in (real, synthetic) if part)


class Taken(NamedTuple):
    """A dose as images."""

    examples: Examples
    patients: int
    real_images: int
    synthetic_images: int


def doses(config: DoseConfig) -> list[Dose]:
    """The points of all curves, each once; neither real nor synthetic images is no dose."""
    by_patients = [Dose(real, synthetic) for synthetic in config.beside_patients for real in config.patient_shares]
    by_synthetic = [Dose(real, synthetic) for real in config.beside_synthetic for synthetic in config.synthetic_shares]
    found = [dose for dose in dict.fromkeys([*by_patients, *by_synthetic]) if any(dose)]
    for dose in found:
        if not (0 <= dose.patient_share <= 1 and dose.synthetic_share >= 0):
            raise ValueError(
                "a dose has a share of patients from 0 to 1 and a synthetic share from 0 up, not "
                f"{dose.patient_share:g} and {dose.synthetic_share:g}"
            )
    return found


class Pool:
    """What doses are taken from; a larger dose holds all images of a smaller one."""

    def __init__(self, real: Examples, patients: Int64[Tensor, " n"], synthetic: Examples, seed: int) -> None:
        self.real, self.patients, self.synthetic = real, patients, synthetic
        rng = torch.Generator().manual_seed(seed)
        self.patient_order = _with_each_class_first(real.labels, patients, rng)
        self.synthetic_order = torch.randperm(len(synthetic.labels), generator=rng)

    def take(self, dose: Dose) -> Taken:
        """All images of the first patients, and synthetic images with the class shares of all real ones.

        ValueError where the set holds too few of a class.
        """
        patients = self.patient_order[: self._patient_count(dose.patient_share)]
        real = torch.nonzero(torch.isin(self.patients, patients))[:, 0]
        synthetic = self.synthetic_places(dose)
        parts = ((self.real, real), (self.synthetic, synthetic))
        examples = Examples(
            torch.cat([part.pixels[places] for part, places in parts]),
            torch.cat([part.labels[places] for part, places in parts]),
        )
        return Taken(examples, len(patients), len(real), len(synthetic))

    def _patient_count(self, share: float) -> int:
        """At least as many as bring every class."""
        return max(len(self.real.labels.unique()), round(share * len(self.patient_order))) if share else 0

    def synthetic_places(self, dose: Dose) -> Int64[Tensor, " n"]:
        """Places of the synthetic images that a dose takes; ValueError where the set holds too few of a class."""
        count = round(dose.synthetic_share * len(self.real.labels))
        labels, places = self.synthetic.labels[self.synthetic_order], []
        for label, wanted in enumerate(counts_in_proportion(self.real.labels, count).tolist()):
            found = self.synthetic_order[labels == label]
            if len(found) < wanted:
                raise ValueError(
                    f"a dose takes {wanted} synthetic images of class {label}, but there are {len(found)}: generate "
                    "more, or lower synthetic_shares"
                )
            places.append(found[:wanted])
        return torch.cat(places)


def _with_each_class_first(
    labels: Int64[Tensor, " n"], patients: Int64[Tensor, " n"], rng: torch.Generator
) -> Int64[Tensor, " patients"]:
    """Patients at random after one of each class: without these a small dose could not be trained on."""
    order = patients.unique()
    order = order[torch.randperm(len(order), generator=rng)]
    first = [order[torch.isin(order, patients[labels == label])][0] for label in labels.unique()]
    return torch.tensor(list(dict.fromkeys([*torch.stack(first).tolist(), *order.tolist()])))


def predict_by_dose(
    pool: Pool,
    validation: Examples,
    test: UInt8[Tensor, "n 3 size size"],
    config: DoseConfig,
    class_count: int,
    device: torch.device,
    checkpoints: Path,
) -> Iterator[tuple[Dose, Taken, Float[np.ndarray, "seeds n classes"]]]:
    """Train on each dose and predict the test images; what a killed run has done is read from `checkpoints`.

    An epoch of a small dose repeats its images until it is as long as one of all real images: few images shall not
    mean few steps besides.
    """
    for dose in doses(config):
        pool.synthetic_places(dose)  # too few images are told before the first training
    for dose in tqdm(doses(config), unit="dose", desc="doses"):
        taken, file = pool.take(dose), checkpoints / f"{dose.name}.npy"
        if not file.is_file():
            long_enough = repeated(taken.examples, len(pool.real.labels))
            trained = train_classifiers(long_enough, validation, config.classifier, class_count, device)
            said = [one.classifier.probabilities(test).double().cpu().numpy() for one in trained]
            with written_whole(file) as aside, aside.open("wb") as stream:
                np.save(stream, np.stack(said), allow_pickle=False)
        yield dose, taken, np.load(file, allow_pickle=False)


def repeated(examples: Examples, count: int) -> Examples:
    """The images over and over, whole rounds, at least `count` of them in all."""
    rounds = -(-count // len(examples.labels))
    if rounds == 1:
        return examples  # a copy of all images would be made
    return Examples(examples.pixels.repeat(rounds, 1, 1, 1), examples.labels.repeat(rounds))


def difference_columns(
    dose: Dose,
    said_by: Mapping[Dose, Float[np.ndarray, "seeds n"]],
    is_positive: Bool[np.ndarray, " n"],
    groups: np.ndarray,
) -> dict[str, float]:
    """What the dose's synthetic images add: AUC less that of the same patients without them, with p over patients.

    Of the mean prediction over seeds (see `delong`). Synthetic images alone are compared with all patients; nan where
    that dose was not trained.
    """
    without = Dose(dose.patient_share or 1.0, 0.0)
    gain = AucDifference(math.nan, math.nan, math.nan, math.nan)
    if without in said_by and without != dose:
        first, second = (said_by[one].mean(axis=0) for one in (dose, without))
        gain = compare_aucs(is_positive, first, second, groups)
    return {"less_without": gain.difference, "less_low": gain.low, "less_high": gain.high, "p_patients": gain.p}


def dose_row(dose: Dose, taken: Taken, scores: Sequence[dict[str, str | float]]) -> dict[str, str | float | int]:
    """A point of the curves: the dose, its counts, and AUC with its interval over patients."""
    (area,) = (row for row in scores if row["metric"] == "auc")
    return {
        "dose": dose.name,
        **dose._asdict(),
        "patients": taken.patients,
        "real_images": taken.real_images,
        "synthetic_images": taken.synthetic_images,
        **area,
    }
