"""lesions.csv: one row an image, with all that is known of it."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from skinsynth.settings import closest
from skinsynth.tables import write_table

# Artefacts, 0 or 1; nothing where it is not known.
FLAGS = ("hair", "black_frame", "ruler", "other_artefact")
COLUMNS = (
    "image_id",
    "patient_id",
    "lesion_id",
    "diagnosis",  # as the source says
    "label",  # number of the class
    "source",
    "sex",
    "age",  # years
    "site",
    "width",  # of the source, in pixels
    "height",
    *FLAGS,
    "licence",
    "sha256",  # of the source's file, or of the drawn pixels
    "duplicate_group",  # smallest image_id of the images that show one photograph
    "given_split",  # where the source fixes it
)
VALUES_OF = {**dict.fromkeys(FLAGS, ("", "0", "1")), "given_split": ("", "train", "test")}
SHOWN = 5  # wrong values that an error names
UNKNOWN_WORDS = ("unknown", "na", "n/a", "none", "nan", "-", "?")  # in any case: as good as an empty cell


def read_csv(path: Path, required: Iterable[str]) -> pd.DataFrame:
    """A CSV as text, "" where it says nothing; commas, semicolons or tabs, with or without a byte order mark."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            rows = list(csv.reader(file, delimiter=max(",;\t", key=header.count), strict=True))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not in UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8") from error
    except csv.Error as error:
        raise ValueError(f"{path} is not a CSV: {error}") from error
    names, *rows = [[cell.strip() for cell in row] for row in rows if any(row)] or [[]]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if not names or twice:
        raise ValueError(
            f"{path}: a CSV starts with the names of its columns, each once, but {twice or 'nothing'} came"
        )
    table = pd.DataFrame([_cells(path, row, len(names)) for row in rows], columns=names, dtype=str)
    check_columns(path, table, required)
    return table


def blank_unknown(values: pd.Series) -> pd.Series:
    """The values, "" where one is a word for unknown."""
    return values.mask(values.str.casefold().isin(UNKNOWN_WORDS), "")


def _cells(path: Path, row: list[str], count: int) -> list[str]:
    """As many cells as there are columns; empty ones may be missing or too many at the end of a row."""
    if any(row[count:]):
        raise ValueError(
            f"{path}: a row has {len(row)} cells for {count} columns, it starts with {row[0]!r}: put a cell with a "
            f"separator in it between quotes"
        )
    return row[:count] + [""] * (count - len(row))


def check_columns(path: Path, table: pd.DataFrame, required: Iterable[str]) -> None:
    """ValueError where a required column is missing, with the column that was perhaps meant."""
    missing = [column for column in required if column not in table]
    if missing:
        meant = [name for column in missing if (name := closest(column, table.columns))]
        hint = f": did you mean {', '.join(map(repr, meant))}?" if meant else ""
        raise ValueError(
            f"{path}: no column {', '.join(map(repr, missing))}{hint} (its columns: {', '.join(table.columns)})"
        )


def read_lesions(path: Path) -> pd.DataFrame:
    """The table as `write_lesions` wrote it: text, "" where unknown, and `label` as whole numbers."""
    if not path.is_file():
        raise FileNotFoundError(f"no table of lesions at {path}: run prepare_images")
    table = read_csv(path, COLUMNS)[list(COLUMNS)]
    wrong = table.loc[~table["label"].str.fullmatch(r"\d+"), "label"]
    if len(wrong):
        raise ValueError(f"{path}: a label is the number of a class, but {_named(wrong)} came")
    table = table.astype({"label": "int64"})
    _check(path, table)
    return table


def lesions_of(path: Path, image_ids: Sequence[str]) -> pd.DataFrame:
    """The rows of these images, in the order asked for; a ValueError names one that has no row."""
    table = read_lesions(path).set_index("image_id", drop=False)
    missing = [image_id for image_id in image_ids if image_id not in table.index]
    if missing:
        raise ValueError(
            f"{path}: no row of image {missing[0]!r} and {len(missing) - 1} others: run prepare_images again"
        )
    return table.loc[list(image_ids)].reset_index(drop=True)


def write_lesions(path: Path, table: pd.DataFrame) -> None:
    """The same bytes for the same lesions: sorted by image_id, all columns, either whole or not there."""
    check_columns(path, table, ("image_id", "label"))
    unknown = [column for column in table if column not in COLUMNS]
    if unknown:
        raise ValueError(f"{path}: lesions.csv has no column {', '.join(map(repr, unknown))}: drop it first")
    table = table.reindex(columns=list(COLUMNS)).astype({"label": "int64"})
    texts = [column for column in COLUMNS if column != "label"]
    table[texts] = table[texts].astype(object).fillna("").astype(str)
    _check(path, table)
    write_table(path, table.sort_values("image_id"))


def _check(path: Path, table: pd.DataFrame) -> None:
    twice = table.loc[table["image_id"].duplicated(), "image_id"]
    if len(twice):
        raise ValueError(f"{path}: an image has one row, but {_named(twice)} came more than once")
    if (table["label"] < 0).any():
        raise ValueError(f"{path}: a label is the number of a class, but {table['label'].min()} came")
    check_values(path, table)


def check_values(path: Path, table: pd.DataFrame) -> None:
    """ValueError where an id holds what no id can, or a flag or a given split, where there is one, is none."""
    unsafe = table.loc[~table["image_id"].str.fullmatch(r"[A-Za-z0-9._-]+"), "image_id"]
    if len(unsafe):
        raise ValueError(
            f"{path}: image_id {_named(unsafe)}: only letters, digits, '.', '_' and '-' may stand in an id"
        )
    for column, values in VALUES_OF.items():
        if column not in table:
            continue
        wrong = table.loc[~table[column].isin(values), column]
        if len(wrong):
            known = ", ".join(value or "nothing" for value in values)
            raise ValueError(f"{path}: {column} is one of {known}, but {_named(wrong)} came: change them")


def _named(values: pd.Series) -> str:
    """Up to five of the values, and how many there are."""
    shown = ", ".join(repr(str(value)) for value in values.unique()[:SHOWN])
    return f"{shown} ({len(values)} rows)"
