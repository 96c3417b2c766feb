"""What a drawn lesion holds at each place: melanin, blood, and what lies deeper or on top."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from skinsynth.lesions.phantom_fields import Field, cells, cloud, ramp

NEVUS, KERATOSIS, MELANOMA = "nevus", "seborrheic keratosis", "melanoma"
SPREAD = 1.7  # side of the canvas in diameters
LARGEST_MM = 9.0


@dataclass(frozen=True)
class Lesion:
    """The four signs of the ABCD rule, each with a standard deviation of 1 among the lesions of one diagnosis."""

    diagnosis: str
    asymmetry: float
    border: float
    colour: float
    diameter: float
    seed: tuple[int, ...]

    @property
    def diameter_mm(self) -> float:
        """About 4 mm in nevi and 6 mm in melanomas."""
        return min(max(4.0 * math.exp(0.36 * self.diameter), 1.8), LARGEST_MM)


# Shifts of the four signs. Between nevus and melanoma they add up to a distance of 1.9, between keratosis and melanoma
# to 1.2: from the signs alone the best reader reaches an area under the ROC curve of about 0.89.
MEAN_SIGNS = {
    NEVUS: (0.0, 0.0, 0.0, 0.0),
    KERATOSIS: (0.3, 0.2, 0.4, 0.7),
    MELANOMA: (1.0, 0.9, 1.1, 0.9),
}


@dataclass
class Tissue:
    """Layers of a lesion on its own canvas, in the order in which light meets them."""

    melanin: Field  # optical density, 0 for bare skin
    blood: Field  # optical density
    blue: Field  # 0 to 1: pigment deep in the dermis
    white: Field  # 0 to 1: scar, regression, cysts
    yellow: Field  # 0 to 1: keratin

    def layers(self) -> Float32[np.ndarray, "5 height width"]:
        """All layers in one array."""
        return np.stack([self.melanin, self.blood, self.blue, self.white, self.yellow])


@dataclass
class Canvas:
    """Coordinates about the lesion's centre, and the lesion's outline on them."""

    x: Field  # in radii
    y: Field
    inside: Field  # 1 within the lesion, 0 outside, soft at the border
    depth: Field  # 0 at the border and outside, about 1 in the middle
    px_per_mm: float

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels of the canvas."""
        return self.x.shape


def grow_lesion(lesion: Lesion, px_per_mm: float) -> Float32[np.ndarray, "5 side side"]:
    """Melanin, blood, blue, white and yellow; the same lesion always grows the same way."""
    rng = np.random.default_rng(lesion.seed)
    canvas = _outline(lesion, px_per_mm, rng)
    tissue = _pigment(lesion, canvas, rng)
    _patches(lesion, canvas, tissue, rng)
    STRUCTURES[lesion.diagnosis](canvas, tissue, rng)
    return tissue.layers()


def _outline(lesion: Lesion, px_per_mm: float, rng: np.random.Generator) -> Canvas:
    """An ellipse with lobes (asymmetry) and a ragged edge (border), cut at the level that gives the diameter."""
    radius = lesion.diameter_mm * px_per_mm / 2
    side = 16 * math.ceil(2 * radius * SPREAD / 16)
    line = (np.arange(side, dtype=np.float32) - (side / 2 - 0.5)) / radius
    y, x = np.meshgrid(line, line, indexing="ij")
    lopsided = 1 / (1 + math.exp(-(lesion.asymmetry - 0.6)))  # 0 to 1
    ragged = 1 / (1 + math.exp(-(lesion.border - 0.6)))
    stretch = math.exp(rng.normal(0, 0.12) + 0.1 * lopsided)
    level = 1 - np.sqrt((x / stretch) ** 2 + (y * stretch) ** 2)
    for _ in range(3):
        angle, reach, size = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.75), rng.uniform(0.3, 0.6)
        lobe = size - np.hypot(x - reach * math.cos(angle), y - reach * math.sin(angle))
        level = np.logaddexp(7 * level, 7 * (lobe + 1.2 * lopsided - 0.65)) / 7
    level += (0.03 + 0.26 * ragged) * cloud(rng, x.shape, 1.2 * radius, 2.8)
    level += (0.015 + 0.05 * ragged) * cloud(rng, x.shape, 0.4 * radius, 1.6)
    level += _streaks(x, y, ragged, rng)
    area = np.pi * radius**2 / side**2
    level -= np.quantile(level, 1 - area).astype(np.float32)
    softness = SOFTNESS[lesion.diagnosis] * math.exp(rng.normal(0, 0.35)) * (1.2 - 0.5 * ragged)
    # A border fades more on one side than on another.
    width = softness * np.exp(0.4 * cloud(rng, x.shape, 2 * radius, 2.0))
    return Canvas(x, y, ramp(level, width), np.clip(level, 0, 1), px_per_mm)


