"""Published StyleGAN2-ADA network pickles, read without running anything that stands in them.

A pickle is a program. Python's own unpickler, its globals restricted, still hashes whatever a file puts in place of a
dictionary's key (a tuple nested deeply enough ends the process), takes memory for lengths and memo numbers that a file
merely claims, and sets attributes. Therefore the few instructions that arrays and numbers need are carried out here, on
plain lists and dictionaries; every other instruction and every global that is not in `GLOBALS` is refused.
"""

import dataclasses
import math
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from skinsynth.gan.discriminator import Discriminator
from skinsynth.gan.generator import Generator
from skinsynth.gan.layers import ACTIVATION_GAIN, MAPPING_RATE
from skinsynth.gan.model import save_gan
from skinsynth.gan.published import architecture_of, from_arrays, with_weights

# Far above what networks of 1,024 pixels and 512 feature maps take: 400 MB, 100,000 instructions, 100 modules each.
LARGEST_FILE = 2**31
MOST_INSTRUCTIONS = 500_000
MOST_MODULES = 1_000
MOST_ARRAYS = 1_000
# Each byte of a text is decoded once, in protocol 2 encoded again, and once more decoded within a storage.
COPIES_OF_A_BYTE = 3
DEEPEST_MODULE = 16
LARGEST_RESOLUTION = 1_024
# Rows are feature maps, columns inputs: at most 16 pixels of each feature map.
LARGEST_ROWS, LARGEST_COLUMNS = 1_024, 16 * 1_024

NETWORKS = ("G", "D", "G_ema")
USUAL_MBSTD_GROUP = 4
# Layers by the last part of their names; the active ones end in a leaky ReLU.
LINEAR_LAYERS, ACTIVE_LAYERS = "affine|embed|out|skip|torgb", r"fc\d*|conv[01]?|fromrgb"
PROTOCOLS = range(2, 6)
# The first two values of torch's legacy serialisation.
STORAGE_MAGIC, STORAGE_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
NUMBER_TYPES = {"b1", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"}
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
        source = _Source(memoryview(data), _Budget(MOST_INSTRUCTIONS, COPIES_OF_A_BYTE * len(data)))
        content = _Pickle(source, GLOBALS).read()
        source.end()
        return _snapshot(_networks(content), len(data))
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


class _Budget:
    """Instructions that one file may still take and bytes of text that it may still copy, in its storages too."""

    def __init__(self, instructions: int, copied_bytes: int) -> None:
        self.instructions, self.copied_bytes = instructions, copied_bytes

    def spend(self) -> None:
        self.instructions -= 1
        if self.instructions < 0:
            raise ValueError(f"it takes more than {MOST_INSTRUCTIONS:,} instructions, of which a network needs few")

    def copy(self, count: int) -> None:
        self.copied_bytes -= count
        if self.copied_bytes < 0:
            raise ValueError(f"it copies texts of more than {COPIES_OF_A_BYTE} times its size: one is recalled often")


class _Source:
    """Bytes that are taken from the front; none is copied and none promised that is not there."""

    def __init__(self, data: memoryview, budget: _Budget) -> None:
        self.data, self.position, self.budget = data, 0, budget

    def take(self, count: int) -> memoryview:
        taken = self.data[self.position : self.position + count]
        if len(taken) != count:
            raise ValueError(f"it ends at byte {len(self.data)}, within a value: it is cut off or damaged")
        self.position += count
        return taken

    def number(self, layout: str) -> int:
        (value,) = struct.unpack(layout, self.take(struct.calcsize(layout)))
        return value

    def real(self) -> float:
        (value,) = struct.unpack(">d", self.take(8))
        return value

    def text(self, count: int) -> str:
        raw = self.take(count)
        self.budget.copy(count)
        return _decoded(raw)

    def end(self) -> None:
        if self.position != len(self.data):
            raise ValueError(f"{len(self.data) - self.position:,} bytes follow where it, or a storage in it, has ended")

    def line(self) -> str:
        # No name of a global is as long as this.
        length = bytes(self.data[self.position : self.position + 256]).find(b"\n")
        if length < 0:
            raise ValueError(f"a name at byte {self.position} does not end: it is cut off or damaged")
        return _decoded(self.take(length + 1)[:length])


def _decoded(raw: memoryview) -> str:
    try:
        return str(raw, "utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise ValueError("a text in it is no UTF-8: it is damaged") from error


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:80] + "…")


