"""From image files to square RGB images of one size, and what tells each file apart."""

import hashlib
import io
import multiprocessing
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageOps
from tqdm import tqdm

from skinsynth.images.duplicates import perceptual_hash

# JPEG's own reduction (to 1/2, 1/4, 1/8) stops at this multiple of the size asked for, and Lanczos does the rest. At
# 1.5 a pixel differs from that of a full decode by 0.65 grey levels on average (at 1 by up to 1.2; at 2 by 0.4, at half
# the speed where the size is 256).
REDUCING_GAP = 1.5
# Twice as many pixels as any dermatoscope takes; Pillow's own limit, above which a file may be an attack.
MAX_PIXELS = Image.MAX_IMAGE_PIXELS
# Each worker has this many images ahead of it, so that it never waits and memory stays bounded.
TASKS_AHEAD = 8
SHOWN = 5  # bad images that an error names

Drawing = Callable[[], np.ndarray]  # draws uint8 pixels (height, width, 3); it is called in another process


class BadImage(ValueError):  # noqa: N818 - it is the name of what was found
    """A file that holds no image that we can read; the message names the file."""


@dataclass(frozen=True)
class Facts:
    """What is kept of an image beside its pixels."""

    key: str
    width: int  # of the source, as seen: after its rotation by EXIF
    height: int
    sha256: str  # of the file, or of the drawn pixels
    hash: Bool[np.ndarray, " bits"]  # see duplicates.perceptual_hash


@dataclass(frozen=True)
class Decoded(Facts):
    pixels: UInt8[np.ndarray, "size size 3"]

    @property
    def facts(self) -> Facts:
        """A copy that does not hold on to the pixels."""
        return Facts(self.key, self.width, self.height, self.sha256, self.hash)


def decode(key: str, source: Path | Drawing, size: int) -> Decoded:
    """Read the file or call the drawing, and take the square in its middle at `size` px; a bad file is a BadImage."""
    if isinstance(source, Path):
        image, original, digest = _from_file(source, size)
    else:
        drawn = source()
        image, original = Image.fromarray(drawn), (drawn.shape[1], drawn.shape[0])
        digest = hashlib.sha256(drawn.tobytes()).hexdigest()
    pixels = np.asarray(_square(image, size))
    return Decoded(key, *original, digest, perceptual_hash(pixels), pixels)


def decode_bytes(
    content: bytes, name: str, size: int, formats: tuple[str, ...]
) -> tuple[UInt8[np.ndarray, "size size 3"], int]:
    """The square that `decode` takes and its side in the file, of a content in one of Pillow's `formats`.

    A BadImage says `name`, also where a file holds more than it shows: several images, or colours under transparency.

    Call it within `pillow_warnings()`; of threads, one stands around them all.
    """
    with _named(name):
        _check_shows_all(content, formats)
        image, original = _upright(io.BytesIO(content), size, formats)
        return np.asarray(_square(image, size)), min(original)


def _check_shows_all(content: bytes, formats: tuple[str, ...]) -> None:
    """Raises BadImage where an image is not judged by what is seen of it."""
    with Image.open(io.BytesIO(content), formats=formats) as image:
        count = getattr(image, "n_frames", 1)
        if count > 1:
            raise BadImage(f"it holds {count} images, of which one would be looked at")
        if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
            raise BadImage("it is transparent in places, which may hold colours that nobody sees: save it without")


@contextmanager
def pillow_warnings() -> Iterator[None]:
    """Too many pixels are an error, other warnings silent: for the whole process, hence never set within threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


@contextmanager
def _named(name: Path | str) -> Iterator[None]:
    """What fails inside becomes a BadImage that names the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise BadImage(f"{name}: no such file") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise BadImage(f"{name}: more than {MAX_PIXELS:,} pixels") from error
    # Pillow's readers of damaged files raise whatever their parsing stumbles over.
    except Exception as error:
        raise BadImage(f"{name}: {_reason(error)}") from error


def _from_file(path: Path, size: int) -> tuple[Image.Image, tuple[int, int], str]:
    """The upright RGB image, perhaps reduced, its full size, and the file's SHA-256."""
    with _named(path), path.open("rb") as file, pillow_warnings():
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        return *_upright(file, size, formats=None), digest


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image (or of a kind that Pillow does not read)"
    return " ".join(str(error).split()) or type(error).__name__


