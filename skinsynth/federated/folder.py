"""A hospital's state in a folder of its own, for a real deployment: a SuperNode keeps `context.state` in memory only.

The two latest rounds are kept, since a server that is started again may ask for a round that was just trained.
"""

import shutil
from pathlib import Path

from skinsynth.gan.checkpoint import read_checkpoint, write_checkpoint
from skinsynth.gan.trainer import State

KEPT = 2


def write_state(folder: Path, number: int, state: State) -> None:
    """Keep the state after a round; states of later rounds belong to a run that is no more."""
    write_checkpoint(_place(folder, number), state)
    for old in _superseded(folder, number):
        shutil.rmtree(_place(folder, old))


def read_state(folder: Path, number: int) -> State | None:
    """The latest state from before a round; None where the hospital is new to the federation."""
    earlier = [kept for kept in _numbers(folder) if kept < number]
    return read_checkpoint(_place(folder, earlier[-1])) if earlier else None


def _superseded(folder: Path, number: int) -> list[int]:
    numbers = _numbers(folder)
    return [kept for kept in numbers if kept > number] + [kept for kept in numbers if kept <= number][:-KEPT]


def _numbers(folder: Path) -> list[int]:
    return sorted(int(place.name.removeprefix("after-")) for place in folder.glob("after-*"))


def _place(folder: Path, number: int) -> Path:
    return folder / f"after-{number}"
