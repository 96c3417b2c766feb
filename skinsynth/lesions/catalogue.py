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
    places: dict[str, Path] = field(default_factory=dict)  # by image_id: where its image was looked for
    folders: list[Path] = field(default_factory=list)  # that images are put into, for messages
    help_for: dict[str, str] = field(default_factory=dict)  # by class: how to come by images of it


def found_at(places: dict[str, Path]) -> dict[str, Path | Drawing]:
    """Those of the places that hold a file; each folder is listed once, which is quick for thousands of files."""
    folders = {place.parent for place in places.values()}
    names = {folder: {path.name for path in folder.iterdir()} if folder.is_dir() else set() for folder in folders}
    return {image_id: place for image_id, place in places.items() if place.name in names[place.parent]}


def present(catalogue: Catalogue) -> Catalogue:
    """The rows whose image is there; a note counts the others, and a FileNotFoundError comes where none is left."""
    has_picture = catalogue.table["image_id"].isin(catalogue.pictures.keys())
    table = catalogue.table[has_picture].reset_index(drop=True)
    notes = list(catalogue.notes)
    missing = catalogue.table.loc[~has_picture]
    places = [catalogue.places[image_id] for image_id in missing["image_id"] if image_id in catalogue.places]
    if not len(table):
        looked_for = f" (the first would be {places[0]})" if places else ""
        raise FileNotFoundError(
            f"{catalogue.name}: none of the {len(catalogue.table)} rows has its image{looked_for}: put the images into "
            f"{' and '.join(map(str, catalogue.folders))}"
        )
    if len(missing):
        first = f"; the first: {places[0]}" if places else ""
        by_source = ", ".join(f"{count} of {name}" for name, count in missing["source"].value_counts().items())
        notes.append(
            f"{len(missing)} of {len(catalogue.table)} rows have no image here and are left out ({by_source}{first})"
        )
    return replace(catalogue, table=table, notes=notes, rows_without_image=len(missing))
