"""What `make repro` runs side by side and says last, and that asking its scripts for help starts nothing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pipeline.repro import not_up_to_date, ready
from pipeline.summary import outputs_of, print_shares, verdict

PROJECT = Path(__file__).parents[1]
DVC = Path(sys.executable).with_name("dvc")
QUIET = {**os.environ, "DVC_NO_ANALYTICS": "1"}
COMMAND = [sys.executable, PROJECT / "pipeline/repro.py", "--jobs", "2"]
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
    """A process started here heeds SIGINT, even where the tests run in the background of a shell and ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


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


def wait_for(happened: Callable[[], object]) -> None:
    for _ in range(3000):
        if happened():
            return
        time.sleep(0.1)
    raise AssertionError("waited in vain")
