"""Do a GAN's images take over the colours of augmentation that acts? Colours by preset and fixed strength, as JSON.

    python benchmarks/colour_leak.py [--presets bgc bg] [--strengths 0.2 0.5 0.8] [--seeds 2 3] [--grid FILE]

In a study of small trainings ADA may never act: its strength stays near 0, and GANs that differ in their augmentation
alone differ by chance. Here each preset is held at each strength, beside no augmentation, and the images of each GAN
are set against its training images: distances of hue, saturation and brightness, and the share of images beyond the
central 98 % of real means (`score_gan`), with intervals over random halves; FID in the features of `train_gan`'s curve.
The first line is of held-out real images, the floor of all. Needs the images, the split and the classifier of a run
(`make repro`); a minute or two for each training on 2 cores, each printed as it ends.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.gans import CLASSIFIER, IMAGES, SPLIT, begin_gan, labels_in, train_until, with_seed
from benchmarks.measuring import rounded
from skinsynth.gan.training import RunConfig
from skinsynth.images.archive import Images
from skinsynth.images.grid import save_grid
from skinsynth.process import tune_process
from skinsynth.quality.colour import ColourHistograms, colour_rows
from skinsynth.quality.curve import CurveScorer, scorer_of
from skinsynth.quality.fidelity import GENERATED, HELD_OUT, TRAIN
from skinsynth.quality.image_set import RealSides, real_sides
from skinsynth.stage import best_device, cache_folder, load_params
from stages.train_gan import Settings

COUNT, DRAWS, SHOWN = 1000, 200, 16  # generated images of each GAN, random halves, images in a row of the grid
METRICS = ("hue_w1_degrees", "saturation_w1", "brightness_w1", "hue_leak_share", "saturation_leak_share")
COLOURS = ColourHistograms()


def main() -> None:
    """Train with each strength of each preset, once a seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gan", default="cgan", help="its name in params.yaml")
    parser.add_argument("--presets", nargs="*", default=["bgc", "bg"], help="kinds of augmentation")
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.2, 0.5, 0.8], help="values of p, kept fixed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3], help="a training each")
    parser.add_argument("--grid", type=Path, help="where to draw images of the first seed, a row for each GAN")
    flags = parser.parse_args()
    settings = load_params("train_gan", Settings)
    tune_process()
    real = real_sides(IMAGES, SPLIT, labels_in(settings, flags.gan))
    told({"images": HELD_OUT, **colours(real, None)})
    shown = []
    for run in runs(settings.runs[flags.gan], flags.presets, flags.strengths):
        for seed in flags.seeds:
            changed = replace(with_seed(settings, seed), runs={flags.gan: run})
            fake, scores = trained(changed, flags.gan, real.train, seed)
            told({"augment": run.augment, "p": run.initial_p, "seed": seed, **scores, **colours(real, fake)})
            if seed == flags.seeds[0]:
                shown.append(fake[np.linspace(0, len(fake) - 1, SHOWN).astype(int)])
    if flags.grid is not None:
        save_grid(flags.grid, np.concatenate(shown), columns=SHOWN)


def runs(own: RunConfig, presets: list[str], strengths: list[float]) -> Iterator[RunConfig]:
    """No augmentation, then each preset at each strength."""
    yield replace(own, augment="none", adaptive=False, initial_p=0.0)
    for preset in presets:
        for strength in strengths:
            yield replace(own, augment=preset, adaptive=False, initial_p=strength)


def trained(settings: Settings, name: str, real: Images, seed: int) -> tuple[np.ndarray, dict[str, float]]:
    """Images of the averaged generator at the end of the schedule, and their scores."""
    trainer = begin_gan(settings, name, real, best_device())
    with tqdm(total=settings.schedule.images, unit="image", desc=f"{name}, seed {seed}", delay=5, leave=False) as bar:
        train_until(trainer, settings.schedule.images, bar)
    labels = labels_in(settings, name)
    scorer: CurveScorer = scorer_of(trainer, real, labels, settings, seed, CLASSIFIER, cache_folder("features"))
    return scorer.sample(trainer.generator_ema, COUNT).numpy(), scorer(trainer.generator_ema)


def colours(real: RealSides, fake: np.ndarray | None) -> dict[str, Any]:
    """Each of METRICS of the fakes, or of held-out images where none came, against the training images."""
    train, held_out = (COLOURS(torch.from_numpy(images.pixels)) for images in (real.train, real.held_out))
    seen = held_out if fake is None else COLOURS(torch.from_numpy(fake))
    rng = torch.Generator().manual_seed(1)
    rows = colour_rows(train, seen, held_out if fake is None else None, DRAWS, rng, patients=real.patients)
    compared = (HELD_OUT if fake is None else GENERATED, TRAIN)
    rows = [row for row in rows if (row["compared"], row["reference"]) == compared]
    found = {row["metric"]: {key: row[key] for key in ("value", "low", "high")} for row in rows}
    return {metric: found[metric] for metric in METRICS}


def told(found: dict[str, Any]) -> None:
    """One line of JSON."""
    print(json.dumps(rounded(found)), flush=True)


if __name__ == "__main__":
    main()
