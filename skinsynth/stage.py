"""What stages need and the library must not know: flags, params.yaml, one-line errors, metrics, timings."""

import argparse
import contextlib
import dataclasses
import errno
import hashlib
import inspect
import json
import math
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import FrameType, NoneType, UnionType
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import dacite
import yaml
from threadpoolctl import threadpool_limits

from skinsynth.files import FULL, sha256_of, written_whole
from skinsynth.machine import peak_memory_mb, shows_a_gpu
from skinsynth.settings import check_ranges, closest

INTERRUPTED = 130
# How torch says, in RuntimeErrors of several kinds, that a GPU's memory or the machine's does not suffice.
MEMORY_IS_FULL = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
T = TypeVar("T")


def run(main: Callable[..., None]) -> None:
    """Call `main`, each parameter read from the flag of the same name; `Annotated[type, "help"]` gives the help.

    What the user can mend (ValueError, OSError; ArithmeticError of diverged training; too little memory) ends as one
    line on stderr and exit code 1. A timing is left in metrics/timing/, which no stage reads.
    """
    flags = vars(_parser(main).parse_args())
    start = time.time()
    _use_one_thread()
    try:
        with _sigterm_cleans_up():
            _refuse_code_from_elsewhere()
            main(**flags)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.exit(0)  # the reader (head, say) has seen enough
    except Exception as error:
        # Libraries that write weights have error types of their own for a full disk.
        known = isinstance(error, ValueError | OSError | ArithmeticError) or FULL in str(error)
        if not known and not _lacks_memory(error):
            raise
        # Of several processes that fail alike, the first one speaks.
        sys.exit(f"{Path(sys.argv[0]).stem}: {_one_line(error)}" if _first_process() else 1)
    if not flags.get("dry_run") and _first_process():
        _write_timing(Path(sys.argv[0]).stem, flags.get("name"), start)


@contextlib.contextmanager
def _sigterm_cleans_up() -> Iterator[None]:
    """SIGTERM ends the block as an error does, so that nothing is left aside; one that is ignored (nohup) stays so."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield  # only the main thread may set signals, and who has set this one has a reason
        return
    process = os.getpid()

    def leave(number: int, _: FrameType | None) -> None:
        if os.getpid() != process:  # a forked worker: what lies aside is its parent's
            os._exit(128 + number)
        signal.signal(number, signal.SIG_IGN)  # a second one must not cut the cleaning up
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _refuse_code_from_elsewhere() -> None:
    """With two clones and one environment, results would be of code that dvc.lock does not name."""
    project, imported = Path(sys.argv[0]).resolve().parents[1], Path(__file__).resolve().parent
    if (project / "skinsynth").is_dir() and not imported.samefile(project / "skinsynth"):
        raise ValueError(
            f"this stage lies in {project}, but Python finds skinsynth in {imported.parent}: run `make "
            f".venv/installed` in {project} and use its environment, or set PYTHONPATH={project}"
        )


def _use_one_thread() -> None:
    """On a CPU, unless OMP_NUM_THREADS is set: sums then have one order, on any number of cores.

    Two threads train networks of 32 px a tenth to a fifth faster than one; two stages at once gain far more.
    """
    torch = sys.modules.get("torch")
    if "OMP_NUM_THREADS" in os.environ or (torch is not None and torch.cuda.is_available()):
        return
    os.environ["OMP_NUM_THREADS"] = "1"  # of libraries that are yet to come, and of other processes
    threadpool_limits(1)
    if torch is not None:
        torch.set_num_threads(1)


def _parser(main: Callable[..., None]) -> argparse.ArgumentParser:
    module = sys.modules[main.__module__].__doc__
    description = f"{inspect.getdoc(main) or ''}\n\n{module or ''}"
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, parameter in inspect.signature(main, eval_str=True).parameters.items():
        kind, help_text = parameter.annotation, ""
        if get_origin(kind) is Annotated:
            kind, help_text = get_args(kind)[:2]
        if get_origin(kind) is UnionType:  # `kind | None` of a flag that may be left out
            kind = next(one for one in get_args(kind) if one is not NoneType)
        flag, required = "--" + name.replace("_", "-"), parameter.default is inspect.Parameter.empty
        if kind is bool:
            parser.add_argument(flag, action="store_true", help=help_text)
        elif get_origin(kind) is list:
            parser.add_argument(flag, type=get_args(kind)[0], nargs="+", required=required, help=help_text)
        else:
            default = None if required else parameter.default
            parser.add_argument(flag, type=kind, required=required, default=default, help=help_text)
    return parser


def _one_line(error: Exception) -> str:
    if (isinstance(error, OSError) and error.errno == errno.ENOSPC) or FULL in str(error):
        place = getattr(error, "filename", None) or "a result"
        return f"the disk is full at {place}: free some space and run again"
    if _lacks_memory(error):
        first = str(error).partition("\n")[0].partition(" Of the allocated memory")[0]  # torch goes on with advice
        what = first.rstrip(". ") or "no more is given"
        return (
            f"memory does not suffice ({what}): end what else runs there, or lower the stage's batch_size in "
            "params.yaml (images_per_pass where a GAN is trained)"
        )
    return " ".join(str(error).split())


def _lacks_memory(error: Exception) -> bool:
    """Whether memory does not suffice, a GPU's or the machine's."""
    of_torch = isinstance(error, RuntimeError) and any(words in str(error) for words in MEMORY_IS_FULL)
    return of_torch or isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM


def _first_process() -> bool:
    """Whether this is the only process of the stage, or the first that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def _write_timing(stage: str, item: str | None, start: float) -> None:
    name = stage if item is None else f"{stage}@{item}"
    timing = {
        "stage": name,
        "started": start,
        "seconds": time.time() - start,
        "peak_memory_mb": max(map(peak_memory_mb, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))),
    }
    write_metrics(Path("metrics/timing") / f"{name}.json", timing)


