"""Flower's environment, for the scripts of this folder."""

import os
import shlex
import sys
from pathlib import Path

# Flower would tell its maker of each start, ask for updates, and fetch packages from the internet.
ENVIRONMENT = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.5",  # seconds until a message that has come is taken up
}


def prepare_environment(folder: Path) -> None:
    """For this process and those it starts: Flower stays off the internet, keeps its own files in `folder`/flower and
    believes no proxy's headers; it finds its programs, which it calls by name, without an activated environment."""
    programs = str(Path(sys.executable).parent)
    os.environ |= _variables(folder)
    os.environ["PATH"] = os.pathsep.join([programs, os.environ.get("PATH", os.defpath)])
    os.environ.pop("FORWARDED_ALLOW_IPS", None)


def shell_lines(folder: Path) -> str:
    """The same for a shell in which Flower's command line is typed, to be read with `source`."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in _variables(folder).items())


def _variables(folder: Path) -> dict[str, str]:
    return ENVIRONMENT | {"FLWR_HOME": str(folder / "flower")}
