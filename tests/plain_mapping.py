"""A mapping for generators in closed form."""

import torch
from torch import nn

from skinsynth.gan.generator import LatentMapping


class PlainMapping(LatentMapping):
    """w is z itself, moved by a direction for each class where there are any; its mean is 0."""

    def __init__(self, w_size, layer_count, directions=None):
        nn.Module.__init__(self)
        self.layer_count, self.directions = layer_count, directions
        self.register_buffer("w_avg", torch.zeros(w_size))

    def forward(self, z, c, truncation_psi=1.0):
        assert c.shape == (len(z), 0 if self.directions is None else len(self.directions))
        w = z if self.directions is None else z + c @ self.directions
        return self.every_layer(truncation_psi * w)