def load_params(section: str, schema: type[T], path: Path = Path("params.yaml")) -> T:
    """The settings of one stage at the scale in params.yaml.

    A missing or unknown key, a value of another type and a number outside its field's range are ValueErrors.
    """
    values, name = _section(section, path)
    _check_lists(values, schema, f"{path}: {name}")
    config = dacite.Config(strict=True, cast=[tuple], type_hooks={float: _as_float})
    try:
        settings = dacite.from_dict(schema, values, config=config)
    except dacite.UnexpectedDataError as error:
        raise ValueError(f"{path}, {section}: {_unknown_key(sorted(error.keys), schema)}") from error
    except dacite.MissingValueError as error:
        raise ValueError(f"{path}, {section}: the key {error.field_path} is missing: add it") from error
    except dacite.WrongTypeError as error:
        raise ValueError(
            f"{path}, {section}: {error.field_path} is {error.value!r}, but it takes {_in_words(error.field_type)}"
        ) from error
    except (dacite.DaciteError, TypeError, ValueError) as error:
        raise ValueError(f"{path}, {section}: {error}") from error
    check_ranges(settings, f"{path}: {name}")
    return settings


def load_value(section: str, *keys: str, path: Path = Path("params.yaml")) -> Any:
    """A single setting of another stage at the scale in params.yaml, for stages that report what others did."""
    value, where = _section(section, path)[0], f"{path}, {section}"
    for key in keys:
        value = entry_of(value, key, where)
    return value


def _section(section: str, path: Path) -> tuple[dict[str, Any], str]:
    """A stage's settings at the scale in params.yaml, and their place in it: scales.phantom.train_gan."""
    if not path.is_file():
        raise FileNotFoundError(f"no {path} here: run the stage from the project's root")
    try:
        params = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    scales = entry_of(params, "scales", str(path))
    scale = entry_of(scales, entry_of(params, "scale", str(path)), f"{path}, scales")
    where = f"{path}, scale {params['scale']}"
    values = entry_of(scale, section, where)
    if not isinstance(values, dict):
        raise ValueError(f"{where}: {section} is {values!r}, but it takes the stage's settings, a key a line")
    _check_same_classes(scale, where)
    return values, f"scales.{params['scale']}.{section}"


def _check_same_classes(scale: Mapping[str, Any], where: str) -> None:
    """Raises ValueError where two stages have other classes, or in another order: a label is a place among them.

    So does a federation's `gan`, which trains on the images of all.
    """
    sections = [(name, values) for name, values in scale.items() if isinstance(values, dict)]
    sections += [(f"{name}.gan", values["gan"]) for name, values in sections if isinstance(values.get("gan"), dict)]
    classes = [(name, values["classes"]) for name, values in sections if "classes" in values]
    for name, own in classes:
        first, others = classes[0]
        if own != others:
            raise ValueError(
                f"{where}: {first} has classes {others}, but {name} has {own}: a label is the place of its class, so "
                "give all stages the same ones in the same order"
            )


def _as_float(value: Any) -> Any:
    """Whole numbers and numbers that YAML takes for text, such as 1e-4, as floats; all else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return value
    try:
        return float(value)
    except (ValueError, OverflowError):
        return value


def _check_lists(values: Mapping[str, Any], schema: Any, where: str) -> None:
    """Raises ValueError where a single value stands for a list: text would be taken for a list of letters."""
    for name, kind in get_type_hints(schema).items():
        value = values.get(name)
        if get_origin(kind) is tuple and name in values and value is None:
            raise ValueError(f"{where}.{name} is null, but it takes a list: write []")
        for one in get_args(kind) if get_origin(kind) is UnionType else (kind,):
            if get_origin(one) is tuple and value is not None and not isinstance(value, (list, tuple)):
                raise ValueError(f"{where}.{name} is {value!r}, but it takes a list: write [{value}]")
            if dataclasses.is_dataclass(one) and isinstance(value, dict):
                _check_lists(value, one, f"{where}.{name}")


def _in_words(kind: Any) -> str:
    """A type as it is written in a schema; a list by what it holds, settings by their keys."""
    if get_origin(kind) is tuple and get_args(kind)[-1] is Ellipsis:
        return f"a list of {_in_words(get_args(kind)[0])}"
    if dataclasses.is_dataclass(kind):
        return f"settings with the keys {', '.join(field.name for field in dataclasses.fields(kind))}"
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind).replace("typing.", "")


def entry_of(mapping: Any, key: str, where: str) -> Any:
    """What a settings' mapping says under a key; a ValueError suggests the key that was meant."""
    if not isinstance(mapping, dict) or key not in mapping:
        known = list(mapping) if isinstance(mapping, dict) else []
        raise ValueError(f"{where}: no key {key!r}{_suggestion(key, known)}")
    return mapping[key]


