"""Which numbers a setting may have, written beside its field (`epochs: Count`); the name that a misspelt one meant."""

import difflib
import math
from collections.abc import Collection, Hashable, Iterable, Iterator, Sized
from dataclasses import dataclass, fields, is_dataclass
from types import UnionType
from typing import Annotated, Any, Protocol, Union, get_args, get_origin, get_type_hints, runtime_checkable


@runtime_checkable
class Rule(Protocol):
    """What one value is held to; as text it goes on from "but it must"."""

    def holds(self, value: Any) -> bool: ...


@dataclass(frozen=True)
class AtLeast:
    least: int

    def holds(self, value: int | float) -> bool:
        return self.least <= value < math.inf

    def __str__(self) -> str:
        return f"be {self.least} or more"


@dataclass(frozen=True)
class Above:
    bound: int

    def holds(self, value: int | float) -> bool:
        return self.bound < value < math.inf

    def __str__(self) -> str:
        return f"be above {self.bound}"


@dataclass(frozen=True)
class Below:
    bound: int

    def holds(self, value: int | float) -> bool:
        return -math.inf < value < self.bound

    def __str__(self) -> str:
        return f"be below {self.bound}"


@dataclass(frozen=True)
class Between:
    """Both ends are allowed."""

    least: int
    most: int

    def holds(self, value: int | float) -> bool:
        return self.least <= value <= self.most

    def __str__(self) -> str:
        return f"be {self.least} to {self.most}"


@dataclass(frozen=True)
class Finite:
    def holds(self, value: int | float) -> bool:
        return -math.inf < value < math.inf

    def __str__(self) -> str:
        return "be finite"


@dataclass(frozen=True)
class NotEmpty:
    def holds(self, value: Sized) -> bool:
        return len(value) > 0

    def __str__(self) -> str:
        return "have one entry or more"


@dataclass(frozen=True)
class Distinct:
    def holds(self, value: Collection[Hashable]) -> bool:
        return len(set(value)) == len(value)

    def __str__(self) -> str:
        return "have each entry once"


Count = Annotated[int, AtLeast(1)]
Whole = Annotated[int, AtLeast(0)]
Seed = Annotated[int, Between(0, 2**32 - 1)]  # as scikit-learn takes
Seeds = Annotated[tuple[Seed, ...], NotEmpty(), Distinct()]  # one training each
Positive = Annotated[float, Above(0)]
NotNegative = Annotated[float, AtLeast(0)]
Number = Annotated[float, Finite()]
Share = Annotated[float, Between(0, 1)]
ShareBelowOne = Annotated[float, AtLeast(0), Below(1)]
ProperShare = Annotated[float, Above(0), Below(1)]  # neither none nor all
Numbers = Annotated[tuple[Number, ...], NotEmpty()]
Names = Annotated[tuple[str, ...], NotEmpty(), Distinct()]


def closest(written: object, known: Iterable[object]) -> str | None:
    """The known name that was perhaps meant, whatever its case and its spaces; None where none is near."""
    names = {_bare(name): str(name) for name in known}
    close = difflib.get_close_matches(_bare(written), names, n=1)
    return names[close[0]] if close else None


def _bare(name: object) -> str:
    return str(name).casefold().replace(" ", "")


def check_ranges(settings: Any, where: str) -> None:
    """Raises ValueError at the first value of a config, or of one within it, that its annotation does not allow.

    `where` is what the settings are called, as in `params.yaml: scales.phantom.train_gan`.
    """
    hints = get_type_hints(type(settings), include_extras=True)
    for field in fields(settings):
        _check(getattr(settings, field.name), hints[field.name], f"{where}.{field.name}")


def _check(value: Any, kind: Any, where: str) -> None:
    if value is None:
        return
    if isinstance(value, bool) and kind in (int, float):
        raise ValueError(f"{where} is {str(value).lower()}, but it must be a number: change it")
    if is_dataclass(value):
        check_ranges(value, where)
    elif get_origin(kind) is Annotated:
        bare, *rules = get_args(kind)
        for rule in rules:
            if isinstance(rule, Rule) and not rule.holds(value):
                shown = list(value) if isinstance(value, tuple) else value  # as YAML has it
                raise ValueError(f"{where} is {shown}, but it must {rule}: change it")
        _check(value, bare, where)
    else:
        for entry, entry_kind, place in _entries(value, kind):
            _check(entry, entry_kind, where + place)


def _entries(value: Any, kind: Any) -> Iterator[tuple[Any, Any, str]]:
    """Each entry of a dict, list or tuple with its type and its place; a value beside `| None` as it is."""
    origin, kinds = get_origin(kind), get_args(kind)
    if origin is dict:
        yield from ((entry, kinds[1], f".{key}") for key, entry in value.items())
    elif origin is list or (origin is tuple and kinds[-1] is Ellipsis):
        yield from ((entry, kinds[0], f"[{number}]") for number, entry in enumerate(value))
    elif origin is tuple:
        yield from ((entry, one, f"[{number}]") for number, (entry, one) in enumerate(zip(value, kinds, strict=True)))
    elif origin in (Union, UnionType):
        yield from ((value, one, "") for one in kinds)
