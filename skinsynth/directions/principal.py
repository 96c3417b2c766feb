"""Principal components of w (GANSpace, Härkönen et al. 2020, arXiv 2004.02546)."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from skinsynth.directions.axes import Axes, leading_axes
from skinsynth.gan.model import Gan


def sample_w(
    gan: Gan, labels: Int64[Tensor, " n"], rng: torch.Generator, truncation_psi: float = 1.0
) -> Float[Tensor, "n w"]:
    """w of one random latent for each label of the dataset; `rng` lies on the GAN's device."""
    z = torch.randn(len(labels), gan.config.z_size, generator=rng, device=rng.device)
    return gan.generator.mapping.one_w(z, gan.condition(labels), truncation_psi)


def within_classes(w: Float[Tensor, "n w"], labels: Int64[Tensor, " n"]) -> Float[Tensor, "n w"]:
    """Each w without the mean of its class.

    A conditional mapping puts the classes far apart: the first component of all w together is the class, known before.
    """
    centred = w.clone()
    for label in labels.unique():
        own = (labels == label).to(w.device)
        centred[own] -= w[own].mean(dim=0)
    return centred


def principal_axes(w: Float[Tensor, "n w"], count: int) -> Axes:
    """Directions in which w varies most; values are standard deviations."""
    if len(w) < 2:
        raise ValueError(f"principal components need two latents or more, but {len(w)} came: sample more")
    axes = leading_axes(w.T.double().cov(), count)
    return axes._replace(values=axes.values.sqrt())


def explained_share(w: Float[Tensor, "n w"], vectors: Float[Tensor, "k w"]) -> float:
    """Share of the variance of w that lies along orthogonal directions of unit length."""
    return float((w @ vectors.T).var(dim=0).sum() / w.var(dim=0).sum())