def _upright(
    file: BinaryIO | io.BytesIO, size: int, formats: tuple[str, ...] | None
) -> tuple[Image.Image, tuple[int, int]]:
    with Image.open(file, formats=formats) as image:
        width, height = image.size
        # The short side must still hold `size` pixels, and the draft keeps both sides above what is asked.
        factor = size * REDUCING_GAP / min(width, height)
        image.draft(None, (round(width * factor), round(height * factor)))
        rgb = _to_rgb(image)
    upright = ImageOps.exif_transpose(rgb)
    # Of a TIFF Pillow tells the size as seen from the start, of other files the size as stored.
    return upright, (width, height) if upright.size == rgb.size else (height, width)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode as RGB of 8 bits."""
    image.load()
    if image.mode.startswith("I;16"):
        # The full range of 16 bits, never that of the one image: brightness stays comparable between images.
        grey = np.asarray(image).astype(np.uint16) >> 8
        return _keeping_exif(Image.fromarray(grey.astype(np.uint8)).convert("RGB"), image)
    if image.mode in ("I", "F"):
        raise BadImage("32 bits a pixel have no range that all programs agree on: save it with 8 or 16 bits")
    if image.has_transparency_data:
        # White, as viewers show it: a black ground would look like the frame of a dermatoscope, which tells of
        # malignancy in ISIC, and colours under full transparency are arbitrary.
        rgba = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        return _keeping_exif(Image.alpha_composite(ground, rgba).convert("RGB"), image)
    return image.convert("RGB")


def _keeping_exif(image: Image.Image, source: Image.Image) -> Image.Image:
    if "exif" in source.info:
        image.info["exif"] = source.info["exif"]
    return image


def _square(image: Image.Image, size: int) -> Image.Image:
    """The square in the middle, at `size` px by Lanczos over what a box filter has reduced before."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    if side < 2 * REDUCING_GAP * size:
        return image.resize((size, size), Image.Resampling.LANCZOS, box=box)
    return image.resize((size, size), Image.Resampling.LANCZOS, box=box, reducing_gap=REDUCING_GAP)


class Decoding:
    """Decodes many images on many processes, in order; `bad` then lists what could not be read.

    Under `on_bad_image: stop` all images are tried and one BadImage names and counts the bad ones; under `skip` they
    are left out. Memory is bounded by the workers, whatever the number of images. Processes are spawned: a script that
    uses them starts its work under `if __name__ == "__main__"`.
    """

    def __init__(self, tasks: Sequence[tuple[str, Path | Drawing]], size: int, workers: int, on_bad_image: str) -> None:
        if on_bad_image not in ON_BAD_IMAGE:
            raise ValueError(f"on_bad_image is {on_bad_image!r}: choose one of {', '.join(ON_BAD_IMAGE)}")
        self.tasks, self.size, self.workers, self.on_bad_image = tasks, size, workers, on_bad_image
        self.bad: list[str] = []

    def __iter__(self) -> Iterator[Decoded]:
        self.bad = []
        with tqdm(total=len(self.tasks), unit="image", desc="decoding", mininterval=1) as bar:
            for found in self._results():
                bar.update()
                if isinstance(found, BadImage):
                    self.bad.append(str(found))
                    bar.set_postfix(bad=len(self.bad))
                elif not (self.bad and self.on_bad_image == "stop"):
                    yield found
        ON_BAD_IMAGE[self.on_bad_image](self.bad, len(self.tasks))

    def _results(self) -> Iterator[Decoded | BadImage]:
        if self.workers <= 1:
            yield from (_try(key, source, self.size) for key, source in self.tasks)
            return
        # Spawned, since forking a process that has threads (NumPy's, say) may hang.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self.workers, mp_context=context) as pool:
            ahead: deque[Future[Decoded | BadImage]] = deque()
            try:
                for key, source in self.tasks:
                    ahead.append(pool.submit(_try, key, source, self.size))
                    if len(ahead) > TASKS_AHEAD * self.workers:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)


def _try(key: str, source: Path | Drawing, size: int) -> Decoded | BadImage:
    try:
        return decode(key, source, size)
    except BadImage as error:
        return error


def _stop(bad: list[str], count: int) -> None:
    if bad:
        more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        raise BadImage(
            f"{len(bad)} of {count} images cannot be read: {'; '.join(bad[:SHOWN])}{more}; "
            f"mend or remove them, or set on_bad_image: skip"
        )


def _skip(bad: list[str], count: int) -> None:
    if bad and len(bad) == count:
        raise BadImage(f"none of {count} images can be read, the first: {bad[0]}")
    if bad:
        tqdm.write(f"skipped {len(bad)} of {count} images that cannot be read: {'; '.join(bad)}")


ON_BAD_IMAGE = {"stop": _stop, "skip": _skip}
