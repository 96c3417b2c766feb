"""What `make repro` runs side by side and says last, and that asking its scripts for help starts nothing."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from pipeline.repro import default_jobs, not_up_to_date, ready, signal_all
from pipeline.summary import main as summarise
from pipeline.summary import outputs_of, print_shares, verdict

PROJECT = Path(__file__).parents[1]
DVC = Path(sys.executable).with_name("dvc")
QUIET = {**os.environ, "DVC_NO_ANALYTICS": "1"}
COMMAND = [sys.executable, PROJECT / "pipeline/repro.py", "--jobs", "2"]
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
LOCK = {"stages": {"train": {"outs": [{"path": "models"}]}, "forgotten": {"outs": [{"path": "old"}]}, "judge": {}}}


@pytest.mark.parametrize(
    "script", ["benchmarks/repro_twice.py", "pipeline/repro.py", "pipeline/summary.py", "pipeline/without_dvc.py"]
)
def test_help_explains_and_runs_no_stage(script, tmp_path):
    """In an empty folder any stage would fail."""
    command = [sys.executable, PROJECT / script, "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"python {script}" in done.stdout


@pytest.mark.parametrize(
    "command", [["repro.py"], ["repro.py", "--jobs", "1"], ["summary.py"], ["without_dvc.py", "prepare_images"]]
)
def test_outside_of_the_project_s_root_one_line_says_so_and_nothing_is_left(command, tmp_path):
    script, *flags = command
    called = [sys.executable, PROJECT / "pipeline" / script, *flags]
    done = subprocess.run(called, cwd=tmp_path, capture_output=True, text=True, check=False, env=QUIET)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "here: run it from the project's root" in done.stderr
    assert not list(tmp_path.iterdir())


def recipes_of(makefile: Path, *goals: str) -> list[str]:
    """The lines that make would run for these goals."""
    command = ["make", "--dry-run", "--always-make", "--file", makefile, *goals]
    said = subprocess.run(command, cwd=makefile.parent, capture_output=True, text=True, check=True)
    return [line for line in said.stdout.splitlines() if not line.startswith(("make", "#"))]


@needs_make
def test_recipes_find_the_environment_s_programs_whatever_the_path():
    """make 3.81, which macOS has, takes no notice of a PATH that the Makefile exports when it looks for a program."""
    lines = recipes_of(PROJECT / "Makefile", "repro", "test", "test-slow", "lint")
    programs = {next(word for word in line.split() if "=" not in word) for line in lines}
    assert {".venv/bin/python", ".venv/bin/ruff", ".venv/bin/mypy", ".venv/bin/lint-imports"} <= programs
    assert {name for name in programs if "/" not in name} <= {"date", "test", "touch"}


@needs_make
def test_an_environment_that_has_no_pip_is_mended(tmp_path):
    """As Debian's Python leaves it without python3-venv; the packages themselves are not installed here."""
    shutil.copy(PROJECT / "Makefile", tmp_path)
    for name in ("requirements.txt", "pyproject.toml"):
        (tmp_path / name).touch()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / ".venv"], check=True)
    line = next(line for line in recipes_of(tmp_path / "Makefile", ".venv/installed") if " -m venv " in line)
    subprocess.run(line, shell=True, cwd=tmp_path, check=True)
    subprocess.run([tmp_path / ".venv/bin/python", "-m", "pip", "--version"], check=True, stdout=subprocess.DEVNULL)


def test_outputs_are_those_of_the_stages_that_there_are():
    assert outputs_of(LOCK, ["train", "judge"]) == ["models"]


def test_missing_outputs_are_no_published_results():
    said = verdict(changed=False, outputs=["models", "images"], missing=["images"])
    assert said.startswith("1 of the 2 outputs that dvc.lock names are missing here, images first")
    assert "So far dvc.lock is the committed one" in said
    assert "published" not in said
    assert "So far dvc.lock differs" in verdict(changed=True, outputs=["models", "images"], missing=["images"])


def test_results_are_the_published_ones_only_where_the_lock_is():
    assert "these are the published results" in verdict(changed=False, outputs=["models"], missing=[])
    assert "published" not in verdict(changed=True, outputs=["models"], missing=[])


