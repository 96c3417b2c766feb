"""Training of StyleGAN2-ADA one step at a time, with a state that resumes bit for bit on a CPU."""

import copy
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn.functional import one_hot

from skinsynth.gan.augment import AdaController, AugmentConfig, augment
from skinsynth.gan.discriminator import Discriminator, DiscriminatorConfig
from skinsynth.gan.generator import Generator, GeneratorConfig
from skinsynth.gan.losses import (
    discriminator_loss,
    generator_loss,
    mix_styles,
    path_lengths,
    path_noise,
    path_penalty,
    r1_penalty,
)
from skinsynth.gan.pixels import from_pixels

# Path lengths are taken on a batch smaller by this (StyleGAN2, appendix B).
PATH_BATCH_SHRINK = 2
# Gradients in 16 bits may overflow; they are cut to this.
HALF_GRADIENT_BOUND = 1e5

State = tuple[dict[str, Tensor], dict[str, Any]]


@dataclass(frozen=True)
class TrainerConfig:
    generator: GeneratorConfig
    discriminator: DiscriminatorConfig
    augment: AugmentConfig
    batch_size: int
    learning_rate: float
    betas: tuple[float, float]  # Adam's
    r1_gamma: float  # weight of R1; 0: none
    r1_interval: int  # steps between two R1 updates
    path_length_weight: float  # 0: none
    path_length_interval: int  # steps between two path-length updates
    path_length_decay: float  # share of a batch in the running mean of path lengths
    style_mixing_probability: float
    ema_half_life_images: float  # half-life of the averaged generator
    ema_rampup: float | None  # the half-life is at most this share of the images seen; None: no ramp
    x_flip: bool  # mirror real images at random
    seed: int


@dataclass(frozen=True)
class StepReport:
    """What one step measured; losses are means over the batch."""

    generator_loss: float
    discriminator_loss: float
    real_sign: float  # mean sign of D at real images, in [-1, 1]
    augment_p: float  # strength after the step
    path_length: float  # running mean
    r1: float  # latest penalty without its interval
    images_seen: int


class TrainingDiverged(FloatingPointError):  # noqa: N818 - it tells what happened, not who erred
    """A loss is no longer finite; the last checkpoint before it is sound."""


