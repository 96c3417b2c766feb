"""How well predictions hold on parts of the test set: by source, age, sex, site and artefact."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int64

from skinsynth.lesions.table import FLAGS, check_columns
from skinsynth.quality.classification import score_predictions
from skinsynth.settings import closest

# Positives, or others, below which there is no AUC worth its interval: images, and the patients that they come from.
# Drawing few patients again hardly moves an AUC; the interval of 24 positives holds it 7 times in 10 where these are of
# 2 patients, 9 times in 10 where they are of 10.
LEAST = 20
LEAST_PATIENTS = 10
METRICS = (
    "auc",
    "average_precision",
    "sensitivity",
    "specificity",
    "balanced_accuracy",
    "sensitivity_at_90_specificity",
)
TOO_FEW = "too few"
WHOLE = "all"  # of the test set
UNKNOWN = "unknown"
LISTED = 10  # values of a column, in an error
AGE_BANDS = ("under 40", "40 to 59", "60 and over")
FLAG_NAMES = {"1": "with", "0": "without"}


@dataclass(frozen=True)
class Outcomes:
    """What each seed said of the same images, and what they are; `positive` is the class that sensitivity is about."""

    labels: Int64[np.ndarray, " n"]
    probabilities: Float[np.ndarray, "seeds n classes"]
    groups: Sequence[str] | np.ndarray
    positive: int

    def of(self, images: Bool[np.ndarray, " n"]) -> "Outcomes":
        """What each seed said of some of the images, and what these are."""
        if not len(images) == len(self.labels) == len(self.groups) == self.probabilities.shape[1]:
            raise ValueError(
                f"the mask of this part has {len(images)} entries, but there are {len(self.labels)} labels, "
                f"{len(self.groups)} groups and {self.probabilities.shape[1]} rows of probabilities: take all of them "
                "from the same rows of lesions.csv"
            )
        return Outcomes(
            self.labels[images], self.probabilities[:, images], np.asarray(self.groups)[images], self.positive
        )

    def counts(self) -> dict[str, int]:
        """Images and positives, and the patients (groups) of both and of the others, as the table names them."""
        is_positive, groups = self.labels == self.positive, np.asarray(self.groups)
        return {
            "test_images": len(self.labels),
            "test_groups": len(np.unique(groups)),
            "positives": int(is_positive.sum()),
            "positive_groups": len(np.unique(groups[is_positive])),
            "other_groups": len(np.unique(groups[~is_positive])),
        }


def check_arms(lesions: pd.DataFrame, arms: Mapping[str, Mapping[str, str]]) -> list[str]:
    """A line for each value that an arm asks for and not one of all lesions has: of other data, its rows say "too few".

    ValueError where another value was perhaps meant, or an arm has the name of the whole test set.
    """
    if WHOLE in arms:
        raise ValueError(
            f"an arm is called {WHOLE!r}, as the whole test set is: rename it (train_classifier, arms in params.yaml)"
        )
    empty = []
    for name, condition in arms.items():
        check_columns(Path("lesions.csv"), lesions, condition)
        for column, value in condition.items():
            known = sorted(set(lesions[column].astype(str)))
            if value in known:
                continue
            asked = f"the arm {name} asks for {column} {value!r}, which no row of lesions.csv has"
            if meant := closest(value, known):
                raise ValueError(f"{asked}: did you mean {meant!r}? (correct train_classifier, arms in params.yaml)")
            empty.append(f"{asked}: {_listed(known)}; its numbers will say {TOO_FEW!r}")
    return empty


def _listed(known: Sequence[str]) -> str:
    others = f" and {len(known) - LISTED} others" if len(known) > LISTED else ""
    return f"it has {', '.join(map(repr, known[:LISTED]))}{others}"


def arm(lesions: pd.DataFrame, condition: Mapping[str, str]) -> Bool[np.ndarray, " n"]:
    """Images whose columns of lesions.csv have these values, e.g. {"source": "ISIC 2020"}: none, if none has them."""
    check_columns(Path("lesions.csv"), lesions, condition)
    chosen = np.ones(len(lesions), bool)
    for column, value in condition.items():
        chosen &= (lesions[column].astype(str) == value).to_numpy(bool)
    return chosen


def subgroups(lesions: pd.DataFrame) -> dict[str, dict[str, Bool[np.ndarray, " n"]]]:
    """Images of each part by age, sex, site and artefact, as {"sex": {"female": ..., "unknown": ...}}.

    Every image is in one part of each; where all of them are unknown, the grouping is left out.
    """
    check_columns(Path("lesions.csv"), lesions, ("age", "sex", "site", *FLAGS))
    parts_of = {"age": _by_name(_age_bands(lesions["age"]), AGE_BANDS)}
    for column in ("sex", "site"):
        parts_of[column] = _by_name(lesions[column], sorted(set(lesions[column]) - {"", UNKNOWN}))
    for flag in FLAGS:
        parts_of[flag] = _by_name(lesions[flag].map(FLAG_NAMES), tuple(FLAG_NAMES.values()))
    return {by: parts for by, parts in parts_of.items() if not parts.get(UNKNOWN, np.zeros(1, bool)).all()}


def arm_rows(
    outcomes: Outcomes, lesions: pd.DataFrame, arms: Mapping[str, Mapping[str, str]], draws: int, seed: int
) -> list[dict[str, str | float]]:
    """Every metric of the whole test set, then those of `part_rows` for each arm (see `arm`), in a column `arm`.

    The whole set has its numbers even where they rest on few positives; the note then says "too few" all the same.
    """
    counts = outcomes.counts()
    whole = score_predictions(
        outcomes.labels,
        outcomes.probabilities,
        outcomes.groups,
        outcomes.positive,
        draws,
        np.random.default_rng(seed),
    )
    note = TOO_FEW if too_few(counts) else ""
    rows = [{"arm": WHOLE, **row, **counts, "note": note} for row in whole]
    for name, condition in arms.items():
        found = part_rows(outcomes, {name: arm(lesions, condition)}, draws, np.random.default_rng(seed))
        rows += [{"arm": name, **{key: value for key, value in row.items() if key != "part"}} for row in found]
    return rows


def subgroup_rows(outcomes: Outcomes, lesions: pd.DataFrame, draws: int, seed: int) -> list[dict[str, str | float]]:
    """`part_rows` of every part of every subgroup, in columns `by` and `part`."""
    rows = []
    for by, parts in subgroups(lesions).items():
        rows += [{"by": by, **row} for row in part_rows(outcomes, parts, draws, np.random.default_rng(seed))]
    return rows


def part_rows(
    outcomes: Outcomes, parts: Mapping[str, Bool[np.ndarray, " n"]], draws: int, rng: np.random.Generator
) -> list[dict[str, str | float]]:
    """One row for each part and metric; a part with few positives or others, or few patients of either, has one row,
    which says so."""
    return [{"part": part, **row} for part, images in parts.items() for row in _rows(outcomes.of(images), draws, rng)]


def _rows(outcomes: Outcomes, draws: int, rng: np.random.Generator) -> list[dict[str, str | float]]:
    counts = outcomes.counts()
    if too_few(counts):
        numbers = dict.fromkeys(("value", "low", "high", "seed_min", "seed_max"), float("nan"))
        return [{"metric": METRICS[0], **numbers, **counts, "note": TOO_FEW}]
    scored = score_predictions(outcomes.labels, outcomes.probabilities, outcomes.groups, outcomes.positive, draws, rng)
    row_of = {row["metric"]: row for row in scored}
    return [{**row_of[name], **counts, "note": ""} for name in METRICS]


def too_few(counts: Mapping[str, int]) -> bool:
    """Whether positives or others are too few images, or of too few patients, for an AUC (see LEAST)."""
    images = min(counts["positives"], counts["test_images"] - counts["positives"])
    return images < LEAST or min(counts["positive_groups"], counts["other_groups"]) < LEAST_PATIENTS


def _age_bands(ages: pd.Series) -> pd.Series:
    years = pd.to_numeric(ages, errors="coerce")
    wrong = ages[years.isna() & (ages != "")]
    if len(wrong):
        raise ValueError(
            f"lesions.csv: an age is a number of years or nothing, but {wrong.iloc[0]!r} came ({len(wrong)} rows): "
            f"write whole years"
        )
    return pd.cut(years, [-np.inf, 40, 60, np.inf], right=False, labels=AGE_BANDS).astype(object)


def _by_name(names: pd.Series, known: Sequence[str]) -> dict[str, Bool[np.ndarray, " n"]]:
    """The known parts in their order, even empty ones, then what has another name or none, if there is any."""
    parts = {name: (names == name).to_numpy(bool) for name in known}
    unknown = ~names.isin(list(known)).to_numpy(bool)
    return {**parts, UNKNOWN: unknown} if unknown.any() else parts
