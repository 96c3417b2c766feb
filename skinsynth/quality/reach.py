"""Curves of FID and KID by who trained: what a model was shown until it was as good as another at its best."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from skinsynth.tables import read_table

CENTRAL = "central"  # all images at one place
PER_TRAINER, IN_ALL = "images_per_trainer", "images_in_all"
SCORES = ("fid_", "kid_")  # how columns of scores begin; the rest names the extractor

Row = dict[str, Any]


class Curve(NamedTuple):
    """One training: who gave images to it, and its scores."""

    hospitals: tuple[str, ...]  # whose weights went into it; none: all images at one place
    points: pd.DataFrame  # by round or tick: images_per_trainer, images_in_all, FID and KID named after the extractor


def read_central_curve(folder: Path) -> Curve:
    """The curve of train_gan, whose one trainer is shown all images."""
    return _curve((), read_table(folder / "scores.csv", ("images",), "train_gan"), per_trainer=None)


def read_cohort_curve(folder: Path) -> Curve:
    """The curve of train_federated.

    Images per trainer are the sum over rounds of the most that any hospital's trainer was shown in the round: as long
    as training takes where hospitals train side by side and a round waits for all of them.
    """
    scores = read_table(folder / "scores.csv", ("round", "images"), "train_federated")
    shown = ("round", "hospital", "images_shown")
    visits = read_table(folder / "hospitals.csv", shown, "train_federated", text=("hospital",))
    longest = visits.groupby("round")["images_shown"].max()
    per_trainer = [int(longest[longest.index <= number].sum()) for number in scores["round"]]
    return _curve(tuple(sorted(set(visits["hospital"]))), scores, per_trainer)


def read_curves(central: Path, cohorts: Sequence[Path]) -> dict[str, Curve]:
    """Curves of one comparison by name: central, federations, hospitals alone; ValueError where they cannot be one."""
    found = {folder.name: read_cohort_curve(folder) for folder in cohorts}
    together = [name for name, curve in found.items() if len(curve.hospitals) > 1]
    if CENTRAL in found or not together:
        raise ValueError(
            f"the folders of train_federated are {', '.join(found)}: give a cohort of several hospitals, and none "
            f"called {CENTRAL!r}, which is the GAN of train_gan"
        )
    order = [*together, *(name for name in found if name not in together)]
    curves = {CENTRAL: read_central_curve(central), **{name: found[name] for name in order}}
    kinds = {tuple(scores_of(curve.points)) for curve in curves.values()}
    if len(kinds) > 1:
        raise ValueError(f"curves of different scores cannot be compared: {' and '.join(map(str, sorted(kinds)))}")
    return curves


def scores_of(points: pd.DataFrame) -> list[str]:
    """The columns that are scores."""
    return [column for column in map(str, points) if column.startswith(SCORES)]


def curve_rows(curves: Mapping[str, Curve]) -> list[Row]:
    """All points of all curves."""
    return [
        {"model": name, **dict(zip(map(str, curve.points), point, strict=True))}
        for name, curve in curves.items()
        for point in curve.points.itertuples(index=False)
    ]


def reach_rows(curves: Mapping[str, Curve], targets: Sequence[str]) -> list[Row]:
    """Where each curve first is at or below the lowest point of the curve of `target_of`, for each of the targets.

    The ratio is to the images at which `target_of` itself got there: above 1, the model needs more images. A curve that
    never gets there has empty cells and its own lowest point. Only scored points are seen, and single trainings jump
    from one to the next. The start, before any image, is no point that training reached.
    """
    return [
        {"score": score, "target_of": target, "model": name, **_reached(curve.points, curves[target].points, score)}
        for target in targets
        for score in scores_of(curves[target].points)
        for name, curve in curves.items()
    ]


def federations_of(curves: Mapping[str, Curve]) -> list[str]:
    """The models that several hospitals trained together."""
    return [name for name, curve in curves.items() if len(curve.hospitals) > 1]


def _reached(points: pd.DataFrame, of_target: pd.DataFrame, score: str) -> Row:
    trained, first = points[points[IN_ALL] > 0], _lowest(of_target, score)
    lowest = _lowest(points, score)
    there = trained[trained[score] <= first[score]]
    row: Row = {"target": float(first[score])}
    for images in (PER_TRAINER, IN_ALL):
        row[images] = int(there[images].iloc[0]) if len(there) else ""
    for images in (PER_TRAINER, IN_ALL):
        ratio = there[images].iloc[0] / first[images] if len(there) else math.nan
        row[f"ratio_{images.removeprefix('images_')}"] = float(ratio)
    at_lowest = {f"lowest_{images}": int(lowest[images]) for images in (PER_TRAINER, IN_ALL)}
    return {**row, "lowest": float(lowest[score]), **at_lowest}


def _lowest(points: pd.DataFrame, score: str) -> pd.Series:
    trained = points[points[IN_ALL] > 0]
    return trained.sort_values(score, kind="stable").iloc[0]


def _curve(hospitals: tuple[str, ...], scores: pd.DataFrame, per_trainer: Sequence[int] | None) -> Curve:
    images = scores["images"].astype(int)
    shown = {PER_TRAINER: images if per_trainer is None else list(per_trainer), IN_ALL: images}
    return Curve(hospitals, pd.concat([pd.DataFrame(shown), scores[scores_of(scores)]], axis=1))
