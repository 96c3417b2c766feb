"""FID against seconds: what train_federated and cgan of train_gan took on this machine, and hospitals side by side.

    python benchmarks/federated_wall_time.py [--run FOLDER] [--figure docs/results/phantom/federated_wall_time.png]

Reads what a finished run left in metrics/ (timings too, which neither Git nor DVC keeps), and prints JSON. A run's
seconds are laid along its curve by the images shown, start-up and scoring included; a run that was killed and went on
has only its last part's seconds. Here the hospitals of a federation train one after the other in one process: side by
side, each on a machine like this one, is an estimate, in which nothing is added for the network.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.beside import ROOT
from benchmarks.measuring import rounded
from skinsynth.quality.reach import CENTRAL, IN_ALL, PER_TRAINER, Curve, federations_of, read_curves, scores_of
from skinsynth.report.reach import Panel, draw_reach

MEASURED, ESTIMATED = "seconds_measured", "seconds_side_by_side_estimated"
PANELS = (
    Panel(MEASURED, "seconds on this machine (hospitals one after the other)"),
    Panel(ESTIMATED, "seconds with hospitals side by side (an estimate)"),
)


def with_seconds(curve: Curve, seconds: float) -> pd.DataFrame:
    """The points with seconds, in proportion to the images in all; side by side to those of the busiest trainer.

    Where no hospital ever drops out that is a division by the number of hospitals.
    """
    points = curve.points
    per_image = seconds / float(points[IN_ALL].iloc[-1])
    return points.assign(**{MEASURED: per_image * points[IN_ALL], ESTIMATED: per_image * points[PER_TRAINER]})


def seconds_of(run: Path, stage: str) -> float:
    """What `run` of skinsynth.stage measured."""
    file = run / "metrics/timing" / f"{stage}.json"
    if not file.is_file():
        raise SystemExit(f"federated_wall_time: no {file}: run dvc repro here (timings are in no cache)")
    return float(json.loads(file.read_text())["seconds"])


def summary(curve: Curve, points: pd.DataFrame) -> dict[str, Any]:
    """One model's seconds in all, and when it was at its lowest scores."""
    found: dict[str, Any] = {
        "hospitals": len(curve.hospitals) or 1,
        MEASURED: float(points[MEASURED].iloc[-1]),
        ESTIMATED: float(points[ESTIMATED].iloc[-1]),
    }
    trained = points[points[IN_ALL] > 0]
    for score in scores_of(points):
        lowest = trained.loc[trained[score].idxmin()]
        found[score] = {"lowest": float(lowest[score]), **{name: float(lowest[name]) for name in (MEASURED, ESTIMATED)}}
    return found


def main() -> None:
    """Print one JSON object; draw, where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=ROOT, help="folder of the finished run (default: this project)")
    parser.add_argument("--figure", type=Path, help="PNG to draw: FID and KID against both kinds of seconds")
    flags = parser.parse_args()
    cohorts = sorted(file.parent for file in (flags.run / "metrics/train_federated").glob("*/hospitals.csv"))
    if not cohorts:
        raise SystemExit(f"federated_wall_time: no metrics/train_federated in {flags.run}: run dvc repro there")
    curves = read_curves(flags.run / "metrics/train_gan/cgan", [folder for folder in cohorts if folder.name != CENTRAL])
    stage_of = {name: "train_gan@cgan" if name == CENTRAL else f"train_federated@{name}" for name in curves}
    timed = {name: with_seconds(curve, seconds_of(flags.run, stage_of[name])) for name, curve in curves.items()}
    found = {name: summary(curves[name], timed[name]) for name in curves}
    print(json.dumps(rounded({"federations": federations_of(curves), "models": found}), indent=2))
    if flags.figure is not None:
        draw_reach(flags.figure, timed, [], PANELS)


if __name__ == "__main__":
    main()
