"""lesions.csv: what is written is read again, and wrong tables are named."""

import pandas as pd
import pytest

from skinsynth.lesions.diagnoses import check_classes, class_labels
from skinsynth.lesions.table import COLUMNS, read_csv, read_lesions, write_lesions


def lesions(**columns) -> pd.DataFrame:
    return pd.DataFrame({"image_id": ["b", "a"], "label": [1, 0], **columns})


def test_a_table_is_read_as_it_was_written_sorted_and_unknown_is_empty(tmp_path):
    path = tmp_path / "lesions.csv"
    write_lesions(path, lesions(age=["45", None], hair=["1", ""], width=[640, 480]))
    table = read_lesions(path)
    assert tuple(table.columns) == COLUMNS
    assert table["image_id"].tolist() == ["a", "b"]
    assert table["label"].tolist() == [0, 1]
    assert table["age"].tolist() == ["", "45"]
    assert table["width"].tolist() == ["480", "640"]
    assert (table["patient_id"] == "").all()
    before = path.read_bytes()
    write_lesions(path, table.sample(frac=1, random_state=1))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"image_id": ["a", "a"]}, "more than once"),
        ({"image_id": ["a", "../b"]}, "letters, digits"),
        ({"label": [0, -1]}, "number of a class"),
        ({"hair": ["yes", ""]}, "hair is one of"),
        ({"given_split": ["valid", ""]}, "given_split is one of"),
        ({"colour": ["red", ""]}, "no column 'colour'"),
    ],
)
def test_a_wrong_table_is_not_written(tmp_path, columns, words):
    path = tmp_path / "lesions.csv"
    with pytest.raises(ValueError, match=words):
        write_lesions(path, lesions(**columns) if "label" not in columns else lesions().assign(**columns))
    assert not path.exists()


def test_a_misspelt_column_is_guessed(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("path,patientid,label\na.jpg,P1,benign\n")
    with pytest.raises(ValueError, match="no column 'patient_id': did you mean 'patientid'") as caught:
        read_csv(path, ("path", "patient_id", "label"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["﻿path;label\na.jpg;benign, they say\n", "path\tlabel\na.jpg\tbenign, they say\n"])
def test_tables_of_european_spreadsheets_are_read(tmp_path, text):
    path = tmp_path / "a.csv"
    path.write_text(text, encoding="utf-8")
    assert read_csv(path, ("path", "label")).to_numpy().tolist() == [["a.jpg", "benign, they say"]]


def test_rows_may_lack_or_have_empty_cells_at_the_end_but_lose_none(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("path,label,age\na.jpg,benign,,\nb.jpg,benign\n\n")
    assert read_csv(path, ()).to_numpy().tolist() == [["a.jpg", "benign", ""], ["b.jpg", "benign", ""]]
    path.write_text("path,label\na.jpg,benign, they say\n")
    with pytest.raises(ValueError, match=r"3 cells for 2 columns, it starts with 'a.jpg'"):
        read_csv(path, ())
    path.write_text("path,label,path\n")
    with pytest.raises(ValueError, match="each once"):
        read_csv(path, ())


@pytest.mark.parametrize("content", [b"", b"path,label\n\xff\xfe,\xe9\n", b'path,label\n"a,b\n'])
def test_what_is_no_csv_is_named(tmp_path, content):
    path = tmp_path / "broken.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.csv"):
        read_csv(path, ("path", "label"))
    with pytest.raises(FileNotFoundError, match=r"none\.csv"):
        read_csv(tmp_path / "none.csv", ())


def test_a_table_with_a_label_that_is_no_number_is_refused(tmp_path):
    path = tmp_path / "lesions.csv"
    write_lesions(path, lesions())
    path.write_text(path.read_text().replace("b,,,,1", "b,,,,malignant"))
    with pytest.raises(ValueError, match="malignant"):
        read_lesions(path)
    with pytest.raises(FileNotFoundError, match="prepare_images"):
        read_lesions(tmp_path / "none.csv")


def test_a_class_is_the_diagnosis_or_else_the_word():
    diagnosis = pd.Series(["melanoma", "nevus", "", "basal cell carcinoma"])
    malignancy = pd.Series(["malignant", "", "benign", ""])
    assert class_labels(diagnosis, malignancy, ["benign", "malignant"]).tolist() == [1, 0, 0, 1]
    assert class_labels(diagnosis, malignancy, ["melanoma", "benign", "malignant"]).tolist() == [0, 1, 1, 2]


def test_a_diagnosis_outside_all_classes_is_named_and_counted():
    diagnosis = pd.Series(["melanoma", "scar", "scar", ""])
    with pytest.raises(ValueError, match=r"scar \(2\), unknown \(1\)"):
        class_labels(diagnosis, pd.Series(["malignant", "", "", ""]), ["benign", "malignant"])


def test_a_class_without_images_is_named():
    with pytest.raises(ValueError, match="no image of class 'malignant'"):
        check_classes(pd.Series([0, 0]).to_numpy(), ["benign", "malignant"], "here")
