"""Real images found again in a generator's latent space, many at a time (StyleGAN2, Karras et al. 2020, appendix D)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn.functional import one_hot

from skinsynth.gan.family import Family
from skinsynth.gan.generator import Generator, in_full_precision
from skinsynth.gan.model import Gan
from skinsynth.gan.pixels import from_pixels, to_pixels
from skinsynth.projection.loss import PerceptualLoss
from skinsynth.projection.noise import GivenNoise, autocorrelation, own_maps, standardise
from skinsynth.settings import Count, NotNegative, Positive, Seed, Share


@dataclass(frozen=True)
class ProjectionConfig:
    space: str  # a key of SPACES: one w for all layers, or one for each
    steps: Count
    learning_rate: Positive  # Adam's, at its highest
    ramp_up: Share  # share of the steps in which the rate rises
    ramp_down: Share  # share of the steps in which it falls again
    noise: NotNegative  # on w, in its standard deviation, at the start
    noise_ramp: Share  # share of the steps until that is gone
    map_weight: NotNegative | None  # of the noise maps' autocorrelation; None: the maps stay as the generator has them
    pixel_weight: NotNegative  # of the mean squared pixel difference beside the relative feature distance
    statistics_samples: Count  # latents behind the mean and the spread of w
    batch_size: Count  # images at once
    seed: Seed


SPACES: dict[str, Callable[[int], int]] = {"w": lambda _: 1, "w+": lambda layers: layers}


class Projections(NamedTuple):
    """Latents, their images, and how far these are from the real ones."""

    ws: Float[Tensor, "n layers w"]
    pixels: UInt8[Tensor, "n 3 size size"]  # with the noise maps found, where they were searched
    distances: Float[Tensor, " n"]  # Euclidean, between the loss's features


class LatentStatistics(NamedTuple):
    """Where a class lies in W."""

    mean: Float[Tensor, " w"]
    spread: float  # root of the mean squared distance from the mean


class Projector:
    """Finds images in the latent space of one GAN by one perceptual loss.

    Every image has a loss, a step size, noise maps and random draws of its own, so that the batch it is in does not
    matter.
    """

    def __init__(self, gan: Gan, loss: PerceptualLoss, config: ProjectionConfig, device: torch.device) -> None:
        if config.space not in SPACES:
            raise ValueError(f"space is one of {sorted(SPACES)}, not {config.space!r}")
        self.gan, self.loss, self.config, self.device = gan, loss, config, device
        # The gradient of a mean over pixels is too small for 16 bits (StyleGAN2 had 32).
        self.generator = in_full_precision(gan.generator)
        self._statistics: dict[int, LatentStatistics] = {}

    def project(
        self,
        pixels: UInt8[np.ndarray | Tensor, "n 3 size size"],
        labels: Int64[np.ndarray | Tensor, " n"],
        image_numbers: Sequence[int],
        on_step: Callable[[], object] = lambda: None,
    ) -> Projections:
        """Latents of `n` images; `labels` are the dataset's, and `image_numbers` name each image's random draws.

        `on_step` is called after each step, for who shows progress.
        """
        real = from_pixels(torch.as_tensor(pixels).to(self.device))
        statistics = [self.statistics(column) for column in self._columns(torch.as_tensor(labels))]
        noise = self._noise(statistics, image_numbers)
        ws, maps = self._descend(real, statistics, noise, on_step)
        with torch.no_grad():
            images = cut(self._synthesize(ws, maps))
            distances = (self.loss.features(images) - self.loss.features(real)).square().sum(dim=1).sqrt()
        return Projections(ws.cpu(), to_pixels(images).cpu(), distances.cpu())

    def statistics(self, column: int) -> LatentStatistics:
        """Mean and spread of w for one column of c (0 where the generator has no classes)."""
        if column not in self._statistics:
            self._statistics[column] = latent_statistics(self.generator, column, self.config, self.device)
        return self._statistics[column]

    def _columns(self, labels: Int64[Tensor, " n"]) -> list[int]:
        if not self.gan.generator.config.class_count:
            return [0] * len(labels)
        unknown = sorted(set(labels.tolist()) - set(self.gan.classes))
        if unknown:
            raise ValueError(
                f"the generator knows the labels {list(self.gan.classes)}, but images have {unknown}: "
                "project images of its own classes"
            )
        return [self.gan.classes.index(label) for label in labels.tolist()]

    def _noise(
        self, statistics: Sequence[LatentStatistics], image_numbers: Sequence[int]
    ) -> Float[Tensor, "steps n 1 w"]:
        """Each image's noise on w at every step at which there is any, all drawn ahead and from its own seed."""
        steps = math.ceil(self.config.noise_ramp * self.config.steps)
        size = len(statistics[0].mean)
        fading = (1 - torch.arange(steps) / max(1, self.config.noise_ramp * self.config.steps)) ** 2
        draws = [torch.randn(steps, size, generator=self._rng(number)) for number in image_numbers]
        scaled = [drawn * about.spread for drawn, about in zip(draws, statistics, strict=True)]
        noise = self.config.noise * fading[:, None, None] * torch.stack(scaled, dim=1)
        return noise[:, :, None].to(self.device)

    def _rng(self, number: int) -> torch.Generator:
        (seed,) = np.random.SeedSequence([self.config.seed, number]).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(seed >> 1))

    def _descend(
        self,
        real: Float[Tensor, "n 3 size size"],
        statistics: Sequence[LatentStatistics],
        noise: Float[Tensor, "steps n 1 w"],
        on_step: Callable[[], object],
    ) -> tuple[Float[Tensor, "n layers w"], list[Float[Tensor, "n 1 _ _"]]]:
        """Latents of all layers, and noise maps where these are searched too (else none)."""
        losses_of = self._losses_towards(real)
        start = torch.stack([about.mean for about in statistics])
        layers = self.generator.mapping.layer_count
        w = start[:, None].repeat(1, SPACES[self.config.space](layers), 1)
        maps = [] if self.config.map_weight is None else own_maps(self.generator, len(real))
        variables = [variable.requires_grad_() for variable in (w, *maps)]
        optimizer = torch.optim.Adam(variables, lr=self.config.learning_rate, betas=(0.9, 0.999))
        for step in range(self.config.steps):
            optimizer.param_groups[0]["lr"] = self.config.learning_rate * _ramp(step, self.config)
            noisy = w + noise[step] if step < len(noise) else w
            losses = losses_of(cut(self._synthesize(noisy.expand(-1, layers, -1), maps)))
            if self.config.map_weight and maps:
                losses = losses + self.config.map_weight * autocorrelation(maps)
            for variable, gradient in zip(variables, torch.autograd.grad(losses.sum(), variables), strict=True):
                variable.grad = gradient
            optimizer.step()
            standardise(maps)
            on_step()
        return w.detach().expand(-1, layers, -1).contiguous(), [noise_map.detach() for noise_map in maps]

    def _losses_towards(self, real: Float[Tensor, "n 3 size size"]) -> Callable[[Tensor], Float[Tensor, " n"]]:
        gap = self.loss.towards(real)
        with torch.no_grad():
            size = self.loss.features(real).square().sum(dim=1).clamp(min=1e-8)

        def losses(images: Float[Tensor, "n 3 size size"]) -> Float[Tensor, " n"]:
            # Relative to the target, so that pixel_weight means the same for every extractor.
            relative = gap(images) / size
            if not self.config.pixel_weight:
                return relative
            return relative + self.config.pixel_weight * (images - real).square().mean(dim=(1, 2, 3))

        return losses

    def _synthesize(
        self, ws: Float[Tensor, "n layers w"], maps: Sequence[Float[Tensor, "n 1 _ _"]]
    ) -> Float[Tensor, "n 3 size size"]:
        if maps:
            return self.generator.synthesis(ws, noise_mode="random", draws=GivenNoise(maps))
        return self.generator.synthesis(ws, noise_mode="const")


