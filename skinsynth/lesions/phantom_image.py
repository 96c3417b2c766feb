"""A drawn dermoscopic image: skin, the lesion in it, hair and ruler, the light and the dermatoscope."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, ImageDraw

from skinsynth.lesions.phantom_fields import Field, cells, cloud, furrows, ramp
from skinsynth.lesions.phantom_lesion import Lesion, grow_lesion

VIEW_MM = 9.5  # height of what the dermatoscope shows
FINER = 3  # hair and ruler are drawn this much finer, then averaged
Rgb = Float32[np.ndarray, "height width 3"]

# Skin by tone from 0 (palest) to 1, under a dermatoscope's light, in sRGB from 0 to 1.
TONES = np.array([[0.93, 0.82, 0.80], [0.91, 0.76, 0.70], [0.86, 0.68, 0.58], [0.72, 0.52, 0.41], [0.48, 0.33, 0.26]])
# Relative absorption of red, green and blue; melanin makes brown, then black, blood makes red.
MELANIN = np.array([0.62, 0.98, 1.30], dtype=np.float32)
BLOOD = np.array([0.12, 0.85, 0.70], dtype=np.float32)
BLUE = np.array([0.42, 0.45, 0.56], dtype=np.float32)
WHITE = np.array([0.93, 0.86, 0.84], dtype=np.float32)
YELLOW = np.array([0.74, 0.56, 0.36], dtype=np.float32)


@dataclass(frozen=True)
class Skin:
    """What all images of a patient share."""

    tone: float  # 0 to 1, see TONES
    redness: float  # about 0, standard deviation 1
    hair_darkness: float  # 0 (fair) to 1 (black)


@dataclass(frozen=True)
class Picture:
    """Draws one image when it is called: the same bytes each time, in any process."""

    skin: Skin
    lesion: Lesion
    height: int  # pixels; the width is 4/3 of it
    hair: bool
    black_frame: bool
    ruler: bool
    bubbles: bool
    seed: tuple[int, ...]
    altered: bool  # the copy is a little smaller, paler or darker, and compressed once more

    def __call__(self) -> UInt8[np.ndarray, "height width 3"]:
        """The pixels."""
        rng = np.random.default_rng(self.seed)
        pixels = self._drawn(rng)
        return _altered(pixels, rng) if self.altered else pixels

    def _drawn(self, rng: np.random.Generator) -> UInt8[np.ndarray, "height width 3"]:
        shape = (self.height, 4 * self.height // 3)
        layers = _placed(grow_lesion(self.lesion, self.height / VIEW_MM), shape, rng)
        image = _skin(self.skin, shape, rng)
        image = _with_lesion(image, layers)
        if self.bubbles:
            image = _with_bubbles(image, rng)
        if self.hair:
            image = _with_hair(image, self.skin, rng)
        if self.ruler:
            image = _with_ruler(image, rng)
        image = _lit(image, rng)
        if self.black_frame:
            image = framed(image, rng)
        image += rng.normal(0, 0.006, image.shape).astype(np.float32)
        return np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)


def _placed(
    layers: Float32[np.ndarray, "layers side side"], shape: tuple[int, int], rng: np.random.Generator
) -> Float32[np.ndarray, "layers height width"]:
    """The lesion as this image has it: turned, perhaps mirrored, near the middle, seen from nearer or farther."""
    height, width = shape
    angle, scale = rng.uniform(0, 2 * np.pi), math.exp(rng.normal(0, 0.1))
    mirror = rng.choice([-1, 1])
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) / scale
    turn[:, 0] *= mirror
    middle = np.array([width / 2, height / 2]) + rng.normal(0, 0.05 * height, 2)
    start = layers.shape[1] / 2 - turn @ middle
    affine = (*turn[0], start[0], *turn[1], start[1])
    placed = [
        Image.fromarray(layer).transform((width, height), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
        for layer in layers
    ]
    return np.stack([np.asarray(layer) for layer in placed])


def _skin(skin: Skin, shape: tuple[int, int], rng: np.random.Generator) -> Rgb:
    """Its colour, mottled by blood and melanin, with the rhombs of skin lines."""
    position = np.clip(skin.tone, 0, 1) * (len(TONES) - 1)
    colour = np.array([np.interp(position, np.arange(len(TONES)), TONES[:, channel]) for channel in range(3)])
    height = shape[0]
    blood = 0.09 + 0.06 * skin.redness + 0.035 * cloud(rng, shape, height / 2, 1.9)
    melanin = 0.03 * cloud(rng, shape, height / 3, 1.8) + 0.012 * cells(rng, shape, max(2.5, height / 32), 0.6)
    first = rng.uniform(0, np.pi)
    lines = np.zeros(shape, dtype=np.float32)
    for angle in (first, first + rng.uniform(0.8, 1.4)):
        lines += np.clip(furrows(rng, shape, rng.uniform(0.05, 0.085) * height, angle) - 0.6, 0, 2)
    melanin = melanin + rng.uniform(0.0, 0.05) * lines
    absorbed = np.maximum(blood, 0)[..., None] * BLOOD + melanin[..., None] * MELANIN
    return colour.astype(np.float32) * np.exp(-absorbed)


def _with_lesion(image: Rgb, layers: Float32[np.ndarray, "layers height width"]) -> Rgb:
    """Beer's law for what absorbs, a blend for what scatters."""
    melanin, blood, blue, white, yellow = layers[..., None]
    brightness = image.mean(axis=2, keepdims=True) / 0.75
    image = image * (1 - yellow) + YELLOW * brightness * yellow
    image = image * np.exp(-np.maximum(melanin, 0) * MELANIN - np.maximum(blood, 0) * BLOOD)
    # Deep pigment scatters blue light back, the less the more lies above it.
    image = image * (1 - blue) + BLUE * brightness * np.exp(-0.45 * melanin) * blue
    return image * (1 - white) + WHITE * brightness * white


