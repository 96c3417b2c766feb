"""ISIC 2020 in its official layout, and the melanomas of ISIC 2019: the set of the paper, 33,126 + 4,522 rows."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from skinsynth.lesions.catalogue import Catalogue, found_at
from skinsynth.lesions.diagnoses import BENIGN, MALIGNANT
from skinsynth.lesions.table import blank_unknown, read_csv

LICENCE = "CC BY-NC 4.0"  # doi 10.34970/2020-ds01
TRUTH_2020, DUPLICATES_2020 = "ISIC_2020_Training_GroundTruth_v2.csv", "ISIC_2020_Training_Duplicates.csv"
TRUTH_2019, METADATA_2019 = "ISIC_2019_Training_GroundTruth.csv", "ISIC_2019_Training_Metadata.csv"
IMAGES_2020, IMAGES_2019 = "ISIC_2020_Training_JPEG/train", "ISIC_2019_Training_Input"
ARTEFACTS = "artefact_pseudo_annotations_ISIC2020.csv"
HAIR = ("hair_dense", "hair_short", "hair_medium")
FLAG_OF = {"black_frame": "black_frame", "ruler_mark": "ruler", "other": "other_artefact"}
DOWNLOADS = "https://challenge.isic-archive.com/data"


@dataclass(frozen=True)
class IsicConfig:
    root: str  # folder with the official CSVs and image folders


def read_isic(config: IsicConfig) -> Catalogue:
    """All rows of the official CSVs, whether or not their image is there."""
    root = Path(config.root)
    for name in (TRUTH_2020, DUPLICATES_2020, TRUTH_2019, METADATA_2019):
        if not (root / name).is_file():
            raise FileNotFoundError(f"no {name} in {root}: get it from {DOWNLOADS}, or link your files to {root}")
    table = pd.concat([_rows_2020(root), _melanomas_2019(root)], ignore_index=True).assign(licence=LICENCE)
    folder_of = {"ISIC 2020": root / IMAGES_2020, "ISIC 2019": root / IMAGES_2019}
    rows = zip(table["image_id"], table["source"], strict=True)
    places = {image_id: folder_of[source] / f"{image_id}.jpg" for image_id, source in rows}
    listed = read_csv(root / DUPLICATES_2020, ("image_name_1", "image_name_2"))
    pairs = list(zip(listed["image_name_1"], listed["image_name_2"], strict=True))
    notes = ["ISIC 2019 names no patients: of its melanomas only lesions and duplicates are kept together"]
    table = _with_artefacts(table, root / ARTEFACTS)
    folders = list(folder_of.values())
    about_benign = f"benign images come from ISIC 2020, of 2019 only melanomas are taken: put them into {folders[0]}"
    return Catalogue(
        f"ISIC in {root}",
        table,
        found_at(places),
        pairs,
        notes,
        places=places,
        folders=folders,
        help_for={BENIGN: about_benign},
    )


def _rows_2020(root: Path) -> pd.DataFrame:
    columns = {
        "image_name": "image_id",
        "patient_id": "patient_id",
        "lesion_id": "lesion_id",
        "diagnosis": "diagnosis",
        "benign_malignant": "malignancy",
        "sex": "sex",
        "age_approx": "age",
        "anatom_site_general_challenge": "site",
    }
    table = read_csv(root / TRUTH_2020, (*columns, "target"))
    _check_target(table, root / TRUTH_2020)
    table = table[list(columns)].rename(columns=columns)
    return table.replace({"diagnosis": {"unknown": ""}}).assign(source="ISIC 2020", age=whole_years(table["age"]))


def _check_target(table: pd.DataFrame, path: Path) -> None:
    """The official table says each label twice; a ValueError where the two differ."""
    differing = table[(table["benign_malignant"] == MALIGNANT) != (table["target"] == "1")]
    if len(differing):
        first = differing.iloc[0]
        raise ValueError(
            f"{path}: {first['image_name']} is {first['benign_malignant']} with target {first['target']!r} "
            f"({len(differing)} such rows): mend the table, or get it again from {DOWNLOADS}"
        )


def _melanomas_2019(root: Path) -> pd.DataFrame:
    truth = read_csv(root / TRUTH_2019, ("image", "MEL"))
    melanomas = truth.loc[pd.to_numeric(truth["MEL"]) == 1, ["image"]]
    columns = {
        "image": "image_id",
        "lesion_id": "lesion_id",
        "sex": "sex",
        "age_approx": "age",
        "anatom_site_general": "site",
    }
    metadata = read_csv(root / METADATA_2019, columns)[list(columns)]
    table = melanomas.merge(metadata, on="image", how="left").fillna("").rename(columns=columns)
    known = {"patient_id": "", "diagnosis": "melanoma", "malignancy": MALIGNANT, "source": "ISIC 2019"}
    return table.assign(**known, age=whole_years(table["age"]))


def whole_years(age: pd.Series) -> pd.Series:
    """Ages as the CSVs write them ("45.0", "unknown") as whole years, "" where unknown."""
    return blank_unknown(age.str.removesuffix(".0"))


def _with_artefacts(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Flags that a machine set for 2020 and the melanomas of 2019, where that file is there."""
    if not path.is_file():
        return table
    seen = read_csv(path, ("image_name", *HAIR, *FLAG_OF))
    flags = seen[list(FLAG_OF)].rename(columns=FLAG_OF)
    flags["hair"] = (seen[list(HAIR)] == "1").any(axis=1).map({True: "1", False: "0"})
    flags["image_id"] = seen["image_name"].str.removesuffix(".jpg")
    return table.merge(flags.drop_duplicates("image_id"), on="image_id", how="left").fillna("")
