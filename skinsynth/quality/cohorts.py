"""Final models of hospitals together, of each alone and of all images at one place: fidelity on equal terms, verdicts.

Every model is judged on as many images from the same latents, against the same halves of the same real images.
Intervals are over real patients and generated images (random halves of both), not over trainings, of which each model
is one.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from skinsynth.features.extractor import Extractor
from skinsynth.intervals import Interval
from skinsynth.quality.by_class import Labelled, features_of
from skinsynth.quality.fidelity import HELD_OUT, RANGES, TRAIN, FidelityConfig, distances_of_parts
from skinsynth.quality.half_samples import by_metric, difference_of, half_scores, intervals_of
from skinsynth.quality.image_set import RealSides
from skinsynth.quality.reach import CENTRAL, IN_ALL, PER_TRAINER, Curve, Row, federations_of, scores_of

LEAST = 4  # images whose halves still have a covariance
HELPED, HARMED, UNTOLD = "yes", "no, it harmed", "cannot be told"
# By which a federation is judged, and what sentences call them.
DISTANCES = {"fid": "FID against held-out patients", "kid_percent": "KID (percent)"}
SHOWN_ALONE = 3  # hospitals alone among the headlines


class Pair(NamedTuple):
    """A hospital that trained alone and in a federation."""

    federation: str
    alone: str  # the model
    hospital: str


def facts_of(curve: Curve, train: pd.DataFrame, classes: Sequence[str]) -> Row:
    """What a model was shown, and the training images and patients behind it with their share of each class.

    `train` has the training rows of the split; ValueError where it does not know a hospital.
    """
    unknown = sorted(set(curve.hospitals) - set(train["hospital"]))
    if unknown:
        raise ValueError(
            f"{', '.join(unknown)} trained, but the split has no such hospital: train anew after a change of the "
            "split, and leave pooled cohorts out"
        )
    own = train[train["hospital"].isin(curve.hospitals)] if curve.hospitals else train
    last = curve.points.iloc[-1]
    return {
        "hospitals": " ".join(curve.hospitals) or "all at one place",
        PER_TRAINER: int(last[PER_TRAINER]),
        IN_ALL: int(last[IN_ALL]),
        "training_images": len(own),
        "training_patients": int(own["group"].nunique()),
        **{f"{name}_share": float((own["label"] == label).mean()) for label, name in enumerate(classes)},
    }


def pairs_of(curves: Mapping[str, Curve], facts: Mapping[str, Row]) -> list[Pair]:
    """Every hospital that trained alone with each federation it is part of, the smallest hospital first."""
    alone = sorted(
        (name for name in curves if _is_alone(curves[name])), key=lambda name: facts[name]["training_images"]
    )
    pairs = [
        Pair(federation, name, curves[name].hospitals[0])
        for name in alone
        for federation in federations_of(curves)
        if curves[name].hospitals[0] in curves[federation].hospitals
    ]
    if not pairs:
        raise ValueError("no hospital trained both alone and in a federation: give a cohort of one hospital")
    return pairs


def _is_alone(curve: Curve) -> bool:
    return len(curve.hospitals) == 1


class Real(NamedTuple):
    """Features of the real images that every model is compared with."""

    train: Labelled
    held_out: Labelled
    hospital: str  # the smallest
    own: Labelled  # its training images

    def named(self) -> dict[str, Labelled]:
        """The sets of real images, by what the column `reference` calls them."""
        return {TRAIN: self.train, HELD_OUT: self.held_out, f"{TRAIN} of {self.hospital}": self.own}


def real_of(extract: Extractor, sides: RealSides, train: pd.DataFrame, hospital: str) -> Real:
    """Features of both sides; `train` has the rows of the split of the training images, in their order."""
    seen = features_of(extract, sides.train, sides.patients.real)
    own = torch.tensor((train["hospital"] == hospital).tolist()).nonzero()[:, 0]
    return Real(seen, features_of(extract, sides.held_out, sides.patients.held_out), hospital, seen.at(own))


class Standings(NamedTuple):
    """What was found of every model, for the table, and of the halves behind its intervals."""

    rows: list[Row]
    halves: dict[tuple[str, str, str], list[float]]  # by model, metric and reference

    def row_of(self, model: str, metric: str, reference: str) -> Row:
        """One number with its interval."""
        wanted = model, metric, reference
        return next(row for row in self.rows if (row["model"], row["metric"], row["reference"]) == wanted)

    def gain(self, pair: Pair, metric: str) -> Interval:
        """By how much the federation's distance to held-out patients is less than the hospital's own."""
        alone, together = ((model, metric, HELD_OUT) for model in (pair.alone, pair.federation))
        more, less = (float(self.row_of(*key)["value"]) for key in (alone, together))
        return difference_of(more, less, self.halves[alone], self.halves[together])


def judge_models(
    made: Mapping[str, Float[Tensor, "m dim"]],
    real: Real,
    facts: Mapping[str, Row],
    config: FidelityConfig,
    seed: int,
    extractor: str,
) -> Standings:
    """FID and KID of each model against each set of real images, neighbourhoods too against all training images.

    The floor comes last: as many held-out real images as were generated (all, where there are fewer) in the place of a
    model, which is what a perfect one would score. A set of fewer than LEAST real images is left out.
    """
    count = min(len(features) for features in made.values())
    chosen = torch.randperm(len(real.held_out.features), generator=torch.Generator().manual_seed(seed))[:count]
    floor = real.held_out.at(chosen)
    judged = Standings([], {})
    for name, features, patients in [
        *((*one, None) for one in made.items()),
        (HELD_OUT, floor.features, floor.patients),
    ]:
        references = {key: one for key, one in real.named().items() if len(one.labels) >= LEAST and key != name}
        for reference, (of_real, _, real_patients) in references.items():
            about: Row = {"extractor": extractor, "real_count": len(of_real), "compared_count": len(features)}
            neighbours = config.neighbours if reference == TRAIN else None
            scores = partial(distances_of_parts, neighbours=neighbours, title=f"{name} against {reference}")
            rng = torch.Generator().manual_seed(seed)  # the same halves of the real images for every model
            groups = real_patients, patients
            values, halves = half_scores(scores, of_real, features, config.interval_draws, rng, groups)
            judged.halves.update({(name, metric, reference): numbers for metric, numbers in by_metric(halves).items()})
            judged.rows.extend(
                {
                    "model": name,
                    "reference": reference,
                    "metric": metric,
                    **interval._asdict(),
                    **about,
                    **facts.get(name, {}),
                }
                for metric, interval in intervals_of(values, halves, RANGES).items()
            )
    return judged


def helped(judged: Standings, pair: Pair) -> str:
    """Whether the hospital got a better GAN from the federation, by FID and KID against held-out patients.

    No model has seen these. It is told only where the intervals of both gains leave 0 out on the same side.
    """
    answers = {_answer(judged.gain(pair, metric)) for metric in DISTANCES}
    return answers.pop() if len(answers) == 1 else UNTOLD


def _answer(gain: Interval) -> str:
    if gain.low > 0:
        return HELPED
    return HARMED if gain.high < 0 else UNTOLD


def gain_rows(judged: Standings, pairs: Sequence[Pair]) -> list[Row]:
    """By how much each hospital's FID and KID against held-out patients fell by the federation, with intervals."""
    return [
        {**pair._asdict(), "metric": metric, **judged.gain(pair, metric)._asdict()}
        for pair in pairs
        for metric in DISTANCES
    ]