def projectors_of(
    family: Family, loss: PerceptualLoss, config: ProjectionConfig, device: torch.device
) -> dict[int, Projector]:
    """Who projects the images of each label: one projector for each GAN."""
    return {
        label: projector
        for gan in family.members.values()
        for projector in [Projector(gan, loss, config, device)]
        for label in gan.classes
    }


def cut(images: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Images as they are shown, within [-1, 1], with the gradient of the uncut ones, so that what overshot comes back.

    Real images lie within: without the cut, a generator that overshoots could not find its own images again.
    """
    return images + (images.clamp(-1, 1) - images).detach()


@torch.no_grad()
def latent_statistics(
    generator: Generator, column: int, config: ProjectionConfig, device: torch.device
) -> LatentStatistics:
    """Mean of w over random z of one class, and the root of the mean squared distance from it."""
    sizes = generator.config
    rng = torch.Generator().manual_seed(config.seed)
    z = torch.randn(config.statistics_samples, sizes.z_size, generator=rng).to(device)
    row = one_hot(torch.tensor(column), sizes.class_count).float() if sizes.class_count else torch.zeros(0)
    c = row.to(device).expand(len(z), -1)
    w = generator.mapping.one_w(z, c)
    mean = w.mean(dim=0)
    return LatentStatistics(mean, float((w - mean).square().sum(dim=1).mean().sqrt()))


def _ramp(step: int, config: ProjectionConfig) -> float:
    """Share of the full learning rate: a straight rise, then level, then a cosine fall to 0."""
    time = step / config.steps
    fall = min(1.0, (1 - time) / max(config.ramp_down, 1e-12))
    rise = min(1.0, (step + 1) / max(1.0, config.ramp_up * config.steps))
    return (0.5 - 0.5 * math.cos(math.pi * fall)) * rise
