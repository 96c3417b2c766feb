"""A figure of heat maps on the images that they explain."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from skinsynth.report.png import save_figure

CELL = 1.5  # inches


def draw_explanations(
    path: Path,
    pixels: UInt8[np.ndarray, "n 3 size size"],
    heats: Float[np.ndarray, "n size size"],
    regions: Mapping[str, Bool[np.ndarray, "n size size"]],
    captions: Sequence[str],
) -> None:
    """One row a case: the image, its heat map over it, and the image within each of `regions`, the rest faded.

    Shows the images themselves: where these are real, the figure is to be kept as they are.
    """
    images = pixels.transpose(0, 2, 3, 1)
    titles = ["image", "heat map", *regions]
    figure = Figure(figsize=(CELL * len(titles) + 1.5, CELL * len(images)), layout="constrained")
    rows = figure.subplots(len(images), len(titles), squeeze=False)
    for place, row in enumerate(rows):
        _image(row[0], images[place])
        _image(row[1], images[place].mean(axis=2, keepdims=True).astype(np.uint8).repeat(3, axis=2))
        row[1].imshow(heats[place], cmap="inferno", alpha=0.6, interpolation="nearest")
        for axes, within in zip(row[2:], regions.values(), strict=True):
            faded = 255 - (255 - images[place]) // 8
            _image(axes, np.where(within[place][..., None], images[place], faded))
        row[0].set_ylabel(captions[place], fontsize=7, rotation=0, ha="right", va="center")
    for axes, title in zip(rows[0], titles, strict=True):
        axes.set_title(title, fontsize=9)
    save_figure(path, figure)


def _image(axes: Axes, image: UInt8[np.ndarray, "size size 3"]) -> None:
    axes.imshow(image, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
