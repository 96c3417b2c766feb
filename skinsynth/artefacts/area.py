"""How much of the picture the lesion takes: a shortcut that the paper suspects (papers/000, section 5)."""

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, UInt8
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import binary_fill_holes, gaussian_filter, label

BLACK = 40  # levels of 255 below which a pixel is no skin, if it hangs together with a corner
RIM = 0.05  # sides of the image: GANs draw their black corners behind a light rim, which is thinner than this
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
    """All but the frame of a dermatoscope: what is black and hangs together with a corner.

    Where a light rim parts the two, as in images of GANs, it belongs to the frame.
    """
    light, rim = image.max(axis=0), max(2, round(RIM * image.shape[-1]))
    regions, _ = label(light < BLACK)
    at_corners = set(regions[np.ix_((0, -1), (0, -1))].ravel().tolist()) - {0}
    behind_rim = np.isin(regions, list(_behind_light_rim(light, regions, rim) - at_corners))
    to_border = np.pad(behind_rim[rim:-rim, rim:-rim], rim, mode="edge")
    return ~(np.isin(regions, list(at_corners)) | behind_rim | to_border)


def _behind_light_rim(
    light: UInt8[np.ndarray, "size size"], regions: Int[np.ndarray, "size size"], rim: int
) -> set[int]:
    """Black regions that come close to both sides of a corner where most of the outermost pixels are light.

    They do so by a square of side `rim` that is black on average: noise passes, and hair, which is thinner, does not.
    A dark lesion that touches a side is behind no rim.
    """
    found: set[int] = set()
    for turns in range(4):
        near = (slice(2 * rim - 1),) * 2
        corner, own = np.rot90(light, turns)[near], np.rot90(regions, turns)[near]
        if min(np.median(corner[0]), np.median(corner[:, 0])) >= BLACK:
            black = sliding_window_view(corner, (rim, rim)).mean(axis=(2, 3)) < BLACK
            found |= set(sliding_window_view(own, (rim, rim))[black].ravel().tolist())
    return found - {0}


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
    """Lightness blurred within the field of view, so that the black around does not darken its rim."""
    deviation = SMOOTHING * len(light)
    weight = gaussian_filter(field.astype(np.float32), deviation)
    return gaussian_filter(np.where(field, light, 0), deviation) / np.maximum(weight, 1e-6)
