"""Does frame removal work where the GAN does make frames? On a phantom with many of them, longer training, as JSON.

    python benchmarks/frame_removal.py [--images 38400] [--folder /tmp/frames]

The default phantom's GANs make next to none (see `audit_artefacts`). Here 40 % of the benign and 80 % of the malignant
images have a frame, each GAN is trained for longer, and a detector is trained for frames alone; all else is the default
study's own: the same stages with other settings, in a folder beside, which leaves the project's own data, models and
metrics as they are. What is found replaces that in docs/results/frame_removal: found.json, which is printed too,
frames.png and strips.png.

A second run with the same --folder goes on where the first was killed, and skips the stages that ended there with the
same command and settings. It does not look at the code: after a change of that, take a new folder.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import yaml

from benchmarks.without_dvc import commands

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs/results/frame_removal"
STAGES = (
    "prepare_images",
    "split_patients",
    "train_classifier@real",
    "train_gan@ben",
    "train_gan@mal",
    "train_detectors",
    "remove_frames",
)
FRAMES = {"benign": 0.4, "malignant": 0.8}  # share of the images


def main() -> None:
    """Run the stages, then say what the chosen moves do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=38400, help="real ones that each GAN sees (default study: 9600)")
    parser.add_argument("--folder", type=Path, help="where to run; left out: a temporary folder, removed at the end")
    flags = parser.parse_args()
    folder = flags.folder or Path(tempfile.mkdtemp(prefix="frames-"))
    write_settings(folder, flags.images)
    command_of = dict(commands(yaml.safe_load((ROOT / "dvc.yaml").read_text())))
    for name in STAGES:
        run(folder, name, command_of[name])
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "found.json").write_text(json.dumps(found(folder, flags.images), indent=2) + "\n")
    for name in ("frames.png", "strips.png"):
        shutil.copyfile(folder / "metrics/remove_frames" / name, RESULTS / name)
    print((RESULTS / "found.json").read_text())
    if not flags.folder:
        shutil.rmtree(folder)


def write_settings(folder: Path, images: int) -> None:
    """The phantom's params.yaml with more frames and a longer training."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    phantom = params["scales"]["phantom"]
    phantom["prepare_images"]["sources"]["phantom"]["black_frame"] = FRAMES
    phantom["train_detectors"]["artefacts"] = ["black_frame"]
    phantom["train_gan"]["schedule"] = {"images": images, "images_per_tick": 960, "ticks_per_score": 10}
    for place in ("data/raw", "data/initial"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(
        yaml.safe_dump({"scale": "phantom", "scales": {"phantom": phantom}}, sort_keys=False)
    )


def run(folder: Path, name: str, command: str) -> None:
    """One stage, unless it has ended in this folder before, with this command and these settings."""
    done, wanted = folder / f".{name}-done", f"{command}\n{(folder / 'params.yaml').read_text()}"
    if done.is_file() and done.read_text() == wanted:
        return
    # From here on the stage's files may be of either settings.
    done.unlink(missing_ok=True)
    _, script, *arguments = shlex.split(command)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, str(ROOT / script), *arguments], cwd=folder, env=environment, check=True)
    done.write_text(wanted)


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
    }


if __name__ == "__main__":
    main()
