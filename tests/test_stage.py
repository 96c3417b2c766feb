"""What a user meets at the border: settings, flags, errors in one line, files that are whole or not there."""

import errno
import json
import math
import os
import signal
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from skinsynth.files import folder_written_whole, sha256_of, written_whole
from skinsynth.machine import peak_memory_mb
from skinsynth.stage import (
    _one_line,
    _tell_of_unseen_gpu,
    best_device,
    checkpoint_folder,
    load_params,
    run,
    seed_of,
    write_metrics,
)

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


@pytest.mark.parametrize(("written", "read"), [("1", 1.0), ("1e-4", 0.0001), ("'0.5'", 0.5), (".inf", float("inf"))])
def test_numbers_are_floats_however_yaml_takes_them(tmp_path, written, read):
    rate = load_params(
        "train", Settings, params(tmp_path, f"images: 3, inner: {{learning_rate: {written}, seeds: []}}")
    ).inner.learning_rate
    assert (rate, type(rate)) == (read, float)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("image: 3, inner: {learning_rate: 1, seeds: []}", "'image': did you mean 'images'"),
        ("images: 3, inner: {learning_rat: 1, seeds: []}", "'learning_rat': did you mean 'learning_rate'"),
        ("images: 3, inner: {learning_rate: 1}", "inner.seeds is missing"),
        ("images: many, inner: {learning_rate: 1, seeds: []}", "images is 'many', but it takes int"),
        ("images: 3, inner: {learning_rate: fast, seeds: []}", r"inner\.learning_rate is 'fast', but it takes float"),
        (
            "images: 3, inner: {learning_rate: true, seeds: []}",
            r"inner\.learning_rate is true, but it must be a number",
        ),
        ("images: 3, inner: {learning_rate: , seeds: []}", r"inner\.learning_rate is None, but it takes float"),
        ("images: 3, inner: {learning_rate: 1, seeds: }", r"inner\.seeds is null, but it takes a list: write \[\]"),
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


@dataclass(frozen=True)
class Several:
    parts: tuple[Inner, ...]


def test_a_list_of_settings_says_what_each_holds(tmp_path):
    one = "{learning_rate: 1, seeds: []}"
    assert load_params("train", Several, params(tmp_path, f"parts: [{one}, {one}]")).parts == 2 * (Inner(1.0, ()),)
    with pytest.raises(ValueError, match="it takes a list of settings with the keys learning_rate, seeds"):
        load_params("train", Several, params(tmp_path, "parts: [one]"))


def test_a_key_like_no_other_is_answered_with_each_known_name_once(tmp_path):
    @dataclass(frozen=True)
    class Pair:
        first: Inner
        second: Inner

    with pytest.raises(ValueError, match=r"'zzz' \(known: first, learning_rate, second, seeds\)"):
        load_params("train", Pair, params(tmp_path, "zzz: 1"))


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


def test_headlines_have_four_digits_and_from_a_thousand_on_one_decimal_whatever_their_sign(tmp_path):
    values = {"near": 999.96, "far": 123456.789, "below": -123456.789, "little": -0.000123456, "unknown": math.nan}
    write_metrics(tmp_path / "metrics.json", {"all": values})
    expected = {"near": 1000.0, "far": 123456.8, "below": -123456.8, "little": -0.0001235, "unknown": None}
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"all": expected}


