"""Train, validation and test, and the hospitals within train."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from skinsynth.partition.groups import independent_groups, spread
from skinsynth.settings import Names, Positive, ProperShare, Seed
from skinsynth.tables import read_table

SIDES = ("train", "validation", "test")
COLUMNS = ("image_id", "label", "split", "hospital", "group")
# Patients with 1, 2 to 4, 5 to 15, 16 and more images: each kind goes to every side in proportion.
SIZE_BINS = (2, 5, 16)
# How much more an uneven share of a class counts than an uneven number of images per patient.
CLASS_WEIGHT = 10


@dataclass(frozen=True)
class SplitConfig:
    protocol: str  # a key of PROTOCOLS
    classes: Names  # in the order of the labels
    validation_share: ProperShare  # of the images, between 0 and 1
    test_share: ProperShare
    hospitals: dict[str, Positive]  # name: share of the training images (only the proportions count)
    class_skew: Positive | None  # Dirichlet's concentration behind each class's shares; None: all classes have the same
    seed: Seed


def split_patients(lesions: pd.DataFrame, config: SplitConfig) -> pd.DataFrame:
    """One row an image: image_id, label, split, hospital ("" outside train), group. Images left out have no row."""
    if config.protocol not in PROTOCOLS:
        raise ValueError(f"no protocol {config.protocol!r}: choose one of {', '.join(PROTOCOLS)}")
    lesions = lesions.sort_values("image_id", ignore_index=True)
    table = pd.DataFrame({"image_id": lesions["image_id"], "label": lesions["label"]})
    table["group"] = independent_groups(lesions)
    table["split"] = PROTOCOLS[config.protocol](lesions.assign(group=table["group"]), config)
    table = table[table["split"] != ""]
    _check_classes(table, "split", list(dict.fromkeys(table["split"])), config)
    return table.assign(hospital=_hospitals(table, config))[list(COLUMNS)].reset_index(drop=True)


def _by_patient(lesions: pd.DataFrame, config: SplitConfig) -> np.ndarray:
    """Sides by group; a test set that the source fixes stays, and training images tied to it are left out."""
    shares = {
        "train": 1 - config.validation_share - config.test_share,
        "validation": config.validation_share,
        "test": config.test_share,
    }
    if min(shares.values()) <= 0:
        raise ValueError(f"shares of train, validation and test are {list(shares.values())}: each must be above 0")
    split = pd.Series("", index=lesions.index)
    fixed = lesions["given_split"] == "test"
    free = ~lesions["group"].isin(lesions["group"][fixed])
    if fixed.any():
        split[fixed] = "test"
        del shares["test"]
    split[free] = _assign(lesions[free], shares, np.random.default_rng(config.seed))
    return split.to_numpy()


def _by_image(lesions: pd.DataFrame, _: SplitConfig) -> np.ndarray:
    """The paper's own split: 80 / 20 by image, stratified by class, the 20 % serving as validation and as test."""
    from sklearn.model_selection import train_test_split  # 1.5 s to import, and only the paper's protocol needs it

    held_out = train_test_split(np.arange(len(lesions)), stratify=lesions["label"], test_size=0.2, random_state=42)[1]
    split = np.full(len(lesions), "train", dtype=object)
    split[held_out] = "validation"
    return split


PROTOCOLS = {"patient": _by_patient, "paper": _by_image}


def _assign(images: pd.DataFrame, share_of: dict[str, float], rng: np.random.Generator) -> np.ndarray:
    """The part of each image, whole groups together, classes and images-per-patient in proportion."""
    groups, group = np.unique(images["group"], return_inverse=True)
    if len(groups) < len(share_of):
        raise ValueError(
            f"{len(groups)} groups of patients (whom a patient, a lesion or a duplicate ties) cannot fill "
            f"{len(share_of)} parts ({', '.join(share_of)}): add patients, or see whether lesion ids of one patient "
            "come again with another"
        )
    part = spread(_features(images["label"].to_numpy(), group), np.array(list(share_of.values())), rng)
    return np.array(list(share_of), dtype=object)[part[group]]


def _features(label: Int[np.ndarray, " n"], group: Int[np.ndarray, " n"]) -> Float[np.ndarray, "groups features"]:
    """Images of each class (weighted), then images of patients of each size, by group."""
    size = np.bincount(group)
    kind = np.digitize(size, SIZE_BINS)
    classes = np.zeros((len(size), label.max() + 1))
    np.add.at(classes, (group, label), 1)
    sizes = np.zeros((len(size), len(SIZE_BINS) + 1))
    sizes[np.arange(len(size)), kind] = size
    counts = np.hstack([CLASS_WEIGHT * classes, sizes])
    return counts[:, counts.sum(axis=0) > 0]


