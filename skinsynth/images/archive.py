"""Square RGB images of one size in a byte-stable ZIP with their labels: the layout that StyleGAN tools read too."""

import io
import json
import os
import re
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from skinsynth.files import written_whole

IMAGE_ID = re.compile(r"[A-Za-z0-9._-]+")
LABELS = "dataset.json"
# The earliest date that a ZIP can hold: no entry tells when it was written.
DATE = (1980, 1, 1, 0, 0, 0)
# Threads take images by the handful, since handing over a single small image costs more than decoding it.
CHUNK = 64


@dataclass(frozen=True)
class Images:
    ids: list[str]
    pixels: UInt8[np.ndarray, "n 3 height width"]
    labels: Int64[np.ndarray, " n"]

    def at(self, places: Int64[np.ndarray, " m"]) -> "Images":
        """Some of them, in the order of the places."""
        return Images([self.ids[place] for place in places], self.pixels[places], self.labels[places])


def numbered_ids(name: str, count: int) -> list[str]:
    """Ids of synthetic images, such as cgan-000000."""
    return [f"{name}-{number:06d}" for number in range(count)]


def encode_png(image: UInt8[np.ndarray, "height width 3"]) -> bytes:
    """The bytes of a PNG, the same for the same pixels."""
    buffer = io.BytesIO()
    # Level 6 makes photographs a few per cent smaller than level 3, at twice the time.
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "png", compress_level=3)
    return buffer.getvalue()


def decode_png(png: bytes) -> UInt8[np.ndarray, "height width 3"]:
    """The pixels that `encode_png` took, and those of any other PNG as RGB."""
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"))


class ArchiveWriter:
    """Writes images one by one to a neighbour of `path`, which takes its place when the block ends without an error."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._labels: list[tuple[str, int]] = []

    def __enter__(self) -> "ArchiveWriter":
        self._opened = ExitStack()
        with self._opened as opened:
            aside = opened.enter_context(written_whole(self.path))
            self._zip = opened.enter_context(zipfile.ZipFile(aside, "w", zipfile.ZIP_STORED))
            self._opened = opened.pop_all()
        return self

    def add(self, image_id: str, png: bytes, label: int) -> None:
        """Append one image; ids come sorted and once each, else a ValueError."""
        if not IMAGE_ID.fullmatch(image_id):
            raise ValueError(f"image id {image_id!r}: only letters, digits, '.', '_' and '-' may stand in an id")
        if self._labels and image_id <= self._labels[-1][0]:
            raise ValueError(
                f"an archive takes image ids sorted and once each, but {image_id!r} came after {self._labels[-1][0]!r}"
            )
        self._write(f"{image_id}.png", png)
        self._labels.append((image_id, int(label)))

    def _write(self, name: str, content: bytes) -> None:
        entry = zipfile.ZipInfo(name, DATE)
        entry.create_system = 3  # Unix, whatever machine writes
        entry.external_attr = 0o644 << 16
        self._zip.writestr(entry, content)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self._opened.__exit__(kind, error, traceback)
            return
        with self._opened:
            labels = [[f"{image_id}.png", label] for image_id, label in self._labels]
            self._write(LABELS, json.dumps({"labels": labels}).encode())


def write_archive(
    path: Path, image_ids: Sequence[str], images: UInt8[Any, "n 3 height width"], labels: Sequence[int]
) -> None:
    """Write images that are in memory (an array, or a tensor on the CPU); ids come sorted."""
    if not len(image_ids) == len(images) == len(labels):
        raise ValueError(
            f"{path}: {len(image_ids)} ids, {len(images)} images and {len(labels)} labels: each image takes one of each"
        )
    _check_shape(path, images.shape)
    pixels = np.asarray(images).transpose(0, 2, 3, 1)
    with ArchiveWriter(path) as archive, ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(pixels), CHUNK * CHUNK):
            part = slice(start, start + CHUNK * CHUNK)
            pngs = pool.map(encode_png, pixels[part])
            for image_id, png, label in zip(image_ids[part], pngs, labels[part], strict=True):
                archive.add(image_id, png, int(label))


def _check_shape(path: Path, shape: Sequence[int]) -> None:
    if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3]:
        raise ValueError(f"{path}: an archive holds square RGB images as (n, 3, size, size), but {tuple(shape)} came")


def read_archive(path: Path, image_ids: Sequence[str] | None = None) -> Images:
    """The images asked for, in the order asked for; without `image_ids` all of them, sorted.

    FileNotFoundError where there is no such file, ValueError where it is no archive of ours or lacks an image.
    """
    with _opened(path) as archive:
        label_of = _read_labels(archive)
        ids = sorted(label_of) if image_ids is None else list(image_ids)
        missing = [image_id for image_id in ids if image_id not in label_of]
        if missing:
            raise ValueError(f"{path}: {len(missing)} of {len(ids)} images are not in it, the first is {missing[0]!r}")
        labels = np.array([label_of[image_id] for image_id in ids], dtype=np.int64)
        return Images(ids, _read_pixels(archive, path, ids), labels)


def image_size(path: Path) -> int:
    """Side of an archive's images in pixels, read off the first one; errors as those of `read_archive`."""
    with _opened(path) as archive:
        return _read_pixels(archive, path, sorted(_read_labels(archive))[:1]).shape[-1]


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    if not path.is_file():
        raise FileNotFoundError(f"no image archive at {path}: run the stage that writes it, or dvc pull")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, json.JSONDecodeError, KeyError, TypeError, OSError) as error:
        raise ValueError(
            f"{path} is no image archive of ours (a ZIP of PNGs of one square size with {LABELS}): {error}"
        ) from error


def _read_labels(archive: zipfile.ZipFile) -> dict[str, int]:
    """Label by image id."""
    return {name.removesuffix(".png"): int(label) for name, label in json.loads(archive.read(LABELS))["labels"]}


def _read_pixels(archive: zipfile.ZipFile, path: Path, ids: list[str]) -> UInt8[np.ndarray, "n 3 height width"]:
    """Decoded in threads straight into one array, so that no image is held twice."""
    if not ids:
        return np.zeros((0, 3, 0, 0), dtype=np.uint8)
    size = decode_png(archive.read(f"{ids[0]}.png")).shape[0]
    pixels = np.empty((len(ids), 3, size, size), dtype=np.uint8)

    def decode_chunk(start: int) -> None:
        for number in range(start, min(start + CHUNK, len(ids))):
            image = decode_png(archive.read(f"{ids[number]}.png"))
            if image.shape != (size, size, 3):
                raise ValueError(
                    f"{path}: images of an archive have one square size, but {ids[0]} has {size} and {ids[number]} has "
                    f"{image.shape[1]} x {image.shape[0]} pixels"
                )
            pixels[number] = image.transpose(2, 0, 1)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(decode_chunk, range(0, len(ids), CHUNK)))
    return pixels
