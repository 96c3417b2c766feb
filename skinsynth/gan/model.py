"""A trained GAN: its files, its samples, its cost."""

import copy
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int64, UInt8
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from skinsynth.files import folder_written_whole
from skinsynth.gan.discriminator import Discriminator, DiscriminatorConfig
from skinsynth.gan.generator import Generator, GeneratorConfig
from skinsynth.gan.pixels import to_pixels

FORMAT = "skinsynth gan 1"
FILES = {"generator": "generator.safetensors", "discriminator": "discriminator.safetensors"}
C = TypeVar("C", GeneratorConfig, DiscriminatorConfig)
# Pixels rendered at once: 16 images of 256 px take 1.5 GB on a CPU.
PIXELS_AT_ONCE = {"cpu": 2**20, "cuda": 2**22}


@dataclass(frozen=True)
class Gan:
    """An averaged generator and its discriminator; `classes` are the dataset's labels in the order of c's columns.

    An unconditional GAN has the labels that it was trained on.
    """

    generator: Generator
    discriminator: Discriminator
    classes: list[int]

    @property
    def config(self) -> GeneratorConfig:
        return self.generator.config

    @property
    def device(self) -> torch.device:
        return self.generator.mapping.w_avg.device

    @property
    def state(self) -> dict[str, Tensor]:
        return self.generator.state_dict()

    @torch.no_grad()
    def sample(
        self,
        z: Float[Tensor, "n z_size"],
        label: Int64[Tensor, " n"],
        truncation_psi: float = 1.0,
    ) -> Float[Tensor, "n c h w"]:
        """Images in [-1, 1] of latents and labels of the dataset, with the generator's own noise."""
        return self.generator(z.to(self.device), self.condition(label), truncation_psi).clamp(-1, 1)

    def condition(self, label: Int64[Tensor, " n"]) -> Float[Tensor, "n class_count"]:
        """One-hot classes of labels of the dataset."""
        known = torch.tensor(self.classes, device=label.device)
        matches = label[:, None] == known
        if not bool(matches.any(dim=1).all()):
            foreign = sorted(set(label.tolist()) - set(self.classes))
            raise ValueError(
                f"this GAN makes the labels {self.classes}, but {foreign} came: ask the one trained on them"
            )
        if self.config.class_count == 0:
            return torch.zeros(len(label), 0, device=self.device)
        return matches.to(self.device, torch.float32)


def sample_images(
    gan: Gan,
    labels: Int64[Tensor, " n"],
    batch_size: int,
    rng: torch.Generator,
    truncation_psi: float = 1.0,
) -> UInt8[Tensor, "n c h w"]:
    """Pixels of one image for each label of the dataset, on the CPU; `rng` lies on the GAN's device.

    All latents are drawn first, so that image k does not depend on the batch size.
    """
    z = torch.randn(len(labels), gan.config.z_size, generator=rng, device=rng.device)
    shape = gan.config.image_channels, gan.config.resolution, gan.config.resolution
    pixels = torch.empty(len(labels), *shape, dtype=torch.uint8)
    with tqdm(total=len(labels), unit="image", desc="sampling", leave=False, delay=5) as bar:
        for start in range(0, len(labels), batch_size):
            batch = slice(start, start + batch_size)
            pixels[batch] = to_pixels(gan.sample(z[batch], labels[batch], truncation_psi)).cpu()
            bar.update(len(pixels[batch]))
    return pixels


