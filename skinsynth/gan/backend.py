"""Which form of the memory-bound steps runs, plain PyTorch or Triton kernels on a GPU, and the constants of both."""

from types import ModuleType

import torch
from torch import Tensor

# The binomial filter of all resampling, and the slope of the leaky ReLU below zero (StyleGAN2, appendix B).
TAPS = (1.0, 3.0, 3.0, 1.0)
LEAK = 0.2


def on_gpu(x: Tensor) -> bool:
    """Whether a kernel can take it."""
    return x.is_cuda


def kernels_for(x: Tensor, fused: bool) -> ModuleType | None:
    """The module of the kernels where they are wanted, the tensor lies on a GPU and Triton is installed, else None."""
    if not (fused and on_gpu(x)):
        return None
    from skinsynth.gan import fused as kernels  # half a second to import, and of no use without a GPU

    return kernels if kernels.available() else None


def bound_in(x: Tensor, clamp: float) -> float:
    """The clamp as a number of the images' type, so that the backward pass knows a clamped value again."""
    return float(torch.tensor(clamp, dtype=x.dtype))
