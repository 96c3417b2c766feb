"""Run the whole pipeline twice by force, from the project's root, and compare dvc.lock to the byte; prints JSON.

    python benchmarks/repro_twice.py

It runs `dvc repro -f` two times, all stages each time, which takes twice as long as README.md says of `make repro`.
The results in this folder are replaced by those of the second run, so take a clone if they matter. `dvc` must be on
the path. The exit code is 1 where the two differ.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

LOCK = Path("dvc.lock")


def main() -> None:
    """Both runs, then whether they are equal."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    runs = [run_once() for _ in range(2)]
    same = runs[0]["lock_sha256"] == runs[1]["lock_sha256"]
    print(json.dumps({"equal": same, "runs": runs}, indent=2))
    sys.exit(0 if same else 1)


def run_once() -> dict[str, str | float]:
    """Seconds of `dvc repro -f`, and what its lock file hashes to."""
    start = time.perf_counter()
    subprocess.run(["dvc", "repro", "-f"], check=True)
    seconds = time.perf_counter() - start
    return {"seconds": round(seconds, 1), "lock_sha256": hashlib.sha256(LOCK.read_bytes()).hexdigest()}


if __name__ == "__main__":
    main()