def _unknown_key(keys: list[str], schema: type) -> str:
    known = sorted(set(_field_names(schema)))
    return "; ".join(f"unknown key {key!r}{_suggestion(key, known)}" for key in keys)


def _field_names(schema: Any) -> Iterator[str]:
    """Names of the fields of a dataclass and of the dataclasses within it."""
    for name, kind_of_field in get_type_hints(schema).items():
        yield name
        for kind in (kind_of_field, *get_args(kind_of_field)):
            if dataclasses.is_dataclass(kind):
                yield from _field_names(kind)


def _suggestion(key: str, known: list[str]) -> str:
    meant = closest(key, known)
    return f": did you mean {meant!r}?" if meant else f" (known: {', '.join(map(str, known))})"


def write_metrics(path: Path, metrics: Mapping[str, Any]) -> None:
    """Headlines as JSON, four significant digits and more where the number is a count."""
    with written_whole(path) as aside:
        aside.write_text(json.dumps(_rounded(metrics), indent=2) + "\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _rounded(entry) for key, entry in value.items()}
    if isinstance(value, float) and math.isnan(value):
        return None  # JSON has no other word for it
    if isinstance(value, float):
        return float(f"{value:.4g}") if abs(value) < 1000 else round(value, 1)
    return value


def write_rows(path: Path, rows: Sequence[Mapping[Any, Any]]) -> None:
    """A table for DVC's plots and for readers: CSV, one line a row, columns in the order of the first row."""
    from skinsynth.tables import write_table  # here, since half of the stages write none and need no pandas

    write_table(path, rows)


def seed_of(seed: int, *names: str) -> int:
    """A seed for one of several uses of a setting's seed, so that no two sets are drawn from the same numbers."""
    digest = hashlib.sha256(repr((seed, *names)).encode()).digest()
    return int.from_bytes(digest[:6], "big")  # spreadsheets keep so many digits


def checkpoint_folder(stage: str, item: str, settings: Any, data: list[Path]) -> Path:
    """Where a long stage leaves its state: named after settings, code and data, so that a stale state is never resumed.

    The code is every package of skinsynth of which a module is loaded by now; SKINSYNTH_CHECKPOINTS moves the root
    (experiments in temporary folders need that).
    """
    folders = {
        Path(file).parent
        for name, module in sys.modules.items()
        if name.split(".")[0] == "skinsynth" and (file := getattr(module, "__file__", None))
    }
    code = sorted(file for folder in folders for file in folder.glob("*.py"))
    digest = hashlib.sha256(repr(settings).encode())
    for path in [*code, *sorted(file for entry in data for file in _files(entry))]:
        digest.update(path.name.encode() + bytes.fromhex(sha256_of(path)))
    root = Path(os.environ.get("SKINSYNTH_CHECKPOINTS", ".checkpoints"))
    return root / stage / f"{item}-{digest.hexdigest()[:16]}"


def cache_folder(name: str) -> Path:
    """Where what can be computed again is kept, out of Git and of DVC; SKINSYNTH_CACHE moves the root."""
    return Path(os.environ.get("SKINSYNTH_CACHE", ".cache")) / name


def _files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]


def best_device() -> Any:
    """The GPU where torch sees one, else the CPU (a torch.device)."""
    import torch  # here, since stages without networks need none of it

    if torch.cuda.is_available():
        return torch.device("cuda")
    _tell_of_unseen_gpu()
    return torch.device("cpu")


@cache
def _tell_of_unseen_gpu() -> None:
    """Says once that a GPU lies idle: torch falls back to the CPU where the driver is older than its CUDA."""
    import torch

    if shows_a_gpu() and "CUDA_VISIBLE_DEVICES" not in os.environ and _first_process():
        why = (
            "see whether the driver is new enough for that CUDA (nvidia-smi says which it takes)"
            if torch.version.cuda
            else "it was built without CUDA"
        )
        print(
            f"there is an NVIDIA GPU, but torch {torch.__version__} does not see it, so this runs on the CPU: {why}",
            file=sys.stderr,
        )
