"""What would ruined images score? Fidelity of held-out real images spoilt in known ways, as a yardstick for GANs.

    python benchmarks/blind_spots.py [--to docs/results/blind_spots]

The run's held-out images are blurred, covered with grain, robbed of their colours or of all order, replaced by noise,
or ten of them repeated, and scored against the training images as a generated set would be: FID, KID over all pairs in
percent, precision, recall, density, coverage, with 95 % intervals. A ruin that scores as well as a GAN is one that
these features do not see. They are the default extractor's (the classifier's last layer but one) and those of
classifier_levels (mean and spread of its maps at every resolution). The sets of the run stand beside. Needs the images,
the split, the classifier and the synthetic sets of a run (`make repro`); takes two to four minutes on one core. Writes
table.csv and ruins.png, which shows the first of the phantom's images in each way; of real files pictures are not
drawn.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from scipy.ndimage import gaussian_filter
from torch import Tensor
from tqdm import tqdm

from benchmarks.gans import CLASSIFIER, IMAGES, SPLIT
from skinsynth.classifier.classifier import load_classifier
from skinsynth.features.levels import Levels
from skinsynth.files import folder_written_whole
from skinsynth.images.archive import Images
from skinsynth.images.grid import save_grid
from skinsynth.images.sets import read_image_set
from skinsynth.process import tune_process
from skinsynth.quality.fidelity import FidelityConfig, Patients, score_images
from skinsynth.quality.image_set import pooled_places, real_sides
from skinsynth.stage import best_device, load_params, load_value
from skinsynth.tables import write_table
from stages.score_images import Settings

Pixels = UInt8[np.ndarray, "n 3 size size"]
Ruin = Callable[[Pixels, np.random.Generator], Pixels]
SETS = ("selected", "gan", "cgan")  # of the run
SHOWN = 12  # images of each ruin in the picture
SEED = 1


def rounded(values: np.ndarray) -> Pixels:
    """Grey levels, those beyond the ends cut off."""
    return values.clip(0, 255).round().astype(np.uint8)


def grain(levels: float) -> Ruin:
    """Normal noise of each pixel and channel; the deviation in grey levels."""
    return lambda pixels, rng: rounded(pixels + rng.normal(0, levels, pixels.shape))


def blurred(deviation: float) -> Ruin:
    """By a Gaussian; its deviation in pixels."""
    return lambda pixels, _: rounded(gaussian_filter(pixels.astype(float), (0, 0, deviation, deviation)))


def parts_shuffled(sides: int) -> Ruin:
    """Each image cut into squares, as many along each side, which change their places."""

    def shuffle(pixels: Pixels, rng: np.random.Generator) -> Pixels:
        count, _, size, _ = pixels.shape
        side = size // sides
        cut = pixels.reshape(count, 3, sides, side, sides, side).transpose(0, 2, 4, 1, 3, 5)
        cut = cut.reshape(count, sides**2, 3, side, side)
        moved = np.stack([image[rng.permutation(sides**2)] for image in cut])
        moved = moved.reshape(count, sides, sides, 3, side, side).transpose(0, 3, 1, 4, 2, 5)
        return np.ascontiguousarray(moved.reshape(pixels.shape))

    return shuffle


def one_colour(pixels: Pixels, _: np.random.Generator) -> Pixels:
    """Each image its mean colour."""
    return rounded(np.broadcast_to(pixels.mean(axis=(2, 3), keepdims=True), pixels.shape))


def grey(pixels: Pixels, _: np.random.Generator) -> Pixels:
    """Mean of the channels in all three."""
    return rounded(np.broadcast_to(pixels.mean(axis=1, keepdims=True), pixels.shape))


def white_and_magenta(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Noise of two colours, such as a federation's GAN makes when much noise was added to its weights."""
    noise = np.full_like(pixels, 255)
    noise[:, 1] = 255 * rng.integers(0, 2, noise[:, 1].shape)
    return noise


def again_and_again(pixels: Pixels, _: np.random.Generator) -> Pixels:
    """The first ten images for all."""
    return pixels[np.arange(len(pixels)) % 10]


RUINS: dict[str, Ruin] = {
    "none": lambda pixels, _: pixels,
    "grain of 8 levels": grain(8),
    "grain of 32 levels": grain(32),
    "blurred by a pixel": blurred(1),
    "blurred by 3 pixels": blurred(3),
    "16 squares shuffled": parts_shuffled(4),
    "1,024 squares shuffled": parts_shuffled(32),
    "grey": grey,
    "one colour each": one_colour,
    "channels exchanged": lambda pixels, _: np.ascontiguousarray(pixels[:, [2, 0, 1]]),
    "inverted": lambda pixels, _: 255 - pixels,
    "noise": lambda pixels, rng: rng.integers(0, 256, pixels.shape).astype(np.uint8),
    "white and magenta noise": white_and_magenta,
    "ten images again and again": again_and_again,
}


def main() -> None:
    """Ruin, score, keep and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=Path("docs/results/blind_spots"), help="folder to write to")
    flags = parser.parse_args()
    settings, real = load_params("score_images", Settings), real_sides(IMAGES, SPLIT)
    tune_process()
    classifier = load_classifier(CLASSIFIER, best_device())
    sets = {f"held-out images: {name}": ruined(real.held_out.pixels, name) for name in RUINS}
    sets |= {f"generated images: {name}": pooled(name, settings, real.train) for name in SETS}
    rows = []
    with tqdm(total=2 * len(sets), unit="set") as bar:
        for extractor, extract in (("classifier", classifier.embed), ("classifier_levels", Levels(classifier).embed)):
            of_training = extract(real.train.pixels).float()
            for name, pixels in sets.items():
                features = extract(pixels).float()
                rows += scored(of_training, features, settings.fidelity, extractor, real.patients, name)
                bar.update()
    with folder_written_whole(flags.to) as aside:
        write_table(aside / "table.csv", rows)
        if load_value("prepare_images", "source") == "phantom":
            save_grid(aside / "ruins.png", np.concatenate([sets[name][:SHOWN] for name in sets]), SHOWN)
    print(json.dumps(rows, indent=2))


def ruined(pixels: Pixels, name: str) -> Pixels:
    """The same for the same images."""
    return RUINS[name](pixels, np.random.default_rng(SEED))


def pooled(name: str, settings: Settings, train: Images) -> Pixels:
    """A set of the run, its classes as frequent as in training."""
    found = read_image_set(Path(f"data/synthetic/{name}.zip"), settings.classes, train.pixels.shape[-1])
    return found.pixels[pooled_places(found, train, settings.seed).numpy()]


def scored(
    of_training: Tensor, features: Tensor, config: FidelityConfig, extractor: str, patients: Patients, name: str
) -> list[dict[str, object]]:
    """A row a metric, against training images; halves of these are of patients."""
    rng = torch.Generator().manual_seed(SEED)
    found = score_images(of_training, features, config, rng, extractor, patients=Patients(patients.real))
    return [{"images": name, **row} for row in found.rows]


if __name__ == "__main__":
    main()
