"""From what a source says about a lesion to the class that a study puts it in."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Int64

from skinsynth.settings import closest

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
            f"{_advice([str(name) for name in counts.index if name], classes)}"
        )
    return label.to_numpy(dtype=np.int64)


def _advice(unknown: Sequence[str], classes: Sequence[str]) -> str:
    """What to do about names that are no class; a new class is no advice where all are classes in other capitals."""
    meant = list(dict.fromkeys(name for written in unknown if (name := _meant(written, classes))))
    hint = f"did you mean {', '.join(map(repr, meant))}? " if meant else ""
    folded = {name.casefold() for name in classes}
    if unknown and all(name.casefold() in folded for name in unknown):
        return f"{hint}write them as the classes are written, with the same capitals"
    return f"{hint}write them as the classes are written, or add those that are classes of their own to the classes"


def _meant(written: str, classes: Sequence[str]) -> str | None:
    """The class that was perhaps meant, else a diagnosis that `written` abbreviates (MEL) or has in other capitals.

    Diagnoses that only look alike are no guess: an actinic keratosis is not a lichenoid one.
    """
    known = [name for name, word in MALIGNANCY_OF.items() if word in classes]
    begun = (name for name in known if len(written) > 2 and name.casefold().startswith(written.casefold()))
    return closest(written, classes) or next(begun, None)


def check_classes(
    labels: Int64[np.ndarray, " n"], classes: Sequence[str], where: str, help_for: Mapping[str, str] | None = None
) -> None:
    """ValueError where a class has no image; `help_for` says of some classes how to come by images."""
    counts = np.bincount(labels, minlength=len(classes))
    empty = [name for name, count in zip(classes, counts, strict=True) if not count]
    if empty:
        found = ", ".join(f"{name} {count}" for name, count in zip(classes, counts, strict=True))
        advice = [help_for[name] for name in empty if help_for and name in help_for]
        raise ValueError(
            f"{where}: no image of class {', '.join(map(repr, empty))} (images: {found}): "
            f"{'; '.join(advice) or 'add images'}, or change classes"
        )
