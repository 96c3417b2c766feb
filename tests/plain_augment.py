"""ADA's transforms in 64 bits at one quantile of every draw, written plainly from its pseudo-code (arXiv 2006.06676,
appendix B): one matrix for each chain, and every resampling as a product with a dense matrix."""

import math

import numpy as np
import torch
from scipy.special import erfinv

SYM2 = (-0.12940952255092145, 0.22414386804185735, 0.836516303737469, 0.48296291314493025)
SYM6 = (
    *(0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633),
    *(0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252),
    *(-0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148),
)
BLIT, GEOM = ("xflip", "rotate90", "xint"), ("scale", "rotate", "aniso", "xfrac")
COLOR = ("brightness", "contrast", "lumaflip", "hue", "saturation")
BODIES = {"blit": BLIT, "geom": GEOM, "color": COLOR, "bg": BLIT + GEOM, "bgc": BLIT + GEOM + COLOR}
BODIES |= {"bgcfnc": (*BODIES["bgc"], "imgfilter", "noise", "cutout")}
# The taps of SYM6 have their centre of mass there, in pixels of the image: what turns and scales does so around it.
CENTRE = -0.25
POWER = np.array([10, 1, 1, 1]) / 13  # of natural images in each octave, the lowest first
AXIS = np.array([1, 1, 1, 0]) / math.sqrt(3)  # of the greys in homogeneous colours
LARGEST_MARGIN = 256


def augmented(x, name, u):
    """All images by the transforms of a preset, or by one transform."""
    names = BODIES.get(name, (name,))
    x = x.double()
    if {*names} & {*BLIT, *GEOM}:
        x = warped(x, geometry(names, u, *x.shape[2:]))
    if {*names} & {*COLOR}:
        matrix = torch.tensor(colours(names, u))
        x = torch.einsum("ij,njhw->nihw", matrix[:3, :3], x) + matrix[:3, 3, None, None]
    if "imgfilter" in names:
        x = filtered(x, torch.tensor(gains(u) @ bands()))
    if "noise" in names:
        x = x + 0.1 * abs(normal(u)) * normal(u)
    return x * kept(u, *x.shape[2:]) if "cutout" in names else x


def normal(u):
    """As the reference values have it: without the factor √2."""
    return erfinv(2 * u - 1)


def geometry(names, u, height, width):
    """Where a point goes, in pixels from the centre of the image: each transform follows those before."""
    even, step = 2 * u - 1, normal(u)
    factor = 2 ** (0.2 * step)
    in_order = {
        "xflip": np.diag([1 - 2 * math.floor(2 * u), 1, 1]),
        "rotate90": rotation(-math.pi / 2 * math.floor(4 * u)),
        "xint": shift(np.round(0.125 * even * width), np.round(0.125 * even * height)),
        "scale": np.diag([factor, factor, 1]),
        "rotate": rotation(-math.pi * even),  # before the stretch; the other one is 0
        "aniso": np.diag([factor, 1 / factor, 1]),
        "xfrac": shift(0.125 * step * width, 0.125 * step * height),
    }
    matrix = np.eye(3)
    for name, transform in in_order.items():
        matrix = transform @ matrix if name in names else matrix
    return shift(CENTRE, CENTRE) @ matrix @ shift(-CENTRE, -CENTRE)


def rotation(angle):
    return np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])


def shift(right, down):
    return np.array([[1, 0, right], [0, 1, down], [0, 0, 1]])


def warped(x, matrix):
    """The image, reflected without end, twice as fine, looked up between its samples, and coarse again."""
    height, width = x.shape[2:]
    margin = min(4 * max(height, width), LARGEST_MARGIN)
    rows, columns = (reflected(torch.arange(-margin, n + margin), n) for n in (height, width))
    fine = along(along(x[:, :, rows][..., columns], 2, upsampling), 3, upsampling)
    back = torch.tensor(np.linalg.inv(matrix))
    down, right = torch.meshgrid(*(positions(n) for n in (height, width)), indexing="ij")
    points = torch.einsum("ij,jhw->ihw", back, torch.stack([right, down, torch.ones_like(right)]))
    looked_up = between(fine, *(2 * (points[i] + n / 2 + margin) - 0.5 for i, n in ((1, height), (0, width))))
    return along(along(looked_up, 2, downsampling), 3, downsampling)


