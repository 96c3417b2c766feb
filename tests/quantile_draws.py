"""Draws of augmentation that leave nothing to chance."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class QuantileDraws:
    """Open gates and every draw at one quantile, as the reference values were made; a normal is erfinv(2u - 1)."""

    device = torch.device("cpu")
    count: int
    quantile: float

    def gate(self, probability):  # noqa: ARG002 - open whatever it is
        return torch.ones(self.count, dtype=torch.bool)

    def uniform(self, *shape):
        return torch.full([self.count, *shape], self.quantile)

    def normal(self, *shape):
        return torch.erfinv(2 * self.uniform(*shape) - 1)

    def second_angle(self):
        return torch.zeros(self.count)