def _stroked(shape: tuple[int, int], strokes: list[tuple[Float32[np.ndarray, "points 2"], float]]) -> Field:
    """How much of each pixel the strokes cover (points as x and y in pixels, width in pixels), 0 to 1."""
    height, width = shape
    sheet = Image.new("L", (width * FINER, height * FINER))
    pen = ImageDraw.Draw(sheet)
    for points, thickness in strokes:
        pen.line(
            [tuple(point) for point in (points * FINER).tolist()], fill=255, width=max(1, round(thickness * FINER))
        )
    return np.asarray(sheet.reduce(FINER), dtype=np.float32) / 255


def _with_hair(image: Rgb, skin: Skin, rng: np.random.Generator) -> Rgb:
    """Bent strokes that mostly run one way: a few long ones, or many short ones."""
    height, width = image.shape[:2]
    is_short = rng.random() < 0.3
    count = int(rng.integers(15, 45)) if is_short else int(rng.integers(4, 18))
    way = rng.uniform(0, np.pi)
    steps = np.linspace(-1, 1, 9, dtype=np.float32)
    strokes = []
    for _ in range(count):
        length = height * (rng.uniform(0.08, 0.25) if is_short else rng.uniform(0.3, 1.1)) / 2
        angle, bend = way + rng.normal(0, 0.45), length * rng.normal(0, 0.18)
        along, aside = np.array([math.cos(angle), math.sin(angle)]), np.array([-math.sin(angle), math.cos(angle)])
        middle = rng.uniform(0, 1, 2) * (width, height)
        curve = middle + np.outer(steps * length, along) + np.outer((steps**2 + 0.4 * steps**3) * bend, aside)
        strokes.append((curve.astype(np.float32), height * rng.uniform(0.008, 0.016)))
    cover = _stroked((height, width), strokes)[..., None] * rng.uniform(0.6, 0.95)
    fair, dark = np.array([0.55, 0.40, 0.28]), np.array([0.10, 0.07, 0.06])
    colour = (fair + (dark - fair) * skin.hair_darkness).astype(np.float32)
    return image * (1 - cover) + colour * cover


def _with_ruler(image: Rgb, rng: np.random.Generator) -> Rgb:
    """Ticks of a scale along one edge, one a millimetre or half a millimetre, every fifth longer."""
    height, width = image.shape[:2]
    spacing = height / VIEW_MM * rng.choice([0.5, 1.0]) * rng.uniform(0.9, 1.1)
    at_left, from_far = rng.random() < 0.6, rng.random() < 0.5
    length = width if not at_left else height
    # The decoder crops the middle square of a wide image: the scale stands where it is still seen.
    edge = (width - height) / 2 if at_left else 0.0
    offset, tilt = edge + height * rng.uniform(0.02, 0.07), rng.normal(0, 0.03)
    strokes = []
    for number in range(int(length / spacing) + 2):
        along = (number - 0.5) * spacing
        reach = height * (0.075 if number % 5 == 0 else 0.04)
        start = offset + tilt * along
        ends = [(start, along), (start + reach, along)]
        if from_far:
            ends = [((width if at_left else height) - distance, place) for distance, place in ends]
        points = ends if at_left else [(place, distance) for distance, place in ends]
        strokes.append((np.array(points, dtype=np.float32), height * 0.011))
    cover = _stroked((height, width), strokes)[..., None] * rng.uniform(0.6, 0.9)
    return image * (1 - cover) + 0.08 * cover


