"""Start a federation's run, or go on with one, and wait until it is over. To be run on the SuperLink's own machine.

    python deploy/start.py --folder /srv/federation --hospitals small middle large

The settings are those of `train_federated` in params.yaml; they travel to the hospitals with the app. The folder (the
SuperLink's) then holds run/: the app as it was handed out, the checkpoint, rounds.jsonl, hospitals.jsonl,
incidents.jsonl, and at the end the GAN in run/model. After a crash the same command goes on from the last round.
"""

import argparse
import dataclasses
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from deploy.address import host_port
from deploy.environment import prepare_environment, shell_lines
from skinsynth.federated.deployment import START, Deployment, check_deployment, check_settings, forget, nodes_of
from skinsynth.files import folder_written_whole, written_whole
from skinsynth.gan.presets import shared_config
from skinsynth.gan.training import configure
from skinsynth.stage import load_params, load_value
from stages.train_federated import Settings

GREETING = re.compile(r"Using SuperLink: .*")  # with which Flower's command line begins
# In a run's log: what Flower says of an app that failed, and where Python begins to say why.
ENDED, TRACE = "ServerApp raised an exception", "Traceback (most recent call last):\n"
APP, SHELL = Path(__file__).parent / "app", "shell"
# Files are looked at often; Flower's command line takes seconds of a processor for each question.
SECONDS_PER_LOOK, SECONDS_PER_QUESTION = 1.0, 15.0
PATIENCE_QUESTIONS = 4  # without an answer, one after another
COMPLETED, UNKNOWN = "finished:completed", "unknown"


def main() -> None:
    """Do what the flags ask for: a run, or one of the small orders beside it."""
    flags = _parser().parse_args()
    folder = flags.folder.resolve()
    try:
        check_flags(flags, folder)
        if flags.who:
            print(who(folder / flags.run))
        elif flags.forget is not None:
            forget(folder / flags.run, flags.forget)
        else:
            prepare_environment(folder)
            connect(folder, flags.superlink)
            if flags.hospitals:
                train(flags, folder)
    except KeyboardInterrupt:
        sys.exit(
            f"start: stopped before a run was known to be on its way; `{typed(folder, 'list')}` shows all that are"
        )
    except (OSError, ValueError) as error:
        sys.exit(f"start: {error}")


def check_flags(flags: argparse.Namespace, folder: Path) -> None:
    """Raises ValueError where the folder is none of a SuperLink's, or a run is to start without hospitals."""
    if not (folder / "ca.crt").is_file():
        raise ValueError(
            f"{folder} is no SuperLink's folder, since it lacks ca.crt: name the one that deploy/superlink.py was given"
        )
    if not (flags.hospitals or flags.connect_only or flags.forget is not None or flags.who):
        raise ValueError("no hospitals are named: give --hospitals and the names of all that may take part")


def train(flags: argparse.Namespace, folder: Path) -> None:
    """Check the settings, hand out the app, and show rounds until the last."""
    run, deployment = folder / flags.run, deployment_of(flags.params, flags.hospitals)
    check_deployment(deployment)
    check_settings(run, deployment)
    news = News(run, flags.hospitals)
    with folder_written_whole(run / "app") as app:  # what was handed out, once somebody has it
        write_app(app, deployment)
        number = submit(app, run, flags.superlink, folder)
    follow(number, folder, deployment.federation.rounds, news)
    print(f"the GAN is in {run / 'model'}")


def who(run: Path) -> str:
    """A line for each hospital of the run: its name, and its node as in `flwr supernode list`."""
    nodes = nodes_of(run)
    if not nodes:
        raise ValueError(f"no hospital has replied in {run} yet: their names come with their first whole replies")
    width = max(map(len, nodes))
    return "\n".join(f"{name:<{width}}  {node}" for name, node in nodes.items())


def deployment_of(params: Path, hospitals: list[str]) -> Deployment:
    """The settings of `train_federated`; all hospitals prepare their images at the size of `prepare_images`."""
    settings = load_params("train_federated", Settings, params)
    size = load_value("prepare_images", "size", path=params)
    trainer = configure(shared_config(settings, (0, 3, size, size)), settings.gan)
    if settings.start_from is not None:
        raise ValueError(f"{params}: start_from is not taken here: lay its weights as {START} into the run's folder")
    return Deployment(tuple(hospitals), settings.gan.classes, trainer, settings.federation)


