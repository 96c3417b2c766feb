"""Points of the curve of FID and KID while a GAN trains."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from skinsynth.gan.discriminator import Discriminator
from skinsynth.gan.generator import Generator
from skinsynth.gan.model import Gan, sample_images
from skinsynth.quality.fid import frechet_distance
from skinsynth.quality.kid import kernel_distance


@dataclass(frozen=True)
class CurveScorer:
    """Judges a generator in the making against its training images, from the same latents at every point."""

    extract: Callable[[UInt8[Tensor, "n 3 size size"]], Float[Tensor, "n dim"]]
    extractor: str
    real: Float[Tensor, "n dim"]
    real_labels: Int64[Tensor, " n"]
    classes: Sequence[int]  # labels in the order of c's columns
    discriminator: Discriminator
    images: int  # generated for each point
    batch_size: int
    seed: int

    def __call__(self, generator: Generator) -> dict[str, float]:
        """FID and KID (over all pairs, in percent), named after the extractor."""
        fake = self.extract(self.sample(generator, self.images))
        return {
            f"fid_{self.extractor}": frechet_distance(self.real, fake),
            f"kid_{self.extractor}_percent": 100 * kernel_distance(self.real, fake),
        }

    def sample(self, generator: Generator, count: int) -> UInt8[Tensor, "count 3 size size"]:
        """Pixels in the proportions of the real classes, sorted by class."""
        gan = Gan(generator, self.discriminator, list(self.classes))
        places = torch.linspace(0, len(self.real_labels) - 1, count).round().long()
        labels = self.real_labels.sort().values[places]
        return sample_images(gan, labels, self.batch_size, torch.Generator(gan.device).manual_seed(self.seed))
