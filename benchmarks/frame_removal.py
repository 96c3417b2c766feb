"""Does frame removal work where the GAN does make frames? On a phantom with many of them, longer training, as JSON.

    python benchmarks/frame_removal.py [--images 38400] [--folder /tmp/frames]

The default phantom's GANs make next to none (see `audit_artefacts`). Here 40 % of the benign and 80 % of the malignant
images have a frame, each GAN is trained for longer, and a detector is trained for frames alone. Then one classifier
learns from the images without frames and one from the same images as they were, and both are judged on real test
images: all, those with a frame and those without. All else is the default study's own: the same stages with other
settings, in a folder beside, which leaves the project's own data, models and metrics as they are. What is found
replaces that in docs/results/frame_removal: found.json, which is printed too, frames.png and strips.png.

A second run with the same --folder goes on where the first was killed, and skips the stages that ended there with the
same command and settings. It does not look at the code: after a change of that, take a new folder.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.beside import ROOT, phantom_settings, run_stage, working_folder, write_settings
from skinsynth.files import folder_written_whole

RESULTS = ROOT / "docs/results/frame_removal"
STAGES = (
    "prepare_images",
    "split_patients",
    "train_classifier@real",
    "train_gan@ben",
    "train_gan@mal",
    "train_detectors",
    "remove_frames",
    "train_classifier@synth-with-frames",
    "train_classifier@synth-frame-free",
    "compare_classifiers@frame-free",
)
# Of the test set, in which both classifiers are compared.
PARTS = ("all", "with black_frame", "without black_frame")
FRAMES = {"benign": 0.4, "malignant": 0.8}  # share of the images


def main() -> None:
    """Run the stages, then say what the chosen moves do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=38400, help="real ones that each GAN sees (default study: 9600)")
    parser.add_argument("--folder", type=Path, help="where to run; left out: a temporary folder, removed at the end")
    flags = parser.parse_args()
    with working_folder(flags.folder) as folder:
        write_settings(folder, many_frames(flags.images))
        for name in STAGES:
            run_stage(folder, name, (folder / "params.yaml").read_text())
        with folder_written_whole(RESULTS) as aside:
            (aside / "found.json").write_text(json.dumps(found(folder, flags.images), indent=2) + "\n")
            for name in ("frames.png", "strips.png"):
                shutil.copyfile(folder / "metrics/remove_frames" / name, aside / name)
    print((RESULTS / "found.json").read_text())


def many_frames(images: int) -> dict[str, Any]:
    """The phantom's settings with more frames and a longer training."""
    phantom = phantom_settings()
    phantom["prepare_images"]["sources"]["phantom"]["black_frame"] = FRAMES
    phantom["train_detectors"]["artefacts"] = ["black_frame"]
    phantom["train_gan"]["schedule"] = {"images": images, "images_per_tick": 960, "ticks_per_score": 10}
    return phantom


def found(folder: Path, images: int) -> dict:
    """The measured moves, GAN by GAN, beside the detector's AUC."""
    measured = pd.read_csv(folder / "metrics/remove_frames/measured.csv").to_dict("records")
    detector = json.loads((folder / "metrics/train_detectors.json").read_text())
    classifier = json.loads((folder / "metrics/train_classifier/real.json").read_text())
    return {
        "images_seen_by_each_gan": images,
        "share_of_images_with_a_frame": FRAMES,
        "detector_auc": detector["auc_black_frame"],
        "classifier_auc": classifier["auc"],
        "moves": [{key: value for key, value in row.items() if not pd.isna(value)} for row in measured],
        "classifiers_trained_on_synthetic_images": compared(folder),
    }


def compared(folder: Path) -> list[dict[str, Any]]:
    """AUC of the classifiers trained on frame-free images and on those with frames, and the difference with its
    interval over patients, by part of the test set."""
    table = pd.read_csv(folder / "metrics/compare_classifiers/frame-free/comparison.csv")
    rows = table[(table["metric"] == "positive_auc") & table["part"].isin(PARTS)]
    told = rows.rename(columns={"first": "auc_frame_free", "second": "auc_with_frames", "difference": "auc_difference"})
    told = told.drop(columns=["comparison", "metric"])
    return [{key: value for key, value in row.items() if not pd.isna(value)} for row in told.to_dict("records")]


if __name__ == "__main__":
    main()
