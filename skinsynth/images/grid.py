"""Many images side by side in one picture."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from skinsynth.files import written_whole

SHOWN_WIDTH = 64  # pixels: narrower images are enlarged to about as much


def image_grid(pixels: UInt8[np.ndarray, "n 3 height width"], columns: int, scale: int = 1) -> Image.Image:
    """Images row by row, left to right, each pixel `scale` wide; places without an image are white."""
    if not len(pixels) or columns < 1 or scale < 1:
        raise ValueError(
            f"a grid takes one image or more, and columns and scale of 1 or more, but {len(pixels)} images, "
            f"{columns} columns and scale {scale} came"
        )
    _, _, height, width = pixels.shape
    rows = -(-len(pixels) // columns)
    cells = np.full((rows * columns, 3, height, width), 255, dtype=np.uint8)
    cells[: len(pixels)] = pixels
    picture = cells.reshape(rows, columns, 3, height, width).transpose(0, 3, 1, 4, 2)
    picture = picture.reshape(rows * height, columns * width, 3)
    return Image.fromarray(np.ascontiguousarray(picture.repeat(scale, axis=0).repeat(scale, axis=1)))


def save_grid(
    path: Path, pixels: UInt8[np.ndarray, "n 3 height width"], columns: int, scale: int | None = None
) -> None:
    """Write the grid as a PNG that is either whole or not there, small images enlarged where no scale is given."""
    picture = image_grid(pixels, columns, max(1, SHOWN_WIDTH // pixels.shape[-1]) if scale is None else scale)
    with written_whole(path) as aside:
        picture.save(aside, "png")
