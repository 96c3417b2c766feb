"""The state of a training on disk: tensors as safetensors, numbers as JSON, always of one moment.

The JSON is written last and names its file of tensors, so a run killed at any time leaves either the old or the new
checkpoint whole.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from skinsynth.files import written_whole

INDEX = "checkpoint.json"
FORMAT = "skinsynth checkpoint 1"

State = tuple[dict[str, Tensor], dict[str, Any]]


def write_checkpoint(folder: Path, state: State) -> None:
    """Put the state of `Trainer.state()` in the place of an older one."""
    tensors, numbers = state
    digest = _digest(tensors)
    name = f"state-{digest[:16]}.safetensors"
    with written_whole(folder / name) as aside:
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, aside)
    index = {"format": FORMAT, "tensors": name, "sha256": digest, "numbers": numbers}
    with written_whole(folder / INDEX) as aside:
        aside.write_text(json.dumps(index, indent=1) + "\n")
    for old in folder.glob("state-*.safetensors"):
        if old.name != name:
            old.unlink()


def read_checkpoint(folder: Path) -> State | None:
    """The state in the folder, or None where there is none yet; raises ValueError where it is damaged or not ours."""
    index_file = folder / INDEX
    if not index_file.is_file():
        return None
    try:
        index = json.loads(index_file.read_text())
        if index["format"] != FORMAT:
            raise ValueError(f"its format is {index['format']!r}, not {FORMAT!r}")
        tensors = load_file(folder / index["tensors"])
        if _digest(tensors) != index["sha256"]:
            raise ValueError("its tensors are not those that were written")
        return tensors, index["numbers"]
    except Exception as error:
        # safetensors raises a type of its own, JSON and missing keys others: all mean that this cannot be resumed.
        raise ValueError(f"{folder} is no whole checkpoint ({error}): remove it to start again") from error


def read_earlier(folder: Path, reached: Callable[[dict[str, Any]], int], end: int) -> State | None:
    """What a training goes on from: its own state in the folder, or that of a shorter one which has ended.

    `reached` counts steps or rounds by a state's numbers. A state beyond `end` is of a longer training; an ended one
    that is as long begins anew, since it was asked for again.
    """
    for place, most in ((folder, end), (finished_folder(folder), end - 1)):
        state = read_checkpoint(place)
        if state is not None and reached(state[1]) <= most:
            return state
    return None


def finished_folder(folder: Path) -> Path:
    """Where the state of a training that has ended lies, for a longer one of the same settings to go on from."""
    return folder.parent / "finished" / folder.name


def keep_finished(folder: Path) -> None:
    """Set the state of an ended training aside, in the place of what its name has there (`<name>-<digest>`).

    A training that had nothing left to do has written none: what is there stays.
    """
    if not folder.is_dir():
        return
    kept = finished_folder(folder)
    for old in kept.parent.glob("*"):
        if old.name.rpartition("-")[0] == folder.name.rpartition("-")[0]:
            shutil.rmtree(old)
    kept.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(kept)


def _digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().numpy().view("uint8").data)
    return digest.hexdigest()
