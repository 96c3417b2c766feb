"""Files and folders that are either whole or not there (written aside, then renamed), what they hash to, and what
their names tell."""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
TEXTS = (".txt", ".md", ".csv", ".tsv", ".json", ".yaml", ".yml", ".xml", ".html", ".log")  # about images
TEXT_NAMES = ("readme", "license", "licence", "copying", "notice")  # of texts without a suffix
CLUTTER = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")
BESIDE_MACOS = "._"  # how names begin that macOS puts beside those of files
FULL = "No space left"


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A neighbour of `path` to write to; it takes the place of `path` only when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(path)
    try:
        with _said_of(path, aside):
            # Made here, and not by tempfile, whose files are for their owner alone: the umask is the user's to set.
            handle = os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            mode = stat.S_IMODE(os.fstat(handle).st_mode)
            os.close(handle)
            yield aside
            aside.chmod(mode)  # safetensors puts a file of its own there
            aside.replace(path)
    finally:
        with contextlib.suppress(OSError):  # in a folder that cannot be written, say: the first error tells more
            aside.unlink(missing_ok=True)


@contextlib.contextmanager
def folder_written_whole(path: Path) -> Iterator[Path]:
    """An empty neighbouring folder to fill; it takes the place of `path` only when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(path)
    try:
        with _said_of(path, aside):
            aside.mkdir()
            mode = stat.S_IMODE(aside.stat().st_mode)
            yield aside
            _open_up(aside, mode)
            if path.exists():
                _replace_folder(aside, path)
            else:
                aside.rename(path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """A line of JSON for each row."""
    with written_whole(path) as aside:
        aside.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _aside(path: Path) -> Path:
    """A new name beside `path`, which .gitignore and .dvcignore know: a killed run leaves it there."""
    return path.with_name(f".{path.name}.aside-{secrets.token_hex(4)}{path.suffix}")


@contextlib.contextmanager
def _said_of(path: Path, aside: Path) -> Iterator[None]:
    """Errors of `aside`, and those of a full disk that name no place, are said of the path that the user gave."""
    try:
        yield
    except Exception as error:
        place = getattr(error, "filename", None)
        if isinstance(error, OSError) and isinstance(place, str | os.PathLike):
            within = Path(place).absolute()
            if within.is_relative_to(aside.absolute()):
                place = path / within.relative_to(aside.absolute())
                raise OSError(error.errno, error.strerror, str(place)) from error
        elif place is None and FULL in str(error):  # also of libraries that have error types of their own
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise


def _open_up(folder: Path, mode: int) -> None:
    """What lies in the folder is for whom the folder is for; libraries make files for their owner alone."""
    for entry in folder.rglob("*"):
        if not entry.is_symlink():
            entry.chmod(mode if entry.is_dir() else mode & 0o666)


def _replace_folder(aside: Path, path: Path) -> None:
    """A folder that is not empty cannot be renamed over: the old one steps aside first, and back on an error."""
    old = _aside(path)
    old.mkdir()
    kept = old / path.name
    try:
        path.rename(kept)
        aside.rename(path)
    finally:
        if os.path.lexists(kept) and not os.path.lexists(path):
            kept.rename(path)
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
