"""What users of DVC live by, on a tiny study in a clone: repro, status, push, pull elsewhere, kill and go on."""

import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest
import yaml

from tests.tiny import ROOT, tiny_params, write_params

pytestmark = pytest.mark.slow

ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "DVC_NO_ANALYTICS": "1",
    # Stages run in their project's root; a clone's code is its own.
    "PYTHONPATH": ".",
}
SHOWS_REAL_IMAGES = (
    "data/images.zip",
    "data/projections/pairs.zip",
    "metrics/score_authenticity/nearest_pairs.png",
    "metrics/score_authenticity/closest.csv",
    "metrics/explain_classifier/regions.png",
    "metrics/audit_artefacts/pasted.png",
    "data/projections/latents.safetensors",
    "data/projections/edges.zip",
)
# All stages that write these, and what they need: with the other thirty, DVC alone would take minutes.
PART: dict[str, tuple[str, ...]] = {
    "prepare_images": (),
    "split_patients": (),
    "train_classifier": ("real", "aug-selected"),
    "train_gan": (),
    "select_gan": (),
    "generate_images": ("gan", "cgan", "selected"),
    "train_detectors": (),
    "audit_artefacts": (),
    "explain_classifier": (),
    "project_images": (),
    "augment_edges": (),
    "score_authenticity": (),
}


def say(folder: Path, *command: str) -> str:
    """What a command prints; an AssertionError with it all where it fails."""
    ended = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"{' '.join(command)}\n{ended.stdout[-3000:]}\n{ended.stderr[-3000:]}"
    return ended.stdout + ended.stderr


