"""Take part in a federation as a hospital: a SuperNode that trains on this machine's own images.

    python deploy/hospital.py --name small --folder /srv/skinsynth --superlink federation.example.org:8000 --check
    python deploy/hospital.py --name small --folder /srv/skinsynth --superlink federation.example.org:8000

The folder holds images.zip (and split.csv, where some patients are held back), node.key (deploy/make_keys.py hospital)
and the federation's ca.crt. Weights, counts and losses leave the machine, images never: see deploy/HOSPITAL.md.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path

from deploy.address import check_free, check_reached, host_port, parts_of, port
from deploy.environment import prepare_environment
from skinsynth.federated.deployment import IMAGES, SPLIT, training_images
from skinsynth.images.archive import Images

# A SuperNode that was killed is let in again when Flower has noticed, up to a minute later.
SECONDS_BETWEEN = 10.0
SECONDS_OF_A_LOOK = 0.1


def main() -> None:
    """Check the folder, then run Flower's SuperNode, again and again if it ends."""
    flags = _parser().parse_args()
    folder = flags.folder.resolve()
    missing = [name for name in (IMAGES, "node.key", "ca.crt") if not (folder / name).is_file()]
    if missing:
        sys.exit(f"hospital: {folder} lacks {', '.join(missing)}: see deploy/HOSPITAL.md")
    try:
        print(f"{flags.name}: {images_line(training_images(folder), folder)}", flush=True)
        check_folder(folder)
        if flags.check:
            check_reached(flags.superlink, folder / "ca.crt")
        else:
            check_free("127.0.0.1", flags.port)
            if flags.health:
                check_free(*parts_of(flags.health))
    except (OSError, ValueError) as error:
        sys.exit(f"hospital: {error}")
    if flags.check:
        print(f"{flags.superlink} answers, with a certificate of ca.crt; whether it knows your key shows at the start")
        return
    prepare_environment(folder)
    command = [
        *(sys.executable, str(Path(__file__).with_name("supernode.py"))),
        *("--superlink", flags.superlink, "--root-certificates", str(folder / "ca.crt")),
        *("--auth-supernode-private-key", str(folder / "node.key")),
        *("--host", "127.0.0.1", "--port", str(flags.port)),
        *("--node-config", f'hospital="{flags.name}" folder="{folder}"'),
        *(("--health-server-address", flags.health) if flags.health else ()),
    ]
    sys.exit(keep_running(command, once=flags.once))


def check_folder(folder: Path) -> None:
    """Raises OSError where this user cannot read a key or keep the state."""
    unreadable = [name for name in ("node.key", "ca.crt") if not os.access(folder / name, os.R_OK)]
    if unreadable or not os.access(folder, os.W_OK):
        what = f"read {' and '.join(unreadable)} in" if unreadable else "write to"
        raise PermissionError(f"this user may not {what} {folder}, but the SuperNode must: chown -R it to its user")


def images_line(own: Images, folder: Path) -> str:
    """How many images there are to train on, and how many of images.zip are held back."""
    counts = ", ".join(f"{count} of class {label}" for label, count in sorted(Counter(own.labels.tolist()).items()))
    with zipfile.ZipFile(folder / IMAGES) as archive:
        held_back = sum(name.endswith(".png") for name in archive.namelist()) - len(own.ids)
    if (folder / SPLIT).is_file():
        which, rest = f"{len(own.ids)} images", f"{SPLIT} holds {held_back} back"
    else:
        which, rest = f"all {len(own.ids)} images", f"there is no {SPLIT}, so none are held back"
    return f"{which} of {own.pixels.shape[-1]} px to train on ({counts}); {rest}"


def keep_running(command: list[str], once: bool) -> int:
    """Run the SuperNode until it ends well or this process is asked to end, and start it again where it fails.

    The exit code is 0 unless it fails and is to run only `once`. Asked to end, the SuperNode takes leave of the
    SuperLink; a second signal Flower would take for impatience.
    """
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: asked.append(number))
    while not asked:
        code = _end_of(_start(command), asked)
        if code == 0 or asked:
            break
        if once:
            return 1
        print(f"hospital: the SuperNode ended ({code}); again in {SECONDS_BETWEEN:g} seconds", flush=True)
        again = time.monotonic() + SECONDS_BETWEEN
        while not asked and time.monotonic() < again:
            time.sleep(SECONDS_OF_A_LOOK)
    return 0


def _end_of(node: subprocess.Popen, asked: list[int]) -> int:
    """The exit code of a node, told once to end when `asked` holds a signal (looked at, as a handler may not wait)."""
    told = False
    while node.poll() is None:
        if asked and not told:
            node.terminate()
            told = True
        time.sleep(SECONDS_OF_A_LOOK)
    return node.returncode


def _start(command: list[str]) -> subprocess.Popen:
    """Deaf to SIGINT: Ctrl-C reaches all of a terminal's processes, but who is to end hears of it from this one."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        return subprocess.Popen(command)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True, help="of the hospital, as the federation's settings have it")
    parser.add_argument("--folder", type=Path, required=True, help="images and keys; its state is kept there too")
    parser.add_argument("--superlink", type=host_port, required=True, help="host:port of the federation")
    parser.add_argument("--port", type=port, default=9094, help="of this machine, for Flower's own processes")
    parser.add_argument(
        "--health", type=host_port, help="host:port of a gRPC health service, without TLS: keep it on this machine"
    )
    parser.add_argument("--once", action="store_true", help="end if it is refused, instead of trying again")
    parser.add_argument("--check", action="store_true", help="look at the folder, call the federation, and end")
    return parser


if __name__ == "__main__":
    main()
