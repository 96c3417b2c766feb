"""The synthesis network's noise maps as variables of a search, one set an image (StyleGAN2, appendix D)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from skinsynth.gan.draws import RandomDraws
from skinsynth.gan.generator import Generator, StyledConv

SMALLEST = 8  # px, of the coarsest scale at which neighbours are compared


class GivenNoise(RandomDraws):
    """Noise maps that are at hand where a generator would draw some: each layer takes the next."""

    def __init__(self, maps: Sequence[Float[Tensor, "n 1 _ _"]]) -> None:
        super().__init__(len(maps[0]), torch.Generator())
        self._remaining = iter(maps)

    def normal(self, *shape: int) -> Float[Tensor, "n ..."]:
        given = next(self._remaining)
        assert given.shape[1:] == shape, "maps come in the order of the layers"
        return given


def own_maps(generator: Generator, count: int) -> list[Float[Tensor, "count 1 _ _"]]:
    """Copies of the generator's constant maps for so many images, in the order of its layers.

    Those are unit Gaussian draws, as the paper starts from, and the ones that the generator was judged with.
    """
    layers = [layer for layer in generator.synthesis.modules() if isinstance(layer, StyledConv)]
    return [layer.noise_const.repeat(count, 1, 1, 1) for layer in layers]


def autocorrelation(maps: Sequence[Float[Tensor, "n 1 _ _"]]) -> Float[Tensor, " n"]:
    """Squared mean products of neighbours, at each map's own size and at all halves of it down to 8 px.

    Sizes are those of a generator, each twice the last. What has one size is compared at once: the maps of it, and the
    larger ones brought down to it, whose means of 2x2 are doubled so that the variance stays one.
    """
    total = maps[0].new_zeros(len(maps[0]))
    above: list[Tensor] = []
    for size in sorted({noise.shape[-1] for noise in maps}, reverse=True):
        brought_down = [2 * avg_pool2d(level, 2) for level in above if size >= SMALLEST]
        level = torch.cat([*brought_down, *(noise for noise in maps if noise.shape[-1] == size)], dim=1)
        for axis in (2, 3):
            products = (level * level.roll(1, dims=axis)).mean(dim=(2, 3))
            total = total + products.square().sum(dim=1)
        above = [level]
    return total


@torch.no_grad()
def standardise(maps: Sequence[Float[Tensor, "n 1 _ _"]]) -> None:
    """Each map to zero mean and unit variance, in place."""
    for noise in maps:
        noise.sub_(noise.mean(dim=(2, 3), keepdim=True))
        noise.mul_((noise.square().mean(dim=(2, 3), keepdim=True) + 1e-8).rsqrt())
