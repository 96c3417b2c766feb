"""Where does a GAN's FID begin? That of untrained networks of many seeds beside the trained one's, as JSON.

    python benchmarks/untrained.py [--seeds 20] [--gans ben cgan]

For each GAN of params.yaml: FID to its training images (all images of its classes, `scored_images` generated ones, the
stage's extractor) of the averaged generator before the first step, for seeds 1, 2, …, as `train_gan` would begin with
each; then FID at the end of the committed training, and how many times less that is than its own start and than the
median one. Needs the images, the split and the classifier of a run (`make repro`); takes a minute on 2 cores.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from tqdm import tqdm

from benchmarks.measuring import rounded
from skinsynth.gan.presets import shared_config
from skinsynth.gan.trainer import Trainer
from skinsynth.gan.training import columns_of, configure
from skinsynth.images.archive import read_archive
from skinsynth.partition.split import images_of, read_split
from skinsynth.process import tune_process
from skinsynth.quality.curve import scorer_of
from skinsynth.stage import best_device, cache_folder, entry_of, load_params
from stages.train_gan import Settings


def main() -> None:
    """Begin each GAN many times, train none."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="how many starts of each GAN, from seed 1 on")
    parser.add_argument("--gans", nargs="+", help="names in params.yaml; left out: all")
    flags = parser.parse_args()
    settings = load_params("train_gan", Settings)
    tune_process()
    found = {name: about(name, starts(name, settings, flags.seeds)) for name in flags.gans or settings.runs}
    print(json.dumps(rounded(found), indent=2))


def starts(name: str, settings: Settings, seeds: int) -> dict[int, float]:
    """FID of the untrained generator by seed."""
    own = entry_of(settings.runs, name, "train_gan, runs")
    labels = sorted(settings.classes.index(known) for known in own.classes)
    rows = images_of(read_split(Path("data/splits/main.csv")), "train")
    real = read_archive(Path("data/images.zip"), rows.loc[rows["label"].isin(labels), "image_id"].tolist())
    columns = columns_of(torch.from_numpy(real.labels), labels)
    config = configure(shared_config(settings, real.pixels.shape, 1), own)
    found = {}
    for seed in tqdm(range(1, seeds + 1), unit="start", desc=name, delay=5):
        trainer = Trainer(replace(config, seed=seed), torch.from_numpy(real.pixels), columns, best_device())
        score = scorer_of(
            trainer, real, labels, settings, seed, Path("models/classifier/real"), cache_folder("features")
        )
        scores = score(trainer.generator_ema)
        found[seed] = next(value for key, value in scores.items() if key.startswith("fid"))
    return found


def about(name: str, starts: dict[int, float]) -> dict[str, object]:
    """The starts and what became of the one that was trained."""
    metrics = json.loads(Path(f"metrics/train_gan/{name}.json").read_text())
    (key,) = (key for key in metrics if key.startswith("fid") and not key.endswith("at_start"))
    middle = median(starts.values())
    return {
        "metric": key,
        "at_start_by_seed": starts,
        "at_start_median": middle,
        "at_start_of_the_trained": metrics[f"{key}_at_start"],
        "at_end": metrics[key],
        "falls_from_its_own_start": metrics[f"{key}_at_start"] / metrics[key],
        "falls_from_the_median_start": middle / metrics[key],
        "starts_three_times_above_the_end": sum(value >= 3 * metrics[key] for value in starts.values()),
    }


if __name__ == "__main__":
    main()