def write_app(app: Path, deployment: Deployment) -> None:
    """Fill a folder with the app and its settings beside it: what every hospital gets to see."""
    shutil.copytree(APP, app, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    plain = json.loads(json.dumps(dataclasses.asdict(deployment)))  # YAML has no tuples
    settings = {"scale": "this", "scales": {"this": {"federation": plain}}}
    (app / "skinsynth_app" / "settings.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))


def connect(folder: Path, superlink: str) -> None:
    """Tell Flower's command line where the SuperLink is and whose certificate it has, and shells what to `source`."""
    home = Path(os.environ["FLWR_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    with written_whole(home / "config.toml") as aside:
        aside.write_text(
            f'[superlink]\ndefault = "superlink"\n\n[superlink.superlink]\naddress = "{superlink}"\n'
            f'root-certificates = "{folder / "ca.crt"}"\n'
        )
    with written_whole(home / SHELL) as aside:
        aside.write_text(shell_lines(folder))


def submit(app: Path, run: Path, superlink: str, folder: Path) -> str:
    """Flower's number of the new run."""
    answer = flwr("run", str(app), "superlink", "--run-config", f'folder="{run}"')
    if not answer.get("success"):
        raise ValueError(refusal(str(answer.get("error-message", answer)), superlink, folder))
    return str(answer["run-id"])


def refusal(said: str, superlink: str, folder: Path) -> str:
    """What Flower said of a run that was not taken, in one line, and what to do where nobody answers."""
    words = " ".join(GREETING.sub("", said).split())
    if "is unavailable" not in words:
        return f"the SuperLink at {superlink} took no run: {words}"
    return (
        f"no SuperLink answers at {superlink} (Flower: {words.split('. ')[0]}): start `python deploy/superlink.py "
        f"--folder {folder}` first, or name the right address with --superlink"
    )


class News:
    """What the tables of a run say beyond what they said when it was started, or started again."""

    def __init__(self, run: Path, hospitals: Collection[str]) -> None:
        self.run, self.hospitals = run, hospitals
        self.incidents, self.visits = len(rows_of(run / "incidents.jsonl")), len(rows_of(run / "hospitals.jsonl"))
        self.told_absent = False

    def lines(self) -> list[str]:
        """Incidents since the last look; and once, after the first round with whole replies, who sent none."""
        incidents = rows_of(self.run / "incidents.jsonl")[self.incidents :]
        self.incidents += len(incidents)
        return ["round {round}: {hospital} is left out: {reason}".format(**row) for row in incidents] + self._absent()

    def _absent(self) -> list[str]:
        """The server never hears the name of a hospital that is not connected: it is missing among the replies."""
        visits = rows_of(self.run / "hospitals.jsonl")[self.visits :]
        if self.told_absent or not visits:
            return []
        self.told_absent = True
        number = visits[0]["round"]
        present = {row["hospital"] for row in visits if row["round"] == number}
        absent = ", ".join(name for name in self.hospitals if name not in present)
        return [f"round {number}: without {absent}: not connected, or left out"] if absent else []


def follow(number: str, folder: Path, rounds: int, news: News) -> None:
    """Wait for the run; ValueError where it did not come to its end, or nobody tells whether it did."""
    try:
        status = wait(number, rounds, news)
    except KeyboardInterrupt:
        sys.exit(f"start: the run goes on without this; `{typed(folder, 'stop', number)}` ends it")
    if status == UNKNOWN:
        raise ValueError("the SuperLink does not answer: start it, then this command again")
    if status != COMPLETED:
        raise ValueError(f"the run did not end well: {cause(number)}{typed(folder, 'log', number)}")


def wait(number: str, rounds: int, news: News) -> str:
    """Show each round until the run is over or the SuperLink is gone; the run's status then."""
    asked_at, status, unanswered = -SECONDS_PER_QUESTION, "running", 0
    with tqdm(total=rounds, unit="round") as bar:
        while not status.startswith("finished") and unanswered < PATIENCE_QUESTIONS:
            bar.update(len(rows_of(news.run / "rounds.jsonl")) - bar.n)
            for line in news.lines():
                tqdm.write(line, file=sys.stderr)
            if time.monotonic() - asked_at > (SECONDS_PER_LOOK if bar.n == rounds else SECONDS_PER_QUESTION):
                status, asked_at = status_of(number), time.monotonic()
                unanswered = unanswered + 1 if status == UNKNOWN else 0
            time.sleep(SECONDS_PER_LOOK)
    return status


def status_of(number: str) -> str:
    """As in running, COMPLETED, finished:failed; UNKNOWN where the SuperLink tells of no such run."""
    runs = flwr("list", "superlink", "--run-id", number).get("runs", [])
    return str(runs[0]["status"]) if runs else UNKNOWN


def cause(number: str) -> str:
    """The line of the run's log that names the error which ended it; empty where there is none, or no log to be had."""
    trace = _flower("log", number, "superlink", "--show").stdout.partition(ENDED)[2].rpartition(TRACE)[2]
    named = [line for line in trace.splitlines() if line and not line[0].isspace()]
    return f"{named[0]}\nstart: more in " if named else ""


def typed(folder: Path, order: str, *number: str) -> str:
    """What to type for an order to the SuperLink of this folder, as about a run of that number."""
    return f"FLWR_HOME={shlex.quote(str(folder / 'flower'))} {shlex.join(['flwr', order, *number, 'superlink'])}"


def flwr(*command: str) -> dict:
    """What Flower's command line answers, as JSON; its own exit code says nothing about the run."""
    done = _flower(*command, "--format", "json")
    start = done.stdout.find("{")
    try:
        return json.loads(done.stdout[start:]) if start >= 0 else {"error-message": done.stderr.strip()[-300:]}
    except json.JSONDecodeError:
        return {"error-message": done.stdout.strip()[-300:]}


def _flower(*command: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("flwr")
    return subprocess.run([program, *command], capture_output=True, text=True, check=False)


def rows_of(file: Path) -> list[dict[str, Any]]:
    """The lines of JSON in a table of a run; none where it is not there yet."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="the SuperLink's folder")
    parser.add_argument("--run", default="run", help="name of the run, whose folder lies within that")
    parser.add_argument(
        "--superlink", type=host_port, default="127.0.0.1:8000", help="host:port, as its certificate has it"
    )
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="settings, at the scale they name")
    order = parser.add_mutually_exclusive_group()
    order.add_argument("--hospitals", nargs="+", default=[], help="start or go on: names of all that may take part")
    order.add_argument("--forget", metavar="NAME", help="only let a hospital of the run come back with another key")
    order.add_argument("--who", action="store_true", help="only print the run's hospitals and the nodes they are")
    order.add_argument(
        "--connect-only", action="store_true", help="only tell Flower's command line where the SuperLink is"
    )
    return parser


if __name__ == "__main__":
    main()
