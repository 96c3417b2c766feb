"""Image sets brought from elsewhere: a ZIP or a folder, with our dataset.json or with one folder for each class."""

import json
import os
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from skinsynth.files import IMAGES, files_below, is_beside, is_image, is_text
from skinsynth.images.archive import LABELS, Images
from skinsynth.images.decode import BadImage, decode_bytes, pillow_warnings
from skinsynth.settings import closest

# What a file of such a name may hold. Pillow would try its other readers too, one of which starts Ghostscript.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
# As many as the largest image that we decode (decode.MAX_PIXELS) takes without compression.
MAX_BYTES = 2**28
# Other methods inflate without a bound on what comes out.
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 0x1  # the bit of an entry's flags
# Fewer than archive.CHUNK, since these images may be large and few.
CHUNK = 8

Reader = Callable[[], bytes]  # reads one file of the set


def read_image_set(path: Path, classes: Sequence[str], size: int) -> Images:
    """All images at `size` px as real ones are decoded: with dataset.json sorted by id, else by class, then by name.

    An id is the path within the set (benign/12.jpg: benign-12); a line counts the images that were smaller.
    FileNotFoundError where nothing is there, ValueError where a file cannot be read, has no class among `classes`, or
    is neither image nor text: it would be given away unjudged.
    """
    with _opened(path) as files:
        if LABELS in files:
            readers = files
            label_of = _listed_labels(path, files[LABELS](), files.keys(), classes)
            _check_all_are_listed(path, files.keys() - label_of.keys() if label_of else ())
        else:
            _check_all_are_images(path, files.keys())
            readers = _without_top({name: read for name, read in files.items() if is_image(name)}, classes)
            label_of = _folder_labels(path, readers.keys(), classes)
        if not label_of:
            raise ValueError(
                f"{path} holds no image: put images ({', '.join(IMAGES)}) in folders called {', '.join(classes)}"
            )
        _check_texts(path, {name: read for name, read in files.items() if is_text(name)})
        pixels = _decode_all(path, {name: readers[name] for name in label_of}, size)
    return Images(_unique_ids(label_of), pixels, np.array(list(label_of.values()), dtype=np.int64))


def left_aside(path: Path) -> list[str]:
    """Names of what a set holds beside its images: texts, and what macOS or Windows put there."""
    with _opened(path) as files:
        return sorted(name for name in files if is_beside(name) and name != LABELS)


