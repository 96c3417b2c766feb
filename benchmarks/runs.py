"""What the same study of the phantom said each time it was trained anew: AUC of every scenario, run by run.

    python benchmarks/runs.py [--to docs/results/runs]

Intervals are over test patients; what another training of the same networks would have given is not in them. This
reads it off the project's own history: the headlines (`metrics/`) that were committed with each run, through Git, and
those that lie here as the last. Writes table.csv, README.md and aucs.png. Needs the whole history (no shallow clone).
"""

import argparse
import csv
import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure
from tabulate import tabulate

from skinsynth.files import written_whole
from skinsynth.report.png import save_figure


class Run(NamedTuple):
    """One of the default study on the same data and split, and what made its networks others than the run before's."""

    commit: str  # empty: the files that lie here
    differs: str


RUNS = {
    "first": Run("82b2749", "seed 1, styles mixed batch by batch"),
    "second": Run("7a0bc3d", "faster operators: rounding alone"),
    "third": Run("4633a30", "the same GANs, other images of them"),
    "fourth": Run("205a007", "one thread a stage: rounding alone"),
    "fifth": Run("d307d52", "seed 2, styles mixed image by image; doses of three trainings"),
    "this": Run("", "another kind of CPU: rounding alone"),
}
REAL, ALONE, ADDED = "real", "synth-", "aug-"
# Of the doses' headlines: those of synthetic images, and their names here.
DOSES = {
    "auc_1x_synthetic": "synth-selected, doses: as many",
    "auc_100_percent_of_patients_and_1x_synthetic": "aug-selected, doses: as many",
    "auc_100_percent_of_patients_and_4x_synthetic": "aug-selected, doses: four times as many",
}
REAL_DOSE = "auc_100_percent_of_patients"


def main() -> None:
    """Read, write the three files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=Path("docs/results/runs"), help="folder of what is written")
    flags = parser.parse_args()
    aucs = {name: dict(aucs_of(run.commit)) for name, run in RUNS.items()}
    flags.to.mkdir(parents=True, exist_ok=True)
    write_csv(flags.to / "table.csv", aucs)
    with written_whole(flags.to / "README.md") as aside:
        aside.write_text(page(aucs))
    draw(flags.to / "aucs.png", aucs)


def aucs_of(commit: str) -> Iterator[tuple[str, float]]:
    """AUC on all test images of each scenario, then of each dose, of those that the commit has."""
    folder = "metrics/train_classifier/"
    for path in sorted(files_in(commit, folder)):
        name = path.removeprefix(folder).removesuffix(".json")
        if name == REAL or name.startswith((ALONE, ADDED)):
            yield name, headlines(commit, path)["auc"]
    doses = "metrics/measure_dose_response.json"
    found = headlines(commit, doses) if doses in files_in(commit, "metrics/") else {}
    for key, name in {REAL_DOSE: "real, doses", **DOSES}.items():
        if key in found:
            yield name, found[key]


def files_in(commit: str, folder: str) -> list[str]:
    """The JSON files right in this folder."""
    if not commit:
        return [str(path) for path in Path(folder).glob("*.json")]
    return [path for path in git("ls-tree", "--name-only", commit, folder).splitlines() if path.endswith(".json")]


def headlines(commit: str, path: str) -> dict[str, float]:
    """The numbers of a metrics file as committed there."""
    return json.loads(git("show", f"{commit}:{path}") if commit else Path(path).read_text())


def git(*words: str) -> str:
    """What it prints."""
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout


def names(aucs: Mapping[str, Mapping[str, float]]) -> list[str]:
    """What the last run and three or more have: real images, each scenario alone, each added to real ones, doses."""
    *_, last = aucs.values()
    shared = [name for name in last if sum(name in run for run in aucs.values()) >= 3]
    return sorted(shared, key=lambda name: ("doses" in name, not name.startswith(REAL), name.startswith(ADDED)))


def write_csv(path: Path, aucs: Mapping[str, Mapping[str, float]]) -> None:
    """One row for each scenario and run."""
    with written_whole(path) as aside, aside.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["scenario", "run", "commit", "auc"])
        for name in names(aucs):
            rows.writerows([name, run, RUNS[run].commit, found[name]] for run, found in aucs.items() if name in found)


def page(aucs: Mapping[str, Mapping[str, float]]) -> str:
    """The table, least and greatest beside it, and what made each run another."""
    rows = []
    for name in names(aucs):
        found = [run[name] for run in aucs.values() if name in run]
        cells = [f"{run[name]:.3f}" if name in run else "" for run in aucs.values()]
        rows.append([f"`{name}`", *cells, f"{max(found) - min(found):.3f}"])
    table = tabulate(rows, headers=["AUC of", *RUNS, "greatest less least"], tablefmt="github", disable_numparse=True)
    above = {name: sum(run[name] > run[real_of(name)] for run in aucs.values() if name in run) for name in names(aucs)}
    runs = "\n".join(f"- **{name}** ({run.commit or 'these files'}): {run.differs}" for name, run in RUNS.items())
    most = [f"`{name}` ({count})" for name, count in above.items() if count]
    return (
        "# The same study, trained anew\n\n"
        "Phantom, same data and split; AUC on the same test patients. By `python benchmarks/runs.py`, from the\n"
        "metrics committed with each run.\n\n"
        f"{table}\n\nRuns in which the AUC is above that of real images, by whatever little: {', '.join(most)}.\n\n"
        f"What made a run's networks others than those of the run before:\n\n{runs}\n\n![AUC by run](aucs.png)\n"
    )


def real_of(name: str) -> str:
    """The real images that it is to be set beside: doses train for another number of epochs."""
    return "real, doses" if "doses" in name else REAL


def draw(path: Path, aucs: Mapping[str, Mapping[str, float]]) -> None:
    """A row for each scenario, a dot for each run, the last one filled."""
    shown = names(aucs)
    figure = Figure(figsize=(7.5, 0.34 * len(shown) + 1.1), layout="constrained")
    axes = figure.subplots()
    *_, last = aucs
    for run, found in aucs.items():
        dots = [(found[name], place) for place, name in enumerate(shown) if name in found]
        colour = "tab:red" if run == last else "none"
        x, y = zip(*dots, strict=True)
        axes.scatter(x, y, s=34, color=colour, edgecolors="tab:red" if run == last else "black", zorder=3)
    axes.axvline(aucs[last][REAL], color="grey", linewidth=1)
    axes.set_yticks(range(len(shown)), shown)
    axes.invert_yaxis()
    axes.grid(axis="y", alpha=0.3)
    axes.set_xlabel("AUC; a dot for each run, red: this one; line: real images in it")
    save_figure(path, figure)


if __name__ == "__main__":
    main()
