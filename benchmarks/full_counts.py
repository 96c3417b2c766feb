"""Run stages with as many images as the study has, on drawn phantoms of 32 px with short trainings, in a folder beside.

    python benchmarks/full_counts.py prepare_images split_patients train_classifier@real --folder /tmp/full
    python benchmarks/full_counts.py --folder /tmp/full                              # all stages, in dvc.yaml's order

What breaks at 40,000 images or takes too much memory is found without a GPU and without ISIC. Counts are those of scale
isic256, networks those of the phantom; scores of these images mean nothing. One JSON line for each stage: seconds (of
its last run, where one was killed and went on) and the peak memory in MB; it ends at the first stage that fails. A
stage that has ended in the folder with the same command and settings is not run again: after a change of code take a
new folder.
"""

import argparse
import json
import subprocess
from functools import reduce
from pathlib import Path
from typing import Any

import yaml

from benchmarks.beside import ROOT, phantom_settings, run_stage, working_folder, write_settings
from pipeline.without_dvc import commands

PATIENTS = 5870  # whose lesions are some 40,000 images
# What is taken from isic256: as many images, draws and cases.
COUNTS = (
    "train_classifier.scenarios",
    "train_gan.scored_images",
    "train_federated.scored_images",
    "score_gan.images",
    "score_gan.fidelity.kid_subset_size",
    "score_gan.path.samples",
    "score_federated.images",
    "select_gan.images_per_class",
    "generate_images.images",
    "find_directions.images",
    "find_directions.pca_samples",
    "remove_frames.images",
    "remove_frames.removal.images",
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
    """Write the settings, run what has not been run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", help="stage or stage@item; none: all")
    parser.add_argument("--folder", type=Path, help="where to run; a temporary one, removed at the end, if not given")
    flags = parser.parse_args()
    known = list(dict(commands(yaml.safe_load((ROOT / "dvc.yaml").read_text()))))
    unknown = [name for name in flags.stages if name not in known]
    if unknown:
        parser.error(f"dvc.yaml has no {', '.join(unknown)}; it has {', '.join(known)}")
    with working_folder(flags.folder) as folder:
        write_settings(folder, full_counts())
        for name in flags.stages or known:
            try:
                run_stage(folder, name, (folder / "params.yaml").read_text())
            except subprocess.CalledProcessError as error:
                raise SystemExit(f"full_counts: {error}") from None  # which names the signal of a killed stage
            timing = json.loads((folder / f"metrics/timing/{name}.json").read_text())
            row = {"seconds": round(timing["seconds"]), "peak_memory_mb": round(timing["peak_memory_mb"])}
            print(json.dumps({"stage": name, **row}), flush=True)


def full_counts() -> dict[str, Any]:
    """Settings of the phantom with the counts of isic256."""
    study = yaml.safe_load((ROOT / "params.yaml").read_text())["scales"]["isic256"]
    # Anchors tie settings to one another: a copy through JSON has ties no more.
    settings = json.loads(json.dumps(phantom_settings()))
    counts = {key: reduce(lambda part, name: part[name], key.split("."), study) for key in COUNTS}
    for key, value in {"prepare_images.sources.phantom.patients": PATIENTS, **counts, **SHORT}.items():
        *way, last = key.split(".")
        part = reduce(lambda part, name: part[name], way, settings)
        if last not in part:
            raise KeyError(f"no {key} in params.yaml")
        part[last] = value
    return settings


if __name__ == "__main__":
    main()
