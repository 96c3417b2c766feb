"""The rules of docs/release.md: what of the tables about a synthetic set stops giving it away, and what warns.

A rule can find a fault. None can show that there is none, so that no verdict says "private" or "safe". Every question
is asked so that yes is bad.
"""

from collections.abc import Sized
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import pandas as pd

from skinsynth.intervals import Interval, difference_of_shares
from skinsynth.partition.leakage import Leakage
from skinsynth.privacy.names import (
    CONTROL,
    EXACT_COPIES,
    GENERATED,
    HALF_COPIES,
    HELD_OUT,
    NO_FEATURES,
    PIXELS,
    UNCHANGED,
)
from skinsynth.settings import Positive


@dataclass(frozen=True)
class ReleaseConfig:
    equal: Positive  # distance, in any measure, under which a held-out image is taken for a training one


class Verdict(StrEnum):
    """What the answer to a question comes to, the worst first."""

    STOPS = "stops"
    BLIND = "cannot be judged"
    UNANSWERED = "not answered"  # by the way that the set was judged
    WARNS = "warns"
    LOOK = "to look at"
    NOTHING = "nothing found"
    HOLDS = "holds"  # of what the other answers rest on


SEVERITY = {verdict: place for place, verdict in enumerate(Verdict)}

# Share of the copies changed in one way, from which on that way does not hide a copy.
SEEN = 0.5
# What chance of a count of look-alikes warns, of all rows of a question together.
DOUBTFUL = 0.05
# Share of images that repeat another, from which on a set is none.
MOST_REPEATED = 0.5
NO_SPACE = "every classifier given had learnt from this set: judge it again with one that had not"

Answer = tuple[str, Verdict, str]  # a question, the verdict, and the numbers behind it


class Finding(NamedTuple):
    """The answer of one rule."""

    section: str
    question: str
    verdict: Verdict
    found: str


# What the rules read of each table.
_COUNTS = ("class", "images", "expected_by_chance", "chance_of_as_many", "unlikely_from", "features_of", "saw_the_set")
_INTERVAL = ("metric", "value", "low", "high", "features_of", "saw_the_set")
COLUMNS = {
    "judged": ("what", "value"),
    "pixels": ("images", "repeated", "identical_to_training", "identical_to_held_out"),
    "copies": (*_COUNTS, "nearer_than_any_held_out", "smallest_held_out_gap"),
    "copies_of_held_out": (*_COUNTS, "nearer_than_any_training"),
    "disguises": ("disguise", "nearer_than_any_held_out", "features_of", "saw_the_set"),
    "planted": ("set", "authenticity", "authenticity_low", "authenticity_high", "features_of", "saw_the_set"),
    "authenticity": ("class", "of", *_INTERVAL),
    "attacks": ("attack", "note", "non_members", *_INTERVAL),
}


class Tables(NamedTuple):
    """Tables of `score_authenticity` by which a set is judged, with the columns of `COLUMNS`."""

    judged: pd.DataFrame
    pixels: pd.DataFrame
    copies: pd.DataFrame
    copies_of_held_out: pd.DataFrame
    disguises: pd.DataFrame
    planted: pd.DataFrame
    authenticity: pd.DataFrame
    attacks: pd.DataFrame

    def where_strangers_are_as_strange(self) -> "Tables":
        """These tables without features that learnt from the set: they know its images as they know training's, and
        none held out, so that fresh images look like copies there."""
        named = self._asdict().items()
        return self._replace(
            **{name: table[table["saw_the_set"] == 0] for name, table in named if "saw_the_set" in table}
        )


def findings(
    config: ReleaseConfig, leakage: Leakage, training: pd.DataFrame, held_out: pd.DataFrame, tables: Tables
) -> list[Finding]:
    """The answers of all rules; both sides are rows of lesions.csv, and `leakage` is what they share."""
    fair = tables.where_strangers_are_as_strange()
    by_images = fair.attacks[fair.attacks["features_of"] != NO_FEATURES]
    by_model = by_discriminator(tables.attacks)
    sections = {
        "Can this set be judged?": (
            both_sides(leakage),
            unknown_patients(training, held_out),
            split_that_hides(fair.copies, config.equal),
            copies_that_pass(fair.planted),
            copies_in_disguise(fair.disguises),
            control(tables.attacks),
        ),
        "Copies": (
            identical(tables.pixels),
            repeated(tables.pixels),
            too_near(fair.copies),
            too_near_held_out(fair.copies_of_held_out),
            to_look_at(tables.copies, tables.copies_of_held_out),
        ),
        "The set as a whole": (
            authenticity(fair.authenticity, fair.planted),
            beyond_strangers(fair.authenticity),
        ),
        "Attacks by who has the images": (attack_auc(by_images), attack_rate(by_images)),
        "Attacks by who has the discriminator too": (
            (attack_auc(by_model), attack_rate(by_model)) if len(by_model) else ()
        ),
        "Rights": (licences(training),),
    }
    return [Finding(section, *answer) for section, answers in sections.items() for answer in answers]


