"""Where does a GAN's FID begin? That of untrained networks of many seeds beside the trained one's, as JSON.

    python benchmarks/untrained.py [--seeds 20] [--gans ben cgan]

For each GAN of params.yaml: FID to its training images (all images of its classes, `scored_images` generated ones, the
stage's extractor) of the averaged generator before the first step, for seeds 1, 2, …, as `train_gan` would begin with
each; then FID at the end of the committed training, and how many times less that is than its own start and than the
median one. Needs the images, the split and the classifier of a run (`make repro`); takes two to three minutes on 2
cores. GANs that differ in augmentation alone begin alike, and are begun once.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from statistics import median

from tqdm import tqdm

from benchmarks.gans import CLASSIFIER, IMAGES, SPLIT, begin_gan, labels_in, with_seed
from benchmarks.measuring import rounded
from skinsynth.images.archive import read_archive
from skinsynth.partition.split import images_of, read_split
from skinsynth.process import tune_process
from skinsynth.quality.curve import scorer_of
from skinsynth.stage import best_device, cache_folder, load_params
from stages.train_gan import Settings


def main() -> None:
    """Begin each GAN many times, train none."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="how many starts of each GAN, from seed 1 on")
    parser.add_argument("--gans", nargs="+", help="names in params.yaml; left out: all")
    flags = parser.parse_args()
    settings = load_params("train_gan", Settings)
    tune_process()
    begun: dict[tuple[tuple[int, ...], bool], dict[int, float]] = {}
    found = {}
    for name in flags.gans or settings.runs:
        alike = tuple(labels_in(settings, name)), settings.runs[name].conditional
        if alike not in begun:
            begun[alike] = starts(name, settings, flags.seeds)
        found[name] = about(name, begun[alike])
    print(json.dumps(rounded(found), indent=2))


def starts(name: str, settings: Settings, seeds: int) -> dict[int, float]:
    """FID of the untrained generator by seed."""
    labels = labels_in(settings, name)
    rows = images_of(read_split(SPLIT), "train")
    real = read_archive(IMAGES, rows.loc[rows["label"].isin(labels), "image_id"].tolist())
    device = best_device()
    any_start = begin_gan(settings, name, real, device)
    score = scorer_of(any_start, real, labels, settings, 0, CLASSIFIER, cache_folder("features"))
    found = {}
    for seed in tqdm(range(1, seeds + 1), unit="start", desc=name, delay=5):
        scores = replace(score, seed=seed)(begin_gan(with_seed(settings, seed), name, real, device).generator_ema)
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
