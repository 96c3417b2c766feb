"""Frames put on images that have none: what changes then is due to the frame alone."""

import numpy as np
from jaxtyping import Float64, Int64, Shaped, UInt8

from skinsynth.lesions.phantom_image import framed


def with_frames(
    pixels: UInt8[np.ndarray, "n 3 size size"], rng: np.random.Generator
) -> UInt8[np.ndarray, "n 3 size size"]:
    """Each image behind a dermatoscope's round field of view of random radius, as the phantom draws it."""
    pasted = np.empty_like(pixels)
    for place, image in enumerate(pixels):
        drawn = framed(image.transpose(1, 2, 0).astype(np.float32) / 255, rng)
        pasted[place] = np.round(255 * drawn.clip(0, 1)).astype(np.uint8).transpose(2, 0, 1)
    return pasted


def frameless(flags: Shaped[np.ndarray, " n"], seen: Float64[np.ndarray, " n"]) -> Int64[np.ndarray, " m"]:
    """Places of the images without a frame: by their flag where it is known ("1" or "0"), else by what is seen.

    ValueError where there is none.
    """
    places = np.flatnonzero(np.where(flags == "", seen == 0, flags == "0"))
    if not len(places):
        raise ValueError("every test image has a black frame, so that none is left to paste one on: give more patients")
    return places
