"""Files and folders that are either whole or not there (written aside, then renamed), what they hash to, and what
their names tell."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
TEXTS = (".txt", ".md", ".csv", ".tsv", ".json", ".yaml", ".yml", ".xml", ".html", ".log")  # about images
TEXT_NAMES = ("readme", "license", "licence", "copying", "notice")  # of texts without a suffix
CLUTTER = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")
BESIDE_MACOS = "._"  # how names begin that macOS puts beside those of files


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A neighbour of `path` to write to; it takes the place of `path` only when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        aside.chmod(0o644)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


@contextlib.contextmanager
def folder_written_whole(path: Path) -> Iterator[Path]:
    """An empty neighbouring folder to fill; it takes the place of `path` only when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield aside
        aside.chmod(0o755)
        if path.exists():
            _replace_folder(aside, path)
        else:
            aside.rename(path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _replace_folder(aside: Path, path: Path) -> None:
    """A folder that is not empty cannot be renamed over: the old one steps aside first."""
    old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
    try:
        path.rename(old / path.name)
        aside.rename(path)
    finally:
        shutil.rmtree(old, ignore_errors=True)


def sha256_of(file: Path) -> str:
    """Of its bytes, as 64 hexadecimal digits; an OSError where it cannot be read."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def files_below(root: Path) -> list[Path]:
    """All files of a folder, in the order of their names. Folders at its top may be links; links to folders below them,
    and what is no file, are a ValueError."""
    found = []
    for folder, folders, names in os.walk(root, followlinks=True):
        for path in (Path(folder, name) for name in folders):
            if path.is_symlink() and path.parent != root:
                raise ValueError(f"{path} is a link to a folder: put the folder itself there, or leave it out")
        for path in (Path(folder, name) for name in names):
            if not path.is_file():
                raise ValueError(f"{path} is no file: leave it out")
            found.append(path)
    return sorted(found)


def is_image(name: str) -> bool:
    """Of a path within a set, by its suffix; what is hidden is no image that anybody means to give away."""
    return not is_beside(name) and name.lower().endswith(IMAGES) and not is_hidden(name)


def is_beside(name: str) -> bool:
    """Whether it is a text, or put beside images by macOS or Windows."""
    return is_text(name) or is_clutter(name)


def is_text(name: str) -> bool:
    """Whether it may tell of images, as a table or a licence does."""
    last = name.rpartition("/")[2].lower()
    return not is_clutter(name) and not is_hidden(name) and (last.endswith(TEXTS) or last in TEXT_NAMES)


def is_clutter(name: str) -> bool:
    """Whether macOS or Windows put it there."""
    return any(part in CLUTTER or part.startswith(BESIDE_MACOS) for part in name.split("/"))


def is_hidden(name: str) -> bool:
    """Whether it or a folder above, within the set, begins with a dot."""
    return any(part.startswith(".") for part in name.split("/"))
