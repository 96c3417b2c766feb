"""Training that begins with the weights of another GAN (transfer learning)."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from skinsynth.gan.discriminator import Discriminator
from skinsynth.gan.generator import Generator
from skinsynth.gan.model import load_gan
from skinsynth.gan.presets import PresetConfig
from skinsynth.gan.snapshot import gan_of_snapshot, read_snapshot
from skinsynth.gan.trainer import Trainer

# Settings of the networks that give weights their names and shapes, of which others tell nothing.
SIZES = (
    *("resolution", "image_channels", "z_size", "w_size", "mapping_layers"),
    *("channel_base", "channel_max", "architecture", "mbstd_channels"),
)


def initial_weights(folder: Path, name: str | None, frozen_levels: int, preset: PresetConfig | None) -> list[Path]:
    """The file or folder of weights to start from, if any; the settings name it within `folder`.

    ValueError where settings that are for such weights come without.
    """
    if name is None:
        if preset is not None and preset.transfer:
            raise ValueError(
                "transfer: true is for weights of start_from, but that is null: set it, or transfer: false"
            )
        if frozen_levels:
            raise ValueError("frozen_levels keeps the weights of start_from, but that is null: set it, or freeze none")
        return []
    if not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"start_from names what lies in {folder}, but {name} does not: put it there")
    if not (folder / name).exists():
        raise FileNotFoundError(f"no {folder / name} to start from: put it there, or set start_from to null")
    return [folder / name]


def read_networks(place: Path) -> tuple[Generator, Discriminator]:
    """Those of a folder of `save_gan`, or of a published network pickle, which is read without running any of it."""
    if place.is_dir():
        gan = load_gan(place, "cpu")
        return gan.generator, gan.discriminator
    return gan_of_snapshot(read_snapshot(place))


def start_from(trainer: Trainer, generator: Generator, discriminator: Discriminator) -> list[str]:
    """Give a new trainer the weights whose names and shapes agree; the names of its weights that keep their own.

    The other generator is an averaged one, so it is both where training and where the average begins. Raises ValueError
    where fewer than half of the weights agree, or one that would be frozen does not.
    """
    pairs = {
        "generator": (trainer.generator, generator),
        "generator_ema": (trainer.generator_ema, generator),
        "discriminator": (trainer.discriminator, discriminator),
    }
    own = [f"{prefix}.{name}" for prefix, (target, source) in pairs.items() for name in _take(target, source)]
    count = sum(len(target.state_dict()) for target, _ in pairs.values())
    if 2 * len(own) > count:
        raise ValueError(
            f"only {count - len(own)} of {count} weights have the name and shape of those to start from; set these as "
            f"they are there: {_differences(trainer, generator, discriminator)}"
        )
    frozen = trainer.frozen_prefixes()
    if random := [name for name in own if name.removeprefix("discriminator.").startswith(frozen)]:
        raise ValueError(
            f"frozen_levels would freeze weights that are not taken but random: {', '.join(random)}: lower it"
        )
    return [name for name in own if not name.startswith("generator_ema.")]


def start_all(trainers: Sequence[Trainer], places: Sequence[Path]) -> list[str]:
    """`start_from` for new trainers of one size; lines for whoever watches: one about each place, and one
    where the average would not keep the weights."""
    lines = []
    for place in places:
        networks = read_networks(place)
        own = {name: None for trainer in trainers for name in start_from(trainer, *networks)}
        lines.append(f"starting from {place}, but from noise: {', '.join(own) or 'nothing'}")
    ramps = [trainer.config.ema_rampup for trainer in trainers if trainer.config.ema_rampup is not None]
    if places and ramps:
        lines.append(
            f"the averaged generator soon forgets these weights, since ema_rampup is {ramps[0]:g}: set it to null, or "
            "with a preset transfer: true"
        )
    return lines


def _differences(trainer: Trainer, generator: Generator, discriminator: Discriminator) -> str:
    """The sizes that are others there, by their names in the settings."""
    sides = {
        "generator": (trainer.generator.config, generator.config),
        "discriminator": (trainer.discriminator.config, discriminator.config),
    }
    return ", ".join(
        f"{side}.{size} {getattr(there, size)} (here {getattr(here, size)})"
        for side, (here, there) in sides.items()
        for size in SIZES
        if getattr(there, size, None) != getattr(here, size, None)
    )


@torch.no_grad()
def _take(target: nn.Module, source: nn.Module) -> list[str]:
    """Copy what agrees; the names of the rest."""
    given, rest = source.state_dict(), []
    for name, weight in target.state_dict().items():
        if name in given and given[name].shape == weight.shape:
            weight.copy_(given[name])
        else:
            rest.append(name)
    return rest