def by_discriminator(attacks: pd.DataFrame) -> pd.DataFrame:
    """Rows of attacks that need the model; none where no model was given."""
    return attacks[(attacks["features_of"] == NO_FEATURES) & (attacks["attack"] != CONTROL)]


def both_sides(leakage: Leakage) -> Answer:
    """Held-out images that the model may know make all comparisons too kind."""
    counts = {"known patient": leakage.patient, "known lesion": leakage.lesion, "known duplicate": leakage.duplicate}
    found = ", ".join(f"{count} held-out images share a {kind}" for kind, count in counts.items())
    verdict = Verdict.BLIND if any(counts.values()) else Verdict.HOLDS
    return "Are held-out patients, lesions or their duplicates in training too?", verdict, found


def unknown_patients(training: pd.DataFrame, held_out: pd.DataFrame) -> Answer:
    """Without a patient's name only lesions and duplicates were kept on one side."""
    unknown, of_held_out = (int((side["patient_id"] == "").sum()) for side in (training, held_out))
    found = (
        f"of {unknown} of {len(training)} training images (with duplicates) and {of_held_out} of {len(held_out)} "
        "held-out ones"
    )
    question = "Are there images whose patient is unknown, who may be on both sides?"
    return question, Verdict.WARNS if unknown or of_held_out else Verdict.HOLDS, found


def split_that_hides(copies: pd.DataFrame, equal: float) -> Answer:
    """Where a held-out image all but equals a training one, no image can be nearer, and look-alikes are not counted."""
    smallest = copies.iloc[int(copies["smallest_held_out_gap"].argmin())]
    gap = float(smallest["smallest_held_out_gap"])
    found = f"smallest distance {gap:.2g} ({_of(smallest)}); below {equal:g} it would be"
    return "Is a held-out image all but a training one?", Verdict.BLIND if gap < equal else Verdict.HOLDS, found


def copies_that_pass(planted: pd.DataFrame) -> Answer:
    """Features in which exact copies score as fresh images do say nothing about a set."""
    question = "Do planted exact copies pass for fresh images?"
    if planted.empty:
        return question, Verdict.UNANSWERED, NO_SPACE
    said, verdict = [], Verdict.HOLDS
    for space, rows in planted.groupby("features_of", sort=False):
        by_set = rows.set_index("set")
        copies, fresh = by_set.loc[EXACT_COPIES], by_set.loc[HELD_OUT]
        if not copies["authenticity_high"] < fresh["authenticity_low"]:
            verdict = Verdict.BLIND
        said.append(f"{copies['authenticity']:.2f} where fresh have {fresh['authenticity']:.2f} {_seen_by(str(space))}")
    return question, verdict, f"authenticity {', '.join(said)}"


def copies_in_disguise(disguises: pd.DataFrame) -> Answer:
    """Changes of a copy of which the best way of looking finds too few, in the class where it finds fewest."""
    of_ways = disguises.groupby(["disguise", "features_of"], sort=False)["nearer_than_any_held_out"].min()
    best = of_ways.groupby("disguise", sort=False).max()
    unseen = ", ".join(f"{name} ({share:.1%})" for name, share in best.items() if share < SEEN)
    question = "Do usual changes hide a copy from every way of looking?"
    if unseen:
        return question, Verdict.WARNS, f"at best, under {SEEN:.0%} are found of copies {unseen}; only pairs show these"
    changes = len(best.index.difference([UNCHANGED]))
    found = f"one way finds {best.min():.0%} or more of copies, unchanged ones and those of each of {changes} changes"
    return question, Verdict.HOLDS, found


