"""Published StyleGAN2-ADA network pickles: which arrays they hold, and that our networks compute what theirs did."""

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from skinsynth.gan.discriminator import Discriminator
from skinsynth.gan.generator import Generator
from skinsynth.gan.layers import ACTIVATION_GAIN, MAPPING_RATE
from skinsynth.gan.model import save_gan
from skinsynth.gan.pickles import LARGEST_FILE, Array, Module, quoted, read_pickle
from skinsynth.gan.published import architecture_of, from_arrays, with_weights

# Far above what networks of 1,024 pixels and 512 feature maps take: 100 modules each.
MOST_MODULES = 1_000
MOST_ARRAYS = 1_000
DEEPEST_MODULE = 16
LARGEST_RESOLUTION = 1_024
# Rows are feature maps, columns inputs: at most 16 pixels of each feature map.
LARGEST_ROWS, LARGEST_COLUMNS = 1_024, 16 * 1_024

NETWORKS = ("G", "D", "G_ema")
USUAL_MBSTD_GROUP = 4
# Layers by the last part of their names; the active ones end in a leaky ReLU.
LINEAR_LAYERS, ACTIVE_LAYERS = "affine|embed|out|skip|torgb", r"fc\d*|conv[01]?|fromrgb"
N = TypeVar("N", Generator, Discriminator)


@dataclass(frozen=True)
class Precision:
    """How a network was computed; no clamp and no half levels where the file does not say."""

    activation_clamp: float | None
    half_levels: int


@dataclass(frozen=True)
class Snapshot:
    """What a network pickle holds: arrays `G/…`, `D/…`, `G_ema/…` under their published names, and sizes beside them.

    `mbstd_group` is 4, the usual one, where the file does not say.
    """

    arrays: dict[str, Tensor]
    mbstd_group: int
    generator_precision: Precision
    discriminator_precision: Precision


def read_snapshot(file: Path) -> Snapshot:
    """The arrays of a published network pickle; nothing in the file is run.

    Raises FileNotFoundError where it is missing, ValueError where it is damaged, of another format or asks for more
    than arrays and numbers.
    """
    if not file.is_file():
        raise FileNotFoundError(f"a network pickle is read from a file, but {file} is none: give its path")
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise ValueError(f"it is larger than {LARGEST_FILE:,} bytes, which no network pickle is")
        data = file.read_bytes()
        return _snapshot(_networks(read_pickle(memoryview(data))), len(data))
    except ValueError as error:
        raise ValueError(
            f"{file} is not read as a network pickle of StyleGAN2-ADA for PyTorch: {error}; "
            "give the .pkl as its publisher wrote it"
        ) from error


def gan_of_snapshot(snapshot: Snapshot) -> tuple[Generator, Discriminator]:
    """The averaged generator and the discriminator, with the clamp and the half precision that they were trained in.

    Raises ValueError where the arrays are not those of a StyleGAN2 with output skips.
    """
    arrays = {name: array for name, array in snapshot.arrays.items() if name.startswith("D/")}
    for name, array in snapshot.arrays.items():
        if name.startswith("G_ema/"):
            arrays["G/" + name.removeprefix("G_ema/")] = array
    generator, discriminator = from_arrays(arrays, snapshot.mbstd_group)
    return (
        _computed_as(generator, snapshot.generator_precision),
        _computed_as(discriminator, snapshot.discriminator_precision),
    )


def _computed_as(network: N, precision: Precision) -> N:
    config = dataclasses.replace(network.config, **dataclasses.asdict(precision))
    return with_weights(type(network), config, network.state_dict())


def convert_snapshot(file: Path, folder: Path, classes: Sequence[int]) -> None:
    """Write a network pickle as a folder of `save_gan`; `classes` are the dataset's labels in the order of c's columns.

    For an unconditional network they are the labels that it was trained on.
    """
    generator, discriminator = gan_of_snapshot(read_snapshot(file))
    save_gan(folder, generator, discriminator, classes)


