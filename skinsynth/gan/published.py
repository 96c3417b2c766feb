"""Networks out of the weights of published StyleGAN2 checkpoints, named as those name them."""

import operator
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, SupportsIndex, TypeVar

import numpy as np
import torch
from torch import Tensor

from skinsynth.gan.backend import TAPS
from skinsynth.gan.discriminator import Architecture, Discriminator, DiscriminatorConfig, check_pair
from skinsynth.gan.generator import Generator, GeneratorConfig

Arrays = Mapping[str, np.ndarray | Tensor]
Shapes = dict[str, tuple[int, ...]]
N = TypeVar("N", Generator, Discriminator)


def from_arrays(arrays: Arrays, mbstd_group: SupportsIndex = 4) -> tuple[Generator, Discriminator]:
    """The generator and the discriminator whose weights are the arrays `G/…` and `D/…`; other keys are left aside.

    All sizes are read off the shapes. The group of the minibatch deviation is no weight, so it is given.
    Raises ValueError where the arrays are not those of a skip generator and its discriminator.
    """
    group = _group(mbstd_group)
    generator_weights, discriminator_weights = _part(arrays, "G/"), _part(arrays, "D/")
    generator_config = _generator_config(_shapes(generator_weights))
    discriminator_config = _discriminator_config(_shapes(discriminator_weights), group)
    check_pair(generator_config, discriminator_config)
    generator = with_weights(Generator, generator_config, generator_weights)
    return generator, with_weights(Discriminator, discriminator_config, discriminator_weights)


def _group(size: Any) -> int:
    with suppress(TypeError):
        if operator.index(size) >= 1:
            return operator.index(size)
    raise ValueError(f"mbstd_group is a whole number of images from 1 on, but {size!r} came: the usual one is 4")


class _Numberless(torch.Generator):
    """In place of random numbers, tensors that have a shape and no memory."""

    device = torch.device("meta")


def with_weights(kind: type[N], config: Any, weights: Mapping[str, Tensor]) -> N:
    """A network that holds these weights; it takes memory only once they have proved to be all of it.

    Raises ValueError where names or shapes are not those of the network.
    """
    network = kind(config, _Numberless())
    with suppress(RuntimeError):  # torch's own words for what differs; ours follow
        network.load_state_dict({name: weight.to("meta") for name, weight in weights.items()})
    own, given = _shapes(network.state_dict()), _shapes(weights)
    differing = sorted(name for name in own.keys() | given.keys() if own.get(name) != given.get(name))
    if differing:
        raise ValueError(
            f"the arrays are not those of a StyleGAN2 {kind.__name__.lower()}: "
            f"{', '.join(f'{kind.__name__[0]}/{name}' for name in differing[:3])} ({len(differing)} in all) miss, "
            "are too many or have other shapes"
        )
    network.to_empty(device="cpu")
    network.load_state_dict(weights)
    return network


def to_arrays(generator: Generator, discriminator: Discriminator) -> dict[str, np.ndarray]:
    """The weights under their published names; the inverse of `from_arrays`."""
    networks = {"G": generator, "D": discriminator}
    return {
        f"{letter}/{name}": weight.detach().cpu().numpy().copy()
        for letter, network in networks.items()
        for name, weight in network.state_dict().items()
    }


def _part(arrays: Arrays, prefix: str) -> dict[str, Tensor]:
    if foreign := [name for name in arrays if not isinstance(name, str)]:
        raise ValueError(f"arrays go by texts such as {prefix}mapping.w_avg, but {foreign[0]!r} came: leave it out")
    part = {name.removeprefix(prefix): _tensor(name, arrays[name]) for name in arrays if name.startswith(prefix)}
    if not part:
        raise ValueError(f"a StyleGAN2 has weights named {prefix}…, but there are none: give those of G and of D")
    _check_filters(part)
    if empty := [name for name, weight in part.items() if weight.numel() == 0]:
        raise ValueError(f"the weights of a StyleGAN2 are not empty, but {prefix}{empty[0]} is")
    return {name: weight for name, weight in part.items() if not name.endswith("resample_filter")}


def _tensor(name: str, values: object) -> Tensor:
    """The numbers in 32 bits, whatever their type, byte order and strides."""
    weight = values.detach() if isinstance(values, Tensor) else _copied(name, np.asarray(values))
    if weight.is_complex():
        raise ValueError(f"{name} of a StyleGAN2 has real numbers, but {weight.dtype} came: give it as float32")
    weight = weight.float()
    if not bool(weight.isfinite().all()):
        raise ValueError(f"{name} of a StyleGAN2 is finite in 32 bits, but has NaN or infinity: give other weights")
    return weight


def _copied(name: str, values: np.ndarray) -> Tensor:
    if values.dtype.kind not in "fiub":
        raise ValueError(f"{name} of a StyleGAN2 has real numbers, but {values.dtype} came: give it as float32")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which is refused
        return torch.from_numpy(np.array(values, dtype=np.float32, order="C"))


