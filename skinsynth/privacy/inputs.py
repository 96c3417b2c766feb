"""The images to judge, read from files and checked, and what tells these files apart."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from skinsynth.files import files_below, sha256_of
from skinsynth.images.archive import Images, read_archive
from skinsynth.images.sets import left_aside
from skinsynth.lesions.table import lesions_of
from skinsynth.partition.split import held_out_of, images_of, read_split
from skinsynth.privacy.authenticity import without_duplicates
from skinsynth.privacy.names import LABELS, SHA256_OF_LESIONS, SHA256_OF_SPLIT, Row
from skinsynth.privacy.patients import PatientImages
from skinsynth.privacy.sets import OtherClasses, Sets

# Of a class: fewer say nothing about copying.
LEAST_IMAGES = 10


def check_size(path: Path, fake: Images, classes: tuple[str, ...]) -> None:
    """Raises ValueError where a class of the set is too small to be judged."""
    for label, count in zip(*np.unique(fake.labels, return_counts=True), strict=True):
        if count < LEAST_IMAGES:
            raise ValueError(
                f"{path} has {count} images of {classes[label]}, which say nothing about copying: bring {LEAST_IMAGES} "
                "or more of each class that it has"
            )


def check_sides(path: Path, train: Images, held_out: Images, fake: Images, classes: tuple[str, ...]) -> None:
    """Raises ValueError where the split has no real image of a class to read the synthetic ones against."""
    for side, real in (("training", train), ("held-out", held_out)):
        missing = np.setdiff1d(fake.labels, real.labels)
        if len(missing):
            raise ValueError(
                f"{path} has no {side} image of {classes[missing[0]]}, of which there are synthetic ones: widen that "
                "side of split_patients in params.yaml, or leave the class out of the set"
            )


def distinct_sides(
    images: Path, lesions: Path, split: Path, labels: Sequence[int]
) -> tuple[PatientImages, PatientImages, OtherClasses]:
    """Training images of these classes without duplicates, held-out images, and both sides of the other classes."""
    sides = read_split(split)
    train = images_of(sides, "train")
    duplicate_groups = lesions_of(lesions, train["image_id"].tolist())["duplicate_group"]
    both = train.iloc[without_duplicates(duplicate_groups.tolist())], held_out_of(sides)
    real, strangers = (
        PatientImages(read_archive(images, side["image_id"].tolist()), side["group"].to_numpy())
        for side in (rows[rows["label"].isin(labels)] for rows in both)
    )
    others = (read_archive(images, rows.loc[~rows["label"].isin(labels), "image_id"].tolist()) for rows in both)
    return real, strangers, OtherClasses(*others)


def judged_rows(synthetic: Path, sets: Sets) -> list[Row]:
    """Rows about the synthetic set as it was judged: its file, its images and the real ones beside them."""
    counts = Counter(sets.classes[label] for label in sets.fake.labels)
    about = {
        "file": synthetic.name,
        "sha256": fingerprint(synthetic),
        "images": ", ".join(f"{name} ({count})" for name, count in counts.items()),
        "files beside the images, which nobody looked at": counted_by_suffix(left_aside(synthetic)),
        LABELS: " ".join(str(label) for label in sets.labels),
        "pixels": sets.fake.pixels.shape[-1],
        "training images of these classes, one of each duplicate": len(sets.train.groups),
        "patients (or groups) of these": len(set(sets.train.groups)),
        "training images of other classes, where copies are sought too": len(sets.others.train.ids),
        "held-out images of these classes": len(sets.held_out.groups),
        "patients (or groups) of the held-out": len(set(sets.held_out.groups)),
    }
    return [{"what": what, "value": value} for what, value in about.items()]


def counted_by_suffix(names: Sequence[str]) -> str:
    """How many files there are, by suffix, such as "3 (.txt 2, no suffix 1)"."""
    kinds = Counter(Path(name).suffix.lower() or "no suffix" for name in names)
    told = ", ".join(f"{kind} {count}" for kind, count in kinds.items())
    return f"{len(names)} ({told})" if names else "0"


def judged_by(images: Path, lesions: Path, split: Path) -> list[Row]:
    """Rows that identify the files the set was judged by: another split would have other held-out patients."""
    files = {SHA256_OF_SPLIT: split, SHA256_OF_LESIONS: lesions, "sha256 of the real images": images}
    return [{"what": what, "value": sha256_of(file)} for what, file in files.items()]


def fingerprint(path: Path) -> str:
    """SHA-256 of a file; of a folder, of the lines that sha256sum prints of its files, in the order of their names."""
    if path.is_file():
        return sha256_of(path)
    lines = [f"{sha256_of(file)}  ./{file.relative_to(path).as_posix()}\n" for file in files_below(path)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def pixel_row(fake: Images, images: Path, split: Path) -> Row:
    """Counts of the synthetic images that equal another one of the set, or a real one of any class, in every pixel."""
    sides = read_split(split)
    is_training = sides["split"] == "train"
    made = digests(fake.pixels)
    found: Row = {"images": len(made), "repeated": len(made) - len(set(made))}
    for name, ids in (("training", sides[is_training]["image_id"]), ("held_out", sides[~is_training]["image_id"])):
        real = set(digests(read_archive(images, ids.tolist()).pixels))
        found[f"identical_to_{name}"] = sum(image in real for image in made)
    return found


def digests(pixels: UInt8[np.ndarray, "n 3 size size"]) -> list[bytes]:
    """SHA-256 of each image: pixels themselves would fill the memory twice."""
    return [hashlib.sha256(image.tobytes()).digest() for image in pixels]