@dataclass(frozen=True, eq=False)
class _Global:
    """What is done in place of a callable that the file names."""

    call: "Call"


@dataclass(frozen=True, eq=False)
class _Module:
    """A network or a part of one: its attributes; its source text is dropped."""

    state: dict


@dataclass(frozen=True, eq=False)
class _StorageType:
    dtype: torch.dtype


@dataclass(frozen=True, eq=False)
class _StorageClaim:
    """A storage as a persistent id announces it, before its bytes."""

    dtype: torch.dtype
    key: str
    count: int


@dataclass(frozen=True, eq=False)
class _Storage:
    raw: memoryview
    dtype: torch.dtype


@dataclass(frozen=True, eq=False)
class _Array:
    """A dense tensor within a storage, whose bounds have been checked."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def byte_count(self) -> int:
        return math.prod(self.size) * self.storage.dtype.itemsize

    def tensor(self) -> Tensor:
        """A copy, so that neither alignment nor the file's memory is shared."""
        if self.byte_count == 0:
            return torch.empty(self.size, dtype=self.storage.dtype)
        start = self.offset * self.storage.dtype.itemsize
        values = np.frombuffer(self.storage.raw[start : start + self.byte_count], np.uint8).copy()
        return torch.from_numpy(values).view(self.storage.dtype).as_strided(self.size, self.stride).contiguous()


@dataclass(frozen=True, eq=False)
class _NumberType:
    code: str


Arguments = tuple[object, ...]
Call = Callable[[Arguments, _Budget], object]


def _call_module(arguments: Arguments, _: _Budget) -> _Module:
    match arguments:
        case ({"type": "class", "class_name": str(), "state": dict() as state},):
            return _Module(state)
    raise ValueError("a module in it is not made of a class_name and a state")


def _call_dictionary(arguments: Arguments, _: _Budget) -> dict:
    if arguments:
        raise ValueError("a dictionary in it is made with arguments, where the layout fills empty ones")
    return {}


def _call_set(arguments: Arguments, _: _Budget) -> list:
    match arguments:
        case (list() as members,):
            return members
    raise ValueError("a set in it is not made of a list")


def _call_encode(arguments: Arguments, budget: _Budget) -> memoryview:
    """Bytes as protocol 2 writes them: a text of which each character is one byte."""
    match arguments:
        case (str() as text, "latin1"):
            # One text may be recalled and encoded many times.
            budget.copy(len(text))
            with suppress(UnicodeEncodeError):
                return memoryview(text.encode("latin1"))
    raise ValueError("a text in it does not stand for bytes")


def _call_parameter(arguments: Arguments, _: _Budget) -> _Array:
    match arguments:
        case (_Array() as array, *_):
            return array
    raise ValueError("a parameter in it is made of something else than a tensor")


def _call_tensor(arguments: Arguments, _: _Budget) -> _Array:
    match arguments:
        case (_Storage() as storage, int() as offset, tuple() as size, tuple() as stride, *_):
            _check_bounds(storage, offset, size, stride)
            return _Array(storage, offset, size, stride)
    raise ValueError("a tensor in it is not made of a storage, an offset, a size and strides")


def _check_bounds(storage: _Storage, offset: int, size: tuple, stride: tuple) -> None:
    numbers = [offset, *size, *stride]
    if len(size) != len(stride) or len(size) > 8 or not all(type(n) is int and 0 <= n < 2**40 for n in numbers):
        raise ValueError("the size, strides or offset of a tensor in it are no sensible numbers")
    # torch reckons strides even where there is no element, as if each axis had one at least.
    if math.prod(max(1, length) for length in size) > LARGEST_FILE:
        raise ValueError(f"a tensor in it has the size {size}, larger than any file")
    count = math.prod(size)
    span = 1 + sum((length - 1) * step for length, step in zip(size, stride, strict=True)) if count else 0
    held = len(storage.raw) // storage.dtype.itemsize
    if count != span:
        raise ValueError(f"a tensor in it has {count} elements, but its strides reach over {span}: it is not dense")
    if offset + span > held:
        raise ValueError(f"a tensor in it takes elements {offset} to {offset + span}, but its storage has {held}")


