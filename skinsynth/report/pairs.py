"""A figure of image pairs, framed by how close they are (Fig. 3 of papers/000)."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from skinsynth.report.png import save_figure

COLUMNS = 6
CELL = 2.0, 1.35  # inches, width and height of a pair with its distance
TITLE = 0.35  # inches, above each group


class PairGroup(NamedTuple):
    title: str
    frame: str  # a colour: red for the closest, blue for the furthest, as in the paper
    left: UInt8[np.ndarray, "n 3 size size"]
    right: UInt8[np.ndarray, "n 3 size size"]
    distances: Float[np.ndarray, " n"]


def draw_pairs(path: Path, groups: Sequence[PairGroup]) -> None:
    """Group below group, each pair side by side in its frame with its distance below.

    Shows the images themselves: where these are real, the figure is to be kept as they are.
    """
    rows = [-(-len(group.distances) // COLUMNS) for group in groups]
    heights = [CELL[1] * count + TITLE for count in rows]
    figure = Figure(figsize=(CELL[0] * COLUMNS, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(groups), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, group, count in zip(parts, groups, rows, strict=True):
        part.suptitle(group.title, fontsize=9)
        cells = part.subplots(count, COLUMNS, squeeze=False).ravel()
        for place, axes in enumerate(cells):
            if place < len(group.distances):
                _pair(axes, group, place)
            else:
                axes.set_axis_off()
    save_figure(path, figure)


def _pair(axes: Axes, group: PairGroup, place: int) -> None:
    both = np.concatenate([group.left[place], group.right[place]], axis=2)
    axes.imshow(both.transpose(1, 2, 0), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel(f"{group.distances[place]:.2g}", fontsize=7)
    for edge in axes.spines.values():
        edge.set(color=group.frame, linewidth=2)
