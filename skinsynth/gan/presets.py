"""Published settings of StyleGAN2-ADA by name (arXiv 2006.06676, appendix C), for a resolution."""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from skinsynth.gan.augment import AugmentConfig
from skinsynth.gan.discriminator import Architecture, DiscriminatorConfig
from skinsynth.gan.generator import GeneratorConfig
from skinsynth.gan.trainer import TrainerConfig
from skinsynth.settings import Count, Seed, Whole

CHANNEL_BASE = 32768  # feature maps times resolution in the full network
TRANSFER_IMAGES_TO_FULL = 100_000  # of the augmentation's strength, where weights are not new: 500,000 otherwise


@dataclass(frozen=True)
class PresetConfig:
    name: str  # auto, or a key of FIXED_PRESETS
    x_flip: bool
    seed: Seed
    frozen_levels: Whole = 0  # as in TrainerConfig
    images_per_pass: Count | None = None  # as in TrainerConfig
    transfer: bool = False  # with `start_from`: the average keeps its weights, and augmentation gets stronger sooner


@runtime_checkable
class GanSettings(Protocol):
    """Settings that give either a preset, for images of any size, or a trainer's numbers."""

    @property
    def preset(self) -> PresetConfig | None: ...

    @property
    def trainer(self) -> TrainerConfig | None: ...


@dataclass(frozen=True)
class Preset:
    batch_size: int
    mbstd_group: int
    channel_share: float  # of the full network's feature maps
    learning_rate: float
    r1_gamma: float
    ema_half_life_images: float
    ema_rampup: float | None
    mapping_layers: int
    path_length_weight: float
    style_mixing_probability: float
    architecture: Architecture


def preset_auto(resolution: int, processes: int = 1) -> Preset:
    """What so many processes, each on a GPU of its own, do well with at a resolution."""
    # The published rule, to the nearest share of whole groups: three processes take 60 images and not 64.
    share = min(processes * min(4096 // resolution, 32), 64) / processes
    share = 4 * max(round(share / 4), 1) if share >= 4 else 2 if share >= 2 else 1
    batch_size = processes * share
    return Preset(
        batch_size=batch_size,
        mbstd_group=min(share, 4),
        channel_share=1.0 if resolution >= 512 else 0.5,
        learning_rate=0.002 if resolution >= 1024 else 0.0025,
        r1_gamma=0.0002 * resolution**2 / batch_size,
        ema_half_life_images=batch_size * 10_000 / 32,
        ema_rampup=0.05,
        mapping_layers=2,
        path_length_weight=2.0,
        style_mixing_probability=0.9,
        architecture="resnet",
    )


FIXED_PRESETS = {
    "stylegan2": Preset(32, 4, 1.0, 0.002, 10.0, 10_000.0, None, 8, 2.0, 0.9, "resnet"),
    "paper256": Preset(64, 8, 0.5, 0.0025, 1.0, 20_000.0, None, 8, 2.0, 0.9, "resnet"),
    "paper512": Preset(64, 8, 1.0, 0.0025, 0.5, 20_000.0, None, 8, 2.0, 0.9, "resnet"),
    "paper1024": Preset(32, 4, 1.0, 0.002, 2.0, 10_000.0, None, 8, 2.0, 0.9, "resnet"),
    "cifar": Preset(64, 32, 1.0, 0.0025, 0.01, 500_000.0, 0.05, 2, 0.0, 0.0, "orig"),
}


def shared_config(settings: GanSettings, shape: tuple[int, ...], processes: int = 1) -> TrainerConfig:
    """What all runs of a stage share: the preset for images of this shape [n, c, h, w], or the trainer's numbers.

    `processes` train together: the preset `auto` gives them a larger batch; other numbers do not depend on them.
    """
    preset, trainer = settings.preset, settings.trainer
    if preset is None and trainer is not None:
        return trainer
    if preset is None or trainer is not None:
        raise ValueError("params.yaml gives either preset or trainer: set one of the two to null")
    config = trainer_config(
        preset.name, shape[2], shape[1], 0, "none", x_flip=preset.x_flip, seed=preset.seed, processes=processes
    )
    config = replace(config, frozen_levels=preset.frozen_levels, images_per_pass=preset.images_per_pass)
    if not preset.transfer:
        return config
    return replace(config, ema_rampup=None, augment=replace(config.augment, images_to_full=TRANSFER_IMAGES_TO_FULL))


def trainer_config(
    name: str,
    resolution: int,
    image_channels: int,
    class_count: int,
    augment: str,
    *,
    x_flip: bool,
    seed: int,
    processes: int = 1,
) -> TrainerConfig:
    """The settings of a preset (`auto` or a key of FIXED_PRESETS) for images of one size.

    `augment` is a key of the augmentation's PRESETS; `processes` train together and matter to `auto` alone.
    """
    if name != "auto" and name not in FIXED_PRESETS:
        raise ValueError(f"a preset is one of auto, {', '.join(FIXED_PRESETS)}, but {name!r} came")
    preset = preset_auto(resolution, processes) if name == "auto" else FIXED_PRESETS[name]
    channel_base = int(CHANNEL_BASE * preset.channel_share)
    return TrainerConfig(
        generator=GeneratorConfig(
            resolution=resolution,
            image_channels=image_channels,
            z_size=512,
            w_size=512,
            class_count=class_count,
            mapping_layers=preset.mapping_layers,
            channel_base=channel_base,
            channel_max=512,
            activation_clamp=256.0,
            half_levels=4,
            half_type="float16",
            fused=False,
        ),
        discriminator=DiscriminatorConfig(
            resolution=resolution,
            image_channels=image_channels,
            class_count=class_count,
            mapping_layers=8,
            channel_base=channel_base,
            channel_max=512,
            architecture=preset.architecture,
            mbstd_group=preset.mbstd_group,
            mbstd_channels=1,
            activation_clamp=256.0,
            half_levels=4,
            half_type="float16",
            fused=False,
        ),
        augment=AugmentConfig(
            preset=augment, initial_p=0.0, adaptive=True, target_sign=0.6, interval=4, images_to_full=500_000
        ),
        batch_size=preset.batch_size,
        learning_rate=preset.learning_rate,
        betas=(0.0, 0.99),
        r1_gamma=preset.r1_gamma,
        r1_interval=16,
        path_length_weight=preset.path_length_weight,
        path_length_interval=4,
        path_length_decay=0.01,
        style_mixing_probability=preset.style_mixing_probability,
        ema_half_life_images=preset.ema_half_life_images,
        ema_rampup=preset.ema_rampup,
        x_flip=x_flip,
        frozen_levels=0,
        images_per_pass=None,
        seed=seed,
    )
