"""Run every stage that is not up to date, as many at once as there are cores: what `make repro` does.

    python pipeline/repro.py             # one job for each core, fewer where memory is short; one where there is a GPU
    python pipeline/repro.py --jobs 1    # one stage after another

DVC runs one stage at a time. Here a stage starts as `dvc repro --single-item` once all that it needs is done; what it
prints lies in .repro/. Where one fails nothing new is started, and the end of what it printed is shown. In the end a
plain `dvc repro` looks at everything again: it says so if all is up to date, and otherwise runs what is left. Each
stage computes with one thread, and its results are the same for any number of jobs. Ctrl-C, SIGTERM and SIGHUP end the
stages that run as well.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from tqdm import tqdm

from skinsynth.machine import shows_a_gpu

PIPELINE = Path("dvc.yaml")
LOGS = Path(".repro")
GIGABYTES_PER_JOB = 1.75  # the hungriest stage of the scales for a CPU takes 1.4; of 4 GB a system shows some 3.8
SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_TO_END = 20  # batch systems kill some 30 seconds after they have asked
LINES_OF_FAILED = 12  # from the end of what a failed stage printed


def main() -> None:
    """Run them; the exit code is DVC's, or 1 where a stage that ran beside others has failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=default_jobs(), help="stages at once (here: %(default)s)")
    jobs = parser.parse_args().jobs
    if not PIPELINE.is_file():
        sys.exit(f"repro: no {PIPELINE} here: run it from the project's root")
    dvc = str(Path(sys.executable).with_name("dvc"))
    heed_signals()
    try:
        if jobs > 1:
            needs, changed = what_is_to_be_done()
            failed = run_together(dvc, needs, not_up_to_date(needs, changed), jobs)
            if failed:
                sys.exit("\n".join(end_of_log(stage) for stage in failed))
        sys.exit(run_the_rest(dvc))
    except KeyboardInterrupt:
        sys.exit(130)


def heed_signals() -> None:
    """SIGTERM and SIGHUP end this as Ctrl-C does; one that is ignored from the start (nohup) stays so."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, leave)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a shell
        # Children would ignore it too, and could not be interrupted from here; a handler is not handed down.
        signal.signal(signal.SIGINT, lambda *_: None)


def leave(number: int, _: FrameType | None) -> None:
    """Exit with the code that shells give to a signal; a second one must not cut the time that stages have to end."""
    for other in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)  # `timeout` sends each signal twice
    sys.exit(128 + number)


def default_jobs() -> int:
    """One for each core that has memory beside it; a GPU is not shared."""
    if shows_a_gpu():
        return 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    # A batch system or `taskset` may leave a process fewer cores than there are; macOS does not say.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, int(memory / GIGABYTES_PER_JOB)))


def what_is_to_be_done() -> tuple[dict[str, set[str]], set[str]]:
    """Stages in dvc.yaml's order, each with those that it needs; and the stages that have changed.

    Nothing is to be done here where DVC cannot read the project: `dvc repro` says why.
    """
    from dvc.exceptions import DvcException  # a second to import, and --help needs none of it
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            graph, stages = repo.index.graph, repo.index.stages
            needs = {stage.addressing: {need.addressing for need in graph.successors(stage)} for stage in stages}
            return needs, set(repo.status())
    except DvcException:
        return {}, set()


def not_up_to_date(needs: Mapping[str, set[str]], changed: set[str]) -> list[str]:
    """The changed stages and all that come after them, in the order given."""
    found: set[str] = set()
    before = -1
    while len(found) > before:
        before = len(found)
        found |= {stage for stage in needs if stage in changed or needs[stage] & found}
    return [stage for stage in needs if stage in found]


def ready(waiting: list[str], needs: Mapping[str, set[str]], unfinished: set[str]) -> list[str]:
    """Those whose needs are done."""
    return [stage for stage in waiting if not needs[stage] & unfinished]


def run_together(dvc: str, needs: Mapping[str, set[str]], stages: list[str], jobs: int) -> list[str]:
    """Run these stages, each after its needs; nothing new is started once one has failed. Those that failed."""
    LOGS.mkdir(exist_ok=True)
    waiting, running = list(stages), dict[str, tuple[subprocess.Popen, float]]()
    done, failed = 0, list[str]()
    with tqdm(total=len(stages), unit="stage", disable=None) as bar, ended_together(running):
        while running or (waiting and not failed):
            able = [] if failed else ready(waiting, needs, {*waiting, *running})
            for stage in able[: jobs - len(running)]:
                waiting.remove(stage)
                running[stage] = start(dvc, stage), time.monotonic()
            bar.set_postfix_str(", ".join(running))
            for stage, (job, began) in list(running.items()):
                if job.poll() is not None:
                    del running[stage]
                    failed += [stage] if job.returncode else []
                    done += 1
                    bar.update()
                    line = f"{done:>3} of {len(stages)}  {stage:<34}{outcome(stage, job, time.monotonic() - began)}"
                    bar.write(line, file=sys.stdout)
            time.sleep(SECONDS_BETWEEN_LOOKS)
    return failed


def start(dvc: str, stage: str) -> subprocess.Popen:
    """DVC holds its lock while it reads and writes, and gives it back while a stage computes."""
    command = [dvc, "--wait-for-lock", "repro", "--single-item", stage]
    with (LOGS / f"{stage}.log").open("w") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def run_the_rest(dvc: str) -> int:
    """DVC's exit code; in a session of its own, so that a signal to this process alone ends its stage too."""
    job = subprocess.Popen([dvc, "repro"], start_new_session=True)
    with ended_together({"all": (job, time.monotonic())}):
        return job.wait()


@contextmanager
def ended_together(running: Mapping[str, tuple[subprocess.Popen, float]]) -> Iterator[None]:
    """What still runs at the end of the block (Ctrl-C) is interrupted too: DVC, and the stage that it waits for.

    Who is not gone after SECONDS_TO_END, or at a second Ctrl-C, is killed.
    """
    try:
        yield
    finally:
        jobs = [job for job, _ in running.values() if job.poll() is None]
        try:
            signal_all(jobs, signal.SIGINT)
            end = time.monotonic() + SECONDS_TO_END
            for job in jobs:
                with suppress(subprocess.TimeoutExpired):
                    job.wait(max(0.0, end - time.monotonic()))
        finally:
            signal_all(jobs, signal.SIGKILL)
            for job in jobs:
                job.wait()


def signal_all(jobs: list[subprocess.Popen], number: int) -> None:
    """To each job and the processes that it started, where there are any left."""
    for job in jobs:
        # macOS refuses permission where all processes of a group have ended and nobody has waited for them yet.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(job.pid, number)


def outcome(stage: str, job: subprocess.Popen, seconds: float) -> str:
    """How a stage ended, DVC's own time included."""
    return f"{seconds:7.1f} s" if job.returncode == 0 else f"failed: see {LOGS / stage}.log"


def end_of_log(stage: str) -> str:
    """The last lines that a stage printed, of a progress bar that was drawn over again the last state."""
    drawn = (line.rpartition("\r")[2] for line in (LOGS / f"{stage}.log").read_text(errors="replace").split("\n"))
    lines = [line for line in drawn if line.strip()]
    return "\n".join([f"{stage} failed:", *lines[-LINES_OF_FAILED:]])


if __name__ == "__main__":
    main()
