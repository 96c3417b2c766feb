"""What `make repro` says last: shares of the stages, peak memory, whether dvc.lock is as committed, where to look."""

import json
import subprocess
from pathlib import Path

TIMING = Path("metrics/timing")
STARTED = Path(".repro-started")


def main() -> None:
    """Print the stages that ran since .repro-started was written."""
    began = float(STARTED.read_text()) if STARTED.is_file() else 0.0
    timings = [json.loads(file.read_text()) for file in TIMING.glob("*.json")]
    ran = sorted((t for t in timings if t["started"] >= began), key=lambda timing: timing["started"])
    print_shares(ran)
    print_lock()
    print_places()


def print_shares(ran: list[dict]) -> None:
    """One line a stage: seconds, share, peak memory."""
    if not ran:
        print("\nEvery stage was up to date.")
        return
    seconds = [timing["seconds"] for timing in ran]
    print(f"\n{'stage':<34}{'seconds':>9}{'share':>8}{'memory':>10}")
    for timing, spent in zip(ran, seconds, strict=True):
        print(f"{timing['stage']:<34}{spent:>9.1f}{spent / sum(seconds):>8.0%}{timing['peak_memory_mb']:>7.0f} MB")
    wall = ran[-1]["started"] + seconds[-1] - ran[0]["started"]
    peak = max(timing["peak_memory_mb"] for timing in ran)
    print(f"{'all, with DVC between them':<34}{wall:>9.1f}{'':>8}{peak:>7.0f} MB")


def print_lock() -> None:
    """Whether this run gave the results that are committed."""
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "dvc.lock"], check=False).returncode
    if changed:
        print(
            "\ndvc.lock differs from the committed one: settings, code or data changed, or this machine rounds "
            "differently.\nSee what moved with: dvc metrics diff   git diff dvc.lock"
        )
    else:
        print("\ndvc.lock is the committed one: these are the published results, to the byte.")


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
