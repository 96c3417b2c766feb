"""Published settings of StyleGAN2-ADA by name (arXiv 2006.06676, appendix C), for a resolution."""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from skinsynth.gan.augment import AugmentConfig
from skinsynth.gan.discriminator import Architecture, DiscriminatorConfig
from skinsynth.gan.generator import GeneratorConfig
from skinsynth.gan.trainer import TrainerConfig
from skinsynth.settings import Count, Seed, Whole

CHANNEL_BASE = 32768  # feature maps times resolution in the full network
# Of the augmentation's strength; the second where weights are not new.
IMAGES_TO_FULL, TRANSFER_IMAGES_TO_FULL = 500_000, 100_000


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


def preset_auto(resolution: int, processes: int) -> Preset:
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


STYLEGAN2 = Preset(
    batch_size=32,
    mbstd_group=4,
    channel_share=1.0,
    learning_rate=0.002,
    r1_gamma=10.0,
    ema_half_life_images=10_000.0,
    ema_rampup=None,
    mapping_layers=8,
    path_length_weight=2.0,
    style_mixing_probability=0.9,
    architecture="resnet",
)
PAPER512 = replace(
    STYLEGAN2, batch_size=64, mbstd_group=8, learning_rate=0.0025, r1_gamma=0.5, ema_half_life_images=20_000.0
)
FIXED_PRESETS = {
    "stylegan2": STYLEGAN2,
    "paper256": replace(PAPER512, channel_share=0.5, r1_gamma=1.0),
    "paper512": PAPER512,
    "paper1024": replace(STYLEGAN2, r1_gamma=2.0),
    "cifar": Preset(
        batch_size=64,
        mbstd_group=32,
        channel_share=1.0,
        learning_rate=0.0025,
        r1_gamma=0.01,
        ema_half_life_images=500_000.0,
        ema_rampup=0.05,
        mapping_layers=2,
        path_length_weight=0.0,
        style_mixing_probability=0.0,
        architecture="orig",
    ),
}


def preset_named(name: str, resolution: int, processes: int) -> Preset:
    """`auto` for this resolution and so many processes, or one of FIXED_PRESETS, which depend on neither."""
    if name == "auto":
        return preset_auto(resolution, processes)
    if name not in FIXED_PRESETS:
        raise ValueError(f"a preset is one of auto, {', '.join(FIXED_PRESETS)}, but {name!r} came")
    return FIXED_PRESETS[name]


def shared_config(settings: GanSettings, shape: tuple[int, ...], processes: int = 1) -> TrainerConfig:
    """What all runs of a stage share: the preset for images of this shape [n, c, h, w], or the trainer's numbers.

    `processes` train together: the preset `auto` gives them a larger batch; other numbers do not depend on them.
    """
    preset, trainer = settings.preset, settings.trainer
    if preset is not None and trainer is None:
        return trainer_config(preset, shape[2], shape[1], processes)
    if preset is None and trainer is not None:
        return trainer
    came = "null" if preset is None else "given"
    raise ValueError(f"params.yaml: set exactly one of preset and trainer, the other to null (both are {came})")


def trainer_config(config: PresetConfig, resolution: int, channels: int, processes: int = 1) -> TrainerConfig:
    """A preset's settings for images of one size, without classes and augmentation: `configure` adds a run's own."""
    preset = preset_named(config.name, resolution, processes)
    return TrainerConfig(
        generator=_generator_config(preset, resolution, channels),
        discriminator=_discriminator_config(preset, resolution, channels),
        augment=AugmentConfig(
            preset="none",
            initial_p=0.0,
            adaptive=True,
            target_sign=0.6,
            interval=4,
            images_to_full=TRANSFER_IMAGES_TO_FULL if config.transfer else IMAGES_TO_FULL,
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
        ema_rampup=None if config.transfer else preset.ema_rampup,
        x_flip=config.x_flip,
        frozen_levels=config.frozen_levels,
        images_per_pass=config.images_per_pass,
        seed=config.seed,
    )


def _generator_config(preset: Preset, resolution: int, channels: int) -> GeneratorConfig:
    return GeneratorConfig(
        resolution=resolution,
        image_channels=channels,
        z_size=512,
        w_size=512,
        class_count=0,
        mapping_layers=preset.mapping_layers,
        channel_base=int(CHANNEL_BASE * preset.channel_share),
        channel_max=512,
        activation_clamp=256.0,
        half_levels=4,
        half_type="float16",
        fused=False,
    )


def _discriminator_config(preset: Preset, resolution: int, channels: int) -> DiscriminatorConfig:
    return DiscriminatorConfig(
        resolution=resolution,
        image_channels=channels,
        class_count=0,
        mapping_layers=8,
        channel_base=int(CHANNEL_BASE * preset.channel_share),
        channel_max=512,
        architecture=preset.architecture,
        mbstd_group=preset.mbstd_group,
        mbstd_channels=1,
        activation_clamp=256.0,
        half_levels=4,
        half_type="float16",
        fused=False,
    )
