"""Random numbers for the images of a batch, the same however the batch is divided among processes and passes."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class RandomDraws:
    """Independent draws for some rows of a batch: those of the whole batch are made, and the rows taken."""

    batch_size: int
    rng: torch.Generator
    rows: Int64[Tensor, " n"] | None = None  # None: all

    @property
    def count(self) -> int:
        return self.batch_size if self.rows is None else len(self.rows)

    @property
    def device(self) -> torch.device:
        return self.rng.device

    def uniform(self, *shape: int) -> Float[Tensor, "n ..."]:
        return self._own(torch.rand(self.batch_size, *shape, generator=self.rng, device=self.device))

    def normal(self, *shape: int) -> Float[Tensor, "n ..."]:
        return self._own(torch.randn(self.batch_size, *shape, generator=self.rng, device=self.device))

    def gate(self, probability: float) -> Bool[Tensor, " n"]:
        """Open with this probability."""
        return self.uniform() < probability

    def second_angle(self) -> Float[Tensor, " n"]:
        return angle(self.uniform())

    def _own(self, drawn: Tensor) -> Tensor:
        return drawn if self.rows is None else drawn[self.rows]


def angle(uniform: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """From [0, 1) to (-π, π)."""
    return (2 * uniform - 1) * math.pi