def positions(n):
    """Of the finer samples, in pixels from the middle; with those beyond both ends that the filter takes."""
    return torch.arange(-5.0, 2 * n + 6).double() / 2 + 0.25 - n / 2


def reflected(places, n):
    places = places % (2 * (n - 1))
    return torch.minimum(places, 2 * (n - 1) - places)


def along(x, dim, matrix_of):
    """The product with a matrix, which is made for the length, along one dimension."""
    return torch.tensordot(matrix_of(x.shape[dim]), x, dims=([1], [dim])).movedim(0, dim)


def upsampling(n):
    matrix = torch.zeros(2 * n, n, dtype=torch.float64)
    for place in range(n):
        for tap, weight in enumerate(SYM6):
            if 0 <= (target := 2 * place + tap - 5) < 2 * n:
                matrix[target, place] = 2 * weight / sum(SYM6)
    return matrix


def downsampling(fine):
    matrix = torch.zeros((fine - 11) // 2, fine, dtype=torch.float64)
    for place, row in enumerate(matrix):
        row[2 * place : 2 * place + len(SYM6)] = torch.tensor(SYM6) / sum(SYM6)
    return matrix


def between(x, rows, columns):
    """Bilinear; a point outside of the margin would be an IndexError."""
    top, left = rows.floor().long(), columns.floor().long()
    assert min(top.min(), left.min()) >= 0
    down, right = rows - top, columns - left
    upper = (1 - right) * x[..., top, left] + right * x[..., top, left + 1]
    lower = (1 - right) * x[..., top + 1, left] + right * x[..., top + 1, left + 1]
    return (1 - down) * upper + down * lower


def colours(names, u):
    """Of homogeneous colours."""
    even, step = 2 * u - 1, normal(u)
    grey, brighter, turned = np.outer(AXIS, AXIS), np.eye(4), np.eye(4)
    brighter[:3, 3] = 0.2 * step
    a, angle = AXIS[0], even * math.pi
    cross = np.array([[0, -a, a], [a, 0, -a], [-a, a, 0]])
    turned[:3, :3] = math.cos(angle) * np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * grey[:3, :3]
    in_order = {
        "brightness": brighter,
        "contrast": np.diag([2 ** (0.5 * step)] * 3 + [1]),
        "lumaflip": np.eye(4) - 2 * math.floor(2 * u) * grey,
        "hue": turned,
        "saturation": grey + 2**step * (np.eye(4) - grey),
    }
    matrix = np.eye(4)
    for name, transform in in_order.items():
        matrix = transform @ matrix if name in names else matrix
    return matrix


def bands():
    """Four filters that add up to the identity, the lowest octave first, each around the middle."""
    low = np.array(SYM2) / math.sqrt(2)
    high = low[::-1] * (1, -1, 1, -1)
    lows, highs = np.convolve(low, low[::-1]), np.convolve(high, high[::-1])
    found, below = [], np.ones(1)
    for octave in range(3):
        found.append(np.convolve(below, spread(highs, 2**octave)))
        below = np.convolve(below, spread(lows, 2**octave))
    found.append(below)
    return np.stack([np.pad(band, (len(below) - len(band)) // 2) for band in reversed(found)])


def spread(taps, step):
    """The taps with zeros between."""
    wide = np.zeros((len(taps) - 1) * step + 1)
    wide[::step] = taps
    return wide


def gains(u):
    """Of the octaves: each one's is drawn in turn, and all are scaled so that natural images keep their power."""
    product = np.ones(4)
    for octave in range(4):
        drawn = np.where(np.arange(4) == octave, 2 ** normal(u), 1)
        product *= drawn / math.sqrt((POWER * drawn**2).sum())
    return product


def filtered(x, taps):
    """Along both sides, with reflection."""

    def filtering(n):
        matrix = torch.zeros(n, n, dtype=torch.float64)
        for place, row in enumerate(matrix):
            row.index_add_(0, reflected(torch.arange(len(taps)) + place - len(taps) // 2, n), taps)
        return matrix

    return along(along(x, 2, filtering), 3, filtering)


def kept(u, height, width):
    """0 in a box half as large as the image around (u, u), 1 elsewhere."""
    far = [((torch.arange(n).double() + 0.5) / n - u).abs() >= 0.25 for n in (height, width)]
    return far[0][:, None] | far[1]
