"""What `make repro` says last, and that asking its scripts for help starts nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.summary import outputs_of, print_shares, verdict

PROJECT = Path(__file__).parents[1]
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