def _call_number_type(arguments: Arguments, _: _Budget) -> _NumberType:
    match arguments:
        case (str() as code, *_) if code in NUMBER_TYPES:
            return _NumberType(code)
    raise ValueError("a number in it has a type that is neither integer nor real")


def _call_number(arguments: Arguments, _: _Budget) -> int | float | bool:
    match arguments:
        case (_NumberType() as kind, memoryview() as raw) if len(raw) == np.dtype(kind.code).itemsize:
            return np.frombuffer(raw, "<" + kind.code).item()
    raise ValueError("a number in it does not have the bytes of its type")


def _call_storage(arguments: Arguments, budget: _Budget) -> _Storage:
    """A storage out of torch's legacy serialisation: five pickles, then the number of elements and their bytes."""
    match arguments:
        case (memoryview() as raw,):
            source = _Source(raw, budget)
        case _:
            raise ValueError("a storage in it is not made of bytes")
    # Within a storage nothing but its type is named, so that storages cannot nest.
    magic, protocol, system, claim, keys = (_Pickle(source, STORAGE_TYPES).read() for _ in range(5))
    if (magic, protocol) != (STORAGE_MAGIC, STORAGE_PROTOCOL) or not isinstance(system, dict):
        raise ValueError("a storage in it is not in torch's legacy serialisation")
    if system.get("little_endian") is not True:
        raise ValueError("a storage in it comes from a big-endian machine")
    if not isinstance(claim, _StorageClaim) or keys != [claim.key]:
        raise ValueError("a storage in it holds something else than its elements")
    count = source.number("<q")
    if count != claim.count:
        raise ValueError(f"a storage in it claims {claim.count} elements, but has {count}")
    elements = source.take(count * claim.dtype.itemsize)
    source.end()
    return _Storage(elements, claim.dtype)


STORAGE_TYPES: dict[tuple[str, str], object] = {
    ("torch", "DoubleStorage"): _StorageType(torch.float64),
    ("torch", "FloatStorage"): _StorageType(torch.float32),
    ("torch", "HalfStorage"): _StorageType(torch.float16),
    ("torch", "BFloat16Storage"): _StorageType(torch.bfloat16),
    ("torch", "LongStorage"): _StorageType(torch.int64),
    ("torch", "IntStorage"): _StorageType(torch.int32),
    ("torch", "ShortStorage"): _StorageType(torch.int16),
    ("torch", "CharStorage"): _StorageType(torch.int8),
    ("torch", "ByteStorage"): _StorageType(torch.uint8),
}
# The only globals that a file may name, and what is done in their place.
GLOBALS: dict[tuple[str, str], object] = {
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _Global(_call_module),
    ("torch._utils", "_rebuild_parameter"): _Global(_call_parameter),
    ("torch._utils", "_rebuild_tensor_v2"): _Global(_call_tensor),
    ("torch.storage", "_load_from_bytes"): _Global(_call_storage),
    ("collections", "OrderedDict"): _Global(_call_dictionary),
    ("dnnlib.util", "EasyDict"): _Global(_call_dictionary),
    ("numpy", "dtype"): _Global(_call_number_type),
    ("numpy.core.multiarray", "scalar"): _Global(_call_number),
    ("numpy._core.multiarray", "scalar"): _Global(_call_number),
    # Protocols 2 and 3 write sets, protocol 2 writes bytes as calls of these.
    ("builtins", "set"): _Global(_call_set),
    ("__builtin__", "set"): _Global(_call_set),
    ("_codecs", "encode"): _Global(_call_encode),
}


