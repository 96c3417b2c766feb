"""Start the federation's SuperLink: TLS, only registered hospitals, and no orders from other machines.

    python deploy/superlink.py --folder /srv/federation --host 0.0.0.0

The folder holds ca.crt, server.crt and server.key (deploy/make_keys.py server) and gets Flower's database, so that
registered hospitals stay registered when this is started again.
"""

import argparse
import sys
from pathlib import Path

from deploy.address import check_free, host_port, parts_of, port
from deploy.environment import prepare_environment
from skinsynth.federated.gate import gated_superlink


def main() -> None:
    """Check that the keys are there and the ports free, then become Flower's SuperLink."""
    flags = _parser().parse_args()
    folder = flags.folder.resolve()
    keys = {"ca-certfile": "ca.crt", "certfile": "server.crt", "keyfile": "server.key"}
    missing = [name for name in keys.values() if not (folder / name).is_file()]
    if missing:
        sys.exit(f"superlink: {folder} lacks {', '.join(missing)}: python deploy/make_keys.py server --folder {folder}")
    try:
        check_free(flags.host, flags.port)
        if flags.health:
            check_free(*parts_of(flags.health))
    except OSError as error:
        sys.exit(f"superlink: {error}")
    prepare_environment(folder)
    sys.argv = [
        "flower-superlink",
        *(part for flag, name in keys.items() for part in (f"--ssl-{flag}", str(folder / name))),
        *("--host", flags.host, "--port", str(flags.port)),
        *("--database", str(folder / "superlink.db")),
        *(("--health-server-address", flags.health) if flags.health else ()),
        "--enable-supernode-auth",
        "--disable-runtime-dependency-installation",
    ]
    gated_superlink()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="keys and database")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        choices=["127.0.0.1", "0.0.0.0"],  # noqa: S104 - behind the gate; Flower's own processes call 127.0.0.1
        help="address to listen at: this machine's own, or all that it has",
    )
    parser.add_argument("--port", type=port, default=8000)
    parser.add_argument(
        "--health", type=host_port, help="host:port of a gRPC health service, without TLS: keep it on this machine"
    )
    return parser


if __name__ == "__main__":
    main()
