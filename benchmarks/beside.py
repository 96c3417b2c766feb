"""The default study's own stages with other settings, in a folder beside: the project's files stay as they are."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import yaml

from pipeline.without_dvc import commands

ROOT = Path(__file__).parent.parent


def phantom_settings() -> dict[str, Any]:
    """Those of the scale `phantom`, by stage, to be changed."""
    return yaml.safe_load((ROOT / "params.yaml").read_text())["scales"]["phantom"]


def write_settings(folder: Path, phantom: dict[str, Any]) -> None:
    """The folder's params.yaml, and the empty places that stages read."""
    for place in ("data/raw", "data/initial"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    params = {"scale": "phantom", "scales": {"phantom": phantom}}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def run_stage(folder: Path, name: str, wanted: str) -> None:
    """Run a stage of dvc.yaml, unless it has ended in this folder before, with this command and all that is `wanted`.

    It does not look at the code.
    """
    command = dict(commands(yaml.safe_load((ROOT / "dvc.yaml").read_text())))[name]
    done, mark = folder / f".{name}-done", f"{command}\n{wanted}"
    if done.is_file() and done.read_text() == mark:
        return
    # From here on the stage's files may be of either settings.
    done.unlink(missing_ok=True)
    _, script, *arguments = shlex.split(command)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, str(ROOT / script), *arguments], cwd=folder, env=environment, check=True)
    done.write_text(mark)


@contextmanager
def working_folder(given: Path | None) -> Iterator[Path]:
    """The folder that was given, to be gone on with; else a temporary one, removed at the end."""
    if given is not None:
        yield given
        return
    folder = Path(mkdtemp(prefix="skinsynth-"))
    try:
        yield folder
    finally:
        rmtree(folder)