@torch.no_grad()
def render(generator: Generator, ws: Float[Tensor, "n layers w_size"]) -> UInt8[Tensor, "n c h w"]:
    """Pixels of latents with the generator's own noise, on the CPU."""
    device = generator.mapping.w_avg.device
    at_once = PIXELS_AT_ONCE.get(device.type, PIXELS_AT_ONCE["cpu"])
    batches = ws.to(device).split(max(1, at_once // generator.config.resolution**2))
    return torch.cat([to_pixels(generator.synthesis(batch, noise_mode="const")).cpu() for batch in batches])


def save_gan(folder: Path, generator: Generator, discriminator: Discriminator, classes: Sequence[int]) -> None:
    """Write weights as safetensors and sizes as JSON; the folder is replaced as a whole."""
    count = generator.config.class_count
    if count and count != len(classes):
        raise ValueError(f"a conditional GAN names one label per class, but it has {count} classes and {classes} came")
    networks: dict[str, nn.Module] = {"generator": generator, "discriminator": discriminator}
    index = {
        "format": FORMAT,
        "classes": list(classes),
        "generator": dataclasses.asdict(generator.config),
        "discriminator": dataclasses.asdict(discriminator.config),
    }
    with folder_written_whole(folder) as aside:
        for name, network in networks.items():
            weights = {key: tensor.detach().cpu().contiguous() for key, tensor in network.state_dict().items()}
            save_file(weights, aside / FILES[name])
        (aside / "config.json").write_text(json.dumps(index, indent=2) + "\n")


def load_gan(folder: Path, device: torch.device | str) -> Gan:
    """The GAN in a folder of `save_gan`, ready to sample; raises FileNotFoundError or ValueError where it is none."""
    index_file = folder / "config.json"
    if not index_file.is_file():
        raise FileNotFoundError(f"a GAN is a folder with a config.json, but {folder} has none: train it first")
    index = _index(index_file)
    rng = torch.Generator().manual_seed(0)
    try:
        generator = Generator(_config(GeneratorConfig, index["generator"], index_file), rng)
        discriminator = Discriminator(_config(DiscriminatorConfig, index["discriminator"], index_file), rng)
        classes = [int(label) for label in index["classes"]]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{index_file} is of no GAN of ours ({error!r}): train the GAN again") from error
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        _load_weights(network, folder / FILES[name])
        network.to(device).requires_grad_(False).eval()
    return Gan(generator, discriminator, classes)


def _index(index_file: Path) -> dict[str, Any]:
    """What stands in a config.json of `save_gan`."""
    try:
        index = json.loads(index_file.read_text())
    except ValueError as error:
        raise ValueError(f"{index_file} is damaged ({error}): train the GAN again") from error
    found = index.get("format") if isinstance(index, dict) else None
    if found != FORMAT:
        raise ValueError(f"{index_file} says format {found!r}, but {FORMAT!r} is read: train it again")
    return index


def _config(schema: type[C], values: dict[str, Any], index_file: Path) -> C:
    known = {field.name for field in dataclasses.fields(schema)}
    if values.keys() != known:
        differing = sorted(values.keys() ^ known)
        raise ValueError(f"{index_file} misses or has too many sizes ({', '.join(differing)}): train the GAN again")
    return schema(**values)


def _load_weights(network: nn.Module, file: Path) -> None:
    if not file.is_file():
        raise FileNotFoundError(f"a GAN has its weights beside its config.json, but {file} is missing: train it again")
    try:
        network.load_state_dict(load_file(file))
    except Exception as error:
        # safetensors raises a type of its own where a file is damaged, torch another where names or shapes differ.
        raise ValueError(
            f"{file} does not hold the weights of its config.json ({error}): train the GAN again"
        ) from error


def flops_per_image(generator: Generator) -> int:
    """Floating-point operations of one image's forward pass, as torch counts them (convolutions and products)."""
    z, c = _blank_inputs(generator, 1)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        generator(z, c)
    return counter.get_total_flops()


def training_flops_per_image(generator: Generator, discriminator: Discriminator) -> int:
    """Floating-point operations of both main updates, per real image, without regularisers and augmentation."""
    count = max(discriminator.config.mbstd_group, 1)
    generator = copy.deepcopy(generator).requires_grad_(True)
    discriminator = copy.deepcopy(discriminator).requires_grad_(False)
    z, c = _blank_inputs(generator, count)
    with FlopCounterMode(display=False) as counter:
        discriminator(generator(z, c), c).sum().backward()
        discriminator.requires_grad_(True)
        with torch.no_grad():
            fake = generator(z, c)
        (discriminator(fake, c).sum() + discriminator(fake, c).sum()).backward()
    return counter.get_total_flops() // count


def _blank_inputs(generator: Generator, count: int) -> tuple[Float[Tensor, "n z_size"], Float[Tensor, "n class_count"]]:
    config, device = generator.config, generator.mapping.w_avg.device
    classes = torch.zeros(count, config.class_count, device=device)
    classes[:, :1] = 1
    return torch.ones(count, config.z_size, device=device), classes