def control(attacks: pd.DataFrame) -> Answer:
    """A random guess that is no guess makes the attacks' intervals doubtful."""
    row = attacks[(attacks["metric"] == "auc") & (attacks["attack"] == CONTROL)].iloc[0]
    question = "Does a random guess seem to know who was in training?"
    if pd.isna(row["low"]):
        return question, Verdict.BLIND, "too few patients on a side for any attack"
    verdict = Verdict.HOLDS if row["low"] <= 0.5 <= row["high"] else Verdict.WARNS
    return question, verdict, f"AUC {_told(_interval_of(row))}"


def identical(pixels: pd.DataFrame) -> Answer:
    """A real image, pixel by pixel at the study's resolution."""
    row = pixels.iloc[0]
    counts = {name: int(row[f"identical_to_{name}"]) for name in ("training", "held_out")}
    found = f"of {row['images']:.0f} images {counts['training']} a training image, {counts['held_out']} a held-out one"
    verdict = Verdict.STOPS if any(counts.values()) else Verdict.NOTHING
    return "Does an image equal a real one in every pixel?", verdict, found


def repeated(pixels: pd.DataFrame) -> Answer:
    """One image again and again: the set is smaller than it says, and none at all where most do so."""
    row = pixels.iloc[0]
    verdict = Verdict.WARNS if row["repeated"] else Verdict.NOTHING
    if row["repeated"] >= MOST_REPEATED * row["images"]:
        verdict = Verdict.STOPS
    found = f"{row['repeated']:.0f} of {row['images']:.0f} repeat another"
    return "Is one image in the set more than once?", verdict, found


def too_near(copies: pd.DataFrame) -> Answer:
    """More look-alikes of training images than chance would have, in any class and way of looking."""
    question = "Are more images nearer to training than every held-out one than chance explains?"
    return question, *_lookalikes(copies, "nearer_than_any_held_out", "held-out")


def too_near_held_out(copies: pd.DataFrame) -> Answer:
    """More look-alikes of held-out images than chance would have: somebody else's generator may have seen these."""
    question = "Are more images nearer to held-out patients than every training image than chance explains?"
    return question, *_lookalikes(copies, "nearer_than_any_training", "training")


def _lookalikes(copies: pd.DataFrame, counted: str, strangers: str) -> tuple[Verdict, str]:
    """The verdict by the worst row, and its numbers; a few copies among many fresh images stay below what stops, but
    seldom below what warns."""
    share = copies[counted] / copies["unlikely_from"]  # of what would stop
    least = copies["chance_of_as_many"].to_numpy().argmin()
    worst = copies.iloc[int(share.argmax() if share.max() >= 1 else least)]
    found = (
        f"{worst[counted]:.0f} of {worst['images']:.0f} ({_of(worst)}), {worst['expected_by_chance']:.1f} expected by "
        f"chance, which has so many or more with {worst['chance_of_as_many']:.2g}; from "
        f"{worst['unlikely_from']:.0f} on it would stop; {_worst_of(copies)}"
    )
    if share.max() >= 1:
        return Verdict.STOPS, found
    few = copies[copies["unlikely_from"] > copies["images"]]
    if len(few):
        return Verdict.BLIND, f"too few {strangers} images for any count to be unlikely ({_of(few.iloc[0])})"
    doubtful = worst["chance_of_as_many"] < DOUBTFUL / len(copies)
    return (Verdict.WARNS if doubtful else Verdict.NOTHING), found


def to_look_at(copies: pd.DataFrame, copies_of_held_out: pd.DataFrame) -> Answer:
    """A handful of copies stays below what chance explains, and is seen by a person alone."""
    marked = copies.groupby("features_of", sort=False)["nearer_than_any_held_out"].sum()
    counts = ", ".join(f"{count} {_seen_by(str(name))}" for name, count in marked.items())
    found = (
        f"marked: {counts}, {copies_of_held_out['nearer_than_any_training'].sum()} beside held-out images; look at "
        "each of these, and at the nearest of each class (on the machine that judged: closest.csv names all of them; "
        "nearest_pairs.png shows them, and says how many of a class it has no place for)"
    )
    return "Does the same lesion stand on both sides of a nearest pair?", Verdict.LOOK, found


