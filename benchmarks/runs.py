"""What the same study of the phantom said each time it was trained anew: AUC of every scenario, run by run.

    python benchmarks/runs.py [--to docs/results/runs]

Intervals are over test patients; what another training of the same networks would have given is not in them. This
reads it off the project's own history: the headlines (`metrics/`) that were committed with each run, through Git, and
those that lie here as the last; and how far each scenario lies from real images of the same run, with an interval over
runs. Writes table.csv, differences.csv, README.md and aucs.png. Needs the whole history (no shallow clone).
"""

import argparse
import csv
import json
import math
import statistics
import subprocess
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tabulate import tabulate

from skinsynth.files import written_whole
from skinsynth.quality.half_samples import reach_of
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
    "this": Run("", "another kind of CPU: rounding alone; doses of five trainings"),
}
# The first run with the present settings: what a mean over all runs mixes.
SINCE = "fifth"
REAL, ALONE, ADDED = "real", "synth-", "aug-"
# Of the doses' headlines: those of synthetic images, and their names here.
DOSES = {
    "auc_1x_synthetic": "synth-selected, doses: as many",
    "auc_100_percent_of_patients_and_1x_synthetic": "aug-selected, doses: as many",
    "auc_100_percent_of_patients_and_4x_synthetic": "aug-selected, doses: four times as many",
}
REAL_DOSE = "auc_100_percent_of_patients"
CAVEAT = """\
Mean over the trainings, standard deviation between them, and the t interval of the mean; of a dose, less `real, doses`.
A run in which nothing that a scenario needs was trained anew agrees to the last digit with another and counts once.

**What is in the interval is training, not patients**: all runs share data, split and test patients, and other patients
would move all of them together; intervals over patients stand in the tables of each study. It takes the runs for draws
of one kind, which they are not quite: most differ from the run before by rounding alone, one by the images drawn of the
same GANs, and some share the classifier of real images; with the fifth the GANs' seed changed, how styles are mixed,
and how often doses are trained. Where the two last columns are far apart, the mean is of two kinds of training, and
describes neither. Four to six trainings are few, too few to see whether t fits, and no interval is corrected for how
many intervals there are."""

Aucs = Mapping[str, Mapping[str, float]]  # of each run, by scenario


