"""Images sorted into folders by class, perhaps below train/ and test/: no patient is known."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from skinsynth.lesions.catalogue import Catalogue, Drawing
from skinsynth.lesions.diagnoses import BENIGN, MALIGNANT
from skinsynth.settings import closest

SIDES = ("train", "test")
CLUTTER = "__MACOSX"  # what a Mac adds to a ZIP
SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")


@dataclass(frozen=True)
class FoldersConfig:
    root: str  # holds a folder for each class, or train/ and test/ which do
    licence: str  # of the images; "" where unknown


def read_folders(config: FoldersConfig, classes: Sequence[str]) -> Catalogue:
    """An image's id is its path (train/benign/12.jpg: train-benign-12); folders are named as classes, _ for a space."""
    root = Path(config.root)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}: put the images there, or link your folder to it")
    sides = {side: root / side for side in SIDES if (root / side).is_dir()} or {"": root}
    if "" not in sides:
        _check_beside(root)
    rows: list[dict[str, str]] = []
    pictures: dict[str, Path | Drawing] = {}
    for side, folder in sides.items():
        for class_folder in sorted(entry for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."):
            name = _class_of(class_folder, classes)
            for path in _images_in(class_folder):
                image_id = id_of(path.relative_to(root))
                if image_id in pictures:
                    raise ValueError(f"{pictures[image_id]} and {path} both get the id {image_id}: rename one of them")
                pictures[image_id] = path
                rows.append(_row(image_id, name, side))
    if not rows:
        raise FileNotFoundError(
            f"no image in {root}: it takes folders named {', '.join(classes)}, or train and test above"
        )
    notes = ["folders name no patients: images of one patient may stand on both sides of a split"]
    table = pd.DataFrame(rows).assign(source=root.name, licence=config.licence, patient_id="", lesion_id="")
    return Catalogue(f"folders in {root}", table, pictures, [], notes)


def _images_in(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )


def _check_beside(root: Path) -> None:
    """ValueError where a folder beside train and test holds images, which would be left out unsaid."""
    for folder in sorted(entry for entry in root.iterdir() if entry.is_dir() and entry.name[0] != "."):
        if folder.name in (*SIDES, CLUTTER):
            continue
        if images := _images_in(folder):
            raise ValueError(
                f"{folder} holds {len(images)} images beside {' and '.join(SIDES)}: move them into one of those, or "
                f"out of {root} to leave them out"
            )


def id_of(path: Path) -> str:
    """A relative path as an id: folders joined by -, no suffix, _ for what an id cannot hold."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", "-".join(path.with_suffix("").parts))


def _class_of(folder: Path, classes: Sequence[str]) -> str:
    name = folder.name.replace("_", " ") if folder.name not in classes else folder.name
    if name not in classes:
        meant = closest(name, classes)
        hint = f": did you mean {meant!r}?" if meant else ""
        raise ValueError(f"the folder {folder} is no class of {', '.join(classes)}{hint}")
    return name


def _row(image_id: str, name: str, side: str) -> dict[str, str]:
    is_word = name in (BENIGN, MALIGNANT)
    return {
        "image_id": image_id,
        "diagnosis": "" if is_word else name,
        "malignancy": name if is_word else "",
        "given_split": side,
    }
