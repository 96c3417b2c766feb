"""The harm of colour augmentation as a number: hue, saturation and brightness of generated images against real ones."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64, UInt8
from torch import Tensor

from skinsynth.quality.by_class import POOLED, Sides, sides_by_class
from skinsynth.quality.fidelity import NOBODY, Patients, comparisons
from skinsynth.quality.half_samples import half_sample_intervals, of_each

CPU = torch.device("cpu")
HUES = 360  # bins of the circle, each centred on a whole degree
LEVELS = 256  # bins of saturation and brightness, each centred on a level of 8 bits
HUES_A_BAR = 5  # in a plot
# Pixels whose colours are worked out at once: some 150 MB.
PIXELS_AT_ONCE = 2**20
# An image is outside the real ones beyond these quantiles of theirs; so real images are 2 % of the time.
INNER = (0.01, 0.99)
# A thousandth of a degree, or a quarter of a level: what rounding may move a mean by is no leak.
SLACK = 1e-3


def hue_saturation_brightness(
    pixels: UInt8[Tensor, "n 3 height width"],
) -> tuple[Float32[Tensor, "n height width"], Float32[Tensor, "n height width"], Float32[Tensor, "n height width"]]:
    """Hue in degrees, saturation and brightness (value) from 0 to 1 of the hexcone model (Smith 1978, HSV).

    Saturation times brightness is the chroma: the largest channel less the smallest. Greys have hue 0.
    """
    red, green, blue = pixels.float().unbind(dim=1)
    largest, channel = pixels.max(dim=1)
    largest = largest.float()
    chroma = largest - pixels.amin(dim=1).float()
    # How far the hue lies from that of the largest channel, in sixths of the circle.
    aside = torch.stack([green - blue, blue - red, red - green], dim=1).gather(1, channel[:, None])[:, 0]
    sixths = aside / chroma.clamp(min=1) + 2 * channel
    return (60 * sixths) % 360, chroma / largest.clamp(min=1), largest / 255


@dataclass(frozen=True)
class ColourHistograms:
    """An extractor whose features are an image's histograms: hue, saturation and brightness, one after another.

    A pixel counts as much as its colour can be seen: for hue by its chroma, for saturation by its brightness, for
    brightness as one pixel. So grey has no hue, black no saturation, and the noise in dark corners hardly matters.
    Entries are divided by the number of pixels: sets of different image sizes can be compared.
    """

    device: torch.device = CPU  # that it computes on

    @property
    def name(self) -> str:
        return "colour"

    @property
    def dim(self) -> int:
        return HUES + 2 * LEVELS

    def __call__(self, pixels: UInt8[np.ndarray | Tensor, "n 3 size size"]) -> Float32[Tensor, "n dim"]:
        count = max(1, PIXELS_AT_ONCE // max(1, pixels.shape[-1] ** 2))
        histograms = torch.empty(len(pixels), self.dim, device=self.device)
        for start in range(0, len(pixels), count):
            part = slice(start, start + count)
            histograms[part] = _histograms(torch.as_tensor(pixels[part]).to(self.device))
        return histograms


def _histograms(pixels: UInt8[Tensor, "n 3 size size"]) -> Float64[Tensor, "n dim"]:
    hue, saturation, brightness = hue_saturation_brightness(pixels)
    top = LEVELS - 1
    parts = [
        _histogram(hue.round().long() % HUES, saturation * brightness, HUES),
        _histogram((top * saturation).round().long(), brightness, LEVELS),
        _histogram((top * brightness).round().long(), torch.ones_like(brightness), LEVELS),
    ]
    return torch.cat(parts, dim=1) / hue[0].numel()


def _histogram(
    bins: Int64[Tensor, "n size size"], weights: Float32[Tensor, "n size size"], count: int
) -> Float64[Tensor, "n count"]:
    """One histogram for each image."""
    first = count * torch.arange(len(bins), device=bins.device)
    flat = (bins + first[:, None, None]).flatten()
    return flat.bincount(weights.flatten().double(), minlength=count * len(bins)).view(len(bins), count)


def wasserstein_on_circle(p: Float[Tensor, " bins"], q: Float[Tensor, " bins"]) -> float:
    """Wasserstein-1 distance in degrees of two histograms of the whole circle; nan where one is empty.

    The least area between the cumulative sums F and G over all places to cut the circle, which is |F - G - median(F -
    G)| (Delon, Salomon and Sobolevski 2010; Rabin, Delon and Gousseau 2011). Bins are equal, so the median takes no
    weights.
    """
    gap = _cumulative_gap(p, q)
    return float((gap - gap.median()).abs().mean()) * 360


def wasserstein_on_line(p: Float[Tensor, " bins"], q: Float[Tensor, " bins"]) -> float:
    """Wasserstein-1 distance of two histograms as a share of the way from first to last bin; nan where one is empty."""
    return float(_cumulative_gap(p, q).abs().sum()) / (len(p) - 1)


def _cumulative_gap(p: Float[Tensor, " bins"], q: Float[Tensor, " bins"]) -> Float64[Tensor, " bins"]:
    return (p.double() / p.double().sum() - q.double() / q.double().sum()).cumsum(dim=0)


def mean_hues(histograms: Float[Tensor, "n bins"]) -> Float64[Tensor, " n"]:
    """Circular mean of each histogram in degrees from 0 to 360; nan where empty."""
    angles = torch.arange(histograms.shape[1], dtype=torch.float64) * (2 * torch.pi / histograms.shape[1])
    x, y = (histograms @ torch.stack([angles.cos(), angles.sin()], dim=1).to(histograms)).double().unbind(dim=1)
    hues = torch.atan2(y, x).rad2deg() % 360
    return hues.where(histograms.sum(dim=1) > 0, torch.nan)


def mean_levels(histograms: Float[Tensor, "n bins"]) -> Float64[Tensor, " n"]:
    """Mean of each histogram on a scale from 0 to 1; nan where empty."""
    levels = torch.linspace(0, 1, histograms.shape[1]).to(histograms)
    return (histograms @ levels).double() / histograms.sum(dim=1).double()


def share_outside(real: Float64[Tensor, " n"], fake: Float64[Tensor, " m"]) -> float:
    """Share of fakes below the 1st or above the 99th percentile of the real; nan counts on neither side."""
    real, fake = real[~real.isnan()], fake[~fake.isnan()]
    if not len(real) or not len(fake):
        return float("nan")
    low, high = real.quantile(real.new_tensor(INNER))
    return float(((fake < low - SLACK) | (fake > high + SLACK)).double().mean())


def share_of_hues_outside(real: Float64[Tensor, " n"], fake: Float64[Tensor, " m"]) -> float:
    """`share_outside` of hues: percentiles on the circle cut opposite the circular mean of the real."""
    radians = real[~real.isnan()].deg2rad()
    cut = torch.atan2(radians.sin().sum(), radians.cos().sum()).rad2deg() + 180
    return share_outside((real - cut) % 360, (fake - cut) % 360)


class Scale(NamedTuple):
    """How numbers are read from the histograms of one quantity."""

    bins: int
    step: float  # from a bin to the next, in the unit of distances and means
    unit: str  # at the end of a metric's name
    distance: Callable[[Tensor, Tensor], float]
    means: Callable[[Tensor], Tensor]
    outside: Callable[[Tensor, Tensor], float]


CIRCLE = Scale(HUES, 360 / HUES, "_degrees", wasserstein_on_circle, mean_hues, share_of_hues_outside)
LINE = Scale(LEVELS, 1 / (LEVELS - 1), "", wasserstein_on_line, mean_levels, share_outside)
SCALES = {"hue": CIRCLE, "saturation": LINE, "brightness": LINE}
RANGES = {
    name: (0.0, most)
    for quantity, scale in SCALES.items()
    for name, most in (
        (f"{quantity}_w1{scale.unit}", math.inf),
        (f"mean_{quantity}_w1{scale.unit}", math.inf),
        (f"{quantity}_leak_share", 1.0),
    )
}


def by_quantity(histograms: Float[Tensor, "n dim"]) -> dict[str, Float[Tensor, "n _"]]:
    """The histograms of each quantity by itself."""
    return dict(zip(SCALES, histograms.split([scale.bins for scale in SCALES.values()], dim=1), strict=True))


def colour_scores(real: Float[Tensor, "n dim"], fake: Float[Tensor, "m dim"]) -> dict[str, float]:
    """Distances and leaks between two sets of `ColourHistograms`; nan where a side has none of a quantity.

    `hue_w1_degrees`, `saturation_w1` and `brightness_w1` compare all pixels of both sets (Wasserstein-1; the latter
    two as a share of full scale), `mean_..._w1` the means of images, each of which counts as one, and `..._leak_share`
    is the share of fakes whose mean lies beyond the 1st or 99th percentile of the real means.
    """
    scores: dict[str, float] = {}
    fakes = by_quantity(fake)
    for quantity, real_part in by_quantity(real).items():
        scale, parts = SCALES[quantity], (real_part, fakes[quantity])
        means = [scale.means(part) for part in parts]
        scores |= {
            f"{quantity}_w1{scale.unit}": scale.distance(*(part.sum(0, dtype=torch.float64) for part in parts)),
            f"mean_{quantity}_w1{scale.unit}": scale.distance(*(_counts(mean, scale) for mean in means)),
            f"{quantity}_leak_share": scale.outside(*means),
        }
    return scores


def _counts(means: Float64[Tensor, " n"], scale: Scale) -> Float64[Tensor, " bins"]:
    """Histogram of means over the bins that pixels have."""
    bins = (means[~means.isnan()] / scale.step).round().long() % scale.bins
    return bins.bincount(minlength=scale.bins).double()


def colour_rows(
    real: Float[Tensor, "n dim"],
    fake: Float[Tensor, "m dim"],
    held_out: Float[Tensor, "h dim"] | None,
    draws: int,
    rng: torch.Generator,
    name: str = POOLED,
    patients: Patients = NOBODY,
) -> list[dict[str, str | float | int]]:
    """Each of `colour_scores` with its interval from random halves, in the layout of fidelity's rows.

    With held-out real images come the floor (held-out against real) and as many generated images as those, as for
    fidelity. Fewer than two real or generated images are a ValueError, fewer than two held out give no floor.
    """
    if min(len(real), len(fake)) < 2:
        raise ValueError(
            f"colours of class {name!r} are compared between two images or more on each side, not {len(real)} real "
            f"and {len(fake)} generated: give more images"
        )
    rows: list[dict[str, str | float | int]] = []
    for compared, reference, histograms, real_histograms, groups in comparisons(real, fake, held_out, 2, rng, patients):
        about = {"extractor": "colour", "compared": compared, "reference": reference}
        counts = {"real_count": len(real_histograms), "compared_count": len(histograms)}
        intervals = half_sample_intervals(
            of_each(colour_scores), real_histograms, histograms, draws, rng, RANGES, groups
        )
        for metric, interval in intervals.items():
            rows.append({"class": name, "metric": metric, **interval._asdict(), **about, **counts})
    return rows


def colour_rows_by_class(
    judged: Sides, classes: Sequence[str], draws: int, seed: int
) -> list[dict[str, str | float | int]]:
    """`colour_rows` of all, then of each class of the fakes where there are several."""
    rows = []
    for name, sides in sides_by_class(judged, classes, seed):
        rng = torch.Generator().manual_seed(seed)
        found = colour_rows(*sides.features(), draws, rng, name, sides.patients())
        rows += [{**row, "seed": seed} for row in found]
    return rows


def hue_rows(histograms_of: Mapping[str, Float[Tensor, "n dim"]]) -> list[dict[str, float]]:
    """Bars for a plot: `hue_degrees`, and the share of each set's pixels, which adds up to 1 (nan: all are grey)."""
    shares = {}
    for name, histograms in histograms_of.items():
        total = by_quantity(histograms)["hue"].sum(0, dtype=torch.float64)
        shares[name] = (total / total.sum()).view(-1, HUES_A_BAR).sum(dim=1).tolist()
    centres = [start + (HUES_A_BAR - 1) / 2 for start in range(0, HUES, HUES_A_BAR)]
    return [
        {"hue_degrees": centre, **dict(zip(shares, bars, strict=True))}
        for centre, *bars in zip(centres, *shares.values(), strict=True)
    ]