def main() -> None:
    """Read, write the four files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=Path("docs/results/runs"), help="folder of what is written")
    flags = parser.parse_args()
    aucs = {name: dict(aucs_of(run.commit)) for name, run in RUNS.items()}
    flags.to.mkdir(parents=True, exist_ok=True)
    write_csv(flags.to / "table.csv", aucs)
    write_differences(flags.to / "differences.csv", aucs)
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


def names(aucs: Aucs) -> list[str]:
    """What the last run and three or more have: real images, each scenario alone, each added to real ones, doses."""
    *_, last = aucs.values()
    shared = [name for name in last if sum(name in run for run in aucs.values()) >= 3]
    return sorted(shared, key=lambda name: ("doses" in name, not name.startswith(REAL), name.startswith(ADDED)))


def write_csv(path: Path, aucs: Aucs) -> None:
    """One row for each scenario and run."""
    with written_whole(path) as aside, aside.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["scenario", "run", "commit", "auc"])
        for name in names(aucs):
            rows.writerows([name, run, RUNS[run].commit, found[name]] for run, found in aucs.items() if name in found)


def real_of(name: str) -> str:
    """The real images that it is to be set beside: doses train for another number of epochs."""
    return "real, doses" if "doses" in name else REAL


def differences(aucs: Aucs, name: str) -> list[float]:
    """AUC less that of real images of the same run; runs that agree in both to the last digit are one training."""
    pairs = dict.fromkeys((run[name], run[real_of(name)]) for run in aucs.values() if name in run)
    return [auc - of_real for auc, of_real in pairs]


def compared(aucs: Aucs) -> dict[str, list[float]]:
    """The differences of each scenario and dose that has synthetic images."""
    return {name: differences(aucs, name) for name in names(aucs) if name != real_of(name)}


class OverRuns(NamedTuple):
    """The mean of some runs, the standard deviation between them, and the mean's 95 % interval (Student's t)."""

    mean: float
    deviation: float
    low: float
    high: float


def over_runs(values: Sequence[float]) -> OverRuns:
    """As if each were a draw from all trainings; one alone has a mean, and no more (nan)."""
    mean, reach = statistics.fmean(values), reach_of(values) / math.sqrt(len(values))
    deviation = statistics.stdev(values) if len(values) > 1 else math.nan
    return OverRuns(mean, deviation, mean - reach, mean + reach)


def write_differences(path: Path, aucs: Aucs) -> None:
    """One row for each scenario: mean over runs, standard deviation between them, interval of the mean."""
    with written_whole(path) as aside, aside.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["scenario", "less", "trainings", "mean", "standard_deviation", "low", "high"])
        for name, found in compared(aucs).items():
            rows.writerow([name, real_of(name), len(found), *(f"{number:.4f}" for number in over_runs(found))])


def page(aucs: Aucs) -> str:
    """Both tables, what they do not say, and what made each run another."""
    runs = "\n".join(f"- **{name}** ({run.commit or 'these files'}): {run.differs}" for name, run in RUNS.items())
    return (
        "# The same study, trained anew\n\n"
        "Phantom, same data and split; AUC on the same test patients. By `python benchmarks/runs.py`, from the\n"
        f"metrics committed with each run.\n\n{table_of_aucs(aucs)}\n\n{table_of_differences(aucs)}\n\n"
        f"What made a run's networks others than those of the run before:\n\n{runs}\n\n![AUC by run](aucs.png)\n"
    )


def table_of_aucs(aucs: Aucs) -> str:
    """AUC run by run, least and greatest beside it, and what was ever above real images."""
    rows = []
    for name in names(aucs):
        found = [run[name] for run in aucs.values() if name in run]
        cells = [f"{run[name]:.3f}" if name in run else "" for run in aucs.values()]
        rows.append([f"`{name}`", *cells, f"{max(found) - min(found):.3f}"])
    table = tabulate(rows, headers=["AUC of", *RUNS, "greatest less least"], tablefmt="github", disable_numparse=True)
    above = {name: sum(difference > 0 for difference in found) for name, found in compared(aucs).items()}
    most = ", ".join(f"`{name}` ({count})" for name, count in above.items() if count) or "none"
    return f"{table}\n\n" + wrapped(f"Trainings in which it is above real images, by whatever little: {most}.")


def table_of_differences(aucs: Aucs) -> str:
    """Mean difference to real images over runs, with its interval, and what the interval leaves out."""
    before = dict(list(aucs.items())[: list(aucs).index(SINCE)])
    since = {run: found for run, found in aucs.items() if run not in before}
    rows = []
    for name, found in compared(aucs).items():
        whole, parts = over_runs(found), [mean_of(differences(part, name)) for part in (before, since)]
        interval = f"{whole.low:+.3f} to {whole.high:+.3f}"
        rows.append([f"`{name}`", len(found), mean_of(found), f"{whole.deviation:.3f}", interval, *parts])
    headers = ["AUC less that of real images", "trainings", "mean", "standard deviation", "95 % interval"]
    headers += [f"mean before the {SINCE}", "mean since"]
    table = tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
    return f"## Less real images of the same run\n\n{table}\n\n{verdict(compared(aucs))}\n\n{CAVEAT}"


def mean_of(values: Sequence[float]) -> str:
    """With its sign; empty of none."""
    return f"{statistics.fmean(values):+.3f}" if values else ""


def verdict(found: Mapping[str, Sequence[float]]) -> str:
    """Which intervals do not hold 0, and what it means that others do."""
    below = ", ".join(f"`{name}`" for name, values in found.items() if over_runs(values).high < 0) or "none"
    above = ", ".join(f"`{name}`" for name, values in found.items() if over_runs(values).low > 0) or "none"
    rest = "An interval that holds 0 does not say that nothing is lost: see how wide it is."
    return wrapped(f"With the whole interval below real images: {below}. Above: {above}. {rest}")


def wrapped(words: str) -> str:
    """In lines as long as those of the other pages."""
    return textwrap.fill(words, 120, break_long_words=False, break_on_hyphens=False)


def draw(path: Path, aucs: Aucs) -> None:
    """A row for each scenario: a dot for each run, the last one filled, and the mean difference with its interval."""
    shown = names(aucs)
    figure = Figure(figsize=(9.5, 0.34 * len(shown) + 1.1), layout="constrained")
    dots, means = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    draw_dots(dots, aucs, shown)
    draw_means(means, compared(aucs), shown)
    dots.set_yticks(range(len(shown)), shown)
    dots.invert_yaxis()
    for axes in (dots, means):
        axes.grid(axis="y", alpha=0.3)
    save_figure(path, figure)


def draw_dots(axes: Axes, aucs: Aucs, shown: Sequence[str]) -> None:
    """AUC of each run."""
    *_, last = aucs
    for run, found in aucs.items():
        x, y = zip(*[(found[name], place) for place, name in enumerate(shown) if name in found], strict=True)
        colour = "tab:red" if run == last else "none"
        axes.scatter(x, y, s=34, color=colour, edgecolors="tab:red" if run == last else "black", zorder=3)
    axes.axvline(aucs[last][REAL], color="grey", linewidth=1)
    axes.set_xlabel("AUC; a dot for each run, red: this one;\nline: real images in it")


def draw_means(axes: Axes, found: Mapping[str, Sequence[float]], shown: Sequence[str]) -> None:
    """Mean difference to real images of the same run, with its interval over runs."""
    for place, name in enumerate(shown):
        if name in found:
            mean, _, low, high = over_runs(found[name])
            axes.plot((low, high), (place, place), color="black", linewidth=1.2)
            axes.plot(mean, place, "o", color="black", markersize=4)
    axes.axvline(0, color="grey", linewidth=1)
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=4)
    axes.set_xlabel("less real images of the same run:\nmean and 95 % t interval")


if __name__ == "__main__":
    main()