# Soft part of the border, in radii: keratoses look stuck on, nevi fade into the skin.
SOFTNESS = {NEVUS: 0.22, KERATOSIS: 0.11, MELANOMA: 0.16}


def _streaks(x: Field, y: Field, ragged: float, rng: np.random.Generator) -> Field:
    """Radial streaks along a part of the edge, more of them the more ragged it is."""
    angle = np.arctan2(y, x)
    waves = int(rng.integers(12, 22))
    sector = np.clip(np.cos(angle - rng.uniform(0, 2 * np.pi)) - rng.uniform(-0.4, 0.6), 0, 1)
    phase = rng.uniform(0, 2 * np.pi) + 1.5 * np.sin(2 * angle + rng.uniform(0, 2 * np.pi))
    return 0.2 * max(0.0, ragged - 0.4) * sector * np.cos(waves * angle + phase)


def _pigment(lesion: Lesion, canvas: Canvas, rng: np.random.Generator) -> Tissue:
    """The first brown: even in nevi, blotched in melanomas, denser or thinner towards the middle."""
    density = DENSITY[lesion.diagnosis] * math.exp(rng.normal(0, 0.42))
    trend = rng.normal(0.25, 0.45)
    radius = canvas.shape[0] / (2 * SPREAD)
    blotches = cloud(rng, canvas.shape, radius, 2.1)
    uneven = 0.2 + 0.09 * min(max(lesion.colour, -1), 2.5)
    melanin = density * canvas.inside * np.exp(uneven * blotches + trend * canvas.depth)
    fine = np.exp(0.12 * cells(rng, canvas.shape, max(2.2, 0.28 * canvas.px_per_mm), 0.5))
    blush = rng.uniform(0.05, 0.25) * ramp(canvas.depth - 0.02, 0.35) * canvas.inside
    nothing = np.zeros(canvas.shape, dtype=np.float32)
    return Tissue(melanin * fine, blush, nothing.copy(), nothing.copy(), nothing.copy())


DENSITY = {NEVUS: 0.72, KERATOSIS: 0.60, MELANOMA: 0.80}


def _patches(lesion: Lesion, canvas: Canvas, tissue: Tissue, rng: np.random.Generator) -> None:
    """Further colours: as many as the lesion's sign says, each in a patch that leans to one side with asymmetry."""
    count = min(max(round(0.4 + 0.95 * lesion.colour + rng.normal(0, 0.3)), 0), 5)
    names, weights = zip(*COLOUR_WEIGHTS[lesion.diagnosis].items(), strict=True)
    chosen = rng.choice(len(names), size=count, replace=False, p=np.array(weights) / sum(weights))
    lean = rng.uniform(0, 2 * np.pi)
    for number in chosen:
        direction = lean + rng.normal(0, 0.9)
        field = cloud(rng, canvas.shape, canvas.shape[0] / 4, 2.6)
        tilt = 0.5 + 0.7 * max(0.0, lesion.asymmetry)
        field = field + tilt * (canvas.x * math.cos(direction) + canvas.y * math.sin(direction))
        within = field[canvas.inside > 0.5]
        cut = np.quantile(within, 1 - rng.uniform(0.18, 0.42)).astype(np.float32)
        patch = ramp(field - cut, rng.uniform(0.2, 0.6)) * canvas.inside
        COLOURS[names[number]](tissue, patch, rng.uniform(0.7, 1.15))


def _light(tissue: Tissue, patch: Field, strength: float) -> None:
    tissue.melanin *= 1 - 0.6 * min(strength, 1) * patch


def _dark(tissue: Tissue, patch: Field, strength: float) -> None:
    tissue.melanin += 0.9 * strength * patch


def _black(tissue: Tissue, patch: Field, strength: float) -> None:
    tissue.melanin += 2.0 * strength * patch * patch


def _red(tissue: Tissue, patch: Field, strength: float) -> None:
    tissue.blood += 0.75 * strength * patch
    tissue.melanin *= 1 - 0.5 * patch


def _blue(tissue: Tissue, patch: Field, strength: float) -> None:
    tissue.blue = np.maximum(tissue.blue, np.minimum(0.7 * strength * patch, 0.8))
    tissue.melanin += 0.5 * strength * patch


def _white(tissue: Tissue, patch: Field, strength: float) -> None:
    tissue.white = np.maximum(tissue.white, 0.3 * strength * patch)
    tissue.melanin *= 1 - 0.65 * patch


