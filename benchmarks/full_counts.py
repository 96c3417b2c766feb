"""Run stages with as many images as the study has, drawn phantoms of 32 px with short trainings, in a clone beside.

    python benchmarks/full_counts.py prepare_images split_patients train_classifier@real train_gan@cgan
    python benchmarks/full_counts.py                           # all stages, in dvc.yaml's order

What breaks at 40,000 images or takes too much memory is found without a GPU and without ISIC. Counts are those of scale
isic256, networks those of the phantom. One JSON line for each stage: seconds, and the peak memory in MB. A stage that
has come to its end in the clone is not run again; scores of these images mean nothing.
"""

import argparse
import json
import os
import subprocess
import sys
from functools import reduce
from pathlib import Path

import yaml

from benchmarks.real_files import ROOT, head_of, prepare_clone
from pipeline.without_dvc import commands

SCALE = "full32"
PATIENTS = 5870  # whose lesions are some 40,000 images
# What is taken from isic256: as many images, draws and cases.
COUNTS = (
    "train_classifier.scenarios",
    "score_gan.images",
    "score_gan.fidelity.kid_subset_size",
    "score_gan.path.samples",
    "score_federated.images",
    "select_gan.images_per_class",
    "generate_images.images",
    "find_directions.images",
    "find_directions.pca_samples",
    "remove_frames.images",
    "remove_frames.removal.most_draws",
    "project_images.images",
    "augment_edges.images",
    "embed_images.images_per_class",
    "embed_images.cases",
    "explain_classifier.cases",
)
# What makes a result good and takes no more memory: cut short.
SHORT = {
    "train_classifier.classifier.seeds": [1],
    "train_classifier.classifier.epochs": 6,
    "measure_dose_response.doses.classifier.seeds": [1],
    "measure_dose_response.doses.classifier.epochs": 2,
    "project_images.projection.steps": 20,
    "augment_edges.projection.steps": 20,
}


def main() -> None:
    """Clone, write the scale, run what has not been run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", help="stage or stage@item; none: all")
    parser.add_argument("--clone", type=Path, default=ROOT.parent / "skinsynth-full", help="where to run")
    flags = parser.parse_args()
    command_of = dict(commands(yaml.safe_load((ROOT / "dvc.yaml").read_text())))
    for name in flags.stages or command_of:
        if name not in command_of:
            parser.error(f"dvc.yaml has no {name}; it has {', '.join(command_of)}")
    prepare_clone(flags.clone, None, SCALE)
    write_scale(flags.clone / "params.yaml")
    for name in flags.stages or command_of:
        print(json.dumps({"commit": head_of(flags.clone)[:7], **timing_of(name, flags.clone)}), flush=True)


def write_scale(file: Path) -> None:
    """Beside the scales of params.yaml the phantom with isic256's counts."""
    params = yaml.safe_load(file.read_text())
    scales = params["scales"]
    # Anchors tie scales to one another: a copy through JSON has ties no more.
    scale = json.loads(json.dumps(scales["phantom"]))
    put(scale, "prepare_images.sources.phantom.patients", PATIENTS)
    for key in COUNTS:
        put(scale, key, under(scales["isic256"], key))
    for key, value in SHORT.items():
        put(scale, key, value)
    scales[SCALE] = scale
    file.write_text(yaml.safe_dump(params, sort_keys=False))


def under(settings: dict, key: str) -> object:
    """The value at `a.b.c`."""
    return reduce(lambda part, name: part[name], key.split("."), settings)


def put(settings: dict, key: str, value: object) -> None:
    """Set what stands at `a.b.c`, which must be there."""
    *way, last = key.split(".")
    part = reduce(lambda part, name: part[name], way, settings)
    if last not in part:
        raise KeyError(f"no {key} in params.yaml")
    part[last] = value


def timing_of(name: str, clone: Path) -> dict:
    """Seconds and peak memory of a stage, run where that is not known yet; its output goes to stderr."""
    file = clone / f"metrics/timing/{name}.json"
    if not file.is_file():
        # The clone's own code, whichever project the environment was made for.
        environment = {**os.environ, "PYTHONPATH": str(clone.resolve())}
        command = [sys.executable, "pipeline/without_dvc.py", name]
        code = subprocess.run(command, cwd=clone, env=environment, stdout=sys.stderr, check=False).returncode
        if code:
            return {"stage": name, "exit_code": code}
    timing = json.loads(file.read_text())
    return {"stage": name, "seconds": round(timing["seconds"]), "peak_memory_mb": round(timing["peak_memory_mb"])}


if __name__ == "__main__":
    main()
