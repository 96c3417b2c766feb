"""A folder of one's own, for a real deployment: a SuperNode keeps `context.state` in memory only.

A hospital's state after the two latest rounds of a run is kept, since a server that is started again may ask for a
round that was just trained. Nobody goes on from what another run left.
"""

import fcntl
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from skinsynth.gan.checkpoint import State, read_checkpoint, write_checkpoint

KEPT = 2


@contextmanager
def alone_in(folder: Path, seconds: float | None) -> Iterator[None]:
    """Wait until nobody else is at work in the folder; BlockingIOError after so many seconds, None: never.

    Flower starts a process for each message without waiting for the last one's, and the app of a SuperLink that was
    killed lives on for some seconds. Once a process is gone nothing of its lock is left.
    """
    folder.mkdir(parents=True, exist_ok=True)
    end = None if seconds is None else time.monotonic() + seconds
    with (folder / "lock").open("a") as lock:
        while not _locked(lock):
            if end is not None and time.monotonic() > end:
                raise BlockingIOError(f"another run is at work in {folder}: wait for it, or stop it")
            time.sleep(0.5)
        yield


def _locked(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_state(folder: Path, run: str, number: int, state: State) -> None:
    """Keep the state after a round; states of other runs, and of later rounds, belong to what is no more."""
    own = folder / run
    write_checkpoint(_place(own, number), state)
    others = [place for place in folder.iterdir() if place.is_dir() and place != own]
    for old in others + [_place(own, number) for number in _superseded(own, number)]:
        shutil.rmtree(old)


def read_state(folder: Path, run: str, number: int) -> State | None:
    """The run's latest state from before a round; None where the hospital is new to the run."""
    own = folder / run
    earlier = [kept for kept in _numbers(own) if kept < number]
    return read_checkpoint(_place(own, earlier[-1])) if earlier else None


def _superseded(folder: Path, number: int) -> list[int]:
    numbers = _numbers(folder)
    return [kept for kept in numbers if kept > number] + [kept for kept in numbers if kept <= number][:-KEPT]


def _numbers(folder: Path) -> list[int]:
    return sorted(int(place.name.removeprefix("after-")) for place in folder.glob("after-*"))


def _place(folder: Path, number: int) -> Path:
    return folder / f"after-{number}"
