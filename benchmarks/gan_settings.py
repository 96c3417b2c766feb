"""Would a GAN train better with other settings? FID along one training for each, as JSON.

    python benchmarks/gan_settings.py --gan cgan --seeds 1 2 --set path_length_weight=0 --set batch_size=8 r1_gamma=0.1

Each --set is one variant of `trainer` in params.yaml, with the schedule, the extractor and the images that `train_gan`
would take; without one the settings are judged as they are. Trainings differ by their seed alone by as much as most
settings do: give several. Needs the images, the split and the classifier of a run (`make repro`); a minute or two for
each training on 2 cores, and a variant after the other is printed as it ends.
"""

import argparse
import json
from dataclasses import replace
from typing import Any

import yaml
from tqdm import tqdm

from benchmarks.gans import CLASSIFIER, IMAGES, SPLIT, begin_gan, labels_in, with_seed
from benchmarks.measuring import rounded
from skinsynth.images.archive import Images, read_archive
from skinsynth.partition.split import images_of, read_split
from skinsynth.process import tune_process
from skinsynth.quality.curve import scorer_of
from skinsynth.settings import check_ranges
from skinsynth.stage import best_device, cache_folder, load_params
from stages.train_gan import Settings


def main() -> None:
    """Train each variant with each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gan", default="cgan", help="its name in params.yaml")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="a training each")
    parser.add_argument(
        "--set", nargs="+", action="append", dest="variants", metavar="KEY=VALUE", help="entries of `trainer`"
    )
    flags = parser.parse_args()
    settings = load_params("train_gan", Settings)
    tune_process()
    labels = labels_in(settings, flags.gan)
    rows = images_of(read_split(SPLIT), "train")
    real = read_archive(IMAGES, rows.loc[rows["label"].isin(labels), "image_id"].tolist())
    for variant in flags.variants or [[]]:
        changes = {key: yaml.safe_load(value) for key, _, value in (one.partition("=") for one in variant)}
        try:
            changed = replace(settings, trainer=replace(settings.trainer, **changes))
            check_ranges(changed, "--set")
        except (TypeError, ValueError) as error:
            parser.error(f"--set takes entries of `trainer` in params.yaml, as they stand there: {error}")
        for seed in flags.seeds:
            found = {"gan": flags.gan, "seed": seed, "set": changes, "curve": curve(changed, flags.gan, real, seed)}
            print(json.dumps(rounded(found)), flush=True)


def curve(settings: Settings, name: str, real: Images, seed: int) -> list[dict[str, Any]]:
    """Scores of the averaged generator at the start, and wherever the schedule has one."""
    schedule = settings.schedule
    trainer = begin_gan(with_seed(settings, seed), name, real, best_device())
    labels = labels_in(settings, name)
    score = scorer_of(trainer, real, labels, settings, seed, CLASSIFIER, cache_folder("features"))
    points = [{"images": 0, **score(trainer.generator_ema)}]
    due = schedule.images_per_tick * schedule.ticks_per_score
    with tqdm(total=schedule.images, unit="image", desc=f"{name}, seed {seed}", delay=5, leave=False) as bar:
        while trainer.images_seen < schedule.images:
            trainer.step()
            bar.update(trainer.config.batch_size)
            if trainer.images_seen // due > points[-1]["images"] // due or trainer.images_seen >= schedule.images:
                points.append({"images": trainer.images_seen, **score(trainer.generator_ema)})
    return points


if __name__ == "__main__":
    main()