@contextmanager
def _opened(path: Path) -> Iterator[dict[str, Reader]]:
    """What reads each file, by its path within the set; nothing is extracted."""
    if path.is_dir():
        yield {file.relative_to(path).as_posix(): partial(_read_file, file) for file in files_below(path)}
    elif path.is_file():
        with _opened_zip(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            readers: dict[str, Reader] = {}
            for entry in entries:
                name = _plain(path, entry.filename)
                if name in readers:
                    raise ValueError(
                        f"{path} holds two entries called {name!r}, of which one hides the other: keep one"
                    )
                readers[name] = partial(_read_entry, path, archive, entry)
            yield readers
    else:
        raise FileNotFoundError(f"no image set at {path}: give a ZIP, or a folder with one folder for each class")


def _opened_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    # Damaged directories raise BadZipFile, struct.error, NotImplementedError and more.
    except Exception as error:
        raise ValueError(
            f"{path} is no image set (a ZIP, or a folder with one folder for each class): {_words(error)}"
        ) from error


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _plain(path: Path, name: str) -> str:
    """The path of an entry within the set; some Windows programs write backslashes."""
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts:
        raise ValueError(f"{path} holds an entry called {name!r}, which leads out of the set: pack the set again")
    return parts.as_posix()


def _read_file(path: Path) -> bytes:
    _check_bytes(str(path), path.stat().st_size)
    return path.read_bytes()


def _read_entry(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    where = f"{path}, {entry.filename!r}"
    if entry.flag_bits & ENCRYPTED:
        raise ValueError(f"{where} is encrypted: pack the set without a password")
    if entry.compress_type not in METHODS:
        raise ValueError(f"{where} is packed by method {entry.compress_type}: pack the set with deflate, or stored")
    _check_bytes(where, entry.file_size)
    try:
        with archive.open(entry) as file:
            # With a bound no more is inflated than the entry declares; one byte more lets the checksum be compared.
            return file.read(entry.file_size + 1)
    # Damaged entries raise BadZipFile, zlib.error, EOFError, struct.error and more.
    except Exception as error:
        raise ValueError(f"{where} is damaged: {_words(error)}; pack or fetch the set again") from error


def _check_bytes(where: str, count: int) -> None:
    if count > MAX_BYTES:
        raise ValueError(f"{where} has {count:,} bytes, but a file may have {MAX_BYTES:,}: leave it out or shrink it")


def _check_all_are_listed(path: Path, others: Collection[str]) -> None:
    """Raises ValueError where a file is in no list of labels: it would be given away unjudged."""
    unlisted = sorted(name for name in others if not is_beside(name))
    if unlisted:
        raise ValueError(
            f"{path}: {LABELS} does not list {len(unlisted)} of its files, such as {unlisted[0]!r}: list them or leave "
            "them out"
        )


def _check_all_are_images(path: Path, names: Collection[str]) -> None:
    """Raises ValueError where a file is neither image nor text: it would be left out without a word."""
    others = sorted(name for name in names if not is_image(name) and not is_beside(name))
    if others:
        raise ValueError(
            f"{path}: {len(others)} files are hidden or of a format that is not read (read are: {', '.join(IMAGES)}; "
            f"text files may lie beside), such as {others[0]!r}: convert them or leave them out"
        )


def _check_texts(path: Path, readers: Mapping[str, Reader]) -> None:
    """Raises ValueError where what is called a text is none: an image of another name would be given away unjudged."""
    for name, read in readers.items():
        try:
            is_text = "\0" not in read().decode()
        except UnicodeDecodeError:
            is_text = False
        if not is_text:
            raise ValueError(f"{path}, {name!r} is no text (in UTF-8): leave it out")


def _without_top(readers: dict[str, Reader], classes: Sequence[str]) -> dict[str, Reader]:
    """The same files without the one folder that holds them all, where there is one and it is no class."""
    top = next(iter(readers), "").partition("/")[0] + "/"
    is_common = all(name.startswith(top) for name in readers)
    has_folders = any(name.count("/") > 1 for name in readers)
    # A lone folder keeps a name that is nearly a class, for the hint.
    is_meant = _label_of(top[:-1], classes) is not None or (not has_folders and closest(top[:-1], classes))
    if not is_common or is_meant:
        return readers
    return {name.removeprefix(top): reader for name, reader in readers.items()}


def _folder_labels(path: Path, names: Collection[str], classes: Sequence[str]) -> dict[str, int]:
    """The label of each image by its folder, sorted by class, then by name."""
    labels = []
    for name in sorted(names):
        folder, _, below = name.partition("/")
        if not below:
            raise ValueError(
                f"{path}: the image {name!r} lies in no folder of a class: put it in one called {' or '.join(classes)}"
            )
        label = _label_of(folder, classes)
        if label is None:
            raise ValueError(
                f"{path}: the folder {folder!r} is no class of {', '.join(classes)}: {_hint(folder, classes)}"
            )
        labels.append((label, name))
    return {name: label for label, name in sorted(labels)}


def _label_of(folder: str, classes: Sequence[str]) -> int | None:
    """The class called like the folder, where none is so called in other case."""
    if folder in classes:
        return classes.index(folder)
    lower = [name.casefold() for name in classes]
    return lower.index(folder.casefold()) if folder.casefold() in lower else None


def _hint(folder: str, classes: Sequence[str]) -> str:
    meant = closest(folder, classes)
    return f"did you mean {meant!r}?" if meant else "rename it or leave it out"


def _listed_labels(path: Path, listing: bytes, names: Collection[str], classes: Sequence[str]) -> dict[str, int]:
    """The label of each image by dataset.json, sorted by id as `read_archive` does."""
    label_of: dict[str, int] = {}
    for row in _rows(path, listing):
        name, label = _name_and_label(path, row)
        if name not in names:
            raise ValueError(f"{path}: {LABELS} lists {name!r}, which is not there: pack or fetch the set again")
        if name in label_of:
            raise ValueError(f"{path}: {LABELS} lists {name!r} twice: list each image once")
        if not 0 <= label < len(classes):
            raise ValueError(
                f"{path}: the label of {name!r} is {label}, but the labels of {', '.join(classes)} "
                f"are 0 to {len(classes) - 1}: mend {LABELS}"
            )
        label_of[name] = label
    return dict(sorted(label_of.items(), key=lambda item: _plain_id(item[0])))


def _rows(path: Path, listing: bytes) -> list[Any]:
    form = f'{LABELS} takes the form {{"labels": [["1.png", 0], ["2.png", 1]]}}'
    try:
        rows = json.loads(listing)["labels"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: {form}, but this one cannot be read so: {_words(error)}") from error
    if not isinstance(rows, list):
        came = "null" if rows is None else type(rows).__name__
        raise ValueError(
            f"{path}: {form}, but its labels are {came}: give each image its class, or leave {LABELS} out "
            f"and put the images in folders called after the classes"
        )
    return rows


def _name_and_label(path: Path, row: Any) -> tuple[str, int]:
    match row:
        case [str(name), int(label)]:
            return _plain(path, name), label
    raise ValueError(f"{path}: a row of {LABELS} is a name and the number of a class, but {str(row)[:80]!r} came")


def _unique_ids(names: Collection[str]) -> list[str]:
    """An id for each name; names that differ only in what an id cannot hold are numbered."""
    ids: dict[str, None] = {}
    count: Counter[str] = Counter()
    for name in names:
        image_id = plain = _plain_id(name)
        while image_id in ids:
            count[plain] += 1
            image_id = f"{plain}-{count[plain] + 1}"
        ids[image_id] = None
    return list(ids)


def _plain_id(name: str) -> str:
    """Folders joined by -, no suffix, _ for what an id cannot hold and for dots that would hide a file."""
    stem = name.removesuffix(PurePosixPath(name).suffix).replace("/", "-")
    return re.sub(r"[^A-Za-z0-9._-]|^\.+|^$", "_", stem)


def _decode_all(path: Path, readers: Mapping[str, Reader], size: int) -> UInt8[np.ndarray, "n 3 size size"]:
    """Decoded in threads straight into one array, so that no image is held twice; says how many were enlarged."""
    names = list(readers)
    pixels = np.empty((len(names), 3, size, size), dtype=np.uint8)
    sides = np.empty(len(names), dtype=np.int64)

    def decode_chunk(start: int) -> int:
        chunk = range(start, min(start + CHUNK, len(names)))
        for number in chunk:
            name = names[number]
            try:
                image, sides[number] = decode_bytes(readers[name](), f"{path}, {name!r}", size, FORMATS)
            except BadImage as error:
                raise BadImage(f"{error}: mend this file or leave it out") from error
            pixels[number] = image.transpose(2, 0, 1)
        return len(chunk)

    with (
        pillow_warnings(),
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=len(names), unit="image", desc=f"reading {path.name}", delay=5, leave=False) as bar,
    ):
        for count in pool.map(decode_chunk, range(0, len(names), CHUNK)):
            bar.update(count)
    enlarged = sides[sides < size]
    if len(enlarged):
        smallest = int(enlarged.min())
        tqdm.write(f"{path}: {len(enlarged)} of {len(names)} images are enlarged to {size} px, from {smallest} px on")
    return pixels
