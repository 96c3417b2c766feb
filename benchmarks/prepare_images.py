"""Images a second of our decoding against a plain full decode and Lanczos resize by Pillow in one thread, as JSON.

    python benchmarks/prepare_images.py [--folder ../shared/data/isic/full_size] [--size 256] [--images 400]

Ours decodes on all cores and does what the stage does besides: checks, and hashes of every image. The plain way takes a
quarter of the images.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

from PIL import Image

from skinsynth.images.decode import Decoding


def plain(paths: list[Path], size: int) -> None:
    """What one would write first: decode all pixels, resize the shorter side, crop the middle."""
    for path in paths:
        with Image.open(path) as image:
            factor = size / min(image.size)
            width, height = round(image.width * factor), round(image.height * factor)
            small = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
            left, top = (width - size) // 2, (height - size) // 2
            small.crop((left, top, left + size, top + size))


def ours(paths: list[Path], size: int) -> None:
    """The stage's way: reduced decoding on all cores, with checks, hashes and the start of the processes."""
    tasks = [(f"{number:06d}", path) for number, path in enumerate(paths)]
    for _ in Decoding(tasks, size, os.cpu_count() or 1, "stop"):
        pass


def images_per_second(run: Callable[[list[Path], int], None], paths: list[Path], size: int) -> float:
    """Speed of `run` on the clock on the wall."""
    start = time.perf_counter()
    run(paths, size)
    return len(paths) / (time.perf_counter() - start)


def main() -> None:
    """Read the flags, run both, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("../shared/data/isic/full_size"), help="full-size JPEGs")
    parser.add_argument("--size", type=int, default=256, help="pixels of the square to make")
    parser.add_argument("--images", type=int, default=400, help="images to decode, the files again and again")
    flags = parser.parse_args()
    files = sorted(flags.folder.glob("*.jp*g"))
    if not files:
        parser.error(f"no JPEG in {flags.folder}")
    # A quarter is enough for the slower one.
    plain_rate = images_per_second(plain, list(islice(cycle(files), max(4, flags.images // 4))), flags.size)
    our_rate = images_per_second(ours, list(islice(cycle(files), flags.images)), flags.size)
    result = {
        "images": flags.images,
        "files": len(files),
        "size": flags.size,
        "workers": os.cpu_count(),
        "plain_images_per_second": round(plain_rate, 1),
        "our_images_per_second": round(our_rate, 1),
        "times_as_fast": round(our_rate / plain_rate, 2),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
