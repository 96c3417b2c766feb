"""How much of what is held out is known from training."""

from dataclasses import dataclass

import pandas as pd

from skinsynth.partition.split import held_out_of, images_of


@dataclass(frozen=True)
class Leakage:
    """Images outside train that share a patient, a lesion or a duplicate with train, as counts and shares.

    A share of patients is taken over the images whose patient is known; a share of lesions over the images without a
    known patient, since a patient who is shared says all already.
    """

    patient: int
    patient_share: float
    lesion: int
    lesion_share: float
    duplicate: int


def measure_leakage(lesions: pd.DataFrame, split: pd.DataFrame) -> Leakage:
    """Leakage of `split` over the table of lesions; both have one row an image, joined on image_id."""
    table = split.merge(lesions, on="image_id", suffixes=("", "_lesion"))
    train, held_out = images_of(table, "train"), held_out_of(table)
    patient = _shared(train, held_out, "patient_id")
    lesion = _shared(train, held_out, "lesion_id")
    without_patient = held_out["patient_id"] == ""
    return Leakage(
        patient=int(patient.sum()),
        patient_share=_share(patient[~without_patient]),
        lesion=int(lesion.sum()),
        lesion_share=_share(lesion[without_patient]),
        duplicate=int(_shared(train, held_out, "duplicate_group").sum()),
    )


def _shared(train: pd.DataFrame, held_out: pd.DataFrame, column: str) -> pd.Series:
    return (held_out[column] != "") & held_out[column].isin(train[column])


def _share(shared: pd.Series) -> float:
    return float(shared.mean()) if len(shared) else 0.0
