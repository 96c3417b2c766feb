"""Rehearse a federation on this machine: a SuperLink and three SuperNodes with TLS and keys, as between hospitals.

    python deploy/rehearse.py --folder /tmp/rehearsal
    python deploy/rehearse.py --folder /tmp/rehearsal --faults

It runs the commands of deploy/README.md and prints them, compares the GAN with that of the same rounds in one process,
and tries what must be refused. With --faults it also kills a SuperNode in the middle of a round and stops the SuperLink
between two. What came out is printed last, as JSON.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
import yaml

from deploy.environment import prepare_environment
from deploy.start import connect, deployment_of, rows_of
from skinsynth.federated.deployment import hospital_in
from skinsynth.federated.hospital import Weights, first_weights
from skinsynth.federated.in_process import run_in_process
from skinsynth.federated.server import FederationState
from skinsynth.gan.checkpoint import read_checkpoint
from skinsynth.images.archive import read_archive, write_archive
from skinsynth.partition.split import images_of, read_split

HERE = Path(__file__).parent
PATIENCE_SECONDS, FAREWELL_SECONDS = 900.0, 60.0
COLOURS = re.compile(r"\x1b\[\d+m")
# Rounds long enough to be hit in the middle; the time-out is what a lost hospital costs the others.
FAULTS = {"rounds": 6, "steps_per_round": 60, "least_hospitals": 2, "reply_timeout_seconds": 60.0}


def main() -> None:
    """Lay out the folders, run everything, and print what came of it."""
    flags = _parser().parse_args()
    try:
        check_inputs(flags)
        rehearsal = Rehearsal(flags.folder.resolve(), flags.images, flags.split, flags.params)
        found = rehearsal.compare()
        if flags.faults:
            found["faults"] = rehearsal.faults()
    except (OSError, ValueError, RuntimeError) as error:
        sys.exit(f"rehearse: {error}")
    print(json.dumps(found, indent=2))


def check_inputs(flags: argparse.Namespace) -> None:
    """Raises ValueError where the folder is not new, or a file to rehearse with is missing."""
    if any(flags.folder.glob("*")):
        raise ValueError(f"{flags.folder} is not empty: name a new folder")
    remedies = {
        "images": "run `dvc repro split_patients` or `make repro` before, or name other images with --images",
        "split": "run `dvc repro split_patients` or `make repro` before, or name another split with --split",
        "params": "start this in the project's folder, or name the settings with --params",
    }
    for flag, remedy in remedies.items():
        file = getattr(flags, flag)
        if not file.is_file():
            raise ValueError(f"there is no {file}: {remedy}")


class Rehearsal:
    """A folder for the server and one for each hospital of the split, as they would lie on machines of their own."""

    def __init__(self, folder: Path, images: Path, split: Path, params: Path) -> None:
        self.folder, self.server, self.params = folder, folder / "server", params
        rows = images_of(read_split(split), "train")
        self.hospitals = sorted(rows["hospital"].unique())
        for name in self.hospitals:
            own = read_archive(images, sorted(rows["image_id"][rows["hospital"] == name]))
            write_archive(folder / name / "images.zip", own.ids, own.pixels, own.labels.tolist())
        (folder / "logs").mkdir()
        self.ports = _free_ports(2 + len(self.hospitals))
        self.superlink, self.health = (f"127.0.0.1:{port}" for port in self.ports[:2])
        # One thread each: sums then have one order, here and in the single process that they are compared with.
        os.environ["OMP_NUM_THREADS"] = "1"
        torch.set_num_threads(1)
        prepare_environment(self.server)  # for the `flwr` commands that are typed here

    def compare(self) -> dict[str, Any]:
        """The same rounds on machines and in one process, after trying what must be refused."""
        params = self._params("plain", rounds=2, steps_per_round=10, least_hospitals=len(self.hospitals))
        self._make_keys()
        with self._superlink():
            found = {"superlink": self._typed("check_health.py", self.health).stdout.strip(), **self._refused()}
            self._register()
            with self._supernodes(self.hospitals):
                began = time.monotonic()
                self._typed("start.py", *self._of_run("plain", params))
                found["seconds_of_two_rounds"] = round(time.monotonic() - began, 1)
        incidents = len(rows_of(self.server / "plain" / "incidents.jsonl"))
        return found | {"incidents": incidents, "difference": self._difference("plain", params)}

    def faults(self) -> dict[str, Any]:
        """A SuperNode that is killed within a round and comes back; a SuperLink that is killed and started again."""
        params = self._params("faults", **FAULTS)
        run, everybody, victim = self.server / "faults", len(self.hospitals), self.hospitals[0]
        began = time.monotonic()
        with ExitStack() as machines:
            link = machines.enter_context(self._superlink())
            machines.enter_context(self._supernodes(self.hospitals[1:]))
            node = machines.enter_context(self._supernode(victim))
            asked = self._times_asked(victim)
            first = machines.enter_context(self._process("start", "start.py", *self._of_run("faults", params)))
            _until(lambda: self._times_asked(victim) == asked + 2, f"the second round to reach {victim}")
            _kill(node)
            _until(lambda: len(rows_of(run / "rounds.jsonl")) == 2, "a round without it")
            machines.enter_context(self._supernode(victim))
            _until(lambda: everybody in [row["hospitals"] for row in rows_of(run / "rounds.jsonl")][2:], "its return")
            _kill(link)
            _kill(first)
            reached = len(rows_of(run / "rounds.jsonl"))
            machines.enter_context(self._superlink())
            self._typed("start.py", *self._of_run("faults", params))
        rounds = rows_of(run / "rounds.jsonl")
        return {
            "seconds": round(time.monotonic() - began, 1),
            "hospitals_by_round": [row["hospitals"] for row in rounds],
            "incidents": rows_of(run / "incidents.jsonl"),
            "rounds_before_the_superlink_was_killed": reached,
            "rounds_in_the_end": len(rounds),
        }

    def _times_asked(self, hospital: str) -> int:
        return self._log(hospital).count("Receiving: train message")

    def _log(self, name: str) -> str:
        file = self.folder / "logs" / f"{name}.log"
        return file.read_text() if file.is_file() else ""

    def _make_keys(self) -> None:
        self._typed("make_keys.py", "server", "--folder", str(self.server), "--name", "localhost")
        for name in self.hospitals:
            self._typed("make_keys.py", "hospital", "--folder", str(self.folder / name))
            shutil.copy(self.server / "ca.crt", self.folder / name)

    def _refused(self) -> dict[str, Any]:
        """What hospitals that are not let in get to hear: exit code and the line that says why."""
        stranger, mistaken = self.hospitals[0], self.folder / "mistaken"
        shutil.copytree(self.folder / stranger, mistaken)
        self._typed("make_keys.py", "server", "--folder", str(self.folder / "others"), "--name", "localhost")
        shutil.copy(self.folder / "others" / "ca.crt", mistaken)
        outcomes = {}
        for case, folder in {"unregistered": self.folder / stranger, "wrong_certificate": mistaken}.items():
            with self._process(case, "hospital.py", *self._of_hospital(stranger, folder), "--once") as node:
                node.wait(PATIENCE_SECONDS)
            outcomes[case] = {"exit_code": node.returncode, "said": _telling(self._log(case))}
        return outcomes

    def _register(self) -> None:
        connect(self.server, self.superlink)
        for name in self.hospitals:
            self._flwr("supernode", "register", str(self.folder / name / "node.pub"), "superlink", "--name", name)

    def _difference(self, run: str, params: Path) -> float:
        """The largest difference of a weight between the GAN of the machines and that of one process."""
        deployment = deployment_of(params, self.hospitals)
        hospitals = [hospital_in(self.folder / name, name, deployment, torch.device("cpu")) for name in self.hospitals]
        start = first_weights(deployment.trainer, deployment.federation.averaged)
        state = run_in_process(deployment.federation, hospitals, start, self.folder / "in-process")
        reached = self._reached(run)
        if reached.keys() != state.weights.keys():
            raise RuntimeError("the machines' GAN has other weights than that of one process")
        return max(float((reached[name] - tensor).abs().max()) for name, tensor in state.weights.items())

    def _reached(self, run: str) -> Weights:
        found = read_checkpoint(self.server / run / "checkpoint")
        if found is None:
            raise RuntimeError(f"the run {run} left no checkpoint: see the logs")
        return FederationState.of_parts(*found).weights

    def _params(self, name: str, **federation: object) -> Path:
        """The project's settings with a short federation."""
        with self.params.open() as file:
            params = yaml.safe_load(file)
        scale = params["scales"][params["scale"]]
        scale["train_federated"]["federation"] |= federation
        place = self.folder / f"{name}.yaml"
        place.write_text(yaml.safe_dump(params))
        return place

    def _superlink(self) -> AbstractContextManager[subprocess.Popen]:
        host, port = self.superlink.split(":")
        flags = ("--folder", str(self.server), "--host", host, "--port", port, "--health", self.health)
        return self._process("superlink", "superlink.py", *flags, ready=self._is_well)

    def _is_well(self) -> bool:
        return _run([sys.executable, HERE / "check_health.py", self.health]).returncode == 0

    def _supernode(self, name: str) -> AbstractContextManager[subprocess.Popen]:
        return self._process(name, "hospital.py", *self._of_hospital(name, self.folder / name))

    @contextmanager
    def _supernodes(self, hospitals: list[str]) -> Iterator[None]:
        with ExitStack() as nodes:
            for name in hospitals:
                nodes.enter_context(self._supernode(name))
            yield

    def _of_hospital(self, name: str, folder: Path) -> list[str]:
        port = self.ports[2 + self.hospitals.index(name)]
        return ["--name", name, "--folder", str(folder), "--superlink", self.superlink, "--port", str(port)]

    def _of_run(self, run: str, params: Path) -> list[str]:
        flags = ["--folder", str(self.server), "--run", run, "--superlink", self.superlink, "--params", str(params)]
        return [*flags, "--hospitals", *self.hospitals]

    def _typed(self, script: str, *flags: str) -> subprocess.CompletedProcess:
        return self._ended(["python", f"deploy/{script}", *flags], [sys.executable, str(HERE / script), *flags])

    def _flwr(self, *flags: str) -> subprocess.CompletedProcess:
        return self._ended(["flwr", *flags], [str(Path(sys.executable).with_name("flwr")), *flags])

    def _ended(self, typed: list[str], command: list[str]) -> subprocess.CompletedProcess:
        print("$", shlex.join(typed), file=sys.stderr, flush=True)
        done = _run(command)
        if done.returncode:
            said = " ".join((done.stdout + done.stderr).split())[-300:]
            raise RuntimeError(f"{shlex.join(typed)} ended with {done.returncode}: {said}")
        return done

    @contextmanager
    def _process(
        self, log: str, script: str, *flags: str, ready: Callable[[], bool] = lambda: True
    ) -> Iterator[subprocess.Popen]:
        """A process that is there until the end of the block, with all that it started."""
        print("$", shlex.join(["python", f"deploy/{script}", *flags]), "&", file=sys.stderr, flush=True)
        with (self.folder / "logs" / f"{log}.log").open("a") as lines:
            command = [sys.executable, str(HERE / script), *flags]
            # As a service has it: nobody has activated a virtual environment there.
            bare = os.environ | {"PATH": os.defpath}
            process = subprocess.Popen(command, stdout=lines, stderr=lines, start_new_session=True, env=bare)
        try:
            _until(ready, f"{script} to be ready", process)
            yield process
        finally:
            _end(process)


