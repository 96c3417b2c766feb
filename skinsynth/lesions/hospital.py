"""A hospital's own table beside a folder of its images."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from skinsynth.lesions.catalogue import Catalogue, Drawing
from skinsynth.lesions.diagnoses import BENIGN, MALIGNANT
from skinsynth.lesions.folders import id_of
from skinsynth.lesions.table import COLUMNS, read_csv

REQUIRED = ("path", "patient_id", "label")
# What prepare_images finds out by itself is not taken from a table.
OPTIONAL = tuple(
    column for column in COLUMNS if column not in ("label", "width", "height", "sha256", "duplicate_group")
)
SHOWN = 3


@dataclass(frozen=True)
class TableConfig:
    csv: str  # path, patient_id and label, and any other column of lesions.csv
    images: str  # folder that the paths start from
    licence: str  # of the images where the table has no such column; "" where unknown


def read_hospital_table(config: TableConfig) -> Catalogue:
    """All rows of the table, whether or not their image is there; `label` is a class or a diagnosis."""
    csv, images = Path(config.csv), Path(config.images)
    if not images.is_dir():
        raise FileNotFoundError(f"no folder {images}: put the images there that {csv} lists")
    given = read_csv(csv, REQUIRED)
    paths = [_inside(csv, path) for path in given["path"]]
    table = given[[column for column in given if column in OPTIONAL]].copy()
    if "image_id" not in table:
        table["image_id"] = [id_of(Path(path)) for path in paths]
    is_word = given["label"].isin((BENIGN, MALIGNANT))
    table["malignancy"] = given["label"].where(is_word, "")
    # The label is the diagnosis where it says more than the word and no column of its own says it.
    said = given["diagnosis"] if "diagnosis" in given else pd.Series("", index=given.index)
    table["diagnosis"] = said.where((said != "") | is_word, given["label"])
    for column, value in {"source": csv.stem, "licence": config.licence, "lesion_id": ""}.items():
        table[column] = table[column].where(table[column] != "", value) if column in table else value
    _check_ids(csv, table)
    pictures: dict[str, Path | Drawing] = {
        image_id: images / path
        for image_id, path in zip(table["image_id"], paths, strict=True)
        if (images / path).is_file()
    }
    return Catalogue(f"table {csv}", table, pictures, [], _notes(given))


def _inside(csv: Path, path: str) -> PurePosixPath:
    """The path, if it stays in the folder. Links within the folder are its owner's and may lead anywhere (DVC's do)."""
    relative = PurePosixPath(path.replace("\\", "/"))
    if not path or relative.is_absolute() or ".." in relative.parts or ":" in relative.parts[0]:
        raise ValueError(f"{csv}: a path leads from the image folder to an image in it, but {path!r} does not")
    return relative


def _check_ids(csv: Path, table: pd.DataFrame) -> None:
    empty = int((table["image_id"] == "").sum())
    if empty:
        raise ValueError(f"{csv}: {empty} rows have no image_id: fill it, or leave the column out")
    twice = table.loc[table["image_id"].duplicated(), "image_id"]
    if len(twice):
        named = ", ".join(map(repr, twice.unique()[:SHOWN]))
        raise ValueError(f"{csv}: an image has one row, but {len(twice)} ids came again: {named}")


def _notes(given: pd.DataFrame) -> list[str]:
    notes = []
    unused = [str(column) for column in given if column not in (*REQUIRED, *OPTIONAL)]
    if unused:
        notes.append(f"columns that are not used: {', '.join(unused)}")
    without_patient = int((given["patient_id"] == "").sum())
    if without_patient:
        notes.append(
            f"{without_patient} of {len(given)} rows name no patient: nothing keeps those patients on one side"
        )
    return notes