def test_a_folder_is_replaced_only_when_the_new_one_is_whole(tmp_path):
    for text in ("first", "second"):
        with folder_written_whole(tmp_path / "model") as aside:
            (aside / "weights").write_text(text)
    with pytest.raises(ValueError, match="broke"), folder_written_whole(tmp_path / "model") as aside:
        raise ValueError("broke")
    assert (tmp_path / "model" / "weights").read_text() == "second"
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request):
    """One after another, those of users who share with all, with nobody and with their group."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_whoever_the_umask_lets_can_read_a_result(tmp_path, umask):
    with folder_written_whole(tmp_path / "model") as aside:
        save_file({"weights": torch.zeros(1)}, aside / "weights.safetensors")
        (aside / "member").mkdir()
        (aside / "member" / "about.json").write_text("{}")
    with written_whole(tmp_path / "state.safetensors") as aside:
        save_file({"weights": torch.zeros(1)}, aside)
    write_metrics(tmp_path / "metrics.json", {})
    folders = {path.relative_to(tmp_path): mode_of(path) for path in tmp_path.rglob("*") if path.is_dir()}
    assert set(folders.values()) == {0o777 & ~umask}, folders
    files = {path.relative_to(tmp_path): mode_of(path) for path in tmp_path.rglob("*") if path.is_file()}
    assert len(files) == 4
    assert set(files.values()) == {0o666 & ~umask}, files


def test_what_a_link_in_a_folder_points_to_keeps_its_permissions(tmp_path):
    (tmp_path / "secret").touch(0o600)
    with folder_written_whole(tmp_path / "model") as aside:
        (aside / "link").symlink_to(tmp_path / "secret")
    assert mode_of(tmp_path / "secret") == 0o600


def test_the_old_folder_stays_where_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("old")
    rename = Path.rename

    def fails_for_the_new_one(self: Path, target: Path) -> Path:
        if (self / "weights").read_text() == "new":
            raise OSError(errno.EIO, "Input/output error", str(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails_for_the_new_one)
    with pytest.raises(OSError, match="/model'$"), folder_written_whole(tmp_path / "model") as aside:
        (aside / "weights").write_text("new")
    assert (tmp_path / "model" / "weights").read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("write", [written_whole, folder_written_whole])
def test_a_full_disk_is_said_of_the_path_that_was_asked_for(tmp_path, write):
    with pytest.raises(OSError, match="No space left") as error, write(tmp_path / "out"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as a write to Linux's /dev/full says it
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(tmp_path / "out"))

    with pytest.raises(OSError, match="No space left") as error, write(tmp_path / "out"):
        raise SafetensorError("I/O error: No space left on device (os error 28)")
    assert error.value.filename == str(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_error_never_names_what_is_written_aside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError) as error, written_whole(Path("taken")):
        pass
    assert str(error.value) == "[Errno 21] Is a directory: 'taken'"
    with pytest.raises(FileNotFoundError) as error, folder_written_whole(Path("model")) as aside:
        (aside.absolute() / "no" / "weights").write_text("a")
    assert str(error.value) == "[Errno 2] No such file or directory: 'model/no/weights'"
    with monkeypatch.context() as patch, pytest.raises(PermissionError) as error:
        patch.setattr(os, "open", refused)
        with written_whole(Path("main.csv")):
            pass
    assert str(error.value) == "[Errno 13] Permission denied: 'main.csv'"
    with pytest.raises(FileNotFoundError, match=r"raw/table\.csv"), folder_written_whole(Path("model")):
        Path("raw/table.csv").read_text()
    assert [file.name for file in tmp_path.iterdir()] == ["taken"]


def refused(path: Path, *_: int) -> int:
    """What os.open says in a folder that is not the user's (root, who runs tests in containers, is refused nothing)."""
    raise PermissionError(errno.EACCES, "Permission denied", path)


@pytest.mark.parametrize("name", ["images.zip", "gan", ".selected"])
def test_git_and_dvc_are_told_to_leave_alone_what_a_killed_run_left_aside(tmp_path, name):
    left = []
    for write in (written_whole, folder_written_whole):
        with write(tmp_path / name) as aside:
            left.append(aside.name)
        (tmp_path / name).unlink() if write is written_whole else (tmp_path / name).rmdir()
    places = [f"{folder}/{file}" for folder in ("elsewhere", "metrics/x/details") for file in left]
    told = subprocess.run(["git", "check-ignore", *places], cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.stdout.split() == places
    local = pytest.importorskip("dvc.fs").LocalFileSystem()
    dvc = pytest.importorskip("dvc.ignore").DvcIgnorePatterns.from_file(str(ROOT / ".dvcignore"), local, ".dvcignore")
    assert all(dvc.matches(str(ROOT / "elsewhere"), file) for file in left)
    assert not dvc.matches(str(ROOT / "elsewhere"), name)


def test_a_checkpoint_belongs_to_its_settings_and_data(tmp_path):
    data = tmp_path / "data.csv"
    data.write_text("a")
    folder = checkpoint_folder("train", "ben", Settings(3, Inner(0.1, ())), [data])
    assert folder == checkpoint_folder("train", "ben", Settings(3, Inner(0.1, ())), [data])
    assert folder != checkpoint_folder("train", "ben", Settings(4, Inner(0.1, ())), [data])
    data.write_text("b")
    assert folder != checkpoint_folder("train", "ben", Settings(3, Inner(0.1, ())), [data])


def test_a_checkpoint_belongs_to_the_code_of_all_packages_that_are_loaded(tmp_path, monkeypatch):
    package = tmp_path / "package"
    package.mkdir()
    for name in ("__init__.py", "beside.py"):
        (package / name).write_text("")
    before = checkpoint_folder("train", "ben", 1, [])
    loaded = ModuleType("skinsynth.loaded_for_a_test")
    loaded.__file__ = str(package / "__init__.py")
    monkeypatch.setitem(sys.modules, loaded.__name__, loaded)
    with_package = checkpoint_folder("train", "ben", 1, [])
    (package / "beside.py").write_text("FACTOR = 2")
    assert len({before, with_package, checkpoint_folder("train", "ben", 1, [])}) == 3


SCRIPT = '''
"""A stage."""
import errno
import os
import signal
import sys
import time
from pathlib import Path
from typing import Annotated
from skinsynth.files import folder_written_whole, written_whole
from skinsynth.stage import run
def main(images: Annotated[Path, "where images are"], dry_run: bool = False) -> None:
    """Do a thing.

    In a way.
    """
    if images.name == "full":
        raise OSError(errno.ENOSPC, "No space left on device", "out.zip")
    if images.name == "huge":
        import numpy
        numpy.empty(2**60, numpy.uint8)
    if images.name == "large":
        import torch
        torch.empty(2**60, dtype=torch.uint8)
    if images.name == "many":
        import torch
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which 1.00 GiB "
            "is free. Of the allocated memory 70.00 GiB is allocated by PyTorch.\\nSee documentation."
        )
    if images.name == "wrong":
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    if images.name == "terminated":
        with written_whole(Path("out.zip")), folder_written_whole(Path("models")):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
    if not images.is_file():
        raise FileNotFoundError(f"no images at {images}:\\n run prepare_images")
    print("dry" if dry_run else "wet")
run(main)
'''


SCRIPT_THAT_FORKS = """
import os
import signal
import time
from pathlib import Path
from skinsynth.files import written_whole
from skinsynth.stage import run
def main() -> None:
    with written_whole(Path("out.zip")) as aside:
        awake, wake = os.pipe()
        worker = os.fork()
        if worker == 0:
            os.write(wake, b"a")  # a signal that came before this would be lost: Python drops those of a fork's start
            time.sleep(60)
            os._exit(0)
        os.read(awake, 1)
        os.kill(worker, signal.SIGTERM)
        status = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
        aside.write_text(str(status))
run(main)
"""


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


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ("huge", "Unable to allocate"),
        ("large", "can't allocate memory"),
        ("many", "(CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which "),
    ],
)
def test_too_little_memory_is_said_in_one_line_with_what_to_do(tmp_path, images, said):
    ended = call(tmp_path, "--images", images)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("look: memory does not suffice (")
    assert said in ended.stderr
    assert "lower the stage's batch_size" in ended.stderr
    assert "See documentation" not in ended.stderr


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling x"),
            "CUBLAS_STATUS_ALLOC_FAILED when calling x",
        ),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be late."), "CUDA error: out of memory)"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "Cannot allocate memory"),
    ],
)
def test_whoever_lacks_memory_is_told_what_to_lower(error, said):
    line = _one_line(error)
    assert line.startswith("memory does not suffice (")
    assert said in line
    assert "\n" not in line


