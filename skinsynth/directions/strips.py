"""Strips of edited images in one picture that says what each row and each column is."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from skinsynth.files import written_whole
from skinsynth.images.grid import image_grid

CELL = 64  # pixels of the picture that an image takes, at least
LETTER = 5  # of its side that a line of text is high: one part in so many
GAP = 4  # pixels between a text and what is beside it

# As a reader knows them; other methods are called by their own names.
METHODS = {"sefa": "SeFa", "pca": "PCA"}


class Strip(NamedTuple):
    """A row: one image at every step."""

    label: str  # may have several lines
    pixels: UInt8[np.ndarray, "steps 3 size size"]


def step_names(steps: Sequence[float], unit: str = "") -> list[str]:
    """Names of columns, as in -3 SD, 0 (itself), +3 SD."""
    return ["0 (itself)" if step == 0 else f"{step:+g}{unit}" for step in steps]


def draw_strips(path: Path, title: str, columns: Sequence[str], strips: Sequence[Strip]) -> None:
    """Row below row, its label to the left of it, the names of the columns above; the same bytes for the same input."""
    misfits = sorted({len(strip.pixels) for strip in strips} - {len(columns)})
    if misfits or not strips:
        raise ValueError(f"strips have an image for each of {len(columns)} columns, but these have {misfits or 'none'}")
    scale = max(1, -(-CELL // strips[0].pixels.shape[-1]))
    grid = image_grid(np.concatenate([strip.pixels for strip in strips]), len(columns), scale)
    cell = grid.width // len(columns)
    font = ImageFont.load_default(cell // LETTER)
    left = max(_width(strip.label, font) for strip in strips) + 2 * GAP
    top, line = 2 * (cell // LETTER) + 4 * GAP, cell // LETTER + 2 * GAP
    picture = Image.new("RGB", (max(left + grid.width, _width(title, font) + 2 * GAP), top + grid.height), "white")
    picture.paste(grid, (left, top))
    draw = ImageDraw.Draw(picture)
    draw.text((GAP, GAP), title, "black", font)
    for place, name in enumerate(columns):
        draw.text((left + (place + 0.5) * cell, line + GAP), name, "black", font, anchor="ma")
    for place, strip in enumerate(strips):
        draw.text((left - GAP, top + (place + 0.5) * cell), strip.label, "black", font, anchor="rm", align="right")
    with written_whole(path) as aside:
        picture.save(aside, "png")


def _width(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    return round(max(font.getlength(line) for line in text.splitlines()))
