"""A move in w learnt from who looks at the images (GANalyze, Goetschalckx et al. 2019, arXiv 1906.10112)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import relu, softplus

from skinsynth.directions.edit import LayerRange, move
from skinsynth.gan.generator import Generator
from skinsynth.settings import Count, Positive

# Of a limit, from which on the penalty sets in: a batch tells the mean over all images but roughly.
EASE = 0.9
# Of the square of what lies beyond, as a share of the limit: a tenth beyond costs as much as an image in ten that keeps
# the artefact.
PENALTY = 10.0


@dataclass(frozen=True)
class LearningConfig:
    steps: Count
    learning_rate: Positive  # standard deviations of w along each of its axes
    batch_size: Count  # images behind each step


class Critics(NamedTuple):
    """What a move is judged by, on images in [-1, 1] and with gradient."""

    artefact: Callable[[Tensor], Tensor]  # log odds, 0 where a detector begins to see it
    changes: Callable[[Tensor, Tensor], list[Tensor]]  # from before to after, each as a share of what is allowed


def learn_vector(
    generator: Generator,
    w: Float[Tensor, "n w"],
    spread: Float[Tensor, " w"],
    layers: LayerRange | None,
    critics: Critics,
    config: LearningConfig,
    rng: torch.Generator,
) -> Float[Tensor, " w"]:
    """The one vector which, added to w in the layers, takes the artefact out and keeps the mean changes allowed.

    `spread` is the standard deviation of w along each axis. Where GANalyze asks for a given change of the score, this
    asks for none beyond the detector's threshold, and pays for changes of all else. `rng` lies on the device of w.
    """
    ws = generator.mapping.every_layer(w)
    shares = torch.zeros_like(spread, requires_grad=True)
    adam = torch.optim.Adam([shares], lr=config.learning_rate)
    for step in range(config.steps):
        adam.param_groups[0]["lr"] = config.learning_rate * (1 - step / config.steps)
        some = ws[torch.randperm(len(ws), generator=rng, device=rng.device)[: config.batch_size]]
        before, after = (shown(generator, move(some, spread * part, [1.0], layers)[:, 0]) for part in (0, shares))
        excess = sum(relu(change.mean() - EASE).square() for change in critics.changes(before, after))
        loss = softplus(critics.artefact(after)).mean() + PENALTY * excess
        (shares.grad,) = torch.autograd.grad(loss, shares)
        adam.step()
    return (spread * shares).detach()


def shown(generator: Generator, ws: Float[Tensor, "n layers w"]) -> Float[Tensor, "n 3 size size"]:
    """The images within [-1, 1], with the generator's own noise."""
    return generator.synthesis(ws, noise_mode="const").clamp(-1, 1)
