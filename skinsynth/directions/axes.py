"""Axes of a latent space, in a fixed order and with a fixed sign."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Axes(NamedTuple):
    """Orthogonal directions of unit length, the leading one first."""

    vectors: Float[Tensor, "k w"]
    values: Float[Tensor, " k"]  # what they are ordered by: eigenvalues, or standard deviations of w


def leading_axes(matrix: Float[Tensor, "w w"], count: int) -> Axes:
    """Eigenvectors of a symmetric matrix with its `count` largest eigenvalues; none of these is below 0."""
    if not 1 <= count <= len(matrix):
        raise ValueError(f"w has 1 to {len(matrix)} directions, but {count} were asked for: change the count")
    values, columns = torch.linalg.eigh(matrix.double())
    vectors = columns.T.flip(0)[:count]
    # An eigenvector's sign is free: the largest component is made positive, so that every run gives the same one.
    largest = vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True))
    return Axes((vectors * largest.sign()).float(), values.flip(0)[:count].clamp(min=0).float())


def strides(w: Float[Tensor, "n w"], vectors: Float[Tensor, "k w"]) -> Float[Tensor, "k w"]:
    """The given directions, each as long as one standard deviation of w along it: the common unit of steps."""
    return vectors * (w @ vectors.T).std(dim=0)[:, None]
