"""Do the attacks see that a default GAN was trained on thirty images? Their AUC as its training goes on, as JSON.

    python benchmarks/memorisation.py [--gan cgan] [--patients 30] [--images 9600 24000 48000] [--grid FILE]

One image each of some training patients of the study is all that a GAN with the study's own settings is trained on.
After each length of training: AUC, with its interval over patients, of every attack of `score_authenticity` (as many
generated images as there, features of the `real` classifier and thumbnails), training patients against held-out ones
with one image each, and authenticity beside that of held-out images, in the same features. A generator of small
networks that learned its images by heart is in tests/test_privacy_memorisation.py; this is about the default ones.
Needs the images, the split and the classifier of a run (`make repro`); takes five to fifteen minutes on 2 cores.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from benchmarks.gans import CLASSIFIER, IMAGES, SPLIT, begin_gan, labels_in, train_until
from benchmarks.measuring import rounded
from skinsynth.classifier.classifier import load_classifier
from skinsynth.features.extractor import Extractor, build_extractor
from skinsynth.gan.family import Family
from skinsynth.gan.model import Gan, sample_images
from skinsynth.images.archive import read_archive
from skinsynth.images.grid import save_grid
from skinsynth.partition.split import held_out_of, images_of, read_split
from skinsynth.privacy.authenticity import authenticity
from skinsynth.privacy.membership import AttackConfig, feature_attack_rows, other_attack_rows, pixel_attack_rows
from skinsynth.privacy.patients import PatientFeatures, PatientImages
from skinsynth.process import tune_process
from skinsynth.quality.proportions import in_proportion
from skinsynth.stage import best_device, cache_folder, load_params
from stages import score_authenticity, train_gan

GENERATED = 1000


def main() -> None:
    """Train on a few images, attack on the way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gan", default="cgan", help="its name in params.yaml")
    parser.add_argument("--patients", type=int, default=30, help="who are all that it is trained on")
    parser.add_argument("--images", type=int, nargs="+", default=[9600, 24000, 48000], help="shown, in rising order")
    parser.add_argument("--grid", type=Path, help="where to draw the training images above as many generated ones")
    flags = parser.parse_args()
    if flags.images != sorted(set(flags.images)):
        parser.error(f"--images are lengths of one training, each longer than the last, but {flags.images} came")
    settings = load_params("train_gan", train_gan.Settings)
    judging = load_params("score_authenticity", score_authenticity.Settings)
    labels = labels_in(settings, flags.gan)
    rows = read_split(SPLIT)
    rows = rows[rows["label"].isin(labels)]
    train, held_out = one_of_each(images_of(rows, "train"), flags.patients), one_of_each(held_out_of(rows), None)
    tune_process()
    trainer = begin_gan(settings, flags.gan, train.images, best_device())
    network = load_classifier(CLASSIFIER, trainer.device)
    extract = build_extractor(judging.extractor, network, trainer.device, cache_folder("features"))
    found = []
    with tqdm(total=flags.images[-1], unit="image", desc=f"{flags.gan} of {flags.patients} images", delay=5) as bar:
        for images in flags.images:
            train_until(trainer, images, bar)
            gan = Gan(trainer.generator_ema, trainer.discriminator, labels)
            about = {"images": trainer.images_seen, "ada_p": trainer.controller.p}
            found.append({**about, **judged(gan, train, held_out, extract, judging.attacks)})
    if flags.grid is not None:
        made = sample(gan, train, flags.patients).numpy()
        save_grid(flags.grid, np.concatenate([train.images.pixels, made]), columns=10)
    print(json.dumps(rounded({"gan": flags.gan, "patients": flags.patients, "found": found}), indent=2))


def one_of_each(rows: pd.DataFrame, patients: int | None) -> PatientImages:
    """The first image of each patient, or of the first patients in an order of chance (seed 1)."""
    chosen = rows.drop_duplicates("group").sample(frac=1, random_state=1)[:patients].sort_values("image_id")
    return PatientImages(read_archive(IMAGES, chosen["image_id"].tolist()), pd.factorize(chosen["group"])[0])


def judged(
    gan: Gan, train: PatientImages, held_out: PatientImages, extract: Extractor, config: AttackConfig
) -> dict[str, Any]:
    """AUC of each attack with its interval, and both authenticities."""
    made = sample(gan, train, GENERATED)
    of_train, of_held_out = (
        PatientFeatures(extract(torch.from_numpy(side.images.pixels)), side.groups) for side in (train, held_out)
    )
    of_made = extract(made)
    attacks = {
        "in features": feature_attack_rows(of_train, of_held_out, of_made, config),
        "on thumbnails": pixel_attack_rows(train, held_out, made.numpy(), config),
        "": other_attack_rows(train, held_out, Family({"gan": gan}, {}), config),
    }
    aucs = {
        f"{row['attack']} {where}".strip(): {key: row[key] for key in ("value", "low", "high")}
        for where, rows in attacks.items()
        for row in rows
        if row["metric"] == "auc"
    }
    return {
        "auc": aucs,
        "authenticity": authenticity(of_train.features, of_made).value,
        "authenticity_of_held_out": authenticity(of_train.features, of_held_out.features).value,
    }


def sample(gan: Gan, train: PatientImages, count: int) -> torch.Tensor:
    """Pixels in the proportions of the training classes, from the same latents each time."""
    rng = torch.Generator(gan.device).manual_seed(1)
    return sample_images(gan, in_proportion(torch.from_numpy(train.images.labels), count), 100, rng)


if __name__ == "__main__":
    main()
