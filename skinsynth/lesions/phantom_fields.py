"""Random fields that skin and lesions are drawn from."""

import math
from functools import lru_cache

import numpy as np
from jaxtyping import Float32

Field = Float32[np.ndarray, "height width"]
Spectrum = Float32[np.ndarray, "height half"]  # over the frequencies of a real FFT


@lru_cache(maxsize=64)
def _frequencies(height: int, width: int) -> tuple[Spectrum, Spectrum]:
    """Vertical and horizontal frequencies of a real FFT, in cycles per pixel."""
    down = np.fft.fftfreq(height).astype(np.float32)[:, None]
    across = np.fft.rfftfreq(width).astype(np.float32)[None, :]
    return np.broadcast_to(down, (height, across.shape[1])), np.broadcast_to(across, (height, across.shape[1]))


def _filtered(rng: np.random.Generator, shape: tuple[int, int], gain: Spectrum) -> Field:
    """White noise through a filter, with mean 0 and standard deviation 1; the noise is drawn as a spectrum."""
    white = rng.standard_normal((*gain.shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
    spectrum = white * gain
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, s=shape)
    return field / max(float(field.std()), 1e-6)


def cloud(rng: np.random.Generator, shape: tuple[int, int], longest: float, slope: float) -> Field:
    """Fractal noise: amplitudes fall as frequency ** -slope, below wavelengths of `longest` pixels."""
    down, across = _frequencies(*shape)
    square = down * down + across * across
    return _filtered(rng, shape, (square + longest**-2) ** (-slope / 2))


def cells(rng: np.random.Generator, shape: tuple[int, int], wavelength: float, width: float = 0.25) -> Field:
    """Noise of one wavelength in pixels: its hills lie like cells; `width` is the relative width of the band."""
    down, across = _frequencies(*shape)
    distance = np.sqrt(down * down + across * across) * wavelength - 1
    return _filtered(rng, shape, np.exp(-0.5 * (distance / width) ** 2))


def furrows(rng: np.random.Generator, shape: tuple[int, int], wavelength: float, angle: float) -> Field:
    """Waves in one direction (radians) that wander a little: one family of skin lines."""
    down, across = _frequencies(*shape)
    # A real FFT keeps the half of the plane where the horizontal frequency is not negative.
    along, over = abs(math.cos(angle)), math.copysign(math.sin(angle), math.sin(2 * angle))
    gap = (down - over / wavelength) ** 2 + (across - along / wavelength) ** 2
    return _filtered(rng, shape, np.exp(gap * (-0.5 * (wavelength / 0.22) ** 2)))


def ramp(value: Field, width: float | Field) -> Field:
    """A soft step from 0 to 1 about 0, over about twice `width`."""
    return 0.5 + 0.5 * np.tanh(value / width)
