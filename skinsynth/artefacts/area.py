"""How much of the picture the lesion takes: a shortcut that the paper suspects (papers/000, section 5)."""

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8
from scipy.ndimage import binary_fill_holes, gaussian_filter, label

BLACK = 40  # levels of 255 below which a pixel is no skin, if it hangs together with the corners
SMOOTHING = 0.02  # standard deviation in sides of the image: hair and noise go, the lesion stays
SMALLEST = 0.05  # of the largest dark region: smaller ones are specks


def lesion_shares(pixels: UInt8[np.ndarray, "n 3 size size"]) -> Float64[np.ndarray, " n"]:
    """Share of each image's field of view that its lesion takes, 0 to 1."""
    return np.array([_share(image) for image in pixels])


def black_shares(pixels: UInt8[np.ndarray, "n 3 size size"]) -> Float64[np.ndarray, " n"]:
    """Share of each image that lies outside its field of view, 0 to 1: above 0 where it has a frame."""
    return np.array([1 - field_of_view(image).mean() for image in pixels])


def _share(image: UInt8[np.ndarray, "3 size size"]) -> float:
    field = field_of_view(image)
    return float(lesion_mask(image)[field].mean()) if field.any() else 0.0


def field_of_view(image: UInt8[np.ndarray, "3 size size"]) -> Bool[np.ndarray, "size size"]:
    """All but what is black and hangs together with a corner: the frame of a dermatoscope."""
    regions, _ = label(image.max(axis=0) < BLACK)
    corners = {int(regions[row, column]) for row in (0, -1) for column in (0, -1)} - {0}
    return ~np.isin(regions, list(corners))


def lesion_mask(image: UInt8[np.ndarray, "3 size size"]) -> Bool[np.ndarray, "size size"]:
    """The dark part of the field of view by Otsu's threshold (1979), its holes filled and its specks left out.

    A rule, not a trained network: it is the same for real and synthetic images, and wrong where there is no lesion.
    """
    # skimage costs a second to import, and only the audit measures areas.
    from skimage.filters import threshold_otsu

    field = field_of_view(image)
    light = _smoothed(image.mean(axis=0, dtype=np.float32), field)
    inside = light[field]
    if not len(inside) or inside.min() == inside.max():
        return np.zeros_like(field)
    regions, count = label((light < threshold_otsu(inside)) & field)
    sizes = np.bincount(regions.ravel(), minlength=count + 1)
    sizes[0] = 0
    return binary_fill_holes(np.isin(regions, np.flatnonzero(sizes >= max(1, SMALLEST * sizes.max())))) & field


def _smoothed(
    light: Float32[np.ndarray, "size size"], field: Bool[np.ndarray, "size size"]
) -> Float32[np.ndarray, "size size"]:
    """Blurred within the field of view, so that the black around does not darken its rim."""
    deviation = SMOOTHING * len(light)
    weight = gaussian_filter(field.astype(np.float32), deviation)
    return gaussian_filter(np.where(field, light, 0), deviation) / np.maximum(weight, 1e-6)
