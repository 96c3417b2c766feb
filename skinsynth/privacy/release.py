"""The rules of docs/release.md: what of the tables about a synthetic set stops giving it away, and what warns.

A rule can find a fault. None can show that there is none, so that no verdict says "private" or "safe".
"""

from collections.abc import Iterator, Mapping, Sized
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import pandas as pd

from skinsynth.intervals import Interval, difference_of_shares
from skinsynth.privacy.names import CONTROL, EXACT_COPIES, GENERATED, HELD_OUT, PIXELS
from skinsynth.settings import Positive, Share

# Rates of an attack are told at this share of false positives.
FALSE_POSITIVES = 0.01


@dataclass(frozen=True)
class ReleaseConfig:
    equal: Positive  # distance, in any measure, under which a held-out image is taken for a training one
    copier: Share  # authenticity below this share of what held-out images score is a copier's
    seen: Share  # a way of looking that finds less of the copies in a disguise does not see it


class Verdict(StrEnum):
    """From the worst on."""

    STOPS = "stops"
    BLIND = "cannot be judged"
    WARNS = "warns"
    LOOK = "to look at"
    NOTHING = "nothing found"


SEVERITY = {verdict: place for place, verdict in enumerate(Verdict)}

Answer = tuple[str, Verdict, str]  # a question, the verdict, and the numbers behind it


class Finding(NamedTuple):
    """The answer of one rule."""

    section: str
    question: str
    verdict: Verdict
    found: str


class Judged(NamedTuple):
    """Tables of `score_authenticity` by which a set is judged."""

    pixels: pd.DataFrame
    copies: pd.DataFrame
    disguises: pd.DataFrame
    planted: pd.DataFrame
    authenticity: pd.DataFrame
    attacks: pd.DataFrame


def findings(
    config: ReleaseConfig, split: Mapping[str, float | int], training: pd.DataFrame, judged: Judged
) -> list[Finding]:
    """The answers of all rules: `split` has the headlines of split_patients, `training` the rows of lesions.csv."""
    sections = {
        "Training images": (shared_people(split), unknown_patients(training), licences(training)),
        "Copies": (
            identical(judged.pixels),
            repeated(judged.pixels),
            too_near(judged.copies),
            to_look_at(judged.copies),
            split_that_hides(judged.copies, config.equal),
        ),
        "The set as a whole": (
            told_apart(judged.planted),
            authenticity(judged.authenticity, config.copier),
            beyond_strangers(judged.authenticity),
        ),
        "Attacks": (attack_auc(judged.attacks), attack_rate(judged.attacks), control(judged.attacks)),
    }
    return [Finding(section, *answer) for section, answers in sections.items() for answer in answers]


def shared_people(split: Mapping[str, float | int]) -> Answer:
    """Held-out images that the model may know make all comparisons too kind."""
    counts = {kind: int(split[f"held_out_sharing_{kind}"]) for kind in ("patient", "lesion")}
    found = ", ".join(f"{count} share a {kind}" for kind, count in counts.items())
    verdict = Verdict.BLIND if any(counts.values()) else Verdict.NOTHING
    return "Do held-out images show patients or lesions of training images?", verdict, found


def unknown_patients(training: pd.DataFrame) -> Answer:
    """Without a patient's name only lesions and duplicates were kept on one side."""
    unknown = int((training["patient_id"] == "").sum())
    verdict = Verdict.WARNS if unknown else Verdict.NOTHING
    return (
        "Is the patient of each training image known?",
        verdict,
        f"known of {len(training) - unknown} of {len(training)}",
    )


def licences(training: pd.DataFrame) -> Answer:
    """What the owners of the training images allow is for a person to read."""
    counts = training["licence"].replace("", "unknown").value_counts()
    found = ", ".join(f"{licence} ({count})" for licence, count in counts.items())
    return "Under which licences are the training images?", Verdict.LOOK, found