class _Pickle:
    """One pickle, carried out on plain values; no length is trusted, only texts and small integers are hashed."""

    def __init__(self, source: _Source, named: dict[tuple[str, str], object]) -> None:
        self.source, self.named = source, named
        self.values: list[object] = []
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}

    def read(self) -> object:
        while True:
            self.source.budget.spend()
            code = bytes(self.source.take(1))
            if code == b".":
                return self.pop()
            if code not in INSTRUCTIONS:
                raise ValueError(
                    f"the instruction {code!r} at byte {self.source.position - 1} is not one that arrays and numbers "
                    "need, so it was not carried out"
                )
            INSTRUCTIONS[code](self)

    def push(self, value: object) -> None:
        self.values.append(value)

    def top(self) -> object:
        if len(self.values) <= (self.marks[-1] if self.marks else 0):
            raise ValueError("its instructions do not fit together: it is damaged or no pickle")
        return self.values[-1]

    def pop(self) -> object:
        value = self.top()
        self.values.pop()
        return value

    def mark(self) -> None:
        self.marks.append(len(self.values))

    def pop_to_mark(self) -> list[object]:
        if not self.marks:
            raise ValueError("its instructions do not fit together: it is damaged or no pickle")
        start = self.marks.pop()
        values = self.values[start:]
        del self.values[start:]
        return values

    def tuple_of(self, count: int) -> None:
        values = [self.pop() for _ in range(count)]
        self.push(tuple(values[::-1]))

    def remember(self, number: int) -> None:
        self.memo[number] = self.top()

    def recall(self, number: int) -> None:
        if number not in self.memo:
            raise ValueError("it recalls a value that it never had: it is damaged or no pickle")
        self.push(self.memo[number])

    def extend(self, members: list[object]) -> None:
        target = self.top()
        if not isinstance(target, list):
            raise ValueError("it appends to something else than a list")
        target.extend(members)

    def set_items(self, items: list[object]) -> None:
        target = self.top()
        if not isinstance(target, dict) or len(items) % 2:
            raise ValueError("it sets entries of something else than a dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Larger integers can be chosen such that all hash alike.
            if type(key) is not str and not (type(key) is int and abs(key) < 2**31):
                raise ValueError("a key of a dictionary in it is neither a text nor an integer of less than 32 bits")
            target[key] = value

    def set_item(self) -> None:
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def name(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("it names a global by something else than texts")
        if (module, name) not in self.named:
            raise ValueError(
                f"it asks for the global {_quoted(f'{module}.{name}')}, where a network pickle's arrays and numbers "
                "need none such, so nothing was run (nor is the older TensorFlow format read)"
            )
        self.push(self.named[module, name])

    def name_on_stack(self) -> None:
        name, module = self.pop(), self.pop()
        self.name(module, name)

    def call(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            raise ValueError("it calls something else than a global, so nothing was run")
        self.push(function.call(arguments, self.source.budget))

    def set_state(self) -> None:
        """A type of numbers tells its byte order this way, an empty dictionary nothing; no attribute is ever set."""
        match self.pop(), self.top():
            case (tuple() as state, _NumberType()) if len(state) > 1 and state[1] in ("<", "|", "="):
                return
            case (state, dict()) if state is None or state == {}:
                return
        raise ValueError("it sets the attributes of an object, so nothing was set")

    def claim_storage(self) -> None:
        match self.pop():
            case ("storage", _StorageType() as kind, str() as key, str(), int() as count, None) if count >= 0:
                self.push(_StorageClaim(kind.dtype, key, count))
                return
        raise ValueError("a storage in it is not told by its type, key, place and number of elements")


def _check_protocol(pickle: _Pickle) -> None:
    number = pickle.source.number("<B")
    if number not in PROTOCOLS:
        raise ValueError(f"its protocol is {number}, where {PROTOCOLS[0]} to {PROTOCOLS[-1]} are known")


def _check_frame(pickle: _Pickle) -> None:
    length, rest = pickle.source.number("<Q"), len(pickle.source.data) - pickle.source.position
    if length > rest:
        raise ValueError(f"it announces {length} bytes, but {rest} follow: it is cut off or damaged")


# By their codes in the protocols 2 to 5. There is none to make instances by class (but of a global's stand-in), to look
# up extensions, or to take anything by a name that is not in `GLOBALS`.
INSTRUCTIONS: dict[bytes, Callable[[_Pickle], object]] = {
    b"\x80": _check_protocol,
    b"\x95": _check_frame,
    b"N": lambda pickle: pickle.push(None),
    b"\x88": lambda pickle: pickle.push(True),
    b"\x89": lambda pickle: pickle.push(False),
    b"K": lambda pickle: pickle.push(pickle.source.number("<B")),
    b"M": lambda pickle: pickle.push(pickle.source.number("<H")),
    b"J": lambda pickle: pickle.push(pickle.source.number("<i")),
    b"\x8a": lambda pickle: pickle.push(
        int.from_bytes(pickle.source.take(pickle.source.number("<B")), "little", signed=True)
    ),
    b"G": lambda pickle: pickle.push(pickle.source.real()),
    b"\x8c": lambda pickle: pickle.push(pickle.source.text(pickle.source.number("<B"))),
    b"X": lambda pickle: pickle.push(pickle.source.text(pickle.source.number("<I"))),
    b"\x8d": lambda pickle: pickle.push(pickle.source.text(pickle.source.number("<Q"))),
    b"C": lambda pickle: pickle.push(pickle.source.take(pickle.source.number("<B"))),
    b"B": lambda pickle: pickle.push(pickle.source.take(pickle.source.number("<I"))),
    b"\x8e": lambda pickle: pickle.push(pickle.source.take(pickle.source.number("<Q"))),
    b"(": _Pickle.mark,
    b")": lambda pickle: pickle.push(()),
    b"\x85": lambda pickle: pickle.tuple_of(1),
    b"\x86": lambda pickle: pickle.tuple_of(2),
    b"\x87": lambda pickle: pickle.tuple_of(3),
    b"t": lambda pickle: pickle.push(tuple(pickle.pop_to_mark())),
    b"]": lambda pickle: pickle.push([]),
    b"a": lambda pickle: pickle.extend([pickle.pop()]),
    b"e": lambda pickle: pickle.extend(pickle.pop_to_mark()),
    # A set is kept as a list: nothing is hashed.
    b"\x8f": lambda pickle: pickle.push([]),
    b"\x90": lambda pickle: pickle.extend(pickle.pop_to_mark()),
    b"}": lambda pickle: pickle.push({}),
    b"s": _Pickle.set_item,
    b"u": lambda pickle: pickle.set_items(pickle.pop_to_mark()),
    b"q": lambda pickle: pickle.remember(pickle.source.number("<B")),
    b"r": lambda pickle: pickle.remember(pickle.source.number("<I")),
    b"\x94": lambda pickle: pickle.remember(len(pickle.memo)),
    b"h": lambda pickle: pickle.recall(pickle.source.number("<B")),
    b"j": lambda pickle: pickle.recall(pickle.source.number("<I")),
    b"c": lambda pickle: pickle.name(pickle.source.line(), pickle.source.line()),
    b"\x93": _Pickle.name_on_stack,
    b"R": _Pickle.call,
    b"\x81": _Pickle.call,  # a subclass of dict comes as an instance made of its stand-in
    b"b": _Pickle.set_state,
    b"Q": _Pickle.claim_storage,
}


def _networks(content: object) -> dict[str, _Module]:
    if isinstance(content, tuple):
        raise ValueError("it is a tuple, as the older TensorFlow format has, which is not read")
    if not isinstance(content, dict):
        raise ValueError("it is no dictionary of networks")
    networks = {name: content[name] for name in NETWORKS if content.get(name) is not None}
    for name in ("D", "G_ema"):
        if name not in networks:
            raise ValueError(f"it holds no network {name}")
    for name, network in networks.items():
        if not isinstance(network, _Module):
            raise ValueError(f"its {name} is no network")
    return networks


def _snapshot(networks: dict[str, _Module], file_size: int) -> Snapshot:
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


def _entries(module: _Module, kind: str, expected: type) -> dict:
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


def _modules(module: _Module, path: str, seen: set[int]) -> Iterator[tuple[str, _Module]]:
    """A module and those in it, by their dotted paths; none comes twice, so that the walk ends."""
    if id(module) in seen:
        raise ValueError(f"the module at {path!r} stands in another place too, or within itself")
    seen.add(id(module))
    if len(seen) > MOST_MODULES or path.count(".") > DEEPEST_MODULE:
        raise ValueError(f"a network in it has more than {MOST_MODULES} modules or {DEEPEST_MODULE} levels of them")
    yield path, module
    for name, child in _entries(module, "_modules", _Module).items():
        yield from _modules(child, f"{path}{name}.", seen)


def _arrays(modules: dict[str, _Module], file_size: int) -> dict[str, _Array]:
    """The parameters and buffers of one network by their dotted names."""
    arrays = {
        path + name: array
        for path, module in modules.items()
        for kind in ("_parameters", "_buffers")
        for name, array in _entries(module, kind, _Array).items()
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
        raise ValueError(f"{_quoted(name)} has the size {size}, larger than those of published networks")


def _check_computation(network: str, modules: dict[str, _Module]) -> None:
    """Refuse what a file says of its layers where it is not what our networks compute; it may say nothing."""
    for path, module in modules.items():
        for attribute, expected in _expected(network, path, module, modules).items():
            value = module.state.get(attribute)
            if None not in (value, expected) and not _agrees(value, expected):
                # Lists may stand in themselves many times over: no text is made of one.
                shown = value if isinstance(value, int | float) else _quoted(value) if isinstance(value, str) else "odd"
                raise ValueError(f"{network}.{path}{attribute} is {shown}, where only {expected!r} can be computed")


def _agrees(value: object, expected: object) -> bool:
    if isinstance(value, int | float) and isinstance(expected, float):
        return (1 - 1e-5) * expected <= value <= (1 + 1e-5) * expected
    return type(value) is type(expected) and value == expected


def _expected(network: str, path: str, module: _Module, modules: dict[str, _Module]) -> dict[str, object]:
    """The attributes by which a layer of this name could be another one than ours, and what they are in ours."""
    expected = _expected_of_layer(path, _entries(module, "_parameters", _Array))
    if network == "G_ema":
        return expected | {"use_noise": True, "architecture": "skip"}
    maps = {} if path != "b4.mbstd." else {"num_channels": _deviations(modules)}
    return expected | maps | {"architecture": architecture_of(path.removesuffix(".") for path in modules)}


def _expected_of_layer(path: str, parameters: dict[str, _Array]) -> dict[str, object]:
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


def _deviations(modules: dict[str, _Module]) -> int | None:
    """The maps of deviation, which the head's convolution takes beside as many as it gives."""
    weight = _entries(modules["b4.conv."], "_parameters", _Array).get("weight") if "b4.conv." in modules else None
    return weight.size[1] - weight.size[0] if weight is not None and len(weight.size) == 4 else None


def _mbstd_group(modules: dict[str, _Module]) -> int:
    state = modules["b4.mbstd."].state if "b4.mbstd." in modules else {}
    if "group_size" not in state:
        return USUAL_MBSTD_GROUP
    group = state["group_size"]
    # None could mean the whole batch or the usual group; no description of the layout tells.
    if type(group) is not int or not 1 <= group <= 2**16:
        raise ValueError("D.b4.mbstd.group_size, of its minibatch deviation, is no positive number of images")
    return group


def _precision(modules: dict[str, _Module]) -> Precision:
    clamps = {clamp for module in modules.values() if (clamp := _clamp(module)) is not None}
    if len(clamps) > 1:
        raise ValueError(f"the layers of a network in it are clamped differently, to {sorted(clamps)}")
    return Precision(activation_clamp=next(iter(clamps), None), half_levels=_half_levels(modules))


def _half_levels(modules: dict[str, _Module]) -> int:
    blocks = {int(found[1]): path for path in modules if (found := re.fullmatch(r"(?:synthesis\.)?b([0-9]+)\.", path))}
    from_the_top = [blocks[resolution] for resolution in sorted(blocks, reverse=True)]
    halves = {path for path, module in modules.items() if module.state.get("use_fp16") is True}
    if halves != set(from_the_top[: len(halves)]):
        raise ValueError(
            f"use_fp16 is set of {_quoted(', '.join(sorted(halves)))}, which are not the top levels: not supported"
        )
    return len(halves)


def _clamp(module: _Module) -> float | None:
    clamp = module.state.get("conv_clamp")
    if clamp is None:
        return None
    if type(clamp) not in (int, float) or not 0 < clamp <= 1e6:
        raise ValueError("a clamp of activations in it is no positive number")
    return float(clamp)