def _hospitals(table: pd.DataFrame, config: SplitConfig) -> pd.Series:
    if min(config.hospitals.values(), default=0) <= 0:
        raise ValueError(f"hospitals have proportions above 0, not {config.hospitals}: change them")
    hospital = pd.Series("", index=table.index)
    train, rng = table["split"] == "train", np.random.default_rng(config.seed + 1)
    if config.class_skew is None:
        hospital[train] = _assign(table[train], config.hospitals, rng)
        _check_classes(table.assign(hospital=hospital), "hospital", list(config.hospitals), config)
    else:
        hospital[train] = _assign_by_class(table[train], config.hospitals, config.class_skew, rng)
        _check_hospitals(hospital[train], config)
    return hospital


def _assign_by_class(
    images: pd.DataFrame, share_of: dict[str, float], class_skew: float, rng: np.random.Generator
) -> np.ndarray:
    """The part of each image, whole groups together, the groups of each class in shares of its own.

    A group with images of several classes counts in the last of them: a patient with one malignant lesion is malignant,
    and brings benign images wherever he goes, so that a hospital of such patients is never of one class.
    """
    class_of = images.groupby("group")["label"].transform("max").to_numpy()
    part = np.empty(len(images), dtype=np.int64)
    classes = np.unique(class_of)
    for label, shares in zip(classes, draw_shares(list(share_of.values()), class_skew, len(classes), rng), strict=True):
        own = class_of == label
        _, group = np.unique(images["group"][own], return_inverse=True)
        part[own] = spread(_features(images["label"][own].to_numpy(), group), shares, rng)[group]
    return np.array(list(share_of), dtype=object)[part]


def draw_shares(
    proportions: Sequence[float], class_skew: float, class_count: int, rng: np.random.Generator
) -> Float[np.ndarray, "classes parts"]:
    """Shares of each class over the parts, drawn from Dir(α p) with mean p, the proportions, whatever α is.

    The form with a prior is that of Hsu et al. 2019 (arXiv 1909.06335); there p are classes, and here, as in Yurochkin
    et al. 2019 (arXiv 1905.12022), the parts over which a class is dealt out, so that no image is left or lacking.
    """
    if not 0 < class_skew < np.inf:
        raise ValueError(f"class_skew is above 0, or null for equal shares, but {class_skew} came")
    prior = np.array(proportions) / sum(proportions)
    return rng.dirichlet(class_skew * prior, size=class_count)


def _check_hospitals(hospital: pd.Series, config: SplitConfig) -> None:
    empty = sorted(set(config.hospitals) - set(hospital))
    if empty:
        raise ValueError(
            f"class_skew {config.class_skew:g} leaves no image to {', '.join(empty)}: choose a larger "
            "class_skew or another seed"
        )


def _check_classes(table: pd.DataFrame, column: str, parts: list[str], config: SplitConfig) -> None:
    counts = pd.crosstab(table[column], table["label"]).reindex(parts, fill_value=0)
    counts = counts.reindex(columns=range(len(config.classes)), fill_value=0)
    for part, row in counts.iterrows():
        for label in row.index[row == 0]:
            patients = table["group"][table["label"] == label].nunique()
            mend = ", change the shares" if column == "split" else " or set fewer hospitals (such as {all: 1})"
            raise ValueError(
                f"no image of class {config.classes[label]!r} in {column} {part!r}; the class has {patients} patients "
                f"in all: add patients{mend} or try another seed (split_patients in params.yaml)"
            )


def read_split(path: Path) -> pd.DataFrame:
    """A split as `split_patients` wrote it; labels and groups are whole numbers, an unknown hospital is ""."""
    table = read_table(path, COLUMNS, "split_patients", text=("image_id", "hospital"))
    _check_rows(path, table)
    return table.fillna({"hospital": ""})


def _check_rows(path: Path, table: pd.DataFrame) -> None:
    """Raises ValueError where a row lacks an image, a label, a side or a group, as if cut off."""
    broken = table[["image_id", "label", "group"]].isna().any(axis=1) | ~table["split"].isin(SIDES)
    if broken.any():
        first = table.loc[broken, list(COLUMNS)].iloc[0].fillna("").astype(str).to_dict()
        raise ValueError(
            f"{path}: {int(broken.sum())} rows are not whole or are on no side of {', '.join(SIDES)} (the first: "
            f"{first}): run split_patients again"
        )


def images_of(split: pd.DataFrame, side: str) -> pd.DataFrame:
    """The rows of one side; under the paper's protocol, which has no test set of its own, test is validation."""
    if side == "test" and not (split["split"] == "test").any():
        side = "validation"
    return split[split["split"] == side]


def rows_by_side(path: Path) -> dict[str, pd.DataFrame]:
    """The rows of each of SIDES, by `images_of`, of a split read once."""
    split = read_split(path)
    return {side: images_of(split, side) for side in SIDES}


def held_out_of(split: pd.DataFrame) -> pd.DataFrame:
    """The rows of all sides but train: what nothing was trained on."""
    return split[split["split"] != "train"]
