"""Flower's SuperNode, ended where it has lost its work: what deploy/hospital.py runs, and starts again.

Flower 1.41 gives up for good where a TLS handshake takes too long (the SuperLink hangs, a proxy answers before it), but
a thread of its own keeps the process alive: connected to nobody, and to whoever watches it still running.
"""

import os
import sys
import traceback

from flwr.supernode.cli import flower_supernode


def main() -> None:
    """Flower's own `flower-supernode`, flags and all; the exit code is 1 where it gives up."""
    try:
        flower_supernode()
    except Exception:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


if __name__ == "__main__":
    main()
