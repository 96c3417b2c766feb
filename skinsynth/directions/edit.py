"""Moving w along a direction, and the images on the way."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from skinsynth.gan.generator import Generator
from skinsynth.gan.model import render

LayerRange = tuple[int, int]  # first and last layer of ws, counted from 0


def layer_slice(layers: LayerRange | None, layer_count: int) -> slice:
    """The slice of ws that holds a range of layers; None: all."""
    first, last = (0, layer_count - 1) if layers is None else layers
    if not 0 <= first <= last < layer_count:
        raise ValueError(
            f"layers are the first and the last of 0 to {layer_count - 1}, but {first} and {last} came: "
            "mend them, or give none for all layers"
        )
    return slice(first, last + 1)


def move(
    ws: Float[Tensor, "n layers w"],
    direction: Float[Tensor, " w"],
    steps: Sequence[float],
    layers: LayerRange | None = None,
) -> Float[Tensor, "n steps layers w"]:
    """ws + step * direction in the chosen layers; the length of the direction is the unit of the steps."""
    chosen = torch.zeros(ws.shape[1], 1, device=ws.device)
    chosen[layer_slice(layers, ws.shape[1])] = 1
    lengths = torch.tensor(steps, dtype=ws.dtype, device=ws.device)[:, None, None]
    return ws[:, None] + lengths * (chosen * direction)


def render_strips(
    generator: Generator,
    ws: Float[Tensor, "n layers w"],
    direction: Float[Tensor, " w"],
    steps: Sequence[float],
    layers: LayerRange | None = None,
) -> UInt8[Tensor, "n steps 3 size size"]:
    """Pixels of each image at each step, on the CPU; the noise is the same in all, so that only w differs."""
    moved = move(ws, direction, steps, layers)
    return render(generator, moved.flatten(0, 1)).unflatten(0, moved.shape[:2])