def verdict(judged: Standings, pairs: Sequence[Pair], facts: Mapping[str, Row], curves: Mapping[str, Curve]) -> str:
    """A sentence for each hospital, the smallest first, and what the intervals do not say, as Markdown."""
    return "\n\n".join([*(_sentence(judged, pair, facts) for pair in pairs), *_caveats(facts, curves)]) + "\n"


def _sentence(judged: Standings, pair: Pair, facts: Mapping[str, Row]) -> str:
    own = facts[pair.alone]
    who = f"{pair.hospital} ({own['training_images']:,} training images of {own['training_patients']:,} patients)"
    begin = {
        HELPED: f"The federation {pair.federation!r} helped {who}",
        HARMED: f"The federation {pair.federation!r} gave a worse GAN than training alone to {who}",
        UNTOLD: f"It cannot be told whether the federation {pair.federation!r} helped {who}",
    }[helped(judged, pair)]
    return f"{begin}: {', '.join(_compared(judged, pair))}."


def _compared(judged: Standings, pair: Pair) -> Iterator[str]:
    for metric, name in DISTANCES.items():
        together, alone = (judged.row_of(model, metric, HELD_OUT) for model in (pair.federation, pair.alone))
        value, low, high = judged.gain(pair, metric)
        yield (
            f"{name} is {_text(together)} after {pair.federation} and {_text(alone)} after {pair.alone} "
            f"(a gain of {value:+.3g}, {low:+.3g} to {high:+.3g})"
        )


def _text(row: Row) -> str:
    return f"{row['value']:.3g} ({row['low']:.3g} to {row['high']:.3g})"


def _caveats(facts: Mapping[str, Row], curves: Mapping[str, Curve]) -> Iterator[str]:
    shown = [f"{name} {facts[name][PER_TRAINER]:,} per trainer and {facts[name][IN_ALL]:,} in all" for name in curves]
    yield (
        f"Images shown: {'; '.join(shown)}. Per trainer is what takes time where hospitals train side by side; in all "
        "is what training costs."
    )
    jumps = [f"{name} {_last_step(curve.points):.2g}" for name, curve in curves.items()]
    yield (
        "Intervals (95 %) are over real patients and generated images, not over trainings: each model is a single "
        "training, judged as it ended. A gain compares both models by the same halves of the same patients, so that "
        "it may be clear where their own intervals overlap. "
        f"The last step of each curve alone (curves.csv) moved FID by: {', '.join(jumps)}. A difference of that size "
        "may be owed to the moment at which training stopped."
    )


def _last_step(points: pd.DataFrame) -> float:
    """How far the FID of the last point lies from that of the point before."""
    score = next(column for column in scores_of(points) if column.startswith("fid_"))
    return float(points[score].diff().abs().iloc[-1])


def headlines(judged: Standings, pairs: Sequence[Pair], extractor: str) -> Row:
    """At most nine numbers: FID against all training images, KID of two, and what the smallest hospital gained."""
    first = pairs[0]
    alone = list(dict.fromkeys(pair.alone for pair in pairs))[:SHOWN_ALONE]
    fid = {name: float(judged.row_of(name, "fid", TRAIN)["value"]) for name in (CENTRAL, first.federation, *alone)}
    kid = {name: judged.row_of(name, "kid_percent", TRAIN)["value"] for name in (first.federation, first.alone)}
    return {
        **{f"fid_{extractor}_{name}": value for name, value in fid.items()},
        **{f"kid_{extractor}_percent_{name}": value for name, value in kid.items()},
        f"fid_{extractor}_gain_of_smallest": fid[first.alone] - fid[first.federation],
        "federation_helped_smallest": helped(judged, first),
    }
