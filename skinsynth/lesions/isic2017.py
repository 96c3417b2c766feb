"""ISIC 2017, part 3: melanoma, seborrheic keratosis and nevus; no patient and no lesion is known."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from skinsynth.lesions.catalogue import Catalogue, found_at
from skinsynth.lesions.diagnoses import MALIGNANCY_OF
from skinsynth.lesions.isic import DOWNLOADS, whole_years
from skinsynth.lesions.table import read_csv

LICENCE = "CC0 1.0"
TRUTH, METADATA = "ISIC-2017_Training_Part3_GroundTruth.csv", "ISIC-2017_Training_Data_metadata.csv"
IMAGES = "ISIC-2017_Training_Data"


@dataclass(frozen=True)
class Isic2017Config:
    root: str  # folder with the two official CSVs and the image folder


def read_isic2017(config: Isic2017Config) -> Catalogue:
    """All rows of the official CSVs, whether or not their image is there."""
    root = Path(config.root)
    for name in (TRUTH, METADATA):
        if not (root / name).is_file():
            raise FileNotFoundError(f"no {name} in {root}: get it from {DOWNLOADS}, or link your files to {root}")
    truth = read_csv(root / TRUTH, ("image_id", "melanoma", "seborrheic_keratosis"))
    metadata = read_csv(root / METADATA, ("image_id", "age_approximate", "sex"))
    table = truth.merge(metadata, on="image_id", how="left").fillna("")
    is_melanoma, is_keratosis = pd.to_numeric(table["melanoma"]) == 1, pd.to_numeric(table["seborrheic_keratosis"]) == 1
    diagnosis = pd.Series(np.select([is_melanoma, is_keratosis], ["melanoma", "seborrheic keratosis"], "nevus"))
    table = pd.DataFrame(
        {
            "image_id": table["image_id"],
            "patient_id": "",
            "lesion_id": "",
            "diagnosis": diagnosis,
            "malignancy": diagnosis.map(MALIGNANCY_OF),
            "source": "ISIC 2017",
            "sex": table["sex"].replace("unknown", ""),
            "age": whole_years(table["age_approximate"]),
            "licence": LICENCE,
        }
    )
    places = {image_id: root / IMAGES / f"{image_id}.jpg" for image_id in table["image_id"]}
    notes = ["ISIC 2017 names no patients and no lesions: only duplicates keep images of one lesion together"]
    name, folders = f"ISIC 2017 in {root}", [root / IMAGES]
    return Catalogue(name, table, found_at(places), [], notes, places=places, folders=folders)
