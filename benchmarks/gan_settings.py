"""Would a GAN train better with other settings, or worse in 16 bits? FID along one training for each, as JSON.

    python benchmarks/gan_settings.py --gan cgan --seeds 1 2 --set path_length_weight=0 --set batch_size=8 r1_gamma=0.1
    python benchmarks/gan_settings.py --seeds 1 2 --in float32 float16 fused-float16 --images 200000   # on a GPU

Each --set is one variant of `trainer` in params.yaml, with the schedule, the extractor and the images that `train_gan`
would take; without one the settings are judged as they are. Trainings differ by their seed alone by as much as most
settings do: give several. --in says how a GPU computes the networks; a CPU computes all in 32 bits and without kernels,
unless --emulate has it round as a GPU would (float16 eight times as slow there). The last line then says whether FID
and KID at the end lie within what those of float32 span over the seeds. Needs the images, the split and the classifier
of a run (`make repro`); a minute or two for each training on 2 cores, and one training after the other is printed as it
ends.
"""

import argparse
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from typing import Any
from unittest import mock

import torch
import yaml
from torch import Tensor
from tqdm import tqdm

from benchmarks.gans import CLASSIFIER, IMAGES, SPLIT, begin_gan, labels_in, with_seed
from benchmarks.measuring import rounded
from skinsynth.gan import discriminator, generator, trainer
from skinsynth.gan.layers import HALF_TYPES, HalfType
from skinsynth.gan.trainer import TrainerConfig
from skinsynth.images.archive import Images, read_archive
from skinsynth.partition.split import images_of, read_split
from skinsynth.process import tune_process
from skinsynth.quality.curve import scorer_of
from skinsynth.settings import check_ranges
from skinsynth.stage import best_device, cache_folder, load_params
from stages.train_gan import Settings

PLAIN = "float32"
# Type of the top levels, and whether Triton's kernels compute.
WAYS = {
    PLAIN: None,
    "float16": ("float16", False),
    "bfloat16": ("bfloat16", False),
    "fused-float16": ("float16", True),
    "fused-bfloat16": ("bfloat16", True),
}


def main() -> None:
    """Train each variant in each way with each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gan", default="cgan", help="its name in params.yaml")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="a training each")
    parser.add_argument(
        "--set", nargs="+", action="append", dest="variants", metavar="KEY=VALUE", help="entries of `trainer`"
    )
    parser.add_argument(
        "--in", nargs="+", choices=WAYS, default=[None], dest="ways", help="as params.yaml says if none"
    )
    parser.add_argument("--emulate", action="store_true", help="16 bits on a CPU too, to see what rounding does")
    parser.add_argument("--images", type=int, help="of each training, in the place of the schedule's")
    flags = parser.parse_args()
    settings = load_params("train_gan", Settings)
    if flags.images:
        settings = replace(settings, schedule=replace(settings.schedule, images=flags.images))
    if settings.trainer is None:
        parser.error("variants are of `trainer` in params.yaml, but it gives a preset")
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
        found: dict[str, list[dict[str, Any]]] = {}
        for way in flags.ways:
            computed = changed if way is None else replace(changed, trainer=computed_in(changed.trainer, way))
            for seed in flags.seeds:
                with halves_on_the_cpu() if flags.emulate else nullcontext():
                    points = curve(computed, flags.gan, real, seed)
                found.setdefault(way, []).append(points[-1])
                about = {"gan": flags.gan, "seed": seed, "set": changes, "in": way, "emulated": flags.emulate}
                print(json.dumps(rounded(about | {"curve": points})), flush=True)
        if PLAIN in found and len(found) > 1:
            print(json.dumps(rounded({"set": changes, "within_float32": within_plain(found)})), flush=True)


def computed_in(config: TrainerConfig, way: str) -> TrainerConfig:
    """The same networks, computed in one of `WAYS`: as many top levels in 16 bits as params.yaml says, or all."""
    half = WAYS[way]
    if half is None:
        of_generator = of_discriminator = {"half_levels": 0, "fused": False}
    else:
        levels = config.generator.resolution.bit_length() - 2
        of_generator, of_discriminator = (
            {"half_levels": network.half_levels or levels, "half_type": half[0], "fused": half[1]}
            for network in (config.generator, config.discriminator)
        )
    return replace(
        config,
        generator=replace(config.generator, **of_generator),
        discriminator=replace(config.discriminator, **of_discriminator),
    )


@contextmanager
def halves_on_the_cpu() -> Iterator[None]:
    """Levels that a GPU would compute in 16 bits are so on a CPU, too."""

    def as_on_a_gpu(images: Tensor, half: bool, half_type: HalfType) -> torch.dtype:
        return HALF_TYPES[half_type] if half else images.dtype

    with ExitStack() as patches:
        for module in (generator, discriminator, trainer):
            patches.enter_context(mock.patch.object(module, "compute_type", as_on_a_gpu))
        yield


def within_plain(ends_of: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """By score: what float32 spans over its seeds at the end, and the ends of the other ways with whether all lie in
    there. With two seeds that is a narrow gate: of three draws from one distribution the third lies between the first
    two one time in three."""
    found: dict[str, dict[str, Any]] = {}
    for score in (name for name in ends_of[PLAIN][0] if name != "images"):
        least, most = (pick(end[score] for end in ends_of[PLAIN]) for pick in (min, max))
        others = {way: [end[score] for end in ends] for way, ends in ends_of.items() if way != PLAIN}
        found[score] = {
            "float32": [least, most],
            **{way: {"ends": ends, "within": min(ends) >= least and max(ends) <= most} for way, ends in others.items()},
        }
    return found


def curve(settings: Settings, name: str, real: Images, seed: int) -> list[dict[str, Any]]:
    """Scores of the averaged generator at the start, and wherever the schedule has one."""
    schedule = settings.schedule
    gan = begin_gan(with_seed(settings, seed), name, real, best_device())
    labels = labels_in(settings, name)
    score = scorer_of(gan, real, labels, settings, seed, CLASSIFIER, cache_folder("features"))
    points = [{"images": 0, **score(gan.generator_ema)}]
    due = schedule.images_per_tick * schedule.ticks_per_score
    with tqdm(total=schedule.images, unit="image", desc=f"{name}, seed {seed}", delay=5, leave=False) as bar:
        while gan.images_seen < schedule.images:
            gan.step()
            bar.update(gan.config.batch_size)
            if gan.images_seen // due > points[-1]["images"] // due or gan.images_seen >= schedule.images:
                points.append({"images": gan.images_seen, **score(gan.generator_ema)})
    return points


if __name__ == "__main__":
    main()