def _networks(content: object) -> dict[str, Module]:
    if isinstance(content, tuple):
        raise ValueError("it is a tuple, as the older TensorFlow format has, which is not read")
    if not isinstance(content, dict):
        raise ValueError("it is no dictionary of networks")
    networks = {name: content[name] for name in NETWORKS if content.get(name) is not None}
    for name in ("D", "G_ema"):
        if name not in networks:
            raise ValueError(f"it holds no network {name}")
    for name, network in networks.items():
        if not isinstance(network, Module):
            raise ValueError(f"its {name} is no network")
    return networks


def _snapshot(networks: dict[str, Module], file_size: int) -> Snapshot:
    modules = {name: dict(_modules(network, "", set())) for name, network in networks.items()}
    for name in ("G_ema", "D"):
        _check_computation(name, modules[name])
    return Snapshot(
        arrays={
            f"{network}/{name}": array.tensor()
            for network in modules
            for name, array in _arrays(modules[network], file_size).items()
        },
        mbstd_group=_mbstd_group(modules["D"]),
        generator_precision=_precision(modules["G_ema"]),
        discriminator_precision=_precision(modules["D"]),
    )


def _entries(module: Module, kind: str, expected: type) -> dict:
    """What a module holds of one kind, by name; entries that are None are left out."""
    entries = module.state.get(kind)
    if not isinstance(entries, dict) or len(entries) > MOST_ARRAYS:
        raise ValueError(f"a module in it has no {kind}, or too many")
    held = {name: entry for name, entry in entries.items() if entry is not None}
    for name, entry in held.items():
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_]{1,64}", name):
            raise ValueError(f"an entry of a module's {kind} has no sensible name")
        if not isinstance(entry, expected):
            raise ValueError(f"{name} of a module's {kind} is something else than the layout has there")
    return held


def _modules(module: Module, path: str, seen: set[int]) -> Iterator[tuple[str, Module]]:
    """A module and those in it, by their dotted paths; none comes twice, so that the walk ends."""
    if id(module) in seen:
        raise ValueError(f"the module at {path!r} stands in another place too, or within itself")
    seen.add(id(module))
    if len(seen) > MOST_MODULES or path.count(".") > DEEPEST_MODULE:
        raise ValueError(f"a network in it has more than {MOST_MODULES} modules or {DEEPEST_MODULE} levels of them")
    yield path, module
    for name, child in _entries(module, "_modules", Module).items():
        yield from _modules(child, f"{path}{name}.", seen)


def _arrays(modules: dict[str, Module], file_size: int) -> dict[str, Array]:
    """The parameters and buffers of one network by their dotted names."""
    arrays = {
        path + name: array
        for path, module in modules.items()
        for kind in ("_parameters", "_buffers")
        for name, array in _entries(module, kind, Array).items()
    }
    if len(arrays) > MOST_ARRAYS:
        raise ValueError(f"a network in it has {len(arrays)} arrays, more than {MOST_ARRAYS}")
    # Many tensors may share one storage; each is copied, so all of them together have to fit into the file.
    if sum(array.byte_count for array in arrays.values()) > file_size:
        raise ValueError("the arrays of a network in it are larger than the file")
    for name, array in arrays.items():
        _check_size(name, array.size)
    return arrays


def _check_size(name: str, size: tuple[int, ...]) -> None:
    """Networks are built from names and shapes: a small array must not announce a huge network."""
    rows, *columns = size or (1,)
    resolution = max((int(found) for found in re.findall(r"\bb([0-9]+)\.", name)), default=0)
    largest = resolution <= LARGEST_RESOLUTION and rows <= LARGEST_ROWS and max(columns, default=0) <= LARGEST_COLUMNS
    if not largest:
        raise ValueError(f"{quoted(name)} has the size {size}, larger than those of published networks")


def _check_computation(network: str, modules: dict[str, Module]) -> None:
    """Refuse what a file says of its layers where it is not what our networks compute; it may say nothing."""
    for path, module in modules.items():
        for attribute, expected in _expected(network, path, module, modules).items():
            value = module.state.get(attribute)
            if None not in (value, expected) and not _agrees(value, expected):
                # Lists may stand in themselves many times over: no text is made of one.
                shown = value if isinstance(value, int | float) else quoted(value) if isinstance(value, str) else "odd"
                raise ValueError(f"{network}.{path}{attribute} is {shown}, where only {expected!r} can be computed")


