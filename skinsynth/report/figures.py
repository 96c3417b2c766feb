"""Figures for people who would rather look than read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from skinsynth.report.png import save_figure

Row = Mapping[str, Any]


def draw_dose_response(path: Path, rows: Sequence[Row]) -> None:
    """AUC over doses, each training a dot beside the mean: against synthetic images, and against patients.

    Rows are those of `quality.dose_response.curve_rows`, with `seed_aucs`.
    """
    figure = Figure(figsize=(11, 5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _against_synthetic_share(left, rows)
    _against_patients(right, rows)
    figure.suptitle(_dose_caption(rows), fontsize=9)
    save_figure(path, figure)


def _dose_caption(rows: Sequence[Row]) -> str:
    """The caption: what is seen, what the bars hold, and what they leave out."""
    seeds = sorted({row["seeds"] for row in rows})
    counts = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return (
        "Do synthetic images stand in for real ones, or add to them? The generator has seen all training patients: "
        "what its images add to a few of them is an upper bound.\n"
        "Dots: single trainings, each with its own training patients, synthetic images, initialisation and batches "
        f"({counts} a point); large markers: their mean, on {rows[0]['test_images']} real test images.\n"
        "Bars: 95 % over test patients alone. How far other training patients, other images and another training would "
        "move the AUC only the dots tell; a single dot does not."
    )


def _against_synthetic_share(axes: Axes, rows: Sequence[Row]) -> None:
    """One line for each share of the patients that was trained with several synthetic shares, the largest first."""
    lines = [
        sorted((row for row in rows if row["patient_share"] == share), key=lambda row: row["synthetic_share"])
        for share in sorted({row["patient_share"] for row in rows}, reverse=True)
    ]
    for place, line in enumerate(lines):
        if len(line) > 1:
            label = f"with {line[0]['patients']} real patients" if line[0]["patients"] else "synthetic images alone"
            _line(axes, [row["synthetic_share"] + 0.08 * place for row in line], line, label)
    axes.set_xticks(sorted({row["synthetic_share"] for row in rows}))
    axes.xaxis.set_major_formatter("{x:g}x")
    _label(axes, "synthetic images for each real training image there is")


def _against_patients(axes: Axes, rows: Sequence[Row]) -> None:
    """One line for each synthetic share that was trained with several numbers of patients."""
    real = [row for row in rows if row["patients"]]
    for place, share in enumerate(sorted({row["synthetic_share"] for row in real})):
        line = sorted((row for row in real if row["synthetic_share"] == share), key=lambda row: row["patients"])
        if len(line) > 1:
            label = f"and {line[0]['synthetic_images']} synthetic images ({share:g}x)" if share else "real images alone"
            _line(axes, [row["patients"] * 1.06**place for row in line], line, label)
    axes.set_xscale("log")
    ticks = sorted({row["patients"] for row in real})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xticks([], minor=True)
    _label(axes, "patients with real training images")


def _line(axes: Axes, x: Sequence[float | int], rows: Sequence[Row], label: str) -> None:
    """Means with their bars, and every training to the right of its bar."""
    below = [row["value"] - row["low"] for row in rows]
    above = [row["high"] - row["value"] for row in rows]
    bars = axes.errorbar(x, [row["value"] for row in rows], [below, above], marker="o", capsize=3, label=label)
    beside = axes.transData + ScaledTranslation(4 / 72, 0, axes.figure.dpi_scale_trans)
    places = [place for place, row in zip(x, rows, strict=True) for _ in row["seed_aucs"]]
    areas = [area for row in rows for area in row["seed_aucs"]]
    axes.plot(places, areas, ".", color=bars[0].get_color(), markersize=4, transform=beside)


def _label(axes: Axes, x: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel("AUC on test patients")
    axes.axhline(0.5, color="grey", linewidth=0.8, linestyle=":")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2)