def authenticity(table: pd.DataFrame, planted: pd.DataFrame) -> Answer:
    """Authenticity below that of held-out images warns; no higher than what planted half copies can score, it stops."""
    question = "Are images less authentic than held-out ones?"
    if table.empty:
        return question, Verdict.UNANSWERED, NO_SPACE
    half_of = {row["features_of"]: row for row in planted[planted["set"] == HALF_COPIES].to_dict("records")}
    answers = []
    for (_, space), rows in table[table["metric"] == "authenticity"].groupby(["class", "features_of"], sort=False):
        made, real = (_interval_of(rows[rows["of"] == name].iloc[0]) for name in (GENERATED, HELD_OUT))
        half, less = half_of[str(space)], difference_of_shares(made, real)
        below = Verdict.STOPS if made.value <= half["authenticity_high"] else Verdict.WARNS
        verdict = below if less.high < 0 else Verdict.NOTHING
        found = f"{_told(made)} ({_of(rows.iloc[0])}), held-out images {_told(real)}, planted half "
        found += f"copies {half['authenticity']:.2f}"
        answers.append((SEVERITY[verdict], less.value, verdict, found))
    _, _, verdict, found = min(answers)
    return question, verdict, f"{found}; {_worst_of(answers)}"


def beyond_strangers(table: pd.DataFrame) -> Answer:
    """C_T less what it is where patients whom the generator never saw play the training set."""
    question = "Are images nearer to training than to patients never seen?"
    if table.empty:
        return question, Verdict.UNANSWERED, NO_SPACE
    chosen = table[table["metric"] == "copying_beyond_strangers"]
    known, unknown = chosen[chosen["high"].notna()], chosen[chosen["high"].isna()]
    if len(unknown) and not (known["high"] < 0).any():
        return question, Verdict.BLIND, f"too few held-out patients to play training ({_of(unknown.iloc[0])})"
    worst = known.iloc[int(known["high"].argmin())]
    found = f"difference of C_T {_told(_interval_of(worst))} ({_of(worst)}), 0 is no sign; {_worst_of(known)}"
    return question, Verdict.WARNS if worst["high"] < 0 else Verdict.NOTHING, found


def attack_auc(attacks: pd.DataFrame) -> Answer:
    """Warns where the AUC of an attack has an interval above 0.5."""
    asked = attacks[attacks["metric"] == "auc"].assign(chance=0.5)
    return _attacks(asked, "Can training images be told from held-out ones?", "AUC")


def attack_rate(attacks: pd.DataFrame) -> Answer:
    """Warns where more members are found than by chance: of m non-members one more than the m // 100 false alarms sets
    the threshold."""
    asked = attacks[attacks["metric"] == "tpr_at_1_percent_fpr"]
    chance = (asked["non_members"] // 100 + 1) / (asked["non_members"] + 1)
    question = "Are more training images pointed out than false alarms explain?"
    return _attacks(asked.assign(chance=chance), question, "share found at 1 % false alarms")


def licences(training: pd.DataFrame) -> Answer:
    """What the owners of the training images allow is for a person to read."""
    counts = training["licence"].replace("", "unknown").value_counts()
    found = ", ".join(f"{licence} ({count} training images)" for licence, count in counts.items())
    found += ", of the set's classes and with duplicates; ask what else the generator saw"
    return "Do licences forbid it? What was made of the images may fall under them", Verdict.LOOK, found


def eyes(disguises: pd.DataFrame) -> pd.DataFrame:
    """Share of planted copies in each disguise that each way of looking finds, from the worst to the best class."""
    shares = disguises.groupby(["disguise", "features_of"], sort=False)["nearer_than_any_held_out"].agg(["min", "max"])
    told = [
        f"{low:.0%}" if f"{low:.0%}" == f"{high:.0%}" else f"{low * 100:.0f} to {high:.0%}"
        for low, high in shares.to_numpy()
    ]
    wide = pd.Series(told, index=shares.index).unstack(sort=False)
    return wide.rename(columns=_seen_by).reset_index(names="training images, changed")


def _attacks(asked: pd.DataFrame, question: str, unit: str) -> Answer:
    if asked["low"].isna().any() or (asked["note"] == "too few").any():
        return question, Verdict.BLIND, "too few images or patients on a side to tell"
    strongest = asked.iloc[int((asked["low"] - asked["chance"]).argmax())]
    space = "" if strongest["features_of"] == NO_FEATURES else f" {_seen_by(strongest['features_of'])}"
    name, chance = str(strongest["attack"]).replace("_", " "), float(strongest["chance"])
    found = f"{unit} {_told(_interval_of(strongest))}, {chance:.2g} by chance ({name}{space}); {_worst_of(asked)}"
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
