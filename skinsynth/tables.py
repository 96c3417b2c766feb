"""Our own tables: CSV that one stage writes, and others and readers read."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from skinsynth.files import written_whole


def write_table(path: Path, rows: pd.DataFrame | Sequence[Mapping[Any, Any]]) -> None:
    """CSV, one line a row, columns in the order of the first row, six significant digits; whole or not there."""
    with written_whole(path) as aside:
        pd.DataFrame(rows).to_csv(aside, index=False, float_format="%.6g", lineterminator="\n")


def read_table(path: Path, columns: Iterable[str], maker: str, text: Sequence[str] = ()) -> pd.DataFrame:
    """What `write_table` wrote, with at least these columns and one row; empty cells are NaN, and `text` stays text.

    Errors name the stage to run again: `maker`, or several as in "train_gan or train_federated".
    """
    if not path.is_file():
        raise FileNotFoundError(f"no {path}: run {maker}, or dvc pull")
    try:
        # "NA" may be the name of an image, a class or a hospital; and a ZIP, by its name, is a damaged table, too.
        table = pd.read_csv(
            path, dtype=dict.fromkeys(text, str), keep_default_na=False, na_values=[""], compression=None
        )
    except ValueError as error:  # pandas' own for no table, or of its text
        raise ValueError(f"{path} is no table of {maker} ({error}): run {maker} again") from error
    missing = [column for column in columns if column not in table]
    if missing:
        raise ValueError(f"{path}: no column {', '.join(map(repr, missing))}: run {maker} again")
    if table.empty:
        raise ValueError(f"{path} has no rows: run {maker} again")
    return table
