"""What a classifier is trained on: real images, synthetic ones, or both."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from skinsynth.classifier.training import Examples
from skinsynth.images.archive import image_size, read_archive
from skinsynth.images.sets import read_image_set
from skinsynth.settings import Whole


@dataclass(frozen=True)
class Scenario:
    real: bool  # whether the real training images are used
    synthetic: dict[str, Whole]  # synthetic images added, by class


def examples(archive: Path, image_ids: list[str]) -> Examples:
    """Images of one archive as tensors."""
    read = read_archive(archive, image_ids)
    return Examples(torch.from_numpy(read.pixels), torch.from_numpy(read.labels))


def training_examples(
    scenario: Scenario, images: Path, real_ids: list[str], synthetic: Path, classes: Sequence[str]
) -> Examples:
    """Real and synthetic images as the scenario asks; the first synthetic ones of each class are taken.

    `synthetic` is a ZIP of ours or an image set brought from elsewhere, cropped and resized to the real images' size.
    Raises ValueError where the scenario names another class, asks for more than there are or for no images at all.
    """
    if not scenario.real and not any(scenario.synthetic.values()):
        raise ValueError(
            "a scenario has neither real nor synthetic images: set real to true or add synthetic ones "
            "(train_classifier, scenarios in params.yaml)"
        )
    parts = [examples(images, real_ids)] if scenario.real else []
    if scenario.synthetic:
        pool = read_image_set(synthetic, classes, image_size(images))
    for name, count in scenario.synthetic.items():
        if name not in classes:
            raise ValueError(f"a scenario adds synthetic images of {name!r}, but the classes are {', '.join(classes)}")
        chosen = np.flatnonzero(pool.labels == list(classes).index(name))[:count]
        if len(chosen) < count:
            raise ValueError(
                f"{synthetic} holds {len(chosen)} images of {name}, the scenario asks for {count}: generate more"
            )
        parts.append(Examples(torch.from_numpy(pool.pixels[chosen]), torch.from_numpy(pool.labels[chosen])))
    return Examples(torch.cat([part.pixels for part in parts]), torch.cat([part.labels for part in parts]))
