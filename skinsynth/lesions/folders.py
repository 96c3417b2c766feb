"""Images sorted into folders by class, perhaps below train/ and test/: no patient is known."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from skinsynth.files import CLUTTER, IMAGES, files_below, is_beside, is_hidden, is_image
from skinsynth.lesions.catalogue import Catalogue, Drawing
from skinsynth.lesions.diagnoses import BENIGN, MALIGNANT
from skinsynth.settings import closest

SIDES = ("train", "test")


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
    for folder in {root, *sides.values()}:
        _check_none_is_loose(folder)
    rows: list[dict[str, str]] = []
    pictures: dict[str, Path | Drawing] = {}
    for side, folder in sides.items():
        for class_folder in _folders_in(folder):
            name = _class_of(class_folder, classes)
            _check_all_are_images(class_folder)
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


def _folders_in(folder: Path) -> list[Path]:
    """Without hidden ones and what a system put there."""
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and path.name[0] != "." and path.name not in CLUTTER
    )


def _images_in(folder: Path) -> list[Path]:
    """Of all depths, by their suffix, but none that is hidden; a ValueError names a link that is not followed."""
    return [path for path in files_below(folder) if is_image(path.relative_to(folder).as_posix())]


def _check_all_are_images(folder: Path) -> None:
    """ValueError where a class's folder holds a file of another kind, which would be left out unsaid."""
    names = [path.relative_to(folder).as_posix() for path in files_below(folder)]
    others = [name for name in names if not (is_image(name) or is_beside(name) or is_hidden(name))]
    if others:
        raise ValueError(
            f"{folder} holds {len(others)} files of a format that is not read (read are: {', '.join(IMAGES)}; "
            f"text files may lie beside), such as {others[0]!r}: convert them or leave them out"
        )


def _check_none_is_loose(folder: Path) -> None:
    """ValueError where an image lies beside the folders of classes, and would be left out unsaid."""
    loose = sorted(path.name for path in folder.iterdir() if path.is_file() and is_image(path.name))
    if loose:
        raise ValueError(
            f"{folder} holds {len(loose)} images in no class's folder, such as {loose[0]!r}: move them into one, or "
            "elsewhere to leave them out"
        )


def _check_beside(root: Path) -> None:
    """ValueError where a folder beside train and test holds images, which would be left out unsaid."""
    for folder in _folders_in(root):
        if folder.name not in SIDES and (images := _images_in(folder)):
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