def test_a_fresh_clone_is_not_called_up_to_date(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    print_shares([])
    assert "has not run here yet" in capsys.readouterr().out
    (tmp_path / ".repro-started").write_text("0")
    print_shares([])
    assert "Every stage was up to date." in capsys.readouterr().out


def test_shares_are_of_the_stages_that_ran_since_the_last_repro_began(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["summary.py"])
    monkeypatch.setattr("pipeline.summary.print_lock", lambda: None)
    (tmp_path / "dvc.lock").touch()
    (tmp_path / ".repro-started").write_text("100.0")
    (tmp_path / "metrics/timing").mkdir(parents=True)
    for stage, started, seconds in (("long_ago", 99.0, 900.0), ("first", 100.0, 30.0), ("second", 130.0, 10.0)):
        timing = {"stage": stage, "started": started, "seconds": seconds, "peak_memory_mb": 5}
        (tmp_path / f"metrics/timing/{stage}.json").write_text(json.dumps(timing))
    summarise()
    said = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    assert said[1:4] == [
        ["first", "30.0", "75%", "5", "MB"],
        ["second", "10.0", "25%", "5", "MB"],
        ["all,", "with", "DVC", "between", "them", "40.0", "5", "MB"],
    ]


def machine_of(monkeypatch: pytest.MonkeyPatch, gigabytes: float, files: Path) -> None:
    """Make this a machine of eight cores with these files."""
    sizes = {"SC_PAGE_SIZE": 2**12, "SC_PHYS_PAGES": int(gigabytes * 2**18)}
    monkeypatch.setattr("os.sysconf", sizes.__getitem__)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr("skinsynth.machine.FILES", files)


@pytest.mark.parametrize(("gigabytes", "jobs"), [(1, 1), (3.8, 2), (5, 2), (64, 8)])
def test_there_are_no_more_jobs_than_memory_and_cores_allow(monkeypatch, tmp_path, gigabytes, jobs):
    machine_of(monkeypatch, gigabytes, tmp_path)
    assert default_jobs() == jobs


def test_where_the_system_does_not_say_which_cores_are_ours_all_are(monkeypatch, tmp_path):
    machine_of(monkeypatch, 64, tmp_path)
    monkeypatch.delattr("os.sched_getaffinity")
    assert default_jobs() == 8


@pytest.mark.parametrize(
    ("file", "jobs"),
    [("dev/nvidia0", 1), ("dev/nvidia3", 1), ("usr/lib/wsl/lib/libcuda.so.1", 1), ("dev/nvidiactl", 8)],
)
def test_a_gpu_is_not_shared_whatever_its_number(monkeypatch, tmp_path, file, jobs):
    machine_of(monkeypatch, 64, tmp_path)
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).touch()
    assert default_jobs() == jobs


def test_a_job_that_has_just_ended_does_not_keep_the_others_from_being_ended(monkeypatch):
    """As macOS answers for a group of processes that nobody has waited for yet."""
    told = []

    def killpg(pid, _):
        told.append(pid)
        if pid == 1:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr("os.killpg", killpg)
    signal_all([SimpleNamespace(pid=1), SimpleNamespace(pid=2)], signal.SIGINT)
    assert told == [1, 2]


NEEDS = {"raw": set(), "left": {"raw"}, "right": {"raw"}, "both": {"left", "right"}, "alone": set()}


@pytest.mark.parametrize(
    ("changed", "stages"),
    [
        (set(), []),
        ({"raw"}, ["raw", "left", "right", "both"]),
        ({"right"}, ["right", "both"]),
        ({"both", "alone"}, ["both", "alone"]),
    ],
)
def test_what_comes_after_a_changed_stage_is_looked_at_again(changed, stages):
    assert not_up_to_date(NEEDS, changed) == stages


def test_a_stage_starts_only_after_all_that_it_needs():
    assert ready(["left", "right", "both", "alone"], NEEDS, {"left", "right", "both", "alone"}) == [
        "left", "right", "alone",
    ]  # fmt: skip
    assert ready(["both"], NEEDS, {"both", "right"}) == []
    assert ready(["both"], NEEDS, {"both"}) == ["both"]


def meet(own: str, other: str) -> str:
    """A stage that ends only if another one runs at the same time."""
    return (
        f"touch {own}.here; for i in $(seq 600); do test -e {other}.here && break; sleep 0.1; done; "
        f"test -e {other}.here && cp raw.txt {own}.txt"
    )


def pipeline_of(folder: Path, **commands: str) -> None:
    """Four stages, of which two stand side by side, in a project of their own."""
    needs = {"raw": [], "left": ["raw.txt"], "right": ["raw.txt"], "both": ["left.txt", "right.txt"]}
    standard = {name: f"echo {name} > {name}.txt" for name in needs}
    stages = {
        name: {"cmd": command, "deps": needs[name], "outs": [f"{name}.txt"]}
        for name, command in (standard | commands).items()
    }
    pytest.importorskip("dvc")
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    if not (folder / ".dvc").exists():
        subprocess.run([DVC, "init", "--no-scm", "--quiet"], cwd=folder, check=True, env=QUIET)


