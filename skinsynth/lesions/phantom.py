"""Patients, lesions and images that the project draws itself: a machine without data runs the whole study."""

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import pandas as pd

from skinsynth.lesions.catalogue import Catalogue
from skinsynth.lesions.diagnoses import BENIGN, MALIGNANCY_OF
from skinsynth.lesions.phantom_image import Picture, Skin
from skinsynth.lesions.phantom_lesion import KERATOSIS, MEAN_SIGNS, MELANOMA, NEVUS, Lesion
from skinsynth.settings import AtLeast, Between, Count, Seed, Share

SITES = ("torso", "lower extremity", "upper extremity", "head/neck", "palms/soles")
SITE_SHARES = (0.5, 0.24, 0.17, 0.07, 0.02)
MOST_LESIONS = 20  # of a patient
# First part of a seed: which of a phantom's random choices it serves.
PATIENT, LESION, IMAGE, COPY = range(4)


@dataclass(frozen=True)
class Rate:
    """Share of the images that have an artefact."""

    benign: Share
    malignant: Share


@dataclass(frozen=True)
class PhantomConfig:
    seed: Seed
    patients: Count
    lesions_per_patient: Annotated[float, Between(1, 20)]  # on average; a patient has 1 to 20, most of them few
    second_images: Share  # share of lesions with a second image
    nevus_share: Share  # of the lesions
    keratosis_share: Share  # of the lesions; the rest are melanomas
    height: Annotated[int, AtLeast(16)]  # pixels drawn; the width is 4/3 of it
    hair: Rate
    black_frame: Rate
    ruler: Rate
    bubbles: Rate
    exact_copies: Share  # share of images that come again, byte for byte
    near_copies: Share  # share of images that come again altered, without their patient's name


def draw_phantom(config: PhantomConfig) -> Catalogue:
    """All patients; their images are drawn when their pictures are called."""
    _check(config)
    rows: list[dict[str, str]] = []
    pictures: list[Picture] = []
    for number in range(config.patients):
        _add_patient(config, number, rows, pictures)
    _add_copies(config, rows, pictures)
    table = pd.DataFrame(rows).assign(source="phantom", licence="CC0 1.0")
    table["image_id"] = [f"PH_{number:07d}" for number in range(1, len(rows) + 1)]
    return Catalogue("phantom", table, dict(zip(table["image_id"], pictures, strict=True)), [])


def _check(config: PhantomConfig) -> None:
    melanoma_share = 1 - config.nevus_share - config.keratosis_share
    if min(config.nevus_share, config.keratosis_share, melanoma_share) < 0:
        raise ValueError(
            f"phantom: nevus_share {config.nevus_share} and keratosis_share {config.keratosis_share} leave "
            f"{melanoma_share:.2f} for melanoma: each must be 0 or more"
        )
    if config.patients < 1 or config.height < 16 or not 1 <= config.lesions_per_patient <= MOST_LESIONS:
        raise ValueError(
            f"phantom: it takes 1 patient or more, a height of 16 or more and 1 to {MOST_LESIONS} lesions_per_patient, "
            f"but {config.patients}, {config.height} and {config.lesions_per_patient} came"
        )


def _add_patient(config: PhantomConfig, number: int, rows: list[dict[str, str]], pictures: list[Picture]) -> None:
    rng = np.random.default_rng((config.seed, PATIENT, number))
    skin = Skin(tone=float(rng.beta(1.3, 3.2)), redness=float(rng.normal()), hair_darkness=float(rng.beta(3, 1.2)))
    patient = {
        "patient_id": f"PP_{number + 1:04d}",
        "sex": str(rng.choice(["female", "male"])),
        "age": str(int(np.clip(5 * round(rng.normal(52, 15) / 5), 15, 90))),
    }
    lesion_count = int(np.clip(rng.geometric(1 / config.lesions_per_patient), 1, MOST_LESIONS))
    for lesion_number in range(number * MOST_LESIONS, number * MOST_LESIONS + lesion_count):
        lesion_rng = np.random.default_rng((config.seed, LESION, lesion_number))
        lesion = _draw_lesion(config, lesion_rng, lesion_number)
        site = str(lesion_rng.choice(SITES, p=SITE_SHARES))
        for view in range(1 + int(lesion_rng.random() < config.second_images)):
            picture = _take_picture(config, skin, lesion, (config.seed, IMAGE, lesion_number, view))
            pictures.append(picture)
            rows.append({**patient, "lesion_id": f"PL_{lesion_number + 1:05d}", "site": site, **_known(picture)})


def _draw_lesion(config: PhantomConfig, rng: np.random.Generator, number: int) -> Lesion:
    shares = (config.nevus_share, config.keratosis_share, 1 - config.nevus_share - config.keratosis_share)
    diagnosis = str(rng.choice([NEVUS, KERATOSIS, MELANOMA], p=shares))
    asymmetry, border, colour, diameter = map(float, rng.normal(MEAN_SIGNS[diagnosis], 1))
    return Lesion(diagnosis, asymmetry, border, colour, diameter, seed=(config.seed, LESION, number, 0))


def _take_picture(config: PhantomConfig, skin: Skin, lesion: Lesion, seed: tuple[int, ...]) -> Picture:
    rng = np.random.default_rng((*seed, 0))
    is_benign = MALIGNANCY_OF[lesion.diagnosis] == BENIGN
    rates = (config.hair, config.black_frame, config.ruler, config.bubbles)
    hair, frame, ruler, bubbles = (bool(rng.random() < (r.benign if is_benign else r.malignant)) for r in rates)
    return Picture(skin, lesion, config.height, hair, frame, ruler, bubbles, seed=(*seed, 1), altered=False)


def _known(picture: Picture) -> dict[str, str]:
    """What the table says of an image, seen in the picture itself."""
    return {
        "diagnosis": picture.lesion.diagnosis,
        "malignancy": MALIGNANCY_OF[picture.lesion.diagnosis],
        "hair": str(int(picture.hair)),
        "black_frame": str(int(picture.black_frame)),
        "ruler": str(int(picture.ruler)),
        "other_artefact": str(int(picture.bubbles)),
    }


def _add_copies(config: PhantomConfig, rows: list[dict[str, str]], pictures: list[Picture]) -> None:
    """Some images once more: equal ones beside their patient, altered ones from elsewhere, patient unknown."""
    rng = np.random.default_rng((config.seed, COPY))
    count = len(rows)
    exact, near = round(config.exact_copies * count), round(config.near_copies * count)
    chosen = rng.choice(count, size=min(exact + near, count), replace=False)
    for place, number in enumerate(map(int, chosen)):
        if place < exact:
            rows.append(rows[number])
            pictures.append(pictures[number])
        else:
            unknown = {"patient_id": "", "lesion_id": "", "sex": "", "age": ""}
            rows.append({**rows[number], **unknown})
            pictures.append(replace(pictures[number], altered=True))
