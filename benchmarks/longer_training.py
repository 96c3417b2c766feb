"""Are the default GANs only trained too briefly? One training lengthened step by step, and judged after each, as JSON.

    python benchmarks/longer_training.py [--images 9600 19200 38400] [--seeds 1 2] [--folder /tmp/longer]

The phantom's conditional GAN sees more and more images: each training goes on where the shorter one has ended. After
each: FID against training and held-out images, and the AUC, on real test patients, of classifiers trained on as many of
its images as the default study takes (`synth-cgan`), beside that of real images. All else is the default study's own:
the same stages in a folder beside. What is found replaces that in docs/results/longer_training: table.csv, curve.png
and the last sample grid of each seed.

A second run with the same --folder goes on where the first was killed. It does not look at the code: after a change of
that, take a new folder.
"""

import argparse
import hashlib
import json
import shutil
from itertools import cycle
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.beside import ROOT, phantom_settings, run_stage, working_folder, write_settings
from skinsynth.files import folder_written_whole
from skinsynth.report.png import save_figure

RESULTS = ROOT / "docs/results/longer_training"
BEFORE = ("prepare_images", "split_patients", "train_classifier@real")
AFTER = ("train_gan@cgan", "score_gan@cgan", "generate_images@cgan", "train_classifier@synth-cgan")
REAL = "real images"
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7")  # told apart by the colour-blind (Okabe and Ito 2008)


def main() -> None:
    """Lengthen, judge, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[9600, 19200, 38400], help="in rising order")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2], help="of the GAN: a training each")
    parser.add_argument("--folder", type=Path, help="where to run; left out: a temporary folder, removed at the end")
    flags = parser.parse_args()
    if flags.images != sorted(set(flags.images)):
        parser.error(f"--images are lengths of one training, each longer than the last, but {flags.images} came")
    with working_folder(flags.folder) as folder:
        prepare(folder)
        rows, grids = [], {}
        for seed in flags.seeds:
            for images in flags.images:
                judge(folder, seed, images)
                rows += rows_of(folder, seed, images)
            grids[f"samples-{seed}.png"] = (folder / kept_name(seed, images) / "samples.png").read_bytes()
        rows += real_rows(folder)
    with folder_written_whole(RESULTS) as aside:
        pd.DataFrame(rows).to_csv(aside / "table.csv", index=False, float_format="%.6g", lineterminator="\n")
        draw(aside / "curve.png", pd.DataFrame(rows))
        for name, grid in grids.items():
            (aside / name).write_bytes(grid)
    print(json.dumps(rows, indent=2))


def prepare(folder: Path) -> None:
    """What all lengths have in common, by the settings of these stages alone."""
    phantom = phantom_settings()
    write_settings(folder, phantom)
    wanted = digest_of([phantom[name.split("@")[0]] for name in BEFORE])
    for name in BEFORE:
        run_stage(folder, name, wanted)


def judge(folder: Path, seed: int, images: int) -> None:
    """One length of one training, and what follows from it, unless it was judged before."""
    kept = folder / kept_name(seed, images)
    if kept.is_dir():
        return
    phantom = phantom_settings()
    phantom["train_gan"]["trainer"]["seed"] = seed
    phantom["train_gan"]["schedule"]["images"] = images
    write_settings(folder, phantom)
    for name in AFTER:
        run_stage(folder, name, (folder / "params.yaml").read_text())
    with folder_written_whole(kept) as aside:
        shutil.copyfile(folder / "metrics/score_gan/cgan/intervals.csv", aside / "fidelity.csv")
        shutil.copyfile(folder / "metrics/train_classifier/synth-cgan/intervals.csv", aside / "classifier.csv")
        shutil.copyfile(folder / "metrics/train_gan/cgan/samples.png", aside / "samples.png")


def kept_name(seed: int, images: int) -> str:
    """What was judged of one length, with the settings of params.yaml."""
    return f"judged-{seed}-{images}-{digest_of(phantom_settings())[:8]}"


def digest_of(settings: Any) -> str:
    """The same for the same settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def rows_of(folder: Path, seed: int, images: int) -> list[dict]:
    """FID against both sides in features of the extractor of the headlines, AUC of both arms, with intervals."""
    kept, about = folder / kept_name(seed, images), {"gan_seed": seed, "images": images}
    fidelity = pd.read_csv(kept / "fidelity.csv")
    fidelity = fidelity[fidelity["extractor"] == fidelity["extractor"].iloc[0]]
    fid = fidelity[(fidelity["class"] == "all") & (fidelity["metric"] == "fid") & (fidelity["compared"] == "generated")]
    found = [
        {**about, "metric": f"fid to {row['reference']}", **interval(row), "of": row["extractor"]}
        for row in fid.to_dict("records")
    ]
    return found + [{**about, **row} for row in auc_rows(kept / "classifier.csv")]


def real_rows(folder: Path) -> list[dict]:
    """AUC of the classifiers of real images: what synthetic ones are read against."""
    rows = auc_rows(folder / "metrics/train_classifier/real/intervals.csv")
    return [{"gan_seed": None, "images": None, **row, "of": REAL} for row in rows]


def auc_rows(path: Path) -> list[dict]:
    """One for all test images, one for those without a frame."""
    table = pd.read_csv(path)
    return [
        {"metric": f"auc, {row['arm']}", **interval(row), "of": "synth-cgan"}
        for row in table[table["metric"] == "auc"].to_dict("records")
    ]


def interval(row: dict) -> dict[str, float]:
    """The value with its 95 % interval."""
    return {name: row[name] for name in ("value", "low", "high")}


def draw(path: Path, rows: pd.DataFrame) -> None:
    """FID on the left, AUC on the right, against images seen; real images as a line with its interval."""
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    names = {"fid to train": "FID to training images", "auc, all": "AUC on test patients"}
    for axes, (metric, name) in zip(figure.subplots(1, 2), names.items(), strict=True):
        own = rows[(rows["metric"] == metric) & rows["images"].notna()]
        for colour, (seed, line) in zip(cycle(COLOURS), own.groupby("gan_seed"), strict=False):
            reach = (line["value"] - line["low"], line["high"] - line["value"])
            axes.errorbar(
                line["images"], line["value"], reach, color=colour, marker="o", capsize=3, label=f"seed {seed:.0f}"
            )
        for real in rows[(rows["metric"] == metric) & (rows["of"] == REAL)].to_dict("records"):
            axes.axhspan(real["low"], real["high"], color="#000000", alpha=0.08)
            axes.axhline(real["value"], color="#000000", linestyle="--", label="real images")
        axes.set_xlabel("real images seen in training")
        axes.set_ylabel(name)
        axes.legend(fontsize=8, frameon=False)
    save_figure(path, figure)


if __name__ == "__main__":
    main()
