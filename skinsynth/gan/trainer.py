"""Training of StyleGAN2-ADA one step at a time, with a state that resumes bit for bit on a CPU."""

import copy
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from skinsynth.gan.augment import AdaController, AugmentConfig, augment, changes_colours
from skinsynth.gan.batches import Part, TrainingImages, parts_of
from skinsynth.gan.checkpoint import State
from skinsynth.gan.collapse import diversity_of
from skinsynth.gan.discriminator import Discriminator, DiscriminatorConfig, check_pair
from skinsynth.gan.generator import Generator, GeneratorConfig
from skinsynth.gan.layers import channels_at, compute_type
from skinsynth.gan.losses import (
    discriminator_loss,
    generator_loss,
    mix_styles,
    path_lengths,
    path_noise,
    path_penalty,
    r1_penalty,
)
from skinsynth.gan.team import ALONE, Team
from skinsynth.settings import Count, NotNegative, Positive, Seed, Share, ShareBelowOne, Whole

# Path lengths are taken on a batch smaller by this (StyleGAN2, appendix B).
PATH_BATCH_SHRINK = 2
# Gradients in 16 bits may overflow; they are cut to this.
HALF_GRADIENT_BOUND = 1e5
# float16 holds nothing below 6e-8, and of the mean loss of 64 images an untrained discriminator's gradients at 256 px
# are a tenth of that: such a loss is raised by this power of two before gradients are taken. Gradients of R1 and of
# path lengths are large enough as they are.
FLOAT16_LOSS_SCALE = 256.0
WATCHED_IMAGES = 32  # of each class
# Losses of trainings that go well stay below ten.
EXPLODED_LOSS = 1e4


@dataclass(frozen=True)
class TrainerConfig:
    generator: GeneratorConfig
    discriminator: DiscriminatorConfig
    augment: AugmentConfig
    batch_size: Count
    learning_rate: Positive
    betas: tuple[ShareBelowOne, ShareBelowOne]  # Adam's
    r1_gamma: NotNegative  # weight of R1; 0: none
    r1_interval: Count  # steps between two R1 updates
    path_length_weight: NotNegative  # 0: none
    path_length_interval: Count  # steps between two path-length updates
    path_length_decay: Share  # share of a batch in the running mean of path lengths
    style_mixing_probability: Share
    ema_half_life_images: Positive  # half-life of the averaged generator
    ema_rampup: Positive | None  # the half-life is at most this share of the images seen; None: no ramp
    x_flip: bool  # mirror real images at random
    frozen_levels: Whole  # top resolutions of the discriminator that are not trained (Freeze-D); 0: none
    images_per_pass: Count | None  # of a process's share of the batch; the passes accumulate; None: all at once
    seed: Seed


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
    """A loss or weight is no longer finite, or the generator makes one image only, or a few."""


def draw_networks(config: TrainerConfig) -> tuple[Generator, Discriminator]:
    """Untrained ones on the CPU, so that a run starts from the same weights on any device."""
    rng = torch.Generator().manual_seed(config.seed)
    return Generator(config.generator, rng), Discriminator(config.discriminator, rng)


