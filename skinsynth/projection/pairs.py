"""Real images and their projections in one ZIP, as <id>.real and <id>.projected."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8

from skinsynth.images.archive import read_archive, write_archive


class Pairs(NamedTuple):
    """Real images and their projections, row by row of the same image."""

    ids: list[str]
    real: UInt8[np.ndarray, "n 3 size size"]
    projected: UInt8[np.ndarray, "n 3 size size"]
    labels: Int64[np.ndarray, " n"]


def write_pairs(path: Path, pairs: Pairs) -> None:
    """Both images of each pair one after the other, in the order of the archive."""
    names = [f"{image_id}.{kind}" for image_id in pairs.ids for kind in ("projected", "real")]
    pixels = np.stack([pairs.projected, pairs.real], axis=1).reshape(-1, *pairs.real.shape[1:])
    order = np.argsort(names)
    write_archive(path, [names[place] for place in order], pixels[order], pairs.labels.repeat(2)[order].tolist())


def read_pairs(path: Path) -> Pairs:
    """What `write_pairs` wrote, sorted by name; a ValueError says what came alone."""
    both = read_archive(path)
    place_of = {name: place for place, name in enumerate(both.ids)}
    ids = [name.removesuffix(".real") for name in both.ids if name.endswith(".real")]
    missing = [image_id for image_id in ids if f"{image_id}.projected" not in place_of]
    if missing or not ids:
        found = f"{missing[0]}.real came alone" if missing else "there is none"
        raise ValueError(f"pairs hold <id>.real and <id>.projected of each image, but {found}: run project_images")
    real, projected = ([place_of[f"{image_id}.{kind}"] for image_id in ids] for kind in ("real", "projected"))
    return Pairs(ids, both.pixels[real], both.pixels[projected], both.labels[real])
