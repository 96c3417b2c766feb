"""What `make repro` says last: shares of the stages, peak memory, whether the results are the committed ones.

    python pipeline/summary.py

It runs no stage, takes no flags and changes nothing. Shares are of the stages that ran since the last `make repro`
began; the results are the committed ones where dvc.lock is and every output that it names is here.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

LOCK = Path("dvc.lock")
TIMING = Path("metrics/timing")
STARTED = Path(".repro-started")


def main() -> None:
    """Print the stages that ran since .repro-started was written."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if not LOCK.is_file():
        sys.exit(f"summary: no {LOCK} here: run it from the project's root, where `make repro` has run")
    began = float(STARTED.read_text()) if STARTED.is_file() else 0.0
    timings = [json.loads(file.read_text()) for file in TIMING.glob("*.json")]
    ran = sorted((t for t in timings if t["started"] >= began), key=lambda timing: timing["started"])
    print_shares(ran)
    print_lock()
    print_places()


def print_shares(ran: list[dict]) -> None:
    """One line a stage: seconds, share, peak memory."""
    if not ran:
        print("\nEvery stage was up to date." if STARTED.is_file() else "\n`make repro` has not run here yet.")
        return
    seconds = [timing["seconds"] for timing in ran]
    print(f"\n{'stage':<34}{'seconds':>9}{'share':>8}{'memory':>10}")
    for timing, spent in zip(ran, seconds, strict=True):
        print(f"{timing['stage']:<34}{spent:>9.1f}{spent / sum(seconds):>8.0%}{timing['peak_memory_mb']:>7.0f} MB")
    wall = max(timing["started"] + timing["seconds"] for timing in ran) - ran[0]["started"]
    peak = max(timing["peak_memory_mb"] for timing in ran)
    print(f"{'all, with DVC between them':<34}{wall:>9.1f}{'':>8}{peak:>7.0f} MB")


def print_lock() -> None:
    """Whether the results here are those that are committed."""
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", str(LOCK)], check=False).returncode
    outputs = outputs_of(yaml.safe_load(LOCK.read_text()), stages_now())
    print("\n" + verdict(bool(changed), outputs, [output for output in outputs if not Path(output).exists()]))


def stages_now() -> list[str]:
    """Names of the stages that dvc.yaml and params.yaml make; dvc.lock also remembers earlier ones."""
    dvc = Path(sys.executable).with_name("dvc")
    listed = subprocess.run([dvc, "stage", "list", "--name-only"], check=True, capture_output=True, text=True)
    return listed.stdout.split()


def outputs_of(lock: dict[str, Any], stages: Collection[str]) -> list[str]:
    """Paths that dvc.lock names as made by these stages."""
    return [out["path"] for name, stage in lock["stages"].items() if name in stages for out in stage.get("outs", [])]


def verdict(changed: bool, outputs: Collection[str], missing: list[str]) -> str:
    """What a person is told about dvc.lock and what it names."""
    if missing:
        return (
            f"{len(missing)} of the {len(outputs)} outputs that dvc.lock names are missing here, {missing[0]} first: "
            f"these are no whole results. So far dvc.lock {'differs from' if changed else 'is'} the committed one.\n"
            "Go on with: make repro"
        )
    if changed:
        return (
            "dvc.lock differs from the committed one: settings, code or data changed, or this machine rounds "
            "differently.\nSee what moved with: dvc metrics diff   git diff dvc.lock"
        )
    return "dvc.lock is the committed one, and all outputs are here; after `dvc repro` these are the published results."


def print_places() -> None:
    """Where a person looks next."""
    print(
        "\nResults\n"
        "  numbers    metrics/*.json, metrics/*/*.json          dvc metrics show\n"
        "  pictures   metrics/train_gan/*/samples.png           dvc plots show\n"
        "  models     models/gan/, models/classifier/\n"
        "  images     data/images.zip, data/synthetic/*.zip"
    )


if __name__ == "__main__":
    main()
