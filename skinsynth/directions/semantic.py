"""SeFa: directions of w from the weights alone (Shen and Zhou 2021, arXiv 2007.06600)."""

import torch
from jaxtyping import Float
from torch import Tensor

from skinsynth.directions.axes import Axes, leading_axes
from skinsynth.directions.edit import LayerRange, layer_slice
from skinsynth.gan.generator import Generator


def semantic_axes(generator: Generator, count: int, layers: LayerRange | None = None) -> Axes:
    """Unit n that maximise |A n|, the leading eigenvectors of A^T A (SeFa, eq. 4 to 7); values are eigenvalues."""
    weights = style_weights(generator)
    stacked = torch.cat(weights[layer_slice(layers, len(weights))]).detach()
    # As in the authors' code: every feature map counts the same, whatever the size of its weights.
    rows = stacked / stacked.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return leading_axes(rows.T @ rows, count)


def style_weights(generator: Generator) -> list[Float[Tensor, "_ w"]]:
    """Weights from w to styles, one matrix for each layer of ws: of the convolution, or of the last toRGB alone."""
    synthesis = generator.synthesis
    lowest, *others = synthesis.resolutions
    convolutions = [f"b{resolution}.conv{number}" for resolution in others for number in (0, 1)]
    names = [f"b{lowest}.conv1", *convolutions, f"b{others[-1]}.torgb"]
    return [synthesis.get_parameter(f"{name}.affine.weight") for name in names]
