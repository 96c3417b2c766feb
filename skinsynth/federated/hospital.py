"""One hospital: the central stage's Trainer, which goes on from the federation's weights in every round."""

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skinsynth.gan.checkpoint import State
from skinsynth.gan.discriminator import Discriminator
from skinsynth.gan.generator import Generator
from skinsynth.gan.trainer import StepReport, Trainer, TrainerConfig, TrainingDiverged, draw_networks, moved_weights

# What may be averaged, under the prefix of its names: the attribute of the Trainer that holds it.
NETWORKS = {"generator": "generator", "discriminator": "discriminator", "ema": "generator_ema"}
# What a hospital tells of a round, besides its weights and its number of images; q-FedAvg asks for `train_loss`.
MEASURED = (
    *(field.name for field in dataclasses.fields(StepReport) if field.name != "images_seen"),
    "images_shown",
    "train_loss",
)

Weights = dict[str, Tensor]  # by network and name, as in generator/mapping.fc0.weight


@dataclass(frozen=True)
class LocalWork:
    """What the server asks of a hospital in one round."""

    steps: int  # of the trainer
    averaged: tuple[str, ...]  # keys of NETWORKS; the others stay at the hospital
    proximal_mu: float  # FedProx's pull towards the federation's weights; 0: none


@dataclass(frozen=True)
class LocalResult:
    weights: Weights  # of the averaged networks
    images: int  # real ones of the hospital: what it weighs in an average
    measured: dict[str, float]  # means over the round's steps, by MEASURED


class Hospital:
    """Its optimisers, ADA strength, random numbers and data order are its own and go on from round to round."""

    def __init__(self, name: str, trainer: Trainer) -> None:
        if not name or "/" in name:
            raise ValueError(f"a hospital's name is a word without '/', but {name!r} came: rename it")
        self.name = name
        self.trainer = trainer
        self.state_at_start = trainer.state()  # where a first round begins, again if it fails

    def train_round(self, weights: Weights, work: LocalWork) -> LocalResult:
        """Take the federation's weights, train, and give back what came of them.

        Raises TrainingDiverged where a loss or a weight is no longer finite.
        """
        load_weights(self.trainer, weights, work.averaged)
        with _pulled(self.trainer, work.proximal_mu):
            reports = [self.trainer.step() for _ in range(work.steps)]
        result = weights_of(self.trainer, work.averaged)
        if not all(bool(tensor.isfinite().all()) for tensor in result.values()):
            raise TrainingDiverged(f"a weight is not finite after {self.trainer.images_seen} images")
        return LocalResult(result, len(self.trainer.data), _means(reports, self.trainer.config.batch_size))

    def state(self) -> State:
        """Everything that its next round depends on, but for the federation's weights: copies that no step changes."""
        return self.trainer.state()

    def restore(self, state: State) -> None:
        self.trainer.restore(state)


def check_averaged(averaged: tuple[str, ...]) -> None:
    """Raises ValueError unless the names are networks of ours and the generator is among them."""
    if "generator" not in averaged or len(set(averaged)) < len(averaged) or not set(averaged) <= NETWORKS.keys():
        raise ValueError(
            f"averaged names generator and perhaps others of {', '.join(NETWORKS)}, each once, but it is "
            f"{list(averaged)}: change it"
        )


def weights_of(trainer: Trainer, averaged: tuple[str, ...]) -> Weights:
    """Copies on the CPU of the weights and buffers of some networks."""
    return {
        f"{prefix}/{name}": tensor.detach().to("cpu", copy=True)
        for prefix in averaged
        for name, tensor in _network(trainer, prefix).state_dict().items()
    }


def load_weights(trainer: Trainer, weights: Mapping[str, Tensor], averaged: tuple[str, ...]) -> None:
    """Put weights into the trainer's networks in place, so that its optimisers keep their moments."""
    networks = {prefix: _network(trainer, prefix).state_dict() for prefix in averaged}
    expected = {f"{prefix}/{name}": tensor.shape for prefix, own in networks.items() for name, tensor in own.items()}
    if expected != {name: tensor.shape for name, tensor in weights.items()}:
        raise ValueError(
            "the federation's GAN has other networks or sizes than the hospital's: give both the same settings"
        )
    for prefix in averaged:
        _network(trainer, prefix).load_state_dict(under(weights, prefix))


def first_weights(config: TrainerConfig, averaged: tuple[str, ...]) -> Weights:
    """`weights_of` a trainer of these settings before its first step, for a server that has no images."""
    generator, discriminator = draw_networks(config)
    networks = {"generator": generator, "discriminator": discriminator, "ema": generator}
    return {
        f"{prefix}/{name}": tensor.detach().clone()
        for prefix in averaged
        for name, tensor in networks[prefix].state_dict().items()
    }


def networks_in(weights: Mapping[str, Tensor], like: Trainer) -> tuple[Generator, Discriminator]:
    """The federation's generator (averaged over steps where that travels) and discriminator, as networks of their own.

    A discriminator that stays at the hospitals is that of `like`.
    """
    return _filled(weights, copy.deepcopy(like.generator_ema), copy.deepcopy(like.discriminator))


def networks_of(weights: Mapping[str, Tensor], config: TrainerConfig) -> tuple[Generator, Discriminator]:
    """`networks_in` by the settings alone; a discriminator that stays at the hospitals is an untrained one."""
    return _filled(weights, *draw_networks(config))


def _filled(
    weights: Mapping[str, Tensor], generator: Generator, discriminator: Discriminator
) -> tuple[Generator, Discriminator]:
    prefix = "ema" if any(name.startswith("ema/") for name in weights) else "generator"
    generator.load_state_dict(under(weights, prefix))
    if own := under(weights, "discriminator"):
        discriminator.load_state_dict(own)
    return generator, discriminator


def named(prefix: str, tensors: Mapping[str, Tensor]) -> Weights:
    """Tensors under names that begin with a prefix of their kind."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def under(weights: Mapping[str, Tensor], prefix: str) -> Weights:
    """Those that `named` gave the prefix, under their own names."""
    start = f"{prefix}/"
    return {name.removeprefix(start): tensor for name, tensor in weights.items() if name.startswith(start)}


def _network(trainer: Trainer, prefix: str) -> nn.Module:
    network: nn.Module = getattr(trainer, NETWORKS[prefix])
    return network


@contextmanager
def _pulled(trainer: Trainer, mu: float) -> Iterator[None]:
    """Within the block every update also descends mu / 2 ||w - w_start||² (FedProx, Li et al. 2020, eq. 2)."""
    if mu == 0:
        yield
        return
    adams = (trainer.generator_adam, trainer.discriminator_adam)
    start = {weight: weight.detach().clone() for adam in adams for weight in moved_weights(adam)}

    @torch.no_grad()
    def pull(adam: torch.optim.Optimizer, *_: Any) -> None:
        for weight in moved_weights(adam):
            if weight.grad is not None:
                weight.grad.add_(weight - start[weight], alpha=mu)

    handles = [adam.register_step_pre_hook(pull) for adam in adams]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _means(reports: list[StepReport], batch_size: int) -> dict[str, float]:
    means = {
        name: float(np.mean([getattr(report, name) for report in reports]))
        for name in MEASURED
        if name not in ("images_shown", "train_loss")
    }
    loss = means["generator_loss"] + means["discriminator_loss"]
    return means | {"images_shown": float(len(reports) * batch_size), "train_loss": loss}
