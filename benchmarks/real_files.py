"""Run the pipeline on real ISIC files in a clone beside the project; bring home metrics and synthetic images.

    python benchmarks/real_files.py [--isic FOLDER] [--clone FOLDER] [--scale isic32] [--federation-only]

The clone is of the commit that is checked out, without what is not committed; it keeps its own data, models and DVC
cache, and an unfinished run goes on there. Numbers, curves and synthetic images alone come back, to
docs/results/<scale>/, with the commit, the seconds and the peak memory in run.json (federation-run.json where
score_federated alone was asked for). `dvc` must be on the path.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.beside import ROOT
from benchmarks.results import bring_federation, bring_home


def main() -> None:
    """Clone, link the raw files, switch the scale, run, bring home."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isic", type=Path, default=ROOT.parent / "shared/data/isic", help="folder of the real files")
    parser.add_argument("--clone", type=Path, default=ROOT.parent / "skinsynth-real", help="where to run")
    parser.add_argument("--scale", default="isic32", help="a scale of params.yaml on real files")
    parser.add_argument("--federation-only", action="store_true", help="score_federated and what it needs, no more")
    flags = parser.parse_args()
    if not flags.isic.is_dir():
        parser.error(f"no folder {flags.isic}: say with --isic where the real files are (data/raw/README.md)")
    prepare_clone(flags.clone, flags.isic, flags.scale)
    part, whole = ["dvc", "repro", "score_federated"], [sys.executable, "pipeline/repro.py"]
    # The clone's own code, whichever project the environment was made for.
    environment = {**os.environ, "PYTHONPATH": str(flags.clone.resolve())}
    subprocess.run(part if flags.federation_only else whole, cwd=flags.clone, env=environment, check=True)
    if flags.federation_only:
        write_run(flags.clone, bring_federation(flags.clone) / "federation-run.json", flags)
    else:
        results = bring_home(flags.clone)
        # The federation there is this run's own.
        (results / "federation-run.json").unlink(missing_ok=True)
        write_run(flags.clone, results / "run.json", flags)


def prepare_clone(clone: Path, isic: Path, scale: str) -> None:
    """A clone at this commit whose data/raw/isic holds links to the real files; an unfinished one goes on."""
    if clone.exists() and head_of(clone) != head_of(ROOT):
        raise SystemExit(f"{clone} is at another commit: remove it to run this one")
    if not clone.exists():
        aside = clone.with_name(clone.name + ".unfinished")
        shutil.rmtree(aside, ignore_errors=True)
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(aside)], check=True)
        # A tree of links, which DVC looks into; of a link to a folder it would see the name alone.
        shutil.copytree(isic.resolve(), aside / "data/raw/isic", copy_function=os.symlink)
        aside.rename(clone)
    params = clone / "params.yaml"
    lines = params.read_text().splitlines(keepends=True)
    params.write_text("".join(f"scale: {scale}\n" if line.startswith("scale:") else line for line in lines))


def head_of(repository: Path) -> str:
    """The commit that is checked out."""
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository, check=True, capture_output=True, text=True)
    return found.stdout.strip()


def write_run(clone: Path, file: Path, flags: argparse.Namespace) -> None:
    """The command, the commit, the peak memory and the time of all stages, those before an interruption too."""
    timings = [json.loads(file.read_text()) for file in sorted((clone / "metrics/timing").glob("*.json"))]
    run = {
        "command": f"python benchmarks/real_files.py --scale {flags.scale}"
        + (" --federation-only" if flags.federation_only else ""),
        "commit": head_of(clone),
        "seconds": round(sum(timing["seconds"] for timing in timings)),
        "peak_memory_mb": round(max(timing["peak_memory_mb"] for timing in timings)),
        "seconds_by_stage": {timing["stage"]: round(timing["seconds"], 1) for timing in timings},
    }
    file.write_text(json.dumps(run, indent=2) + "\n")
    print(json.dumps(run, indent=2))


if __name__ == "__main__":
    main()
