"""Random numbers for the images of a batch, the same however the batch is divided among processes and passes."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class RandomDraws:
    """Independent draws for some rows of a batch: those of the whole batch are made, and the rows taken.

    Numbers per image come from `rng`, numbers per pixel from `pixel_rng` (None: from `rng` too). With the first on the
    CPU and the second on a GPU, decisions are known at once, and nobody waits for the GPU.
    """

    batch_size: int
    rng: torch.Generator
    rows: Int64[Tensor, " n"] | None = None  # where rng is; None: all
    pixel_rng: torch.Generator | None = None
    pixel_rows: Int64[Tensor, " n"] | None = None  # the same rows, where pixel_rng is

    @property
    def count(self) -> int:
        return self.batch_size if self.rows is None else len(self.rows)

    @property
    def device(self) -> torch.device:
        """Where numbers per image lie."""
        return self.rng.device

    def uniform(self, *shape: int) -> Float[Tensor, "n ..."]:
        rng, rows = self._source(shape)
        return _chosen(torch.rand(self.batch_size, *shape, generator=rng, device=rng.device), rows)

    def normal(self, *shape: int) -> Float[Tensor, "n ..."]:
        rng, rows = self._source(shape)
        return _chosen(torch.randn(self.batch_size, *shape, generator=rng, device=rng.device), rows)

    def gate(self, probability: float) -> Bool[Tensor, " n"]:
        """Open with this probability."""
        return self.uniform() < probability

    def second_angle(self) -> Float[Tensor, " n"]:
        return angle(self.uniform())

    def _source(self, shape: tuple[int, ...]) -> tuple[torch.Generator, Tensor | None]:
        if shape and self.pixel_rng is not None:
            return self.pixel_rng, self.pixel_rows
        return self.rng, self.rows


def _chosen(drawn: Tensor, rows: Tensor | None) -> Tensor:
    return drawn if rows is None else drawn[rows]


def angle(uniform: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """From [0, 1) to (-π, π)."""
    return (2 * uniform - 1) * math.pi
