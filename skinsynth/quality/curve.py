"""Points of the curve of FID and KID while a GAN trains."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import UInt8
from torch import Tensor

from skinsynth.classifier.classifier import load_classifier
from skinsynth.features.extractor import Extractor, ExtractorConfig, build_extractor, without_cache
from skinsynth.gan.discriminator import Discriminator
from skinsynth.gan.generator import Generator
from skinsynth.gan.model import Gan, sample_images
from skinsynth.gan.trainer import Trainer
from skinsynth.images.archive import Images
from skinsynth.quality.by_class import Labelled, features_of
from skinsynth.quality.fid import frechet_distance
from skinsynth.quality.kid import kernel_distance
from skinsynth.quality.proportions import in_proportion


@runtime_checkable
class CurveSettings(Protocol):
    """Settings of a training that is judged on its way."""

    @property
    def scored_images(self) -> int: ...

    @property
    def extractor(self) -> ExtractorConfig: ...


@dataclass(frozen=True)
class CurveScorer:
    """Judges a generator in the making against its training images, from the same latents at every point."""

    extract: Extractor
    real: Labelled
    classes: list[int]  # labels in the order of c's columns
    discriminator: Discriminator
    images: int  # generated for each point
    batch_size: int
    seed: int

    def __call__(self, generator: Generator) -> dict[str, float]:
        """FID and KID (over all pairs, in percent), named after the extractor."""
        fake = self.extract(self.sample(generator, self.images))
        return {
            f"fid_{self.extract.name}": frechet_distance(self.real.features, fake),
            f"kid_{self.extract.name}_percent": 100 * kernel_distance(self.real.features, fake),
        }

    def sample(self, generator: Generator, count: int) -> UInt8[Tensor, "count 3 size size"]:
        """Pixels in the proportions of the real classes, sorted by class."""
        gan = Gan(generator, self.discriminator, self.classes)
        rng = torch.Generator(gan.device).manual_seed(self.seed)
        return sample_images(gan, in_proportion(self.real.labels, count), self.batch_size, rng)


def scorer_of(
    trainer: Trainer,
    real: Images,
    classes: list[int],
    settings: CurveSettings,
    seed: int,
    classifier: Path,
    cache: Path,
) -> CurveScorer:
    """What judges a GAN of the trainer's sizes against real images, whose labels are `classes`.

    `classifier` is the folder of the model behind the offline extractor, `cache` that of features already computed.
    """
    network = load_classifier(classifier, trainer.device)
    extract = build_extractor(settings.extractor, network, trainer.device, cache)
    return CurveScorer(
        without_cache(extract),  # no generator in the making draws the same images again
        features_of(extract, real),
        classes,
        trainer.discriminator,
        settings.scored_images,
        trainer.config.batch_size,
        seed,
    )
