"""Losses and regularisers of StyleGAN2 (Karras et al. 2020)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from skinsynth.gan.draws import RandomDraws
from skinsynth.gan.generator import LatentMapping


def generator_loss(fake_logits: Float[Tensor, "n 1"]) -> Float[Tensor, ""]:
    """Non-saturating loss (Goodfellow et al. 2014)."""
    return softplus(-fake_logits).mean()


def discriminator_loss(real_logits: Float[Tensor, "n 1"], fake_logits: Float[Tensor, "m 1"]) -> Float[Tensor, ""]:
    """Logistic loss (Goodfellow et al. 2014)."""
    return softplus(-real_logits).mean() + softplus(fake_logits).mean()


def squared_gradient_norms(images: Float[Tensor, "n c h w"], logits: Float[Tensor, "n 1"]) -> Float[Tensor, " n"]:
    """Squared length of the gradient of each image's logit in that image."""
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3))


def r1_penalty(real: Float[Tensor, "n c h w"], real_logits: Float[Tensor, "n 1"], gamma: float) -> Float[Tensor, ""]:
    """gamma / 2 times the mean squared gradient at real images (R1, Mescheder et al. 2018, eq. 9)."""
    return squared_gradient_norms(real, real_logits).mean() * (gamma / 2)


def path_lengths(
    images: Float[Tensor, "n c h w"], ws: Float[Tensor, "n layers w_size"], noise: Float[Tensor, "n c h w"]
) -> Float[Tensor, " n"]:
    """Length of the gradient of <image, noise> in w, its square averaged over the layers (StyleGAN2, eq. 4)."""
    (gradient,) = torch.autograd.grad((images * noise).sum(), ws, create_graph=True)
    return gradient.square().sum(dim=2).mean(dim=1).sqrt()


def path_noise(images: Float[Tensor, "n c h w"], draws: RandomDraws) -> Float[Tensor, "n c h w"]:
    """Directions in image space, scaled so that path lengths do not grow with the resolution."""
    return draws.normal(*images.shape[1:]) / math.sqrt(images.shape[2] * images.shape[3])


def path_penalty(lengths: Float[Tensor, " n"], mean: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """The mean squared distance of path lengths from their running mean (StyleGAN2, eq. 4)."""
    return (lengths - mean).square().mean()


def mix_styles(
    mapping: LatentMapping,
    ws: Float[Tensor, "n layers w_size"],
    c: Float[Tensor, "n class_count"],
    probability: float,
    decisions: torch.Generator,
    rng: torch.Generator,
) -> Float[Tensor, "n layers w_size"]:
    """With some probability an image's layers, from a random one on, take the w of another latent (StyleGAN, 3.1).

    Whether and where is drawn for each image from `decisions` on the CPU, the latents from `rng` on the networks'
    device.
    """
    if probability <= 0:
        return ws
    count, layers = ws.shape[:2]
    mixed, place = torch.rand(2, count, generator=decisions)
    crossover = torch.where(mixed < probability, 1 + (place * (layers - 1)).long(), layers)
    others = mapping(torch.randn(count, mapping.z_size, generator=rng, device=ws.device), c)
    own = torch.arange(layers) < crossover[:, None]
    return torch.where(own[:, :, None].to(ws.device, non_blocking=True), ws, others)