def identical(pixels: pd.DataFrame) -> Answer:
    """A real image, pixel by pixel at the study's resolution."""
    row = pixels.iloc[0]
    counts = {name: int(row[f"identical_to_{name}"]) for name in ("training", "held_out")}
    found = f"of {row['images']:.0f} images {counts['training']} a training image, {counts['held_out']} a held-out one"
    verdict = Verdict.STOPS if any(counts.values()) else Verdict.NOTHING
    return "Does an image equal a real one in every pixel?", verdict, found


def repeated(pixels: pd.DataFrame) -> Answer:
    """One image again and again: the set is smaller than it says."""
    row = pixels.iloc[0]
    verdict = Verdict.WARNS if row["repeated"] else Verdict.NOTHING
    found = f"{row['repeated']:.0f} of {row['images']:.0f} repeat another"
    return "Is one image in the set more than once?", verdict, found


def too_near(copies: pd.DataFrame) -> Answer:
    """More look-alikes of training images than chance would have, in any class and way of looking."""
    share = copies["nearer_than_any_held_out"] / copies["unlikely_from"]  # of what would stop
    worst = copies.iloc[int(share.argmax())]
    found = (
        f"{worst['nearer_than_any_held_out']:.0f} of {worst['images']:.0f} ({_of(worst)}), where chance has "
        f"{worst['expected_by_chance']:.1f} and {worst['unlikely_from']:.0f} would stop; {_worst_of(copies)}"
    )
    verdict = Verdict.STOPS if share.max() >= 1 else Verdict.NOTHING
    return "Are too many images nearer to training than any held-out one?", verdict, found


def to_look_at(copies: pd.DataFrame) -> Answer:
    """A handful of copies stays below what chance explains, and is seen by a person alone."""
    marked = copies.groupby("features_of", sort=False)["nearer_than_any_held_out"].sum()
    counts = ", ".join(f"{count} {_seen_by(str(name))}" for name, count in marked.items())
    found = f"marked in closest.csv: {counts}; besides, the nearest of each class (nearest_pairs.png)"
    return "Does the same lesion stand on both sides of the nearest pairs?", Verdict.LOOK, found


def split_that_hides(copies: pd.DataFrame, equal: float) -> Answer:
    """Where a held-out image all but equals a training one, no image can be nearer, and look-alikes are not counted."""
    smallest = copies.iloc[int(copies["smallest_held_out_gap"].argmin())]
    verdict = Verdict.BLIND if smallest["smallest_held_out_gap"] < equal else Verdict.NOTHING
    found = f"smallest distance {smallest['smallest_held_out_gap']:.2g} ({_of(smallest)})"
    return "Does a held-out image all but equal a training one?", verdict, found


def told_apart(planted: pd.DataFrame) -> Answer:
    """Features in which exact copies score as fresh images do say nothing about a set."""
    said, verdict = [], Verdict.NOTHING
    for space, rows in planted.groupby("features_of", sort=False):
        by_set = rows.set_index("set")
        copies, fresh = by_set.loc[EXACT_COPIES], by_set.loc[HELD_OUT]
        if not copies["authenticity_high"] < fresh["authenticity_low"]:
            verdict = Verdict.BLIND
        said.append(f"{copies['authenticity']:.2f} and {fresh['authenticity']:.2f} {_seen_by(str(space))}")
    return (
        "Are exact copies told from fresh images here?",
        verdict,
        f"authenticity of copies and of fresh images: {', '.join(said)}",
    )


def authenticity(table: pd.DataFrame, copier: float) -> Answer:
    """Below held-out images it warns; below a share of what they score it is a copier's, and stops."""
    answers = []
    for _, rows in table[table["metric"] == "authenticity"].groupby(["class", "features_of"], sort=False):
        made, real = (_interval_of(rows[rows["of"] == name].iloc[0]) for name in (GENERATED, HELD_OUT))
        less = difference_of_shares(made, real)
        below = Verdict.STOPS if made.high < copier * real.value else Verdict.WARNS
        verdict = below if less.high < 0 else Verdict.NOTHING
        answers.append((SEVERITY[verdict], less.value, verdict, f"{_told(made)} ({_of(rows.iloc[0])}), {_told(real)}"))
    _, _, verdict, found = min(answers)
    return (
        "Are images as authentic as held-out ones?",
        verdict,
        f"{found} of held-out images; {_worst_of(answers)}",
    )