def _agrees(value: object, expected: object) -> bool:
    if isinstance(value, int | float) and isinstance(expected, float):
        return (1 - 1e-5) * expected <= value <= (1 + 1e-5) * expected
    return type(value) is type(expected) and value == expected


def _expected(network: str, path: str, module: Module, modules: dict[str, Module]) -> dict[str, object]:
    """The attributes by which a layer of this name could be another one than ours, and what they are in ours."""
    expected = _expected_of_layer(path, _entries(module, "_parameters", Array))
    if network == "G_ema":
        return expected | {"use_noise": True, "architecture": "skip"}
    maps = {} if path != "b4.mbstd." else {"num_channels": _deviations(modules)}
    return expected | maps | {"architecture": architecture_of(path.removesuffix(".") for path in modules)}


def _expected_of_layer(path: str, parameters: dict[str, Array]) -> dict[str, object]:
    name = path.rstrip(".").rpartition(".")[2]
    if not re.fullmatch(LINEAR_LAYERS + "|" + ACTIVE_LAYERS, name):
        return {}
    active = re.fullmatch(ACTIVE_LAYERS, name) is not None
    rate = MAPPING_RATE if re.fullmatch(r"mapping\.fc\d+\.", path) else 1.0
    weight = parameters.get("weight")
    fan_in = math.prod(weight.size[1:]) if weight is not None else 0
    return {
        "activation": "lrelu" if active else "linear",
        "act_gain": ACTIVATION_GAIN if active else 1.0,
        "lr_multiplier": rate,
        "bias_gain": rate,
        "weight_gain": rate / math.sqrt(fan_in) if fan_in else None,
    }


def _deviations(modules: dict[str, Module]) -> int | None:
    """The maps of deviation, which the head's convolution takes beside as many as it gives."""
    weight = _entries(modules["b4.conv."], "_parameters", Array).get("weight") if "b4.conv." in modules else None
    return weight.size[1] - weight.size[0] if weight is not None and len(weight.size) == 4 else None


def _mbstd_group(modules: dict[str, Module]) -> int:
    state = modules["b4.mbstd."].state if "b4.mbstd." in modules else {}
    if "group_size" not in state:
        return USUAL_MBSTD_GROUP
    group = state["group_size"]
    # None could mean the whole batch or the usual group; no description of the layout tells.
    if type(group) is not int or not 1 <= group <= 2**16:
        raise ValueError("D.b4.mbstd.group_size, of its minibatch deviation, is no positive number of images")
    return group


def _precision(modules: dict[str, Module]) -> Precision:
    clamps = {clamp for module in modules.values() if (clamp := _clamp(module)) is not None}
    if len(clamps) > 1:
        raise ValueError(f"the layers of a network in it are clamped differently, to {sorted(clamps)}")
    return Precision(activation_clamp=next(iter(clamps), None), half_levels=_half_levels(modules))


def _half_levels(modules: dict[str, Module]) -> int:
    blocks = {int(found[1]): path for path in modules if (found := re.fullmatch(r"(?:synthesis\.)?b([0-9]+)\.", path))}
    from_the_top = [blocks[resolution] for resolution in sorted(blocks, reverse=True)]
    halves = {path for path, module in modules.items() if module.state.get("use_fp16") is True}
    if halves != set(from_the_top[: len(halves)]):
        raise ValueError(
            f"use_fp16 is set of {quoted(', '.join(sorted(halves)))}, which are not the top levels: not supported"
        )
    return len(halves)


def _clamp(module: Module) -> float | None:
    clamp = module.state.get("conv_clamp")
    if clamp is None:
        return None
    if type(clamp) not in (int, float) or not 0 < clamp <= 1e6:
        raise ValueError("a clamp of activations in it is no positive number")
    return float(clamp)
