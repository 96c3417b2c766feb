"""What a user meets at the border: settings, flags, errors in one line, files that are whole or not there."""

import errno
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from skinsynth.files import folder_written_whole, sha256_of, written_whole
from skinsynth.stage import checkpoint_folder, load_params, seed_of, write_metrics

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Inner:
    learning_rate: float
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Settings:
    images: int
    inner: Inner


def params(tmp_path: Path, section: str, scale: str = "small") -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(f"scale: {scale}\nscales: {{small: {{train: {{{section}}}}}}}\n")
    return path


def test_settings_are_read_with_their_nested_ones(tmp_path):
    path = params(tmp_path, "images: 3, inner: {learning_rate: 5e-4, seeds: [1, 2]}")
    assert load_params("train", Settings, path) == Settings(3, Inner(0.0005, (1, 2)))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("image: 3, inner: {learning_rate: 1, seeds: []}", "'image': did you mean 'images'"),
        ("images: 3, inner: {learning_rat: 1, seeds: []}", "'learning_rat': did you mean 'learning_rate'"),
        ("images: 3, inner: {learning_rate: 1}", "inner.seeds is missing"),
        ("images: many, inner: {learning_rate: 1, seeds: []}", "images is 'many', but it takes int"),
        ("images: 3, inner: {learning_rate: fast, seeds: []}", "could not convert string to float: 'fast'"),
        ("images: 3, inner: {learning_rate: 1, seeds: 7}", r"inner\.seeds is 7, but it takes a list: write \[7\]"),
        ("images: 3, inner: {learning_rate: 1, seeds: seven}", r"it takes a list: write \[seven\]"),
        ("images: true, inner: {learning_rate: 1, seeds: []}", "images is true, but it must be a number"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_its_section(tmp_path, section, message):
    with pytest.raises(ValueError, match=message) as error:
        load_params("train", Settings, params(tmp_path, section))
    assert "params.yaml" in str(error.value)
    assert "train" in str(error.value)


def test_a_section_without_settings_is_named(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("scale: small\nscales: {small: {train: }}\n")
    with pytest.raises(ValueError, match="scale small: train is None, but it takes the stage's settings"):
        load_params("train", Settings, path)


def test_stages_with_classes_in_another_order_are_named_by_whichever_stage_comes_first(tmp_path):
    path = tmp_path / "params.yaml"
    own = "images: 3, inner: {learning_rate: 1, seeds: []}"
    orders = {"prepare": "[malignant, benign]", "split": "[malignant, benign]", "score": "[benign, malignant]"}
    sections = ", ".join(f"{name}: {{classes: {order}}}" for name, order in orders.items())
    path.write_text(f"scale: small\nscales: {{small: {{train: {{{own}}}, {sections}}}}}\n")
    with pytest.raises(ValueError, match=r"prepare has classes \['malignant', 'benign'\], but score has"):
        load_params("train", Settings, path)


def test_a_misspelt_scale_or_section_gets_a_suggestion(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'small'"):
        load_params("train", Settings, params(tmp_path, "", scale="smal"))
    with pytest.raises(ValueError, match="did you mean 'train'"):
        load_params("trian", Settings, params(tmp_path, ""))


def test_a_file_is_replaced_only_when_the_new_one_is_whole(tmp_path):
    path = tmp_path / "metrics.json"
    write_metrics(path, {"auc": 0.87654321, "images": 123456})
    assert path.read_text() == '{\n  "auc": 0.8765,\n  "images": 123456\n}\n'
    with pytest.raises(OSError, match="full"), written_whole(path) as aside:
        aside.write_text("half")
        raise OSError(errno.ENOSPC, "full")
    assert '"auc": 0.8765' in path.read_text()
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.json"]


def test_a_folder_is_replaced_only_when_the_new_one_is_whole(tmp_path):
    for text in ("first", "second"):
        with folder_written_whole(tmp_path / "model") as aside:
            (aside / "weights").write_text(text)
    with pytest.raises(ValueError, match="broke"), folder_written_whole(tmp_path / "model") as aside:
        raise ValueError("broke")
    assert (tmp_path / "model" / "weights").read_text() == "second"
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_a_checkpoint_belongs_to_its_settings_and_data(tmp_path):
    data = tmp_path / "data.csv"
    data.write_text("a")
    folder = checkpoint_folder("train", "ben", Settings(3, Inner(0.1, ())), [data])
    assert folder == checkpoint_folder("train", "ben", Settings(3, Inner(0.1, ())), [data])
    assert folder != checkpoint_folder("train", "ben", Settings(4, Inner(0.1, ())), [data])
    data.write_text("b")
    assert folder != checkpoint_folder("train", "ben", Settings(3, Inner(0.1, ())), [data])


SCRIPT = '''
"""A stage."""
import errno
import sys
from pathlib import Path
from typing import Annotated
from skinsynth.stage import run
def main(images: Annotated[Path, "where images are"], dry_run: bool = False) -> None:
    """Do a thing."""
    if images.name == "full":
        raise OSError(errno.ENOSPC, "No space left on device", "out.zip")
    if not images.is_file():
        raise FileNotFoundError(f"no images at {images}:\\n run prepare_images")
    print("dry" if dry_run else "wet")
run(main)
'''


def call(tmp_path: Path, *flags: str, script: str = "look.py") -> subprocess.CompletedProcess:
    (tmp_path / script).write_text(SCRIPT)
    return subprocess.run(
        [sys.executable, script, *flags],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT)},
    )


def test_an_error_is_one_line_and_exit_code_one(tmp_path):
    ended = call(tmp_path, "--images", "nowhere.zip")
    assert (ended.returncode, ended.stderr) == (1, "look: no images at nowhere.zip: run prepare_images\n")


def test_a_stage_of_one_clone_does_not_run_with_the_code_of_another(tmp_path):
    for folder in ("skinsynth", "stages"):
        (tmp_path / folder).mkdir()
    ended = call(tmp_path, "--images", "look.py", script="stages/look.py")
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert f"lies in {tmp_path}, but Python finds skinsynth in {ROOT}" in ended.stderr
    (tmp_path / "skinsynth").rmdir()
    (tmp_path / "skinsynth").symlink_to(ROOT / "skinsynth")
    assert call(tmp_path, "--images", "stages/look.py", script="stages/look.py").stdout == "wet\n"


def test_a_full_disk_is_said_in_one_line(tmp_path):
    ended = call(tmp_path, "--images", "full")
    assert (ended.returncode, ended.stderr) == (1, "look: the disk is full at out.zip: free some space and run again\n")


def test_help_teaches_and_flags_come_from_the_signature(tmp_path):
    assert "where images are" in call(tmp_path, "--help").stdout
    timing = tmp_path / "metrics" / "timing" / "look.json"
    assert call(tmp_path, "--images", "look.py", "--dry-run").stdout == "dry\n"
    assert not timing.exists()
    assert call(tmp_path, "--images", "look.py").stdout == "wet\n"
    assert timing.is_file()


def test_every_use_of_a_seed_has_a_seed_of_its_own_and_always_the_same():
    uses = [
        ("generate_images", "gan"),
        ("generate_images", "cgan"),
        ("select_gan", "cgan"),
        ("generate_images", "gan", ""),
    ]
    seeds = [seed_of(seed, *names) for seed in (1, 2) for names in uses]
    assert len(set(seeds)) == len(seeds)
    assert seeds == [seed_of(seed, *names) for seed in (1, 2) for names in uses]
    assert all(0 <= seed < 2**48 for seed in seeds)


THREADS = """
import os
import torch
from threadpoolctl import threadpool_info
from skinsynth.stage import run

def main():
    print(torch.get_num_threads(), *{pool["num_threads"] for pool in threadpool_info()}, os.environ["OMP_NUM_THREADS"])

run(main)
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="where there is a GPU all threads stay")
@pytest.mark.parametrize(("wanted", "threads"), [(None, "1 1 1"), ("2", "2 2 2")])
def test_a_stage_computes_with_one_thread_unless_the_user_says_otherwise(tmp_path, wanted, threads):
    (tmp_path / "stage.py").write_text(THREADS)
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    if wanted:
        environment["OMP_NUM_THREADS"] = wanted
    command = [sys.executable, "stage.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == threads.split(), done.stderr


def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    assert sha256_of(tmp_path / "empty").startswith("e3b0c44298fc1c14")
    with pytest.raises(OSError, match="missing"):
        sha256_of(tmp_path / "missing")
