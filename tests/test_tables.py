"""Our own tables: what is written is read again, and what is no such table is refused in one line."""

import numpy as np
import pandas as pd
import pytest

from skinsynth.tables import read_table, write_table

ROWS = [{"image_id": "007", "hospital": "NA", "auc": 0.5}, {"image_id": "NA", "hospital": "", "auc": float("nan")}]


def test_text_that_looks_like_a_number_or_like_nothing_stays_text(tmp_path):
    write_table(tmp_path / "table.csv", ROWS)
    table = read_table(tmp_path / "table.csv", ("auc",), "score", text=("image_id", "hospital"))
    assert table["image_id"].tolist() == ["007", "NA"]
    assert table["hospital"].fillna("").tolist() == ["NA", ""]
    np.testing.assert_array_equal(table["auc"], [0.5, np.nan])


def test_rows_and_a_table_of_them_are_the_same_bytes(tmp_path):
    write_table(tmp_path / "rows.csv", ROWS)
    write_table(tmp_path / "table.csv", pd.DataFrame(ROWS))
    assert (tmp_path / "rows.csv").read_bytes() == (tmp_path / "table.csv").read_bytes()


def test_numbers_have_six_significant_digits_and_counts_all_of_theirs(tmp_path):
    write_table(tmp_path / "table.csv", [{"auc": 0.123456789, "fid": 123456.789, "images": 123456789}])
    assert (tmp_path / "table.csv").read_text() == "auc,fid,images\n0.123457,123457,123456789\n"


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (b"", "is no table of score or rank .*: run score or rank again$"),
        (b"PK\x03\x04\xff\xfe", "is no table of score or rank .*: run score or rank again$"),
        (b'auc,fid\n"0,1\n', "is no table of score or rank .*: run score or rank again$"),
        (b"auc,kid\n1,2\n", ": no column 'fid': run score or rank again$"),
        (b"auc,fid\n", " has no rows: run score or rank again$"),
    ],
)
def test_what_is_no_such_table_is_refused_with_the_stage_to_run_again(tmp_path, written, message):
    path = tmp_path / "table.csv"
    path.write_bytes(written)
    with pytest.raises(ValueError, match=message) as error:
        read_table(path, ("auc", "fid"), "score or rank")
    assert str(error.value).startswith(str(path))


def test_a_missing_table_is_named_with_the_stage_that_writes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^no .*table\.csv: run score, or dvc pull$"):
        read_table(tmp_path / "table.csv", (), "score")