def commit(folder: Path, message: str) -> None:
    say(folder, "git", "add", "--all")
    say(folder, "git", "-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "--quiet", "-m", message)


def keep_only(folder: Path, wanted: Mapping[str, Collection[str]]) -> None:
    """Leave these stages in dvc.yaml, and of their items those named (none named: all); no result is recorded."""
    file = folder / "dvc.yaml"
    pipeline = yaml.safe_load(file.read_text())
    pipeline["stages"] = {stage: pipeline["stages"][stage] for stage in wanted}
    for stage, items in wanted.items():
        if items:
            all_items = pipeline["stages"][stage]["foreach"]
            pipeline["stages"][stage]["foreach"] = {item: all_items[item] for item in items}
    file.write_text(yaml.safe_dump(pipeline, sort_keys=False))
    (folder / "dvc.lock").unlink()


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A clone in which part of the study has run, tiny, and is committed, with a plain folder as remote."""
    pytest.importorskip("dvc")
    folder = tmp_path_factory.mktemp("dvc") / "project"
    say(ROOT, "git", "clone", "--quiet", str(ROOT), str(folder))
    keep_only(folder, PART)
    params = tiny_params()
    params["scales"]["phantom"]["train_gan"]["schedule"] = {"images": 640, "images_per_tick": 32, "ticks_per_score": 20}
    write_params(folder, params)
    say(folder, "dvc", "repro")
    say(folder, "dvc", "remote", "add", "--default", "store", str(folder.parent / "store"))
    commit(folder, "tiny study")
    return folder


def test_after_repro_nothing_is_left_to_do(project):
    assert "up to date" in say(project, "dvc", "status")
    assert "Running stage" not in say(project, "dvc", "repro")
    assert say(project, "git", "status", "--porcelain") == ""


def test_a_clone_pulls_and_runs_nothing(project, tmp_path):
    assert all((project / path).exists() for path in SHOWS_REAL_IMAGES)
    say(project, "dvc", "push")
    elsewhere = tmp_path / "elsewhere"
    say(tmp_path, "git", "clone", "--quiet", str(project), str(elsewhere))
    say(elsewhere, "dvc", "pull")
    assert (elsewhere / "models/gan/selected").is_dir()
    assert (elsewhere / "data/synthetic/selected.zip").is_file()
    assert "Running stage" not in say(elsewhere, "dvc", "repro", "--pull", "--allow-missing")
    assert not any((elsewhere / path).exists() for path in SHOWS_REAL_IMAGES)


def test_no_real_image_is_in_the_cache_or_the_remote(project):
    say(project, "dvc", "push")
    with zipfile.ZipFile(project / "data/images.zip") as archive:
        real = [archive.read(name) for name in archive.namelist()[:20] if name.endswith(".png")]
    figure = (project / SHOWS_REAL_IMAGES[2]).read_bytes()
    stored = [
        file
        for place in (project / ".dvc/cache", project.parent / "store")
        for file in place.rglob("*")
        if file.is_file()
    ]
    assert stored
    for file in stored:
        content = file.read_bytes()
        assert not any(image in content for image in [*real, figure]), file


def test_training_killed_half_way_goes_on_and_ends_the_same(project):
    before = lock_of(project, "train_gan@mal")
    running = subprocess.Popen(
        ["dvc", "repro", "--force", "--single-item", "train_gan@mal"],
        cwd=project,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for_checkpoint(project, running)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert not (project / "models/gan/mal/generator.safetensors").exists()
    # By force, or DVC would take the earlier result from its run cache.
    printed = say(project, "dvc", "repro", "--force", "--single-item", "train_gan@mal")
    assert "Running stage 'train_gan@mal'" in printed
    assert " 0/640" not in printed, "training began again from the start"
    assert lock_of(project, "train_gan@mal") == before
    assert say(project, "git", "status", "--porcelain") == ""


def wait_for_checkpoint(project: Path, running: subprocess.Popen) -> None:
    for _ in range(30_000):
        if list(project.glob(".checkpoints/train_gan/mal-*/checkpoint.json")):
            return
        assert running.poll() is None, "the run ended before its first checkpoint was seen"
        time.sleep(0.02)
    raise AssertionError("no checkpoint within ten minutes")


def lock_of(project: Path, stage: str) -> dict:
    return yaml.safe_load((project / "dvc.lock").read_text())["stages"][stage]


def test_metrics_diff_names_few_rows_between_two_settings(project, tmp_path):
    changed = tmp_path / "changed"
    say(tmp_path, "git", "clone", "--quiet", str(project), str(changed))
    params = yaml.safe_load((changed / "params.yaml").read_text())
    params["scales"]["phantom"]["split_patients"]["protocol"] = "paper"
    write_params(changed, params)
    say(changed, "dvc", "repro", "split_patients")
    table = say(changed, "dvc", "metrics", "diff")
    assert "held_out_sharing_patient_percent" in table
    assert len(table.splitlines()) < 15


def test_a_failed_stage_leaves_what_was_prepared(project, tmp_path):
    images = (project / "data/images.zip").read_bytes()
    params = (project / "params.yaml").read_text()
    try:
        (project / "params.yaml").write_text(params.replace("source: phantom", "source: isic"))
        ended = subprocess.run(
            ["dvc", "repro"], cwd=project, env=ENVIRONMENT, capture_output=True, text=True, check=False
        )
        assert ended.returncode != 0
        assert "data/raw/isic" in ended.stderr
        assert (project / "data/images.zip").read_bytes() == images
    finally:
        (project / "params.yaml").write_text(params)
    assert "up to date" in say(project, "dvc", "status")


def test_stages_without_dvc_are_the_commands_of_dvc():
    pytest.importorskip("dvc")
    said = say(ROOT, "dvc", "repro", "--dry", "--force").splitlines()
    own = say(ROOT, sys.executable, "pipeline/without_dvc.py", "--dry").splitlines()
    assert sorted(own) == sorted(line for line in said if line.startswith("> "))


def test_committed_results_were_made_by_the_committed_code_and_settings(tmp_path):
    """By the hashes in dvc.lock, at the last commit, so that no later stage needs to run to know it."""
    pytest.importorskip("dvc")
    say(tmp_path, "git", "clone", "--quiet", str(ROOT), "clone")
    said = say(tmp_path / "clone", "dvc", "repro", "--dry", "--allow-missing")
    assert "Running stage" not in said
    assert "up to date" in said