def _with_bubbles(image: Rgb, rng: np.random.Generator) -> Rgb:
    """Bubbles in the gel: a dark rim, a bright inner rim on the side of the lamp, one glint."""
    height, width = image.shape[:2]
    down, across = np.mgrid[:height, :width].astype(np.float32)
    lamp = rng.uniform(0, 2 * np.pi)
    for _ in range(int(rng.integers(2, 9))):
        radius = height * rng.uniform(0.02, 0.09)
        x, y = (width - height) / 2 + height * rng.uniform(0, 1), height * rng.uniform(0, 1)
        gap_x, gap_y = across - x, down - y
        distance = np.hypot(gap_x, gap_y) / radius
        lit = (gap_x * math.cos(lamp) + gap_y * math.sin(lamp)) / radius
        rim = np.exp(-(((distance - 1) / 0.16) ** 2))
        inner = np.exp(-(((distance - 0.72) / 0.16) ** 2)) * np.clip(lit, 0, 1)
        glint_x, glint_y = (
            gap_x + 0.45 * radius * math.cos(lamp),
            gap_y + 0.45 * radius * math.sin(lamp),
        )
        glint = np.exp(-(glint_x**2 + glint_y**2) / ((0.17 * radius) ** 2 + 0.4))
        image = image * (1 - 0.35 * rim[..., None]) + (0.22 * inner + 0.75 * glint)[..., None] * (1.02 - image)
    return image


def _lit(image: Rgb, rng: np.random.Generator) -> Rgb:
    """White balance and exposure of this image, a darker rim, a lamp that stands a little aside."""
    height, width = image.shape[:2]
    line_y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    line_x = np.linspace(-4 / 3, 4 / 3, width, dtype=np.float32)[None]
    lamp_x, lamp_y = rng.normal(0, 0.18, 2).tolist()
    square = (line_x - lamp_x) ** 2 + (line_y - lamp_y) ** 2
    light = 1 - abs(rng.normal(0.05, 0.09)) * square
    warm, green = np.array([0.03, 0.0, -0.08]), np.array([-0.015, 0.035, -0.015])
    balance = np.exp(rng.normal(0, 1) * warm + rng.normal(0, 1) * green)
    exposure = math.exp(rng.normal(0.02, 0.08))
    return image * light[..., None] * (balance * exposure).astype(np.float32)


def framed(image: Rgb, rng: np.random.Generator) -> Rgb:
    """The round field of view of a dermatoscope: black outside of it."""
    height, width = image.shape[:2]
    down, across = np.mgrid[:height, :width].astype(np.float32)
    x, y = width / 2 + rng.normal(0, 0.012 * height), height / 2 + rng.normal(0, 0.012 * height)
    distance = np.hypot(across - x, down - y) / height
    field = ramp(rng.uniform(0.5, 0.6) - distance, rng.uniform(0.006, 0.02))
    # Light falls off before the edge of the field.
    falloff = 1 - rng.uniform(0.1, 0.5) * np.clip(distance / 0.55, 0, 1) ** 4
    black = np.array([0.03, 0.025, 0.03], dtype=np.float32)
    return image * (field * falloff)[..., None] + black * (1 - field)[..., None]


def _altered(pixels: UInt8[np.ndarray, "height width 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """A near copy, as it comes about when an archive exports an image again."""
    height, width = pixels.shape[:2]
    factor, brightness = rng.uniform(0.8, 0.95), rng.uniform(0.92, 1.08)
    smaller = Image.fromarray(pixels).resize((round(width * factor), round(height * factor)), Image.Resampling.LANCZOS)
    return np.clip(np.asarray(smaller, dtype=np.float32) * brightness, 0, 255).astype(np.uint8)
