"""What somebody might do to a copy so that it is not found: every change keeps the lesion recognisable."""

import io
from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageEnhance, ImageFilter

from skinsynth.privacy.names import UNCHANGED

Picture = Image.Image
NOISE = 8  # grey levels, standard deviation


def _as_jpeg(quality: int) -> Callable[[Picture], Picture]:
    def compressed(image: Picture) -> Picture:
        buffer = io.BytesIO()
        image.save(buffer, "jpeg", quality=quality)
        return Image.open(buffer).convert("RGB")

    return compressed


def _other_hue(image: Picture) -> Picture:
    hue, saturation, value = image.convert("HSV").split()
    turned = hue.point([(level + 12) % 256 for level in range(256)])  # 17 degrees
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")


def _centre(image: Picture, share: float) -> Picture:
    edge = image.width * (1 - share) / 2
    box = (edge, edge, image.width - edge, image.height - edge)
    return image.resize(image.size, Image.Resampling.BICUBIC, box)


def _corner(image: Picture, share: float) -> Picture:
    box = (0, 0, image.width * share, image.height * share)
    return image.resize(image.size, Image.Resampling.BICUBIC, box)


def _moved(image: Picture, share: float) -> Picture:
    """The image moved to the right; what comes in at the left is the border's colour."""
    ground = Image.new("RGB", image.size, _border(image))
    ground.paste(image, (round(image.width * share), 0))
    return ground


def _shrunk(image: Picture, share: float) -> Picture:
    side = round(image.width * share)
    ground = Image.new("RGB", image.size, _border(image))
    ground.paste(image.resize((side, side), Image.Resampling.BICUBIC), ((image.width - side) // 2,) * 2)
    return ground


def _noisy(image: Picture) -> Picture:
    pixels = np.asarray(image)
    # The same noise on each image: it is the size that matters.
    noise = np.random.default_rng(0).normal(0, NOISE, pixels.shape)
    return Image.fromarray((pixels + noise).round().clip(0, 255).astype(np.uint8))


# By name, as tables show it.
DISGUISES: dict[str, Callable[[Picture], Picture]] = {
    UNCHANGED: lambda image: image,
    "JPEG of quality 75": _as_jpeg(75),
    "JPEG of quality 30": _as_jpeg(30),
    "noise of 8 grey levels": _noisy,
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(image.width / 32)),
    "brighter by a fifth": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "half the saturation": lambda image: ImageEnhance.Color(image).enhance(0.5),
    "hue turned by 17 degrees": _other_hue,
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "turned by 90 degrees": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "turned by 20 degrees": lambda image: image.rotate(20, Image.Resampling.BICUBIC, fillcolor=_border(image)),
    "central 90 %": lambda image: _centre(image, 0.9),
    "central 75 %": lambda image: _centre(image, 0.75),
    "corner of 75 %": lambda image: _corner(image, 0.75),
    "moved by an eighth": lambda image: _moved(image, 1 / 8),
    "shrunk to 80 %": lambda image: _shrunk(image, 0.8),
}


def _border(image: Picture) -> tuple[int, ...]:
    """The mean colour of the four corners, which a turned, moved or shrunk image shows outside of what it was."""
    pixels = np.asarray(image)
    return tuple(int(level) for level in pixels[[0, 0, -1, -1], [0, -1, 0, -1]].mean(axis=0))


def disguised(pixels: UInt8[np.ndarray, "n 3 size size"], name: str) -> UInt8[np.ndarray, "n 3 size size"]:
    """Every image changed in the way of that name, a key of `DISGUISES`."""
    change = DISGUISES[name]
    images = (Image.fromarray(image) for image in np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)))
    return np.stack([np.asarray(change(image)) for image in images]).transpose(0, 3, 1, 2)
