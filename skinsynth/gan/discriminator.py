"""The StyleGAN2 discriminator (Karras et al. 2020), with projection of the classes (Miyato & Koyama 2018)."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from skinsynth.gan.generator import GeneratorConfig
from skinsynth.gan.layers import (
    Conv,
    HalfType,
    Linear,
    MappingNetwork,
    channels_at,
    compute_type,
    half_resolutions,
    resolutions_to,
)
from skinsynth.gan.resample import downsample2d
from skinsynth.settings import Count, Positive, Whole

Architecture = Literal["resnet", "skip", "orig"]


@dataclass(frozen=True)
class DiscriminatorConfig:
    resolution: Count  # pixels, a power of two
    image_channels: Count
    class_count: Whole  # 0: unconditional
    mapping_layers: Count  # of the classes' mapping
    channel_base: Count  # feature maps times resolution …
    channel_max: Count  # … but at most so many
    architecture: Architecture  # resnet: a way past the convolutions; skip: each resolution sees the image; orig: plain
    mbstd_group: Count  # images over which the minibatch deviation is taken
    mbstd_channels: Whole  # feature maps of deviation; 0: none
    activation_clamp: Positive | None  # bound of the activations, for 16 bits; None: no bound
    half_levels: Whole  # so many top resolutions in 16 bits on a GPU
    half_type: HalfType
    fused: bool  # Triton kernels on a GPU


def check_pair(generator: GeneratorConfig, discriminator: DiscriminatorConfig) -> None:
    """Raises ValueError where the two networks of a GAN would not take the same images and classes."""
    for size in ("resolution", "image_channels", "class_count"):
        drawn, judged = getattr(generator, size), getattr(discriminator, size)
        if drawn != judged:
            raise ValueError(
                f"generator and discriminator of a GAN have the same {size}, but {drawn} and {judged} came: "
                "give those of one GAN"
            )


def minibatch_deviation(x: Float[Tensor, "n c h w"], group: int, channels: int) -> Float[Tensor, "n channels h w"]:
    """Mean standard deviation within each group of images, as constant maps (Karras et al. 2018, section 3).

    A group takes every (n / group)-th image; a batch smaller than a group is one group.
    """
    group = min(group, len(x))
    if len(x) % group:
        raise ValueError(
            f"minibatch deviation needs whole groups of {group}, but {len(x)} images came: change the batch"
        )
    grouped = x.unflatten(0, (group, len(x) // group)).unflatten(2, (channels, x.shape[1] // channels))
    variance = (grouped - grouped.mean(dim=0)).square().mean(dim=0)
    deviation = (variance + 1e-8).sqrt().mean(dim=(2, 3, 4))
    return deviation.repeat(group, 1)[:, :, None, None].expand(-1, -1, *x.shape[2:])


def from_rgb(config: DiscriminatorConfig, resolution: int, rng: torch.Generator) -> Conv | None:
    """What reads the image at a resolution: the topmost one, or all with input skips (StyleGAN2, figure 7)."""
    if resolution != config.resolution and config.architecture != "skip":
        return None
    channels = channels_at(resolution, config.channel_base, config.channel_max)
    return Conv(config.image_channels, channels, 1, rng, clamp=config.activation_clamp, fused=config.fused)


class DiscriminatorBlock(nn.Module):
    """Two convolutions at one resolution, the second halving it."""

    def __init__(self, config: DiscriminatorConfig, resolution: int, rng: torch.Generator) -> None:
        super().__init__()
        channels = channels_at(resolution, config.channel_base, config.channel_max)
        below = channels_at(resolution // 2, config.channel_base, config.channel_max)
        clamp, fused = config.activation_clamp, config.fused
        self.fromrgb = from_rgb(config, resolution, rng)
        self.conv0 = Conv(channels, channels, 3, rng, clamp=clamp, fused=fused)
        self.conv1 = Conv(channels, below, 3, rng, down=True, clamp=clamp, fused=fused)
        residual = config.architecture == "resnet"
        self.skip = Conv(channels, below, 1, rng, active=False, down=True, fused=fused) if residual else None
        self.in_half = resolution in half_resolutions(config.resolution, config.half_levels)
        self.half_type = config.half_type

    def forward(
        self, x: Float[Tensor, "n cin h w"] | None, image: Float[Tensor, "n c a b"]
    ) -> Float[Tensor, "n cout p q"]:
        """`x` are the maps of the resolution above, None at the top."""
        x = read_image(self.fromrgb, x, image, compute_type(image, self.in_half, self.half_type))
        if self.skip is None:
            return self.conv1(self.conv0(x))
        # Both ways have unit variance; their sum is kept at one too.
        return self.skip(x, gain=math.sqrt(0.5)) + self.conv1(self.conv0(x), gain=math.sqrt(0.5))


def read_image(
    fromrgb: Conv | None, x: Float[Tensor, "n cin h w"] | None, image: Float[Tensor, "n c a b"], dtype: torch.dtype
) -> Float[Tensor, "n cout p q"]:
    """The maps so far plus those read off the image here; either may be missing, not both."""
    maps = [] if x is None else [x.to(dtype)]
    if fromrgb is not None:
        maps.append(fromrgb(image.to(dtype)))
    return maps[0] if len(maps) == 1 else maps[0] + maps[1]


class DiscriminatorHead(nn.Module):
    """From the 4x4 maps to one number, or to the vector that is projected on the class."""

    def __init__(self, config: DiscriminatorConfig, rng: torch.Generator) -> None:
        super().__init__()
        channels = channels_at(4, config.channel_base, config.channel_max)
        self.fromrgb = from_rgb(config, 4, rng)
        self.group, self.deviations = config.mbstd_group, config.mbstd_channels
        self.conv = Conv(
            channels + self.deviations, channels, 3, rng, clamp=config.activation_clamp, fused=config.fused
        )
        self.fc = Linear(channels * 16, channels, rng, active=True)
        self.out = Linear(channels, channels if config.class_count else 1, rng)

    def forward(
        self, x: Float[Tensor, "n cin 4 4"], image: Float[Tensor, "n c a b"], batches: int
    ) -> Float[Tensor, "n size"]:
        x = read_image(self.fromrgb, x, image, image.dtype)
        if self.deviations:
            deviations = [minibatch_deviation(batch, self.group, self.deviations) for batch in x.chunk(batches)]
            x = torch.cat([x, torch.cat(deviations)], dim=1)
        return self.out(self.fc(self.conv(x).flatten(1)))


class Discriminator(nn.Module):
    """Logits of images being real, given their one-hot classes ([n, 0] where unconditional)."""

    def __init__(self, config: DiscriminatorConfig, rng: torch.Generator) -> None:
        super().__init__()
        self.config = config
        self.resolutions = resolutions_to(config.resolution)[:0:-1]
        for resolution in self.resolutions:
            self.add_module(f"b{resolution}", DiscriminatorBlock(config, resolution, rng))
        self.b4 = DiscriminatorHead(config, rng)
        features = channels_at(4, config.channel_base, config.channel_max)
        classes = config.class_count
        self.mapping = MappingNetwork(0, features, classes, config.mapping_layers, rng) if classes else None
        self.register_load_state_dict_pre_hook(_take_class_width)

    def forward(
        self, images: Float[Tensor, "n c h w"], c: Float[Tensor, "n class_count"], batches: int = 1
    ) -> Float[Tensor, "n 1"]:
        """Logits; so many `batches` of equal size, one after the other, do not see each other's deviation."""
        image, x = images.contiguous(memory_format=torch.channels_last), None
        for resolution in self.resolutions:
            x = self.get_submodule(f"b{resolution}")(x, image)
            if self.config.architecture == "skip":
                image = downsample2d(image, self.config.fused)
        features = self.b4(x, image, batches)
        if self.mapping is None:
            return features
        return (features * self.mapping(None, c)).sum(dim=1, keepdim=True) / math.sqrt(features.shape[1])


def _take_class_width(network: Discriminator, weights: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Give the vectors that are projected on each other the width of weights that are about to be loaded."""
    weight = weights.get(f"{prefix}b4.out.weight")
    if network.mapping is not None and weight is not None and weight.ndim == 2:
        network.mapping.w_size = len(weight)
        network.b4.out.resize(len(weight), network.b4.out.weight.shape[1])
