"""From what a source says about a lesion to the class that a study puts it in."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Int64

BENIGN, MALIGNANT = "benign", "malignant"
# Diagnoses that the archives use and that are one or the other beyond dispute; actinic keratosis, atypical
# proliferations and the like are left to the source's own word.
MALIGNANCY_OF = {
    "nevus": BENIGN,
    "seborrheic keratosis": BENIGN,
    "benign keratosis": BENIGN,
    "lichenoid keratosis": BENIGN,
    "solar lentigo": BENIGN,
    "lentigo NOS": BENIGN,
    "cafe-au-lait macule": BENIGN,
    "dermatofibroma": BENIGN,
    "vascular lesion": BENIGN,
    "melanoma": MALIGNANT,
    "basal cell carcinoma": MALIGNANT,
    "squamous cell carcinoma": MALIGNANT,
}


def class_labels(diagnosis: pd.Series, malignancy: pd.Series, classes: Sequence[str]) -> Int64[np.ndarray, " n"]:
    """The class of each lesion: its diagnosis where that is a class, else its word benign or malignant.

    Where a source gives a diagnosis without the word, MALIGNANCY_OF knows it. ValueError where neither is a class.
    """
    number_of = {name: number for number, name in enumerate(classes)}
    word = malignancy.where(malignancy != "", diagnosis.map(MALIGNANCY_OF).fillna(""))
    label = diagnosis.map(number_of).fillna(word.map(number_of))
    unknown = label.isna()
    if unknown.any():
        counts = (diagnosis.where(diagnosis != "", word)[unknown]).value_counts()
        named = ", ".join(f"{name or 'unknown'} ({count})" for name, count in counts.items())
        raise ValueError(
            f"classes are {', '.join(classes)}, and these lesions are in none of them: {named}; "
            "write them as the classes are written, or add them to the classes"
        )
    return label.to_numpy(dtype=np.int64)


def check_classes(labels: Int64[np.ndarray, " n"], classes: Sequence[str], where: str) -> None:
    """ValueError where a class has no image."""
    counts = np.bincount(labels, minlength=len(classes))
    empty = [name for name, count in zip(classes, counts, strict=True) if not count]
    if empty:
        found = ", ".join(f"{name} {count}" for name, count in zip(classes, counts, strict=True))
        raise ValueError(
            f"{where}: no image of class {', '.join(map(repr, empty))} (images: {found}): add images, or change classes"
        )