def repro(folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run(COMMAND, cwd=folder, capture_output=True, text=True, check=False, env=QUIET)


@pytest.mark.slow
def test_stages_that_wait_for_each_other_both_end_and_nothing_is_left_to_do(tmp_path):
    pipeline_of(tmp_path, left=meet("left", "right"), right=meet("right", "left"))
    done = repro(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 of 4  both" in done.stdout
    assert "Data and pipelines are up to date" in done.stdout
    assert "Running stage" not in done.stdout
    again = repro(tmp_path)
    assert "of 4" not in again.stdout
    assert "Data and pipelines are up to date" in again.stdout


@pytest.mark.slow
def test_a_stage_that_fails_is_told_about_and_what_ended_stays(tmp_path):
    pipeline_of(tmp_path, left="echo no such lesion >&2; exit 1")
    done = repro(tmp_path)
    assert done.returncode != 0
    assert "failed: see .repro/left.log" in done.stdout
    assert "no such lesion" in (tmp_path / ".repro/left.log").read_text()
    assert "left failed:\nRunning stage 'left'" in done.stderr
    assert "no such lesion" in done.stderr
    assert "failed to reproduce 'left'" in done.stderr
    assert not (tmp_path / "both.txt").exists()
    pipeline_of(tmp_path)
    done = repro(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "of 2  raw" not in done.stdout  # it ended before, and has not changed
    assert "2 of 2  both" in done.stdout


@pytest.mark.slow
def test_a_project_that_dvc_cannot_read_is_an_error_of_one_line(tmp_path):
    pipeline_of(tmp_path, left="echo ${scale} > left.txt")
    done = repro(tmp_path)
    assert done.returncode != 0
    assert "Could not find 'scale'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def interruptible():
    """A process started here heeds SIGINT and SIGHUP, even where the tests ignore them: in the background of a shell,
    under nohup."""
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGHUP: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
def test_interrupting_ends_the_stages_too_and_the_rest_runs_next_time(tmp_path):
    pipeline_of(tmp_path, left="echo $$ > left.pid; sleep 600; echo left > left.txt")
    running = subprocess.Popen(COMMAND, cwd=tmp_path, env=QUIET, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: (tmp_path / "left.pid").exists() and (tmp_path / "left.pid").read_text())
    running.send_signal(signal.SIGINT)
    assert running.wait(300) == 130
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "left.pid").read_text()), 0)
    pipeline_of(tmp_path)
    done = repro(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


# What stands for DVC here waits for its stage, as DVC does, and both write down who they are.
STAND_IN = """#!{python}
import os, signal, subprocess, sys
stage = subprocess.Popen(["sleep", "600"], {stage_flags})
with open("pids", "a") as pids:
    print(os.getpid(), stage.pid, file=pids)
signal.signal(signal.SIGINT, signal.SIG_IGN)
stage.wait()
"""
RUN = """
import sys
from pipeline import repro
repro.heed_signals()
repro.SECONDS_TO_END = float(sys.argv[3])
if sys.argv[2] == "side by side":
    repro.run_together(sys.argv[1], {"left": set(), "right": set()}, ["left", "right"], 2)
repro.run_the_rest(sys.argv[1])
"""


def asked_to_end(folder: Path, mode: str, signals: list[int], *, deaf: bool = False, patience: float = 60) -> int:
    """The exit code of a run that is sent these signals while its stages sleep, all of which must be gone then."""
    dvc = folder / "dvc"
    flags = "preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)" if deaf else ""
    dvc.write_text(STAND_IN.format(python=sys.executable, stage_flags=flags))
    dvc.chmod(0o755)
    command = [sys.executable, "-c", RUN, dvc, mode, str(patience)]
    running = subprocess.Popen(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(PROJECT)})
    count = 4 if mode == "side by side" else 2
    wait_for(lambda: len(pids_in(folder)) == count)
    pids = pids_in(folder)
    try:
        for number in signals:
            running.send_signal(number)
            time.sleep(0.05)
        code = running.wait(30)
        wait_for(lambda: not any(map(is_there, pids)), tries=50)
        return code
    finally:
        running.kill()
        for pid in filter(is_there, pids):
            os.kill(pid, signal.SIGKILL)


def pids_in(folder: Path) -> list[int]:
    return [int(pid) for pid in (folder / "pids").read_text().split()] if (folder / "pids").exists() else []


