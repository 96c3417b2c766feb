"""Do synthetic images stand in for real ones, or add to them? Classifiers trained on doses of both.

Each seed takes other patients and other synthetic images, besides another initialisation and other batches: of a few
patients, which ones they are moves the AUC more than all else.

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
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor
from tqdm import tqdm

from skinsynth.classifier.classifier import Classifier
from skinsynth.classifier.training import ClassifierConfig, Examples, train_classifier
from skinsynth.files import written_whole
from skinsynth.intervals import Interval, group_draws, student_interval
from skinsynth.quality.classification import Predictions, positive_auc, score_predictions
from skinsynth.quality.proportions import counts_in_proportion
from skinsynth.quality.subgroups import TOO_FEW, Outcomes, too_few
from skinsynth.settings import NotNegative, Seeds, Share

Row = dict[str, str | float | int]


@dataclass(frozen=True)
class DoseConfig:
    patient_shares: tuple[Share, ...]  # of the training patients, 0 to 1: a curve for each of `beside_patients`
    beside_patients: tuple[NotNegative, ...]  # synthetic shares
    synthetic_shares: tuple[NotNegative, ...]  # synthetic images for each real one: a curve for `beside_synthetic`
    beside_synthetic: tuple[Share, ...]  # patient shares
    classifier: ClassifierConfig  # its seeds are those of doses with all patients
    # Of doses with some patients or none. A seed decides who is taken, the initialisation and the batches.
    seeds_below_all_patients: Seeds

    def seeds_of(self, dose: "Dose") -> tuple[int, ...]:
        """The seeds of a dose, one training each."""
        return self.classifier.seeds if dose.patient_share == 1 else self.seeds_below_all_patients

    @property
    def seeds(self) -> list[int]:
        """The seeds of all doses, each once."""
        return list(dict.fromkeys([*self.classifier.seeds, *self.seeds_below_all_patients]))


class Dose(NamedTuple):
    """How much of both kinds a classifier is trained on, as in `DoseConfig`."""

    patient_share: float
    synthetic_share: float

    @property
    def name(self) -> str:
        """What tables call the dose, such as `5_percent_of_patients_and_4x_synthetic`."""
        real = f"{100 * self.patient_share:g}_percent_of_patients" if self.patient_share else ""
        synthetic = f"{self.synthetic_share:g}x_synthetic" if self.synthetic_share else ""
        return "_and_".join(part for part in (real, synthetic) if part)


class Counts(NamedTuple):
    """How much a dose comes to; patients bring unequally many images, so that real images differ between seeds."""

    patients: int
    real_images: int
    synthetic_images: int


class Answers(NamedTuple):
    """What the trainings of one dose, a seed each, say of the test images."""

    seeds: tuple[int, ...]
    counts: list[Counts]  # a seed each
    probabilities: Float[np.ndarray, "seeds n classes"]


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
    """What doses of one seed are taken from; a larger dose holds all images of a smaller one."""

    def __init__(self, real: Examples, patients: Int64[Tensor, " n"], synthetic: Examples, seed: int) -> None:
        self.real, self.patients, self.synthetic = real, patients, synthetic
        rng = torch.Generator().manual_seed(seed)
        self.patient_order = _with_each_class_first(real.labels, patients, rng)
        self.synthetic_order = torch.randperm(len(synthetic.labels), generator=rng)

    def take(self, dose: Dose) -> Examples:
        """All images of the first patients, and synthetic images with the class shares of all real ones.

        ValueError where the set holds too few of a class.
        """
        real, synthetic = self.real_places(dose), self.synthetic_places(dose)
        labels = torch.cat([self.real.labels[real], self.synthetic.labels[synthetic]])
        # Written where they are to lie: of 256 px a dose has some 28 GB, and parts that are joined are there twice.
        pixels = self.real.pixels.new_empty(len(labels), *self.real.pixels.shape[1:])
        torch.index_select(self.real.pixels, 0, real, out=pixels[: len(real)])
        torch.index_select(self.synthetic.pixels, 0, synthetic, out=pixels[len(real) :])
        return Examples(pixels, labels)

    def counts(self, dose: Dose) -> Counts:
        """How much of each a dose takes."""
        patients = self._patient_count(dose.patient_share)
        return Counts(patients, len(self.real_places(dose)), len(self.synthetic_places(dose)))

    def real_places(self, dose: Dose) -> Int64[Tensor, " n"]:
        """Places of the images of the first patients."""
        patients = self.patient_order[: self._patient_count(dose.patient_share)]
        return torch.nonzero(torch.isin(self.patients, patients))[:, 0]

    def _patient_count(self, share: float) -> int:
        """How many patients a share comes to: at least as many as bring every class."""
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
    pools: Mapping[int, Pool],
    validation: Examples,
    test: UInt8[Tensor, "n 3 size size"],
    config: DoseConfig,
    class_count: int,
    device: torch.device,
    checkpoints: Path,
) -> Iterator[tuple[Dose, Answers]]:
    """Train on each dose once a seed and predict the test images; what a killed run has done is in `checkpoints`.

    Each seed takes its dose from the pool of that seed. An epoch of a small dose repeats its images until it is as long
    as one of all real images: few images shall not mean few steps besides.
    """
    for dose in doses(config):
        pools[config.seeds_of(dose)[0]].synthetic_places(dose)  # too few images are told before the first training
    for dose in tqdm(doses(config), unit="dose", desc="doses"):
        counts, said = [], []
        for seed in config.seeds_of(dose):
            pool, file = pools[seed], checkpoints / f"{dose.name}-seed-{seed}.npy"
            if not file.is_file():
                trained = _trained(pool, dose, validation, config.classifier, class_count, seed, device)
                with written_whole(file) as aside, aside.open("wb") as stream:
                    np.save(stream, trained.probabilities(test).double().cpu().numpy(), allow_pickle=False)
            counts.append(pool.counts(dose))
            said.append(np.load(file, allow_pickle=False))
        yield dose, Answers(config.seeds_of(dose), counts, np.stack(said))


def _trained(
    pool: Pool,
    dose: Dose,
    validation: Examples,
    config: ClassifierConfig,
    class_count: int,
    seed: int,
    device: torch.device,
) -> Classifier:
    """The classifier of one dose; its images are let go before those of the next are taken."""
    images = repeated(pool.take(dose), len(pool.real.labels))
    return train_classifier(images, validation, config, class_count, seed, device)[0]


def repeated(examples: Examples, count: int) -> Examples:
    """The images over and over, whole rounds, at least `count` of them in all."""
    rounds = -(-count // len(examples.labels))
    if rounds == 1:
        return examples  # a copy of all images would be made
    return Examples(examples.pixels.repeat(rounds, 1, 1, 1), examples.labels.repeat(rounds))


def difference_columns(
    dose: Dose,
    answers_of: Mapping[Dose, Answers],
    labels: Int64[np.ndarray, " n"],
    groups: Sequence[str] | np.ndarray,
    positive: int,
    weights: Float64[np.ndarray, "draws n"],
) -> dict[str, float]:
    """What the dose's synthetic images add: AUC less that of the same patients without them, mean over shared seeds.

    A difference is taken within a seed, where the patients are the same; `less_seed_min` and `less_seed_max` are the
    least and largest. Interval and p are over test patients, `groups`, and over trainings (`_over_both`). Synthetic
    images alone are compared with all patients; nan where that dose was not trained with any seed of this one.
    """
    without = Dose(dose.patient_share or 1.0, 0.0)
    gains = np.full((1, len(weights)), np.nan)
    if without in answers_of and without != dose:
        own, other = (_areas(answers_of[one], labels, positive, weights) for one in (dose, without))
        gains = np.stack([own[seed] - other[seed] for seed in own if seed in other] or list(gains))
    counts = [len(np.unique(np.asarray(groups)[side])) for side in (labels == positive, labels != positive)]
    interval, p = _over_both(gains, min(counts) - 1)
    return {
        "less_without": interval.value,
        "less_low": interval.low,
        "less_high": interval.high,
        "less_seed_min": float(gains[:, 0].min()),
        "less_seed_max": float(gains[:, 0].max()),
        "p": p,
    }


def _over_both(gains: Float64[np.ndarray, "seeds draws_and_one"], freedom: int) -> tuple[Interval, float]:
    """Mean gain of the trainings with its 95 % interval, and the two-sided p of it being 0.

    What other test patients would change is the variance of the mean over draws of them, with `freedom`; what other
    trainings would, each with patients and images of its own, is that between seeds. Both add up, and Student's t has
    the degrees of freedom of the sum (Satterthwaite 1946). Of a single training the second is not known, nor in there.
    """
    mean, trainings = gains.mean(axis=0), len(gains)
    drawn = mean[1:][~np.isnan(mean[1:])]
    value = float(mean[0])
    if math.isnan(value) or len(drawn) < 2 or freedom < 1:
        return Interval(value, math.nan, math.nan), math.nan
    by_patients = float(drawn.var(ddof=1))
    by_trainings = float(gains[:, 0].var(ddof=1)) / trainings if trainings > 1 else 0.0
    both = by_patients + by_trainings
    if not both:
        return Interval(value, value, value), float(value == 0)
    of_trainings = by_trainings**2 / (trainings - 1) if trainings > 1 else 0.0
    t = both**2 / (by_patients**2 / freedom + of_trainings)
    return student_interval(value, math.sqrt(both), t)


def seed_aucs(answers: Answers, labels: Int64[np.ndarray, " n"], positive: int) -> list[float]:
    """AUC of each training, for the dots of a figure."""
    areas = _areas(answers, labels, positive, np.ones((1, len(labels))))
    return [float(area[0]) for area in areas.values()]


def _areas(
    answers: Answers, labels: Int64[np.ndarray, " n"], positive: int, weights: Float64[np.ndarray, "draws n"]
) -> dict[int, Float64[np.ndarray, " draws"]]:
    """AUC of the positive class by seed, under each weighting of the images."""
    return {
        seed: positive_auc(Predictions(labels, said, positive), weights)
        for seed, said in zip(answers.seeds, answers.probabilities, strict=True)
    }


def curve_rows(
    answers_of: Mapping[Dose, Answers],
    labels: Int64[np.ndarray, " n"],
    groups: Sequence[str] | np.ndarray,
    positive: int,
    draws: int,
    seed: int,
) -> list[Row]:
    """The points of all curves, `dose_row` and `difference_columns` of each, with a note where patients are too few.

    Every interval is of the same draws of test patients, `groups`; that of a difference is over trainings, too.
    """
    weights = group_draws(groups, draws, np.random.default_rng(seed))
    rows = []
    for dose, answers in answers_of.items():
        rng = np.random.default_rng(seed)
        scores = score_predictions(labels, answers.probabilities, groups, positive, draws, rng)
        counts = Outcomes(labels, answers.probabilities, groups, positive).counts()
        about: Row = {"test_images": len(labels), "note": TOO_FEW if too_few(counts) else ""}
        gain = difference_columns(dose, answers_of, labels, groups, positive, weights)
        rows.append({**dose_row(dose, answers, scores), **about, **gain})
    return rows


def dose_row(dose: Dose, answers: Answers, scores: Sequence[dict[str, str | float]]) -> Row:
    """A point of the curves: the dose, its counts (mean over seeds), and AUC: mean, interval, least and best seed.

    The AUC is of the positive class, as in `difference_columns`. Its interval is over test patients; what other
    training patients, synthetic images and initialisations would change is seen between seeds alone.
    """
    (area,) = (row for row in scores if row["metric"] == "positive_auc")
    counts = {name: round(float(np.mean([getattr(one, name) for one in answers.counts]))) for name in Counts._fields}
    return {"dose": dose.name, **dose._asdict(), **counts, **area, "metric": "auc", "seeds": len(answers.seeds)}