def _end(process: subprocess.Popen) -> None:
    """With time for a farewell: a SuperNode that says it goes is let in again at once."""
    process.terminate()  # the others in its group are told by it: Flower takes a second signal for impatience
    with suppress(subprocess.TimeoutExpired):
        process.wait(FAREWELL_SECONDS)
    _kill(process)


def _kill(process: subprocess.Popen) -> None:
    """At once, with the processes that it started: no farewell to anyone."""
    with suppress(ProcessLookupError, PermissionError):  # the second from macOS, where all of them have just ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _until(happened: Callable[[], bool], what: str, process: subprocess.Popen | None = None) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        if time.monotonic() > end or (process is not None and process.poll() is not None):
            raise RuntimeError(f"waited in vain for {what}: the logs folder of the rehearsal says why")
        time.sleep(0.2)


def _run(command: list) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _telling(log: str) -> str:
    """The lines of a log that say why it ended."""
    said = [line.strip() for line in log.splitlines() if "rror" in line or "Failed" in line or "FAILED" in line]
    return COLOURS.sub("", " ".join(said))[-300:]


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        taken = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in taken:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in taken]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="a new one, for keys, images, logs and results")
    parser.add_argument("--images", type=Path, default=Path("data/images.zip"), help="of all hospitals")
    parser.add_argument("--split", type=Path, default=Path("data/splits/main.csv"), help="which hospital has which")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--faults", action="store_true", help="kill a SuperNode and the SuperLink too")
    return parser


if __name__ == "__main__":
    main()
