"""What a source of images says before a pixel is read."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

Drawing = Callable[[], np.ndarray]  # draws uint8 pixels (height, width, 3)


@dataclass(frozen=True)
class Catalogue:
    name: str  # of the source, for messages
    table: pd.DataFrame  # columns of lesions.csv that the source knows, and `malignancy`; one row an image
    pictures: dict[str, Path | Drawing]  # by image_id; a row without its image has none
    listed_pairs: list[tuple[str, str]]  # pairs that the source calls duplicates
    notes: list[str] = field(default_factory=list)  # what a reader should know, a line each
    rows_without_image: int = 0  # that were left out


def files_by_name(folder: Path) -> dict[str, Path]:
    """The files of a folder; {} where there is no such folder."""
    return {path.name: path for path in folder.iterdir()} if folder.is_dir() else {}


def present(catalogue: Catalogue) -> Catalogue:
    """The rows whose image is there; a note counts the others, and a FileNotFoundError comes where none is left."""
    has_picture = catalogue.table["image_id"].isin(catalogue.pictures.keys())
    table = catalogue.table[has_picture].reset_index(drop=True)
    if not len(table):
        raise FileNotFoundError(
            f"{catalogue.name}: none of the {len(catalogue.table)} rows has its image: put the images beside the tables"
        )
    notes = list(catalogue.notes)
    missing = catalogue.table.loc[~has_picture]
    if len(missing):
        by_source = ", ".join(f"{count} of {name}" for name, count in missing["source"].value_counts().items())
        notes.append(f"{len(missing)} of {len(catalogue.table)} rows have no image here and are left out ({by_source})")
    return replace(catalogue, table=table, notes=notes, rows_without_image=len(missing))
