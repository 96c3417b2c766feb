"""How diverse a generator's images are beside real ones, and whether that says that it has collapsed."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

# What share of real images' deviation says that all are one.
COLLAPSED_DIVERSITY = 0.01
# Images nearer than this share of the deviation show the same thing, and so few, of as many real ones, are a collapse:
# healthy generators' were seen to differ by 0.5, those of four latents that tremble by a hundredth by less than 0.05.
SAME_IMAGE, COLLAPSED_MODES = 0.1, 1 / 8


class Diversity(NamedTuple):
    of_real: float  # the images' deviation over that of real ones
    collapse: str | None  # in words, where there is one


def diversity_of(fakes: Float[Tensor, "n c h w"], real: Float[Tensor, "n c h w"]) -> Diversity:
    """Of generated images of one class beside as many real ones, all in [-1, 1]."""
    deviation = float(real.std(dim=0).mean().clamp(min=1e-8))
    of_real = float(fakes.std(dim=0).mean()) / deviation
    if of_real < COLLAPSED_DIVERSITY:
        return Diversity(of_real, f"the images of a class differ by {of_real:.1%} of what real ones do")
    modes, real_modes = (count_distinct(images, SAME_IMAGE * deviation) for images in (fakes, real))
    few = modes <= COLLAPSED_MODES * real_modes
    return Diversity(of_real, f"only {modes} of {len(fakes)} images of a class are distinct" if few else None)


def count_distinct(images: Float[Tensor, "n c h w"], apart: float) -> int:
    """How many images are further than `apart` (root mean square) from each one counted before."""
    flat = images.flatten(1).float()
    # By differences: distances from products of these numbers would not tell one image from two like it.
    distances = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist") / flat.shape[1] ** 0.5
    counted = list[int]()
    for place, row in enumerate((distances > apart).cpu()):
        if bool(row[counted].all()):
            counted.append(place)
    return len(counted)
