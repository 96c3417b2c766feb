"""The figure of distances: how far each set of images lies from training, in every way of measuring."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from skinsynth.report.png import save_figure

# Told apart by the colour-blind (Okabe and Ito 2008), and by dashes besides.
LOOKS = (("#D55E00", "-"), ("#0072B2", "--"), ("#009E73", ":"), ("#000000", "-."))


def draw_distances(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One panel for each `features_of`; a line for each `of`, the share of its images in bins of `cosine_distance`."""
    table = pd.DataFrame(rows)
    spaces = list(dict.fromkeys(table["features_of"]))
    figure = Figure(figsize=(6.2 * len(spaces), 3.6), layout="constrained")
    for space, axes in zip(spaces, figure.subplots(1, len(spaces), squeeze=False)[0], strict=True):
        own = table[table["features_of"] == space]
        for (colour, dashes), (name, bins) in zip(LOOKS, own.groupby("of", sort=False), strict=False):
            axes.step(bins["cosine_distance"], bins["share"], dashes, where="post", color=colour, label=name)
        axes.set_title(f"features of {space}", fontsize=10)
        axes.set_xlabel("cosine distance (to the nearest training image; of projections, to the own image)", fontsize=8)
        axes.set_ylabel("share of the images")
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=8, frameon=False)
    save_figure(path, figure)
