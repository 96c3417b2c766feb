"""GANs that together make every class: one conditional GAN, or one for each class."""

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from skinsynth.files import folder_written_whole, written_whole
from skinsynth.gan.discriminator import Discriminator
from skinsynth.gan.generator import Generator
from skinsynth.gan.model import Gan, flops_per_image, load_gan, sample_images, save_gan

COST = "cost.json"


@dataclass(frozen=True)
class Cost:
    """What training took and what an image takes."""

    images_seen: int
    flops_per_image: int  # of one generated image


@dataclass(frozen=True)
class Family:
    members: dict[str, Gan]  # by name; no class belongs to two
    costs: dict[str, Cost]

    @property
    def labels(self) -> list[int]:
        """The dataset's labels that it makes, in order."""
        return sorted(label for gan in self.members.values() for label in gan.classes)

    @property
    def device(self) -> torch.device:
        return next(iter(self.members.values())).device

    def member_name(self, label: int) -> str:
        """Who makes a label; ValueError where none does."""
        for name, gan in self.members.items():
            if label in gan.classes:
                return name
        raise ValueError(f"no GAN of {', '.join(self.members)} makes label {label}: they make {self.labels}")

    def check_makes(self, labels: Iterable[int]) -> None:
        """ValueError at a label that no member makes, before the work begins."""
        for label in labels:
            self.member_name(label)

    def sample(
        self, labels: Int64[Tensor, " n"], batch_size: int, rng: torch.Generator, truncation_psi: float
    ) -> UInt8[Tensor, "n 3 size size"]:
        """One image for each label, each drawn by the member that makes it."""
        owners = [self.member_name(label) for label in labels.tolist()]
        if len(set(owners)) == 1:  # joined, 107,000 images of 256 px would be there twice, 21 GB each
            return sample_images(self.members[owners[0]], labels, batch_size, rng, truncation_psi)
        config = next(iter(self.members.values())).config
        pixels = torch.empty(len(labels), 3, config.resolution, config.resolution, dtype=torch.uint8)
        for name, gan in self.members.items():
            own = torch.tensor([owner == name for owner in owners], dtype=torch.bool)
            if own.any():
                pixels[own] = sample_images(gan, labels[own], batch_size, rng, truncation_psi)
        return pixels

    def cost(self) -> Cost:
        """Images seen by all members together, and the operations of one image (the dearest member's)."""
        costs = self.costs.values()
        return Cost(sum(cost.images_seen for cost in costs), max(cost.flops_per_image for cost in costs))


def save_trained(
    folder: Path, generator: Generator, discriminator: Discriminator, classes: Sequence[int], images_seen: int
) -> None:
    """A GAN after training as `load_family` reads it: its weights, and beside them what they have cost."""
    save_gan(folder, generator, discriminator, classes)
    cost = Cost(images_seen, flops_per_image(generator))
    with written_whole(folder / COST) as aside:
        aside.write_text(json.dumps(cost.__dict__, indent=2) + "\n")


def load_cost(folder: Path) -> Cost:
    """What `save_trained` wrote; a FileNotFoundError or ValueError names the file that is missing or damaged."""
    if not (folder / COST).is_file():
        raise FileNotFoundError(f"a GAN has its {COST} beside its weights, but {folder} has none: train it again")
    try:
        return Cost(**json.loads((folder / COST).read_text()))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder / COST} says no cost of a GAN ({error}): train it again") from error


def load_family(folders: Sequence[Path], device: torch.device) -> Family:
    """The GANs in the folders; a folder without weights of its own holds one folder for each member."""
    members: dict[str, Gan] = {}
    costs: dict[str, Cost] = {}
    for folder in dict.fromkeys(folders):
        for place in _members_of(folder):
            members[place.name] = load_gan(place, device)
            costs[place.name] = load_cost(place)
    family = Family(members, costs)
    if len(set(family.labels)) < len(family.labels):
        raise ValueError(f"two of {', '.join(members)} make the same class: give GANs of different classes")
    return family


def copy_family(folders: Sequence[Path], target: Path) -> None:
    """Copy the members into one folder, which `load_family` reads."""
    with folder_written_whole(target) as aside:
        for folder in folders:
            shutil.copytree(folder, aside / folder.name)


def _members_of(folder: Path) -> list[Path]:
    if (folder / "config.json").is_file():
        return [folder]
    members = sorted(place.parent for place in folder.glob("*/config.json"))
    if not members:
        raise FileNotFoundError(f"no GAN in {folder}: run train_gan, or dvc pull")
    return members