def is_there(pid: int) -> bool:
    """A process that has ended and that nobody has asked about (where the tests run without an init) is not."""
    if Path("/proc/self").exists():
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
        except (FileNotFoundError, ProcessLookupError):
            return False
    else:  # on macOS
        ps = ["ps", "-o", "stat=", "-p", str(pid)]
        state = subprocess.run(ps, capture_output=True, text=True, check=False).stdout
    return state.strip()[:1] not in ("", "Z")


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("mode", ["side by side", "one after another"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_batch_system_that_ends_the_run_ends_its_stages_too(tmp_path, mode, number):
    assert asked_to_end(tmp_path, mode, [number]) == 128 + number


@pytest.mark.usefixtures("interruptible")
def test_a_signal_that_comes_twice_leaves_stages_their_time_to_end_and_nobody_behind(tmp_path):
    """As `timeout` sends it; here the stage does not heed SIGINT, so that the second one meets the ending."""
    began = time.monotonic()
    signals = [signal.SIGTERM, signal.SIGTERM, signal.SIGHUP]
    assert asked_to_end(tmp_path, "side by side", signals, deaf=True, patience=3.0) == 128 + signal.SIGTERM
    assert time.monotonic() - began > 3.0


def test_a_run_in_the_background_of_a_shell_ends_its_stages_too(tmp_path):
    """There SIGINT is ignored from the start, and what is started would ignore it too; none waits for the kill."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert asked_to_end(tmp_path, "side by side", [signal.SIGTERM]) == 128 + signal.SIGTERM
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_run_that_shall_outlive_its_terminal_does(tmp_path):
    code = "import os; from pipeline.repro import heed_signals; heed_signals(); os.kill(os.getpid(), 1)"
    command = ["nohup", sys.executable, "-c", code]
    assert subprocess.run(command, cwd=PROJECT, check=False, capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("jobs", ["2", "1"])
def test_a_terminated_run_leaves_no_stage_and_the_rest_runs_next_time(tmp_path, jobs):
    pipeline_of(tmp_path, left="echo $$ > left.pid; sleep 600; echo left > left.txt")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = subprocess.Popen([*COMMAND[:-1], jobs], cwd=tmp_path, env=QUIET, **quiet)
    wait_for(lambda: (tmp_path / "left.pid").exists() and (tmp_path / "left.pid").read_text())
    running.send_signal(signal.SIGTERM)
    assert running.wait(300) == 128 + signal.SIGTERM
    assert not is_there(int((tmp_path / "left.pid").read_text()))
    pipeline_of(tmp_path)
    done = repro(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


WITHOUT_DVC = [sys.executable, str(PROJECT / "pipeline/without_dvc.py")]


def stages_without_dvc(folder: Path, code: str) -> None:
    """A pipeline of one stage, which runs this code."""
    (folder / "stage.py").write_text(code)
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"sleep": {"cmd": "python stage.py"}}}))


def test_no_stage_runs_where_one_of_those_asked_for_does_not_exist(tmp_path):
    stages_without_dvc(tmp_path, "open('ran', 'w')")
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    run = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
    refused = subprocess.run([*WITHOUT_DVC, "sleep", "slep"], check=False, **run)
    assert refused.returncode == 1
    assert "without_dvc: dvc.yaml has no slep; it has sleep" in refused.stderr
    assert subprocess.run([*WITHOUT_DVC, "--dry"], check=True, **run).stdout == "> python stage.py\n"
    assert not (tmp_path / "ran").exists()
    assert subprocess.run([*WITHOUT_DVC, "sleep"], check=False, **run).returncode == 0
    assert (tmp_path / "ran").exists()


@pytest.mark.usefixtures("interruptible")
def test_a_stage_without_dvc_ends_with_the_one_who_runs_it_and_a_killed_one_is_named(tmp_path):
    stages_without_dvc(tmp_path, "import os, time\nprint(os.getpid(), file=open('pids', 'w'))\ntime.sleep(600)")
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    for number, to_stage in [(signal.SIGTERM, False), (signal.SIGKILL, True)]:
        (tmp_path / "pids").unlink(missing_ok=True)
        running = subprocess.Popen(WITHOUT_DVC, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
        wait_for(lambda: pids_in(tmp_path), tries=300)
        (stage,) = pids_in(tmp_path)
        if to_stage:
            os.kill(stage, number)
        else:
            running.send_signal(number)
        said = running.communicate(timeout=60)[1]
        assert running.returncode == 128 + number
        assert not is_there(stage)
        assert ("sleep was ended by SIGKILL" in said) == to_stage


def wait_for(happened: Callable[[], object], tries: int = 3000) -> None:
    for _ in range(tries):
        if happened():
            return
        time.sleep(0.1)
    raise AssertionError("waited in vain")