def beyond_strangers(table: pd.DataFrame) -> Answer:
    """C_T less what it is where patients whom the generator never saw play the training set."""
    chosen = table[table["metric"] == "copying_beyond_strangers"]
    known = chosen[chosen["high"].notna()]
    question = "Are images nearer to training than to strangers?"
    if known.empty:
        return question, Verdict.BLIND, "too few held-out patients to play the training set"
    worst = known.iloc[int(known["high"].argmin())]
    verdict = Verdict.WARNS if worst["high"] < 0 else Verdict.NOTHING
    return question, verdict, f"C_T less theirs {_told(_interval_of(worst))} ({_of(worst)}); {_worst_of(known)}"


def attack_auc(attacks: pd.DataFrame) -> Answer:
    """An interval above 0.5."""
    return _attacks(attacks, "auc", 0.5, "Can training images be told from held-out ones?", "AUC")


def attack_rate(attacks: pd.DataFrame) -> Answer:
    """A few images that are known for certain."""
    name = f"tpr_at_{FALSE_POSITIVES * 100:.0f}_percent_fpr"
    question = "Are a few training images known for certain?"
    return _attacks(attacks, name, FALSE_POSITIVES, question, "share found at 1 % false positives")


def control(attacks: pd.DataFrame) -> Answer:
    """A random guess that is no guess makes the attacks' intervals doubtful."""
    row = attacks[(attacks["metric"] == "auc") & (attacks["attack"] == CONTROL)].iloc[0]
    verdict = Verdict.NOTHING if row["low"] <= 0.5 <= row["high"] else Verdict.WARNS
    return "Does a random guess stay at chance?", verdict, f"AUC {_told(_interval_of(row))}"


def unseen_disguises(disguises: pd.DataFrame, seen: float) -> Iterator[str]:
    """Disguises of which even the best way of looking finds less than `seen` of the copies, in some class."""
    best = disguises.groupby(["disguise", "class"], sort=False)["nearer_than_any_held_out"].max()
    worst = best.groupby("disguise", sort=False).min()
    yield from (f"{disguise} ({share:.0%} found)" for disguise, share in worst.items() if share < seen)


def _attacks(attacks: pd.DataFrame, metric: str, chance: float, question: str, unit: str) -> Answer:
    asked = attacks[(attacks["metric"] == metric) & (attacks["attack"] != CONTROL)]
    known = asked[asked["low"].notna()]
    if known.empty:
        return question, Verdict.BLIND, "too few images on a side for any attack"
    strongest = known.iloc[int(known["low"].argmax())]
    space = "" if strongest["features_of"] == "none" else f" {_seen_by(strongest['features_of'])}"
    name = str(strongest["attack"]).replace("_", " ")
    found = f"{unit} {_told(_interval_of(strongest))}, {chance:g} by chance ({name}{space}); {_worst_of(known)}"
    return question, Verdict.WARNS if strongest["low"] > chance else Verdict.NOTHING, found


def _of(row: pd.Series) -> str:
    return f"{row['class']}, {_seen_by(row['features_of'])}"


def _seen_by(space: str) -> str:
    return "by thumbnails" if space == PIXELS else f"in features of {space}"


def _worst_of(rows: Sized) -> str:
    return f"the worst of {len(rows)}" if len(rows) > 1 else "the only one"


def _interval_of(row: pd.Series) -> Interval:
    return Interval(float(row["value"]), float(row["low"]), float(row["high"]))


def _told(found: Interval) -> str:
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
