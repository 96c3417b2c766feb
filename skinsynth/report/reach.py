"""The figure of a federation: FID and KID of every model against images shown to one trainer, and to all."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, StrMethodFormatter

from skinsynth.report.png import save_figure

Row = Mapping[str, Any]

# Told apart by the colour-blind (Okabe and Ito 2008), and by markers and dashes besides; then they begin again.
COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("s", "o", "^", "v", "D", "P", "X", "<", ">")
DASHES = ("-", "-", "--", "-.", ":")
TRAIN = "train"
# Of an axis that is linear to 1 and logarithmic beyond; the finer ones where it ends below 30.
DECADES = (-100, -10, -1, 0, 1, 10, 100, 1000, 10_000)
FINER = (-10, -5, -2, -1, -0.5, 0, 0.5, 1, 2, 3, 5, 10, 20)
APART = 0.012  # of the axis, between the intervals of models that end at the same count


class Panel(NamedTuple):
    """One axis of a figure's columns."""

    images: str  # the column of a curve
    label: str


PANELS = (
    Panel("images_per_trainer", "images shown to one trainer (time, where hospitals train side by side)"),
    Panel("images_in_all", "images shown to all trainers together (cost)"),
)


def draw_reach(
    path: Path, curves: Mapping[str, pd.DataFrame], finals: Sequence[Row], panels: Sequence[Panel] = PANELS
) -> None:
    """FID on a log axis above, KID (which may be below 0) under it: linear to 1, logarithmic beyond.

    The interval of each final model stands beside its end.

    `finals` are rows of `quality.cohorts.model_rows`, or none.
    """
    scores = [column for column in map(str, next(iter(curves.values()))) if column.startswith(("fid_", "kid_"))]
    figure = Figure(figsize=(6.2 * len(panels), 3.9 * len(scores)), layout="constrained")
    rows_of_axes = figure.subplots(len(scores), len(panels), sharex="col", sharey="row", squeeze=False)
    for score, row in zip(scores, rows_of_axes, strict=True):
        for panel, axes in zip(panels, row, strict=True):
            _draw(axes, curves, [one for one in finals if _is_final_of(one, score)], score, panel)
        row[0].set_ylabel(_title(score))
    for panel, axes in zip(panels, rows_of_axes[-1], strict=True):
        axes.set_xlabel(panel.label)
    rows_of_axes[0][-1].legend(fontsize=8)
    figure.suptitle(_caption(finals), fontsize=9)
    save_figure(path, figure)


def _draw(axes: Axes, curves: Mapping[str, pd.DataFrame], finals: Sequence[Row], score: str, panel: Panel) -> None:
    widest = max(float(points[panel.images].max()) for points in curves.values())
    for place, (name, points) in enumerate(curves.items()):
        colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
        x, y = points[panel.images], points[score]
        axes.plot(x, y, DASHES[place % len(DASHES)], color=colour, marker=marker, markersize=4.5, label=name)
        for final in finals:
            if final["model"] == name:
                bars = [[final["value"] - final["low"]], [final["high"] - final["value"]]]
                end = [float(x.iloc[-1]) + (place + 1.5) * APART * widest]
                axes.errorbar(end, [final["value"]], bars, fmt=marker, color=colour, capsize=3, markerfacecolor="none")
    if score.startswith("fid_"):
        axes.set_yscale("log", subs=(2, 3, 4, 5, 7))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        few = axes.get_ylim()[1] < 30 * axes.get_ylim()[0]
        axes.yaxis.set_minor_formatter(StrMethodFormatter("{x:g}") if few else NullFormatter())
    else:
        axes.set_yscale("symlog", linthresh=1)
        axes.yaxis.set_major_locator(FixedLocator(FINER if axes.get_ylim()[1] < 30 else DECADES))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.grid(alpha=0.25, which="both")


def _is_final_of(row: Row, score: str) -> bool:
    """Whether a row of final models is about the score that a curve calls so."""
    metric = {"fid": f"fid_{row['extractor']}", "kid_percent": f"kid_{row['extractor']}_percent"}.get(row["metric"])
    return metric == score and row["reference"] == TRAIN


def _title(score: str) -> str:
    name, extractor = score.removesuffix("_percent").split("_", 1)
    unit = ", percent" if score.endswith("_percent") else ""
    return f"{name.upper()} against all training images\n({extractor} features{unit})"


def _caption(finals: Sequence[Row]) -> str:
    line = "Lines: one training each, scored as it went."
    if not finals:
        return line
    return (
        f"{line} Open markers beside their ends: the final models on {finals[0]['compared_count']:,} images, bars: "
        "95 % over real patients and generated images, not over trainings."
    )