COLOURS = {"light": _light, "dark": _dark, "black": _black, "red": _red, "blue": _blue, "white": _white}
COLOUR_WEIGHTS = {
    NEVUS: {"light": 3.0, "dark": 4.0, "black": 0.9, "red": 1.0, "blue": 0.5, "white": 0.4},
    KERATOSIS: {"light": 3.0, "dark": 3.0, "black": 1.2, "red": 0.8, "blue": 0.7, "white": 1.0},
    MELANOMA: {"light": 2.0, "dark": 3.0, "black": 2.4, "red": 1.8, "blue": 1.9, "white": 1.6},
}


def _network(canvas: Canvas, tissue: Tissue, rng: np.random.Generator, strength: float, wide: float) -> None:
    """A brown net with bright holes, strongest towards the border; `wide` makes its meshes unequal (atypical)."""
    mesh = cells(rng, canvas.shape, rng.uniform(0.55, 0.85) * canvas.px_per_mm, wide)
    where = ramp(cloud(rng, canvas.shape, canvas.shape[0] / 3, 2.0) + 0.5, 0.5) * (1 - 0.6 * canvas.depth)
    tissue.melanin *= 1 + strength * where * np.clip(mesh + 0.25, -0.85, 1.2)


def _globules(canvas: Canvas, tissue: Tissue, rng: np.random.Generator, strength: float) -> None:
    spots = ramp(cells(rng, canvas.shape, rng.uniform(0.7, 1.0) * canvas.px_per_mm, 0.3) - 1.0, 0.3)
    tissue.melanin += strength * spots * canvas.inside


def _nevus_structures(canvas: Canvas, tissue: Tissue, rng: np.random.Generator) -> None:
    if rng.random() < 0.65:
        _network(canvas, tissue, rng, rng.uniform(0.35, 0.8), 0.18)
    if rng.random() < 0.35:
        _globules(canvas, tissue, rng, rng.uniform(0.2, 0.5))
    if rng.random() < 0.05:
        _blue(tissue, _veil(canvas, rng), 0.7)


def _melanoma_structures(canvas: Canvas, tissue: Tissue, rng: np.random.Generator) -> None:
    if rng.random() < 0.6:
        _network(canvas, tissue, rng, rng.uniform(0.4, 0.95), 0.45)
    if rng.random() < 0.4:
        _globules(canvas, tissue, rng, rng.uniform(0.4, 1.2))
    if rng.random() < 0.3:
        _blue(tissue, _veil(canvas, rng), rng.uniform(0.6, 1.1))


def _veil(canvas: Canvas, rng: np.random.Generator) -> Field:
    """A blurred, structureless place within the lesion."""
    field = cloud(rng, canvas.shape, canvas.shape[0] / 2, 2.4) + 1.5 * canvas.depth
    cut = np.quantile(field[canvas.inside > 0.5], rng.uniform(0.6, 0.8)).astype(np.float32)
    return ramp(field - cut, 0.45) * canvas.inside


def _keratosis_structures(canvas: Canvas, tissue: Tissue, rng: np.random.Generator) -> None:
    """A waxy, yellowish plate with fissures, milia-like cysts and comedo-like openings."""
    tissue.yellow += rng.uniform(0.1, 0.42) * canvas.inside
    if rng.random() < 0.6:
        folds = np.abs(cells(rng, canvas.shape, rng.uniform(0.9, 1.5) * canvas.px_per_mm, 0.3))
        tissue.melanin *= 1 + rng.uniform(0.3, 0.8) * (np.exp(-3 * folds) - 0.35)
    radius = canvas.px_per_mm * 0.13
    if rng.random() < 0.6:
        dots = _dots(canvas, rng, int(rng.integers(3, 14)), radius)
        tissue.white = np.maximum(tissue.white, 0.75 * dots)
        tissue.melanin *= 1 - 0.8 * dots
    if rng.random() < 0.5:
        tissue.melanin += 1.6 * _dots(canvas, rng, int(rng.integers(3, 10)), 1.15 * radius)
    if rng.random() < 0.3:
        _network(canvas, tissue, rng, rng.uniform(0.2, 0.5), 0.35)


def _dots(canvas: Canvas, rng: np.random.Generator, count: int, radius_px: float) -> Field:
    """Small round dots within the lesion, 0 to 1."""
    places = np.argwhere(canvas.inside > 0.8)
    centres = places[rng.integers(0, len(places), count)]
    size = radius_px * rng.uniform(0.7, 1.5, count)
    line = np.arange(canvas.shape[0], dtype=np.float32)
    down = np.exp(-0.5 * ((line[None] - centres[:, :1]) / size[:, None]) ** 2)
    across = np.exp(-0.5 * ((line[None] - centres[:, 1:]) / size[:, None]) ** 2)
    return np.minimum(down.T @ across, 1).astype(np.float32)


STRUCTURES = {NEVUS: _nevus_structures, KERATOSIS: _keratosis_structures, MELANOMA: _melanoma_structures}