def _check_filters(weights: dict[str, Tensor]) -> None:
    taps = torch.tensor(TAPS)
    expected = taps.outer(taps) / taps.sum() ** 2
    for name, value in weights.items():
        if name.endswith("resample_filter") and not (value.shape == (4, 4) and torch.allclose(value.float(), expected)):
            raise ValueError(f"StyleGAN2 resamples with the filter {list(TAPS)}, but {name} is another: not supported")


def _shapes(weights: Mapping[str, Tensor]) -> Shapes:
    return {name: tuple(weight.shape) for name, weight in weights.items()}


def _shape(shapes: Shapes, name: str, dimensions: int) -> tuple[int, ...]:
    if name not in shapes:
        raise ValueError(f"a StyleGAN2 has a weight {name}, but the arrays have none of that name")
    if len(shapes[name]) != dimensions:
        raise ValueError(f"{name} of a StyleGAN2 has {dimensions} dimensions, but an array of {shapes[name]} came")
    return shapes[name]


def _count(shapes: Shapes, pattern: str) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in shapes)


def _resolution(shapes: Shapes) -> int:
    return max((int(found[1]) for name in shapes if (found := re.search(r"\bb(\d+)\.", name))), default=0)


def _channel_law(channels: dict[int, int]) -> tuple[int, int]:
    """The base and the maximum with which `channels_at` gives these numbers of feature maps by resolution."""
    channel_max = max(channels.values())
    bounded = {resolution: count for resolution, count in channels.items() if count < channel_max}
    bases = [(count * resolution, (count + 1) * resolution - 1) for resolution, count in bounded.items()]
    free = channel_max * max(resolution for resolution, count in channels.items() if count == channel_max)
    low = max([free, *(least for least, _ in bases)])
    high = min([most for _, most in bases], default=low)
    if low > high:
        raise ValueError(f"feature maps follow min(base / resolution, max), but these came by resolution: {channels}")
    return low, channel_max


def _embedding(shapes: Shapes) -> tuple[int, ...]:
    """The width of the classes' embedding and their number; zeros where unconditional."""
    return _shape(shapes, "mapping.embed.weight", 2) if "mapping.embed.weight" in shapes else (0, 0)


def _generator_config(shapes: Shapes) -> GeneratorConfig:
    embedded, classes = _embedding(shapes)
    z_size = _shape(shapes, "mapping.fc0.weight", 2)[1] - embedded
    if z_size < 1:
        raise ValueError(
            f"mapping.fc0.weight of a StyleGAN2 takes z beside the embedding, but {z_size} columns are left"
        )
    resolution = _resolution(shapes)
    levels = [2**level for level in range(2, resolution.bit_length())]
    channels = {level: _shape(shapes, f"synthesis.b{level}.conv1.weight", 4)[0] for level in levels}
    channel_base, channel_max = _channel_law(channels)
    return GeneratorConfig(
        resolution=resolution,
        image_channels=_shape(shapes, "synthesis.b4.torgb.weight", 4)[0],
        z_size=z_size,
        w_size=_shape(shapes, "mapping.w_avg", 1)[0],
        class_count=classes,
        mapping_layers=_count(shapes, r"mapping\.fc\d+\.weight"),
        channel_base=channel_base,
        channel_max=channel_max,
        activation_clamp=None,
        half_levels=0,
        half_type="float16",
        fused=False,
    )


def architecture_of(layers: Iterable[str]) -> Architecture:
    """Which of the three a discriminator is, by the names of its layers."""
    names = set(layers)
    if any(name.endswith(".skip") for name in names):
        return "resnet"
    return "skip" if "b4.fromrgb" in names else "orig"


def _discriminator_config(shapes: Shapes, mbstd_group: int) -> DiscriminatorConfig:
    resolution = _resolution(shapes)
    levels = [2**level for level in range(3, resolution.bit_length())]
    channels = {level: _shape(shapes, f"b{level}.conv0.weight", 4)[0] for level in levels}
    channels[4], deviated = _shape(shapes, "b4.conv.weight", 4)[:2]
    mbstd_channels = deviated - channels[4]
    if mbstd_channels < 0:
        raise ValueError(
            f"b4.conv.weight of a StyleGAN2 takes at least the {channels[4]} maps it gives, not {deviated}"
        )
    if mbstd_channels and channels[4] % mbstd_channels:
        raise ValueError(
            f"b4.conv.weight of a StyleGAN2 takes maps of deviation whose number divides its {channels[4]} maps, "
            f"not {mbstd_channels}"
        )
    channel_base, channel_max = _channel_law(channels)
    return DiscriminatorConfig(
        resolution=resolution,
        image_channels=_shape(shapes, f"b{resolution}.fromrgb.weight", 4)[1],
        class_count=_embedding(shapes)[1],
        mapping_layers=_count(shapes, r"mapping\.fc\d+\.weight"),
        channel_base=channel_base,
        channel_max=channel_max,
        architecture=architecture_of(name.removesuffix(".weight") for name in shapes),
        mbstd_group=mbstd_group,
        mbstd_channels=mbstd_channels,
        activation_clamp=None,
        half_levels=0,
        half_type="float16",
        fused=False,
    )