class Trainer:
    """A generator, a discriminator and all that training them changes.

    `images` are real ones; `labels` say their column of c, in [0, class_count), and are left aside where class_count
    is 0. Both are kept on `device`.
    """

    def __init__(
        self,
        config: TrainerConfig,
        images: UInt8[Tensor, "count c h w"],
        labels: Int64[Tensor, " label_count"],
        device: torch.device | str,
    ) -> None:
        _check(config, images, labels)
        self.config = config
        self.device = torch.device(device)
        self.images = images.to(self.device)
        self.classes = _one_hot(labels, config.generator.class_count).to(self.device)
        # Weights are drawn on the CPU, so that a run starts from the same ones on any device.
        weights_rng = torch.Generator().manual_seed(config.seed)
        self.generator = Generator(config.generator, weights_rng).to(self.device)
        self.discriminator = Discriminator(config.discriminator, weights_rng).to(self.device).requires_grad_(False)
        self.generator_ema = copy.deepcopy(self.generator).requires_grad_(False)
        self.rng = torch.Generator(self.device).manual_seed(config.seed)
        self.generator_adam = _adam(self.generator, config, config.path_length_interval if self._paths else None)
        self.discriminator_adam = _adam(self.discriminator, config, config.r1_interval if config.r1_gamma else None)
        self.controller = AdaController(config.augment)
        self.path_mean = torch.zeros([], device=self.device)
        self.r1 = torch.zeros([], device=self.device)
        self.steps = 0

    @property
    def images_seen(self) -> int:
        return self.steps * self.config.batch_size

    @property
    def _paths(self) -> bool:
        return self.config.path_length_weight > 0

    def step(self) -> StepReport:
        """One update of the generator, one of the discriminator, their regularisers where due, the average and p.

        Raises TrainingDiverged where a loss is not finite.
        """
        config = self.config
        real, real_classes = self._real_batch()
        of_generator = self._update_generator()
        if self._paths and self.steps % config.path_length_interval == 0:
            self._regularise_generator()
        of_discriminator, sign_sum = self._update_discriminator(real, real_classes)
        if config.r1_gamma and self.steps % config.r1_interval == 0:
            self._regularise_discriminator(real, real_classes)
        self.steps += 1
        self._update_average()
        # One transfer from the device for all numbers of the step.
        losses = torch.stack([of_generator, of_discriminator, sign_sum, self.path_mean, self.r1]).tolist()
        self._watch(losses)
        self.controller.update(losses[2], config.batch_size)
        return StepReport(
            generator_loss=losses[0],
            discriminator_loss=losses[1],
            real_sign=losses[2] / config.batch_size,
            augment_p=self.controller.p,
            path_length=losses[3],
            r1=losses[4],
            images_seen=self.images_seen,
        )

    def _watch(self, losses: list[float]) -> None:
        if not all(map(math.isfinite, losses)):
            raise TrainingDiverged(
                f"training diverged at {self.images_seen} images (generator loss {losses[0]:.3g}, discriminator loss "
                f"{losses[1]:.3g}): go back to the last checkpoint with a lower learning_rate or a higher r1_gamma"
            )

    def _update_generator(self) -> Float[Tensor, ""]:
        loss = generator_loss(self._logits(*self._fakes(self.config.batch_size)))
        self._descend(self.generator_adam, self.generator, loss)
        return loss.detach()

    def _regularise_generator(self) -> None:
        """The path-length update, weighted by its interval (lazy regularisation, StyleGAN2, section 3.1)."""
        config = self.config
        c = self._drawn_classes(max(config.batch_size // PATH_BATCH_SHRINK, 1))
        ws = self._ws(c)
        images = self.generator.synthesis(ws, "random", self.rng)
        lengths = path_lengths(images, ws, path_noise(images, self.rng))
        penalty, self.path_mean = path_penalty(lengths, self.path_mean, config.path_length_decay)
        loss = penalty * (config.path_length_weight * config.path_length_interval)
        self._descend(self.generator_adam, self.generator, loss)

    def _update_discriminator(
        self, real: Float[Tensor, "n c h w"], c: Float[Tensor, "n class_count"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """The loss, and the sum of the signs at real images."""
        with torch.no_grad():
            fakes, fake_classes = self._fakes(self.config.batch_size)
        self.discriminator.requires_grad_(True)
        # Both batches go through at once, which spares a third of the small operations.
        logits = self._logits(torch.cat([real, fakes]), torch.cat([c, fake_classes]), batches=2)
        real_logits, fake_logits = logits.chunk(2)
        loss = discriminator_loss(real_logits, fake_logits)
        self._descend(self.discriminator_adam, self.discriminator, loss)
        self.discriminator.requires_grad_(False)
        return loss.detach(), real_logits.detach().sign().sum()

    def _regularise_discriminator(self, real: Float[Tensor, "n c h w"], c: Float[Tensor, "n class_count"]) -> None:
        """The R1 update, weighted by its interval; the gradient is taken in the images before augmentation."""
        self.discriminator.requires_grad_(True)
        real = real.detach().requires_grad_()
        penalty = r1_penalty(real, self._logits(real, c), self.config.r1_gamma)
        self._descend(self.discriminator_adam, self.discriminator, penalty * self.config.r1_interval)
        self.discriminator.requires_grad_(False)
        self.r1 = penalty.detach()

    def _logits(
        self, images: Float[Tensor, "n c h w"], c: Float[Tensor, "n class_count"], batches: int = 1
    ) -> Float[Tensor, "n 1"]:
        augmented = augment(images, self.config.augment.preset, self.controller.p, self.rng)
        return self.discriminator(augmented, c, batches)

    def _fakes(self, count: int) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n class_count"]]:
        c = self._drawn_classes(count)
        ws = mix_styles(self.generator.mapping, self._ws(c), c, self.config.style_mixing_probability, self.rng)
        return self.generator.synthesis(ws, "random", self.rng), c

    def _ws(self, c: Float[Tensor, "n class_count"]) -> Float[Tensor, "n layers w_size"]:
        z = torch.randn(len(c), self.config.generator.z_size, generator=self.rng, device=self.device)
        ws = self.generator.mapping(z, c)
        self.generator.mapping.update_average(ws)
        return ws

    def _drawn_classes(self, count: int) -> Float[Tensor, "n class_count"]:
        """Classes of fakes, as frequent as in the data."""
        return self.classes[torch.randint(len(self.classes), [count], generator=self.rng, device=self.device)]

    def _real_batch(self) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n class_count"]]:
        """The next images in the order of the data; each epoch is a permutation of its own."""
        count = self.config.batch_size
        chosen = data_order(len(self.images), self.images_seen, count, self.config.seed).to(self.device)
        real = from_pixels(self.images[chosen])
        if self.config.x_flip:
            flipped = torch.rand(count, generator=self.rng, device=self.device) < 0.5
            real = real.flip(3).where(flipped[:, None, None, None], real)
        return real, self.classes[chosen]

    def _descend(self, adam: torch.optim.Adam, network: nn.Module, loss: Float[Tensor, ""]) -> None:
        loss.backward()
        if self.device.type == "cuda" and self.config.generator.half_levels:
            for parameter in network.parameters():
                if parameter.grad is not None:
                    parameter.grad.nan_to_num_(0, HALF_GRADIENT_BOUND, -HALF_GRADIENT_BOUND)
        adam.step()
        adam.zero_grad(set_to_none=True)

    @torch.no_grad()
    def _update_average(self) -> None:
        """The averaged generator with a half-life counted in images, shorter at the start (ADA, appendix C)."""
        decay = ema_decay(self.config, self.images_seen)
        averages: list[Tensor] = list(self.generator_ema.parameters())
        torch._foreach_lerp_(averages, list(self.generator.parameters()), 1 - decay)
        for average, buffer in zip(self.generator_ema.buffers(), self.generator.buffers(), strict=True):
            average.copy_(buffer)

    def _networks(self) -> dict[str, nn.Module]:
        return {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "generator_ema": self.generator_ema,
        }

    def _adams(self) -> dict[str, tuple[torch.optim.Adam, nn.Module]]:
        return {
            "generator_adam": (self.generator_adam, self.generator),
            "discriminator_adam": (self.discriminator_adam, self.discriminator),
        }

    def state(self) -> State:
        """Everything that a later step depends on: tensors (copies on the CPU) and plain numbers for JSON."""
        tensors = {"rng": self.rng.get_state(), "path_mean": self.path_mean, "r1": self.r1}
        for prefix, network in self._networks().items():
            tensors |= {f"{prefix}.{name}": tensor for name, tensor in network.state_dict().items()}
        for prefix, (adam, network) in self._adams().items():
            for name, parameter in network.named_parameters():
                tensors |= {f"{prefix}.{name}.{key}": value for key, value in adam.state[parameter].items()}
        numbers = {
            "config": _plain(self.config),
            "image_count": len(self.images),
            "steps": self.steps,
            "images_seen": self.images_seen,
            "controller": self.controller.state(),
        }
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}, numbers

    def restore(self, state: State) -> None:
        """Go on from a `state()`; raises ValueError where it comes from other settings or data."""
        tensors, numbers = state
        if numbers.get("config") != _plain(self.config) or numbers.get("image_count") != len(self.images):
            raise ValueError(
                "a training goes on from a state of the same settings and images, but this one has others: "
                "remove it and start again"
            )
        for prefix, network in self._networks().items():
            network.load_state_dict(_under(tensors, prefix))
        for prefix, (adam, network) in self._adams().items():
            _restore_adam(adam, network, _under(tensors, prefix))
        self.rng.set_state(tensors["rng"].clone())
        self.path_mean = tensors["path_mean"].to(self.device, copy=True)
        self.r1 = tensors["r1"].to(self.device, copy=True)
        self.steps = numbers["steps"]
        self.controller.restore(numbers["controller"])


def data_order(image_count: int, start: int, count: int, seed: int) -> Int64[Tensor, " count"]:
    """Numbers of the images `start` to `start + count` of an endless row of permutations, one for each epoch."""
    places = torch.arange(start, start + count)
    epochs = places // image_count
    permutations = {epoch: _permutation(image_count, seed, epoch) for epoch in epochs.unique().tolist()}
    chosen = [permutations[epoch][place % image_count] for epoch, place in zip(epochs.tolist(), places, strict=True)]
    return torch.stack(chosen)


def _permutation(image_count: int, seed: int, epoch: int) -> Int64[Tensor, " image_count"]:
    # Neighbouring seeds and epochs fall far apart.
    rng = torch.Generator().manual_seed((seed * 1_000_003 + epoch + 1) % 2**63)
    return torch.randperm(image_count, generator=rng)


def ema_decay(config: TrainerConfig, images_seen: int) -> float:
    """Share of the old average that one batch leaves."""
    half_life = config.ema_half_life_images
    if config.ema_rampup is not None:
        half_life = min(half_life, images_seen * config.ema_rampup)
    return 0.5 ** (config.batch_size / half_life) if half_life > 0 else 0.0


def _adam(network: nn.Module, config: TrainerConfig, interval: int | None) -> torch.optim.Adam:
    """Adam, slowed where a regulariser makes k + 1 steps of k (StyleGAN2, appendix B); None: no regulariser."""
    ratio = 1.0 if interval is None else interval / (interval + 1)
    betas = config.betas[0] ** ratio, config.betas[1] ** ratio
    return torch.optim.Adam(network.parameters(), lr=config.learning_rate * ratio, betas=betas, eps=1e-8, fused=True)


def _restore_adam(adam: torch.optim.Adam, network: nn.Module, tensors: dict[str, Tensor]) -> None:
    adam.state.clear()
    for name, parameter in network.named_parameters():
        for key in ("step", "exp_avg", "exp_avg_sq"):
            if f"{name}.{key}" in tensors:
                # Adam walks through memory, so its means are laid out as their parameter is.
                like = parameter if key != "step" else tensors[f"{name}.{key}"].to(parameter.device)
                adam.state[parameter][key] = torch.empty_like(like).copy_(tensors[f"{name}.{key}"])


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): t for name, t in tensors.items() if name.startswith(f"{prefix}.")}


def _plain(config: TrainerConfig) -> dict[str, Any]:
    """The settings as JSON gives them back."""
    return asdict(config) | {"betas": list(config.betas)}


def _one_hot(labels: Int64[Tensor, " count"], class_count: int) -> Float[Tensor, "count class_count"]:
    if class_count == 0:
        return torch.zeros(len(labels), 0)
    return one_hot(labels, class_count).to(torch.float32)


def _check(config: TrainerConfig, images: Tensor, labels: Tensor) -> None:
    expected = config.generator.image_channels, config.generator.resolution, config.generator.resolution
    if len(images) == 0:
        raise ValueError("a GAN trains on images, but none came: check the classes and the split")
    if len(images) != len(labels):
        raise ValueError(f"each image has one label, but {len(images)} images and {len(labels)} labels came")
    if tuple(images.shape[1:]) != expected:
        raise ValueError(
            f"the networks take images of {expected}, but these are {tuple(images.shape[1:])}: resize them"
        )
    classes = config.generator.class_count
    if classes and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(
            f"labels lie in 0 … {classes - 1}, but these go from {int(labels.min())} to {int(labels.max())}: "
            "give the columns of c"
        )
    group = min(config.discriminator.mbstd_group, config.batch_size)
    if config.discriminator.mbstd_channels and config.batch_size % group:
        raise ValueError(
            f"a batch holds whole groups of {group} images, but batch_size is {config.batch_size}: change it"
        )
    same = ("resolution", "image_channels", "class_count")
    for name in same:
        if getattr(config.generator, name) != getattr(config.discriminator, name):
            raise ValueError(f"generator and discriminator share {name}, but theirs differ: set both alike")
