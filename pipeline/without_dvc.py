"""Run stages of dvc.yaml where DVC is not installed, such as on a borrowed GPU machine.

    python pipeline/without_dvc.py prepare_images split_patients train_classifier@real train_gan@cgan
    python pipeline/without_dvc.py --dry                       # say every command, in dvc.yaml's order

Nothing is skipped for being up to date, and no dvc.lock is written; a killed stage goes on from its checkpoint. Ctrl-C,
SIGTERM and SIGHUP end the stage that runs as well.
"""

import argparse
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

from pipeline.repro import ended_together, heed_signals

PIPELINE = Path("dvc.yaml")


def commands(pipeline: dict) -> Iterator[tuple[str, str]]:
    """Name (`stage` or `stage@item`) and command line of each stage, items of `foreach` and `matrix` filled in."""
    for stage, body in pipeline["stages"].items():
        if "foreach" in body:
            for key, item in body["foreach"].items():
                yield f"{stage}@{key}", filled(body["do"]["cmd"], {"key": key, **under("item", item)})
        elif "matrix" in body:
            ((axis, names),) = body["matrix"].items()
            for name in names:
                yield f"{stage}@{name}", filled(body["cmd"], {f"item.{axis}": name})
        else:
            yield stage, body["cmd"]


def under(prefix: str, item: dict) -> dict[str, str]:
    """The entries of an item by the names that templates call them."""
    return {f"{prefix}.{name}": value for name, value in item.items()}


def filled(template: str, value_of: dict[str, str]) -> str:
    """The template with `${name}` replaced."""
    return re.sub(r"\$\{([\w.]+)\}", lambda match: value_of[match.group(1)], template)


def main() -> None:
    """Run, or say, what was asked for, in the order asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", help="stage or stage@item; none: all")
    parser.add_argument("--dry", action="store_true", help="say the commands only")
    flags = parser.parse_args()
    if not PIPELINE.is_file():
        raise SystemExit(f"without_dvc: no {PIPELINE} here: run it from the project's root")
    command_of = dict(commands(yaml.safe_load(PIPELINE.read_text())))
    unknown = [name for name in flags.stages if name not in command_of]
    if unknown:
        raise SystemExit(f"without_dvc: dvc.yaml has no {', '.join(unknown)}; it has {', '.join(command_of)}")
    heed_signals()
    for name in flags.stages or command_of:
        print(f"> {command_of[name]}", flush=True)
        if not flags.dry:
            run(name, command_of[name])


def run(name: str, command: str) -> None:
    """Run a stage's command with this interpreter; SystemExit where it fails, with the code that a shell would give."""
    python, *arguments = shlex.split(command)
    assert python == "python"
    try:
        # In a session of its own, so that a signal to this process alone ends the stage too.
        job = subprocess.Popen([sys.executable, *arguments], start_new_session=True)
        with ended_together({name: (job, time.monotonic())}):
            code = job.wait()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    if code < 0:
        print(f"without_dvc: {name} was ended by {signal.Signals(-code).name}", file=sys.stderr)
    if code:
        raise SystemExit(128 - code if code < 0 else code)


if __name__ == "__main__":
    main()