class Trainer:
    """A generator, a discriminator and all that training them changes.

    `images` are real ones; `labels` say their column of c, in [0, class_count), and are left aside where class_count
    is 0. Both are kept on `device`. Each process of a `team` computes its part of every batch, and all end each step
    with the same state.
    """

    def __init__(
        self,
        config: TrainerConfig,
        images: UInt8[Tensor, "count c h w"],
        labels: Int64[Tensor, " label_count"],
        device: torch.device | str,
        team: Team = ALONE,
    ) -> None:
        _check_images(config, images, labels)
        _check_sizes(config)
        self.config = config
        self.device = torch.device(device)
        self.team = team
        self.passes = _passes(config, team)
        self.data = TrainingImages(
            images, labels, config.generator.class_count, self.device, x_flip=config.x_flip, seed=config.seed
        )
        generator, discriminator = draw_networks(config)
        self.generator = generator.to(self.device)
        self.discriminator = discriminator.to(self.device).requires_grad_(False)
        self.generator_ema = copy.deepcopy(self.generator).requires_grad_(False)
        # Decisions are drawn on the CPU, where they are known at once; latents and noise where they are needed.
        self.decisions = torch.Generator().manual_seed(config.seed)
        self.rng = torch.Generator(self.device).manual_seed(config.seed + 1)
        self.generator_adam = _adam(
            self.generator.parameters(), config, config.path_length_interval if self._regularises_paths else None
        )
        self.discriminator_adam = _adam(
            self._discriminator_weights(), config, config.r1_interval if config.r1_gamma else None
        )
        self.controller = AdaController(config.augment)
        self.path_mean = torch.zeros([], device=self.device)
        self.r1 = torch.zeros([], device=self.device)
        self.steps = 0

    @property
    def images_seen(self) -> int:
        return self.steps * self.config.batch_size

    @property
    def _regularises_paths(self) -> bool:
        return self.config.path_length_weight > 0

    def step(self) -> StepReport:
        """One update of the generator, one of the discriminator, their regularisers where due, the average and p.

        Raises TrainingDiverged where a loss is not finite, or beyond EXPLODED_LOSS.
        """
        config = self.config
        real, real_classes = self.data.batch(self.images_seen, config.batch_size, self.decisions)
        of_generator = self._update_generator()
        if self._regularises_paths and self.steps % config.path_length_interval == 0:
            self._regularise_generator()
        of_discriminator, sign_sum = self._update_discriminator(real, real_classes)
        if config.r1_gamma and self.steps % config.r1_interval == 0:
            self._regularise_discriminator(real, real_classes)
        self.steps += 1
        self._update_average()
        # One transfer from the device for all numbers of the step.
        losses = torch.stack([of_generator, of_discriminator, self.path_mean, self.r1, sign_sum]).tolist()
        if not all(map(math.isfinite, losses)) or max(map(abs, losses[:2])) > EXPLODED_LOSS:
            raise TrainingDiverged(
                self._diverged(f"generator loss {losses[0]:.3g}, discriminator loss {losses[1]:.3g}")
            )
        return StepReport(
            generator_loss=losses[0],
            discriminator_loss=losses[1],
            real_sign=losses[4] / config.batch_size,
            augment_p=self.controller.update(losses[4], config.batch_size),
            path_length=losses[2],
            r1=losses[3],
            images_seen=self.images_seen,
        )

    @torch.no_grad()
    def watch(self) -> float:
        """How diverse the generator's images are, worst class: their deviation over that of real images, without noise.

        Changes nothing. Raises TrainingDiverged where they are nearly one image or a few, or a weight of any network
        is not finite.
        """
        for name, network in self._networks().items():
            if not all(bool(weight.isfinite().all()) for weight in network.state_dict().values()):
                raise TrainingDiverged(self._diverged(f"a weight of {name} is not finite"))
        found = [diversity_of(self._watched(c), real) for real, c in self.data.by_class(WATCHED_IMAGES)]
        collapses = [diversity.collapse for diversity in found if diversity.collapse]
        if collapses:
            raise TrainingDiverged(self._diverged(collapses[0]))
        return min((diversity.of_real for diversity in found), default=1.0)

    def _watched(self, c: Float[Tensor, "n class_count"]) -> Float[Tensor, "n c h w"]:
        """The same latents at each look, as they are seen: beyond white and black, differences are none."""
        rng = torch.Generator(self.device).manual_seed(self.config.seed)
        z = torch.randn(len(c), self.config.generator.z_size, generator=rng, device=self.device)
        return self.generator(z, c, noise_mode="none").clamp(-1, 1)

    def _diverged(self, what: str) -> str:
        return (
            f"training diverged at {self.images_seen} images ({what}): start again with a lower learning_rate, a "
            "higher r1_gamma or more images"
        )

    def _parts(self, count: int, group: int = 1) -> Iterator[Part]:
        """This process's parts of a batch, one after the other; each meets the same random numbers of the batch."""
        rewind = self._rewinder() if self.passes > 1 else None
        for part in parts_of(count, group, self.team.rank, self.team.size, self.passes, self.device):
            if rewind is not None:
                rewind()
            yield part

    def _rewinder(self) -> Callable[[], None]:
        """What brings both generators back to where they are now."""
        generators = (self.decisions, self.rng)
        states = [generator.get_state() for generator in generators]

        def rewind() -> None:
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)

        return rewind

    def _main_parts(self) -> Iterator[Part]:
        return self._parts(self.config.batch_size, _group(self.config))

    def _share(self, loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """What the mean of one part adds to the mean of the batch."""
        return loss / (self.passes * self.team.size)

    def _over_team(self, parts: list[Float[Tensor, ""]]) -> Float[Tensor, ""]:
        """The sum of values of all parts of all processes."""
        total = torch.stack(parts).sum().detach()
        self.team.sum_([total])
        return total

    def _update_generator(self) -> Float[Tensor, ""]:
        losses = []
        for part in self._main_parts():
            fakes, c = self._fakes(part)
            losses.append(self._share(generator_loss(self._logits(fakes, c, part))))
            (losses[-1] * self._loss_scale).backward()
        self._descend(self.generator_adam, self._loss_scale)
        return self._over_team(losses)

    def _regularise_generator(self) -> None:
        """The path-length update, weighted by its interval (lazy regularisation, StyleGAN2, section 3.1)."""
        config = self.config
        count = max(config.batch_size // PATH_BATCH_SHRINK, 1)
        if self.passes > 1:
            # The penalty refers to the mean over the whole batch, so that is measured first.
            rewind = self._rewinder()
            self._move_path_mean([self._path_lengths(part).detach() for part in self._parts(count)])
            rewind()
        for part in self._parts(count):
            lengths = self._path_lengths(part)
            if self.passes == 1:
                self._move_path_mean([lengths])
            penalty = path_penalty(lengths, self.path_mean)
            (self._share(penalty) * (config.path_length_weight * config.path_length_interval)).backward()
        self._descend(self.generator_adam)

    def _path_lengths(self, part: Part) -> Float[Tensor, " n"]:
        ws = part.of(self._ws(self.data.drawn_classes(part.batch_size, self.decisions)))
        draws = part.draws(self.decisions, self.rng)
        images = self.generator.synthesis(ws, "random", draws)
        return path_lengths(images, ws, path_noise(images, draws))

    def _move_path_mean(self, lengths: list[Float[Tensor, " n"]]) -> None:
        mean = self._over_team([self._share(part.detach().mean()) for part in lengths])
        self.path_mean = self.path_mean.lerp(mean, self.config.path_length_decay)

    def _update_discriminator(
        self, real: Float[Tensor, "n c h w"], c: Float[Tensor, "n class_count"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """The loss, and the sum of the signs at real images."""
        losses, signs = [], []
        self._train_discriminator(True)
        for part in self._main_parts():
            with torch.no_grad():
                fakes, fake_classes = self._fakes(part)
            own = part.of(real)
            # Both batches go through at once, which spares a third of the small operations.
            logits = self._logits(torch.cat([own, fakes]), torch.cat([part.of(c), fake_classes]), part, batches=2)
            real_logits, fake_logits = logits.chunk(2)
            losses.append(self._share(discriminator_loss(real_logits, fake_logits)))
            (losses[-1] * self._loss_scale).backward()
            signs.append(real_logits.detach().sign().sum())
        self._descend(self.discriminator_adam, self._loss_scale)
        self._train_discriminator(False)
        return self._over_team(losses), self._over_team(signs)

    def _regularise_discriminator(self, real: Float[Tensor, "n c h w"], c: Float[Tensor, "n class_count"]) -> None:
        """The R1 update, weighted by its interval; the gradient is taken in the images before augmentation."""
        penalties = []
        self._train_discriminator(True)
        for part in self._main_parts():
            own = part.of(real).detach().requires_grad_()
            logits = self._logits(own, part.of(c), part)
            penalties.append(self._share(r1_penalty(own, logits, self.config.r1_gamma)))
            (penalties[-1] * self.config.r1_interval).backward()
        self._descend(self.discriminator_adam)
        self._train_discriminator(False)
        self.r1 = self._over_team(penalties)

    def _logits(
        self, images: Float[Tensor, "n c h w"], c: Float[Tensor, "n class_count"], part: Part, batches: int = 1
    ) -> Float[Tensor, "n 1"]:
        draws = part.repeated(batches).draws(self.decisions, self.rng)
        augmented = augment(images, self.config.augment.preset, self.controller.p, draws)
        return self.discriminator(augmented, c, batches)

    def _fakes(self, part: Part) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n class_count"]]:
        """Images and classes of a part; all w of the batch are made, since they are cheap and their mean counts."""
        c = self.data.drawn_classes(part.batch_size, self.decisions)
        ws = self._ws(c)
        if part.number == 0:
            self.generator.mapping.update_average(ws)
        probability = self.config.style_mixing_probability
        ws = mix_styles(self.generator.mapping, ws, c, probability, self.decisions, self.rng)
        return self.generator.synthesis(part.of(ws), "random", part.draws(self.decisions, self.rng)), part.of(c)

    def _ws(self, c: Float[Tensor, "n class_count"]) -> Float[Tensor, "n layers w_size"]:
        z = torch.randn(len(c), self.config.generator.z_size, generator=self.rng, device=self.device)
        return self.generator.mapping(z, c)

    def _discriminator_weights(self) -> list[nn.Parameter]:
        """Those that are trained."""
        frozen = self.frozen_prefixes()
        return [weight for name, weight in self.discriminator.named_parameters() if not name.startswith(frozen)]

    def frozen_prefixes(self) -> tuple[str, ...]:
        """How the discriminator's weights begin that stay as they are (Freeze-D, Mo et al. 2020, arXiv 2002.10964)."""
        return tuple(f"b{level}." for level in self.discriminator.resolutions[: self.config.frozen_levels])

    def _train_discriminator(self, trains: bool) -> None:
        for weight in moved_weights(self.discriminator_adam):
            weight.requires_grad_(trains)

    @cached_property
    def _half_types(self) -> set[torch.dtype]:
        """The types of 16 bits that some level computes in."""
        networks = self.config.generator, self.config.discriminator
        like = torch.empty(0, device=self.device)
        return {compute_type(like, network.half_levels > 0, network.half_type) for network in networks} - {like.dtype}

    @property
    def _loss_scale(self) -> float:
        return FLOAT16_LOSS_SCALE if torch.float16 in self._half_types else 1.0

    def _descend(self, adam: torch.optim.Adam, raised: float = 1.0) -> None:
        """A step along the gradients of all processes together, of losses that were raised by a factor."""
        gradients = [weight.grad for weight in moved_weights(adam) if weight.grad is not None]
        self.team.sum_(gradients)
        if raised != 1:
            torch._foreach_mul_(gradients, 1 / raised)
        if self._half_types:
            for gradient in gradients:
                gradient.nan_to_num_(0, HALF_GRADIENT_BOUND, -HALF_GRADIENT_BOUND)
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

    @cached_property
    def _images_sha256(self) -> str:
        """Of the real images and their classes, in their order."""
        digest = hashlib.sha256()
        for some in (*self.data.images.split(1024), self.data.classes):
            digest.update(some.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def state(self) -> State:
        """Everything that a later step depends on: tensors (copies on the CPU) and plain numbers for JSON."""
        states = {"decisions": self.decisions.get_state(), "rng": self.rng.get_state()}
        tensors = states | {"path_mean": self.path_mean, "r1": self.r1}
        for prefix, network in self._networks().items():
            tensors |= {f"{prefix}.{name}": tensor for name, tensor in network.state_dict().items()}
        for prefix, (adam, network) in self._adams().items():
            for name, parameter in network.named_parameters():
                tensors |= {f"{prefix}.{name}.{key}": value for key, value in adam.state.get(parameter, {}).items()}
        numbers = {
            "config": _plain(self.config),
            "image_count": len(self.data),
            "images_sha256": self._images_sha256,
            "steps": self.steps,
            "images_seen": self.images_seen,
            "controller": self.controller.state(),
        }
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}, numbers

    def restore(self, state: State) -> None:
        """Go on from a `state()`; raises ValueError where it comes from other settings or data."""
        tensors, numbers = state
        same = numbers.get("config") == _plain(self.config) and numbers.get("image_count") == len(self.data)
        # States of older versions do not know their images.
        if not same or numbers.get("images_sha256", self._images_sha256) != self._images_sha256:
            raise ValueError(
                "a training goes on from a state of the same settings and images, but this one has others: "
                "remove it and start again"
            )
        for prefix, network in self._networks().items():
            network.load_state_dict(_under(tensors, prefix))
        for prefix, (adam, network) in self._adams().items():
            _restore_adam(adam, network, _under(tensors, prefix))
        self.decisions.set_state(tensors["decisions"].clone())
        try:
            self.rng.set_state(tensors["rng"].clone())
        except RuntimeError as error:
            raise ValueError(
                "a training begun on a CPU does not go on on a GPU, nor the other way: start again"
            ) from error
        self.path_mean = tensors["path_mean"].to(self.device, copy=True)
        self.r1 = tensors["r1"].to(self.device, copy=True)
        self.steps = numbers["steps"]
        self.controller.restore(numbers["controller"])


def ema_decay(config: TrainerConfig, images_seen: int) -> float:
    """Share of the old average that one batch leaves."""
    half_life = config.ema_half_life_images
    if config.ema_rampup is not None:
        half_life = min(half_life, images_seen * config.ema_rampup)
    return 0.5 ** (config.batch_size / half_life) if half_life > 0 else 0.0


def _adam(weights: Iterable[nn.Parameter], config: TrainerConfig, interval: int | None) -> torch.optim.Adam:
    """Adam, slowed where a regulariser makes k + 1 steps of k (StyleGAN2, appendix B); None: no regulariser."""
    ratio = 1.0 if interval is None else interval / (interval + 1)
    betas = config.betas[0] ** ratio, config.betas[1] ** ratio
    return torch.optim.Adam(weights, lr=config.learning_rate * ratio, betas=betas, eps=1e-8, fused=True)


def moved_weights(adam: torch.optim.Optimizer) -> list[nn.Parameter]:
    """Those that its steps change."""
    return [weight for group in adam.param_groups for weight in group["params"]]


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
    """The settings as JSON gives them back, less how the batch is computed, which changes nothing but rounding."""
    return asdict(config) | {"betas": list(config.betas), "images_per_pass": None}


def _passes(config: TrainerConfig, team: Team) -> int:
    """How often a process computes to get through its share of the batch."""
    share = config.batch_size // team.size
    per_pass = min(config.images_per_pass or share, share)
    parts = config.batch_size // max(per_pass, 1)
    paths = max(config.batch_size // PATH_BATCH_SHRINK, 1) if config.path_length_weight else 0
    uneven = per_pass < 1 or config.batch_size != parts * per_pass or parts % team.size
    if parts > 1 and (uneven or per_pass % _group(config) or paths % parts):
        raise ValueError(
            f"a batch of {config.batch_size} does not fall into equal parts for {team.size} processes and "
            f"images_per_pass {config.images_per_pass}, each of whole groups of {_group(config)} images (and half the "
            "batch as well): change batch_size, images_per_pass or the number of processes"
        )
    return parts // team.size


def _group(config: TrainerConfig) -> int:
    """Images that see each other's deviation."""
    return min(config.discriminator.mbstd_group, config.batch_size) if config.discriminator.mbstd_channels else 1


def _check_images(config: TrainerConfig, images: Tensor, labels: Tensor) -> None:
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


def _check_sizes(config: TrainerConfig) -> None:
    if config.batch_size % _group(config):
        raise ValueError(
            f"a batch holds whole groups of {_group(config)} images, but batch_size is {config.batch_size}: change it"
        )
    judge = config.discriminator
    maps = channels_at(4, judge.channel_base, judge.channel_max)
    if judge.mbstd_channels and maps % judge.mbstd_channels:
        raise ValueError(
            f"mbstd_channels divides the {maps} feature maps at 4x4, but is {judge.mbstd_channels}: change it"
        )
    if config.generator.image_channels not in (1, 3) and changes_colours(config.augment.preset):
        raise ValueError(
            f"augmentation {config.augment.preset!r} turns colours, which images of {config.generator.image_channels} "
            "channels have none of: take bg"
        )
    levels = config.discriminator.resolution.bit_length() - 3
    if not 0 <= config.frozen_levels <= levels:
        raise ValueError(f"frozen_levels lies in 0 … {levels} at this resolution, but {config.frozen_levels} came")
    check_pair(config.generator, config.discriminator)