def test_an_error_of_the_code_keeps_its_traceback(tmp_path):
    assert "Traceback" in call(tmp_path, "--images", "wrong").stderr


def test_a_terminated_stage_leaves_nothing_aside(tmp_path):
    ended = call(tmp_path, "--images", "terminated")
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGTERM, "")
    assert [file.name for file in tmp_path.iterdir()] == ["look.py"]


def test_a_terminated_worker_leaves_alone_what_its_stage_writes(tmp_path):
    (tmp_path / "forks.py").write_text(SCRIPT_THAT_FORKS)
    environment = {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "forks.py"], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "out.zip").read_text() == str(128 + signal.SIGTERM)


def test_a_stage_that_was_told_to_ignore_sigterm_goes_on(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["look.py"])
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        run(lambda: os.kill(os.getpid(), signal.SIGTERM))
    finally:
        signal.signal(signal.SIGTERM, before)


def test_help_teaches_and_flags_come_from_the_signature(tmp_path):
    said = call(tmp_path, "--help").stdout
    assert "where images are" in said
    assert "\nDo a thing.\n\nIn a way.\n\nA stage.\n" in said
    timing = tmp_path / "metrics" / "timing" / "look.json"
    assert call(tmp_path, "--images", "look.py", "--dry-run").stdout == "dry\n"
    assert not timing.exists()
    assert call(tmp_path, "--images", "look.py").stdout == "wet\n"
    assert timing.is_file()


@pytest.mark.parametrize(("system", "unit"), [("linux", 2**10), ("darwin", 1)])
def test_peak_memory_is_in_megabytes_whatever_the_system_counts_in(monkeypatch, system, unit):
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr("resource.getrusage", lambda _: SimpleNamespace(ru_maxrss=300 * 2**20 // unit))
    assert peak_memory_mb() == 300


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


@pytest.mark.parametrize(
    ("device", "hidden", "told"), [("nvidia0", False, 1), ("nvidia0", True, 0), ("null", False, 0)]
)
def test_a_gpu_that_torch_does_not_see_is_told_once(monkeypatch, tmp_path, capsys, device, hidden, told):
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / device).touch()
    monkeypatch.setattr("skinsynth.machine.FILES", tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    _tell_of_unseen_gpu.cache_clear()  # told once a process, and here once a test
    assert {best_device().type, best_device().type} == {"cpu"}
    assert capsys.readouterr().err.count("does not see it, so this runs on the CPU") == told
