"""Perceptual path length: how much an image changes per small step in the latent space."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from tqdm import tqdm

from skinsynth.features.perceptual import OFFLINE, lpips_vgg16
from skinsynth.features.pretrained import Weights
from skinsynth.gan.generator import Generator, in_full_precision
from skinsynth.gan.model import Gan
from skinsynth.intervals import NORMAL_95, Interval
from skinsynth.quality.proportions import in_proportion
from skinsynth.settings import Count, Positive

Distance = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class PathDistanceConfig:
    name: str  # a key of PATH_DISTANCES; vgg16 (LPIPS) is the published one
    vgg16: Weights  # of LPIPS's network
    lpips: Weights  # of its linear layers


@dataclass(frozen=True)
class PathConfig:
    samples: Count  # paths, in the class shares of the images
    epsilon: Positive  # step, as a share of the way between two latents
    batch_size: Count
    distance: PathDistanceConfig


def feature_distance(perceptual: Callable[[Tensor], Tensor]) -> Distance:
    """Squared distance between the unit-length features of image pairs in [-1, 1]: for networks without trained weights
    per channel, what LPIPS is for VGG16 (Zhang et al. 2018, eq. 1)."""

    def distance(a: Float[Tensor, "n 3 size size"], b: Float[Tensor, "n 3 size size"]) -> Float[Tensor, " n"]:
        both = torch.nn.functional.normalize(perceptual(torch.cat([a, b])).flatten(1), dim=1)
        return (both[: len(a)] - both[len(a) :]).square().sum(dim=1)

    return distance


Builder = Callable[[PathDistanceConfig, Callable[[Tensor], Tensor], torch.device], Distance]
PATH_DISTANCES: dict[str, Builder] = {
    "classifier": lambda _, embed, __: feature_distance(embed),
    "vgg16": lambda config, _, device: lpips_vgg16(config.vgg16, config.lpips, device),
}


def build_path_distance(
    config: PathDistanceConfig, embed: Callable[[Tensor], Tensor], device: torch.device
) -> Distance:
    """The distance of the settings; `embed` gives the classifier's features of images in [-1, 1]."""
    if config.name not in PATH_DISTANCES:
        raise ValueError(f"no path distance is called {config.name!r} (known: {', '.join(PATH_DISTANCES)}): {OFFLINE}")
    return PATH_DISTANCES[config.name](config, embed, device)


@torch.no_grad()
def path_lengths(
    generator: Generator,
    z: Float[Tensor, "n 2 z"],
    c: Float[Tensor, "n classes"],
    distance: Distance,
    epsilon: float,
    batch_size: int,
) -> Float[Tensor, " n"]:
    """Distance over ε² between each image and its neighbour ε along the way to another of its class.

    In W, at the start of each way (t = 0), without crop (StyleGAN, Karras et al. 2019, eq. 3; `ppl2_wend`, for which
    ε is 1e-4). Both images have the same noise.
    """
    lengths = []
    batches = list(zip(z.split(batch_size), c.split(batch_size), strict=True))
    for pair, label in tqdm(batches, unit="batch", desc="path length", leave=False, delay=5):
        start, end = (generator.mapping(pair[:, side], label) for side in (0, 1))
        # TF32 rounds away what a step of ε changes.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            first = generator.synthesis(start, noise_mode="const")
            second = generator.synthesis(torch.lerp(start, end, epsilon), noise_mode="const")
            lengths.append(distance(first, second) / epsilon**2)
    return torch.cat(lengths)


def path_length(lengths: Float[Tensor, " n"]) -> Interval:
    """Mean of what lies within the 1st and the 99th percentile, as published: a few jumps would outweigh the rest.

    Its 95 % interval is that of a trimmed mean, by the variance of the winsorised lengths (Tukey and McLaughlin 1963).
    """
    lengths = lengths.double()
    low = lengths.quantile(0.01, interpolation="lower")
    high = lengths.quantile(0.99, interpolation="higher")
    mean = float(lengths[(lengths >= low) & (lengths <= high)].mean())
    reach = NORMAL_95 * float(lengths.clamp(low, high).std()) / (0.98 * len(lengths) ** 0.5)
    return Interval(mean, mean - reach, mean + reach)


def path_row(
    gan: Gan, labels: Int64[Tensor, " n"], distance: Distance, config: PathConfig, rng: torch.Generator
) -> dict[str, str | float | int]:
    """A row of the table of fidelity: path length over classes as frequent as the labels, with its mean's interval."""
    chosen = in_proportion(labels, config.samples)
    z = torch.randn(len(chosen), 2, gan.config.z_size, generator=rng, device=rng.device)
    generator, c = in_full_precision(gan.generator), gan.condition(chosen)
    lengths = path_lengths(generator, z, c, distance, config.epsilon, config.batch_size)
    interval = path_length(lengths)._asdict()
    about = {"extractor": config.distance.name, "compared": "generated", "compared_count": len(lengths)}
    return {"class": "all", "metric": "ppl", **interval, **about}
