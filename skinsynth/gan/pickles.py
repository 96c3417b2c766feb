"""Pickles of arrays and numbers, read without running anything that stands in them.

A pickle is a program. Python's own unpickler, its globals restricted, still hashes whatever a file puts in place of a
dictionary's key (a tuple nested deeply enough ends the process), takes memory for lengths and memo numbers that a file
merely claims, and sets attributes. Therefore the few instructions that arrays and numbers need are carried out here, on
plain lists and dictionaries; every other instruction and every global that is not in `GLOBALS` is refused.
"""

import math
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Far above what networks of 1,024 pixels and 512 feature maps take: 400 MB and 100,000 instructions.
LARGEST_FILE = 2**31
MOST_INSTRUCTIONS = 500_000
# Each byte of a text is decoded once, in protocol 2 encoded again, and once more decoded within a storage.
COPIES_OF_A_BYTE = 3
PROTOCOLS = range(2, 6)
# The first two values of torch's legacy serialisation.
STORAGE_MAGIC, STORAGE_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
NUMBER_TYPES = {"b1", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"}


def read_pickle(data: memoryview) -> object:
    """Texts, numbers, `Array`s, `Module`s, and lists, tuples and dictionaries of them; sets come as lists.

    Raises ValueError where it is damaged or asks for more than these.
    """
    source = _Source(data, _Budget(MOST_INSTRUCTIONS, COPIES_OF_A_BYTE * len(data)))
    content = _Pickle(source, GLOBALS).read()
    source.end()
    return content


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


def quoted(text: str) -> str:
    """A file's text for a message, the beginning of a long one."""
    return repr(text if len(text) <= 80 else text[:80] + "…")


@dataclass(frozen=True, eq=False)
class _Global:
    """What is done in place of a callable that the file names."""

    call: "Call"


@dataclass(frozen=True, eq=False)
class Module:
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
class Array:
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


def _call_module(arguments: Arguments, _: _Budget) -> Module:
    match arguments:
        case ({"type": "class", "class_name": str(), "state": dict() as state},):
            return Module(state)
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


def _call_parameter(arguments: Arguments, _: _Budget) -> Array:
    match arguments:
        case (Array() as array, *_):
            return array
    raise ValueError("a parameter in it is made of something else than a tensor")


def _call_tensor(arguments: Arguments, _: _Budget) -> Array:
    match arguments:
        case (_Storage() as storage, int() as offset, tuple() as size, tuple() as stride, *_):
            _check_bounds(storage, offset, size, stride)
            return Array(storage, offset, size, stride)
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
                f"it asks for the global {quoted(f'{module}.{name}')}, where a network pickle's arrays and numbers "
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
