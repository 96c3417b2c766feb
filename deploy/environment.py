"""Flower's environment, for the scripts of this folder."""

import os
from pathlib import Path

# Flower would tell its maker of each start, ask for updates, and fetch packages from the internet.
ENVIRONMENT = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.5",  # seconds until a message that has come is taken up
}


def quieten_flower(folder: Path) -> None:
    """Keep Flower off the internet, with its own files in `folder`/flower; for this process and those it starts."""
    os.environ |= ENVIRONMENT | {"FLWR_HOME": str(folder / "flower")}
