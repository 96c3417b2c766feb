"""A hospital's own table beside a folder of its images."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from skinsynth.lesions.catalogue import Catalogue, Drawing
from skinsynth.lesions.diagnoses import BENIGN, MALIGNANT
from skinsynth.lesions.folders import id_of
from skinsynth.lesions.table import COLUMNS, blank_unknown, check_values, read_csv

REQUIRED = ("path", "patient_id", "label")
# What prepare_images finds out by itself is not taken from a table.
OPTIONAL = tuple(
    column for column in COLUMNS if column not in ("label", "width", "height", "sha256", "duplicate_group")
)
IDS = ("patient_id", "lesion_id")
OLDEST = 150  # years; more is a year of birth, or a code for unknown


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
    for column in (*IDS, "age"):
        if column in table:
            table[column] = blank_unknown(table[column])
    _check_ids(csv, table, paths, "image_id" in given)
    _check_lesions(csv, table)
    check_values(csv, table)
    if "age" in table:
        _check_ages(csv, table["age"])
    places = {image_id: images / path for image_id, path in zip(table["image_id"], paths, strict=True)}
    pictures: dict[str, Path | Drawing] = {name: place for name, place in places.items() if place.is_file()}
    notes = _notes(given, table["patient_id"])
    return Catalogue(f"table {csv}", table, pictures, [], notes, places=places, folders=[images])


def _inside(csv: Path, path: str) -> PurePosixPath:
    """The path, if it stays in the folder. Links within the folder are its owner's and may lead anywhere (DVC's do)."""
    relative = PurePosixPath(path.replace("\\", "/"))
    if not path or relative.is_absolute() or ".." in relative.parts or ":" in relative.parts[0]:
        raise ValueError(f"{csv}: a path leads from the image folder to an image in it, but {path!r} does not")
    return relative


def _check_ids(csv: Path, table: pd.DataFrame, paths: list[PurePosixPath], own_ids: bool) -> None:
    """ValueError where an image has no id, or that of another row; `own_ids` where the hospital gives them."""
    empty = int((table["image_id"] == "").sum())
    if empty:
        raise ValueError(f"{csv}: {empty} rows have no image_id: fill it, or leave the column out")
    twice = table["image_id"].duplicated()
    if twice.any():
        image_id = table.loc[twice, "image_id"].iloc[0]
        ours = [str(path) for path, name in zip(paths, table["image_id"], strict=True) if name == image_id]
        if ours[0] == ours[1]:
            what = f"{ours[0]!r} has two rows: leave one of them out"
        else:
            advice = "give each an image_id of its own" if own_ids else "rename one, or add a column image_id"
            what = f"{ours[0]!r} and {ours[1]!r} both get the id {image_id!r}: {advice}"
        raise ValueError(f"{csv}: an image has one row and one id, but {twice.sum()} ids came again: {what}")


def _check_lesions(csv: Path, table: pd.DataFrame) -> None:
    """ValueError where a lesion is on two patients: numbers that start anew for each would join them all."""
    known = table.loc[(table["lesion_id"] != "") & (table["patient_id"] != ""), list(IDS)].drop_duplicates()
    shared = known.loc[known["lesion_id"].duplicated(), "lesion_id"]
    if len(shared):
        one, other = known.loc[known["lesion_id"] == shared.iloc[0], "patient_id"].iloc[:2]
        raise ValueError(
            f"{csv}: lesion_id {shared.iloc[0]!r} belongs to patients {one!r} and {other!r}: write lesion ids that are "
            f"unique across patients, or leave the column out"
        )


def _check_ages(csv: Path, ages: pd.Series) -> None:
    wrong = ages[(ages != "") & ~pd.to_numeric(ages, errors="coerce").between(0, OLDEST)]
    if len(wrong):
        raise ValueError(
            f"{csv}: an age is a number of years or nothing, but {wrong.iloc[0]!r} came ({len(wrong)} rows): "
            f"write the number alone"
        )


def _notes(given: pd.DataFrame, patients: pd.Series) -> list[str]:
    notes = []
    unused = [str(column) for column in given if column not in (*REQUIRED, *OPTIONAL)]
    if unused:
        notes.append(f"columns that are not used: {', '.join(unused)}")
    without_patient = int((patients == "").sum())
    if without_patient:
        notes.append(
            f"{without_patient} of {len(given)} rows name no patient: nothing keeps those patients on one side"
        )
    return notes
