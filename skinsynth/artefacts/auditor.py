"""What artefacts come in sets of images, and what a classifier makes of them: rows of tables, with intervals."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Int64, UInt8

from skinsynth.artefacts.area import black_shares, lesion_shares
from skinsynth.artefacts.audit import Audited, Measured, flips, measure
from skinsynth.artefacts.detector import Detector
from skinsynth.classifier.classifier import Classifier
from skinsynth.images.archive import Images
from skinsynth.intervals import Interval, group_draws, percentile_interval, share_interval

FRAME, AREA, BLACK = "black_frame", "lesion_area", "black_corners"
RULES = (BLACK, AREA)  # traits that are measured and not learnt


class Inspected(NamedTuple):
    """A set of images with what is known of each and what is seen in it."""

    name: str
    images: Images
    groups: Int64[np.ndarray, " n"]  # patients
    flags: pd.DataFrame  # of lesions.csv, a column an artefact, with a detector or without: "1", "0", "" where unknown
    seen: dict[str, np.ndarray]  # as `Auditor.traits` says


@dataclass(frozen=True)
class Auditor:
    """Who is asked about every set in the same way."""

    judge: Classifier
    detectors: Mapping[str, Detector]  # by artefact
    classes: tuple[str, ...]
    positive: int  # label of the class whose probability is followed
    least_auc: float  # of a detector on test images; a weaker one's shares are marked as not to be relied on
    draws: int  # of patients, behind each interval

    def traits(self, pixels: UInt8[np.ndarray, "n 3 size size"]) -> dict[str, np.ndarray]:
        """Whether a detector sees its artefact in each image and whether the corners are black (1 or 0), and the
        lesion's area as a share: the last two by rules, which need no flags to learn from."""
        seen = {artefact: one.sees(pixels).double().numpy() for artefact, one in self.detectors.items()}
        return {**seen, BLACK: (black_shares(pixels) > 0).astype(float), AREA: lesion_shares(pixels)}

    def trait_rows(self, asked: Inspected, rng: np.random.Generator) -> list[dict[str, Any]]:
        """A row for each source, class, trait and measure."""
        weights, said = group_draws(asked.groups, self.draws, rng), self._answers(asked.images.pixels)
        rows = []
        for source, places, traits in _sources(asked):
            labels, groups = asked.images.labels[places], asked.groups[places]
            for found in measure(Audited(labels, traits, said[places], weights[:, places])):
                own = groups if found.label is None else groups[labels == found.label]
                weak = source == "detector" and self._is_weak(found.trait)
                rows.append(
                    {
                        "set": asked.name,
                        "class": "all" if found.label is None else self.classes[found.label],
                        "trait": found.trait,
                        "source": "rule" if found.trait in RULES else source,
                        "measure": found.measure,
                        **_interval_of(found, len(np.unique(own)), len(own))._asdict(),
                        "images": found.images,
                        "note": "weak detector" if weak else "",
                    }
                )
        return rows

    def flip_rows(
        self,
        bare: Images,
        pasted: UInt8[np.ndarray, "n 3 size size"],
        groups: Int64[np.ndarray, " n"],
        rng: np.random.Generator,
    ) -> list[dict[str, Any]]:
        """Share of answers that change to the positive class and away from it, and the mean change of its probability,
        of all images and of each class."""
        before, after = self._answers(bare.pixels), self._answers(pasted)
        weights = group_draws(groups, self.draws, rng)
        parts: dict[str, np.ndarray] = {"all": np.ones(len(bare.labels), dtype=bool)}
        parts |= {name: bare.labels == label for label, name in enumerate(self.classes)}
        rows = []
        for name, own in parts.items():
            changed = flips(before[own], after[own], weights[:, own])
            patients, images = len(np.unique(groups[own])), int(own.sum())
            for what, interval in {
                "to_positive": share_interval(changed.to_positive, patients, images),
                "to_other": share_interval(changed.to_other, patients, images),
                "change": percentile_interval(changed.change),
            }.items():
                rows.append({"class": name, "what": what, **interval._asdict(), "images": images})
        return rows

    def _answers(self, pixels: UInt8[np.ndarray, "n 3 size size"]) -> np.ndarray:
        """Probability of the positive class."""
        return self.judge.probabilities(pixels)[:, self.positive].double().cpu().numpy()

    def _is_weak(self, artefact: str) -> bool:
        return artefact in self.detectors and self.detectors[artefact].auc < self.least_auc


def _sources(asked: Inspected) -> Iterator[tuple[str, np.ndarray, dict[str, np.ndarray]]]:
    """What is seen in all images, then each flag of those images of which it is known: a name, which images, values."""
    yield "detector", np.ones(len(asked.images.labels), dtype=bool), asked.seen
    for artefact in map(str, asked.flags):
        known = (asked.flags[artefact] != "").to_numpy()
        if known.any():
            yield "flag", known, {artefact: asked.flags[artefact][known].astype("float64").to_numpy()}


def _interval_of(found: Measured, groups: int, images: int) -> Interval:
    """Wilson's interval of a share of images, percentiles of a mean area or a correlation; `groups` and `images` are
    those that the number is about."""
    is_share = found.measure == "share" and found.trait != AREA
    return share_interval(found.values, groups, images) if is_share else percentile_interval(found.values)
