"""A folder of one's own, for a real deployment: a SuperNode keeps `context.state` in memory only.

A hospital's state after the two latest rounds of a run is kept, since a server that is started again may ask for a
round that was just trained. Nobody goes on from what another run left.
"""

import fcntl
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from skinsynth.gan.checkpoint import INDEX, State, read_checkpoint, write_checkpoint

LOG = logging.getLogger(__name__)
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
    kept = [_place(own, whole) for whole in _whole(own) if whole <= number][-KEPT:]
    others = [place for place in folder.iterdir() if place.is_dir() and place != own]
    for old in others + [place for place in own.iterdir() if place not in kept]:
        shutil.rmtree(old)


def read_state(folder: Path, run: str, number: int) -> State | None:
    """The run's latest whole state from before a round; None where there is none, as for who is new to the run."""
    own = folder / run
    earlier = [whole for whole in _whole(own) if whole < number]
    if earlier:
        return read_checkpoint(_place(own, earlier[-1]))
    if own.is_dir():
        LOG.warning("%s holds no whole state from before round %d: this hospital begins anew", own, number)
    return None


def _whole(folder: Path) -> list[int]:
    """The rounds whose states are whole: a checkpoint's index is written last, so a kill before it leaves none."""
    return sorted(int(index.parent.name.removeprefix("after-")) for index in folder.glob(f"after-*/{INDEX}"))


def _place(folder: Path, number: int) -> Path:
    return folder / f"after-{number}"
