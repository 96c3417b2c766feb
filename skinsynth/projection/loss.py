"""The features whose gap a projection closes: VGG16's as in the papers, or those of the project's own classifier."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import avg_pool2d

from skinsynth.classifier.classifier import Classifier, normalise
from skinsynth.features.perceptual import LARGEST, SMALLEST
from skinsynth.features.pretrained import VGG16, Weights, build_from_weights, vgg16

OFFLINE = "set loss.name to classifier, the project's own, which needs no download"
# The last ReLU of each of VGG16's five blocks, by its number in torchvision's `features`: the layers of LPIPS.
TAPPED = (3, 8, 15, 22, 29)
# Of a pixel's squared length, so that a pixel where every channel is silent has a direction, nought.
SILENT = 1e-10

Gap = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LossConfig:
    name: str  # a key of LOSSES
    weights: Weights  # of vgg16; the classifier has its own
    bfloat16: bool  # vgg16 in 16 bits on a GPU: about half the time and the memory


class PerceptualLoss:
    """Squared distances between images in [-1, 1], in the features that a network makes of them."""

    def __init__(self, network: Callable[[Tensor], Tensor]) -> None:
        self.network = network

    def features(self, images: Float[Tensor, "n 3 size size"]) -> Float[Tensor, "n dim"]:
        """Features with gradient; all that is of the network is here."""
        return self.network(images).flatten(1)

    def towards(self, real: Float[Tensor, "n 3 size size"]) -> Gap:
        """The squared distances of as many images to these, as a function with gradient."""
        with torch.no_grad():
            target = self.features(real)
        return lambda images: (self.features(images) - target).square().sum(dim=1)


class VggLoss(PerceptualLoss):
    """The layers of LPIPS in one vector, whose squared gap is its distance with all linear weights at 1.

    Zhang et al. 2018, eq. 1: channels have unit length at each pixel, and pixels are averaged. Of images in [-1, 1],
    which are averaged down to 256 px (StyleGAN2, appendix D).
    """

    def __init__(self, network: nn.Module, device: torch.device, bfloat16: bool) -> None:
        layers = network.get_submodule("features")[: TAPPED[-1] + 1]  # type: ignore[index]
        layers = layers.float().eval().requires_grad_(False)
        self.layers = layers.to(device, memory_format=torch.channels_last)
        self.bfloat16 = bfloat16 and device.type == "cuda"

    def features(self, images: Float[Tensor, "n 3 size size"]) -> Float[Tensor, "n dim"]:
        return torch.cat([(unit_channels(x) / _root_pixels(x)).flatten(1) for x in self._tapped(images)], dim=1)

    def towards(self, real: Float[Tensor, "n 3 size size"]) -> Gap:
        """Squared distances without a vector of features: at 256 px its 32 MB an image were half a step's traffic."""
        with torch.no_grad():
            targets = [unit_channels(x) for x in self._tapped(real)]
        return lambda images: torch.stack(
            [_UnitGap.apply(x, target) for x, target in zip(self._tapped(images), targets, strict=True)]
        ).sum(dim=0)

    def _tapped(self, images: Float[Tensor, "n 3 size size"]) -> list[Float[Tensor, "n c h w"]]:
        size = images.shape[-1]
        if size < SMALLEST:
            raise ValueError(f"vgg16 takes images of at least {SMALLEST} px, but these have {size}: {OFFLINE}")
        x = normalise((avg_pool2d(images, max(1, size // LARGEST)) + 1) / 2)
        x, tapped = x.contiguous(memory_format=torch.channels_last), []
        with torch.autocast("cuda", torch.bfloat16, enabled=self.bfloat16):
            for number, layer in enumerate(self.layers):
                x = layer(x)
                if number in TAPPED:
                    tapped.append(x.float())
        return tapped


def unit_channels(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Channels of unit length at each pixel."""
    return x / _length(x)


def _length(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 h w"]:
    return (torch.linalg.vector_norm(x, dim=1, keepdim=True).square() + SILENT).sqrt()


def _root_pixels(x: Float[Tensor, "n c h w"]) -> float:
    """What pixels are divided by, so that squares sum to means."""
    return math.sqrt(x.shape[2] * x.shape[3])


class _UnitGap(Function):
    """Mean over pixels of the squared distance between the unit vector of x and a given one, in few passes.

    With l the length of x and u the given one, a pixel's is |x|^2 / l^2 + |u|^2 - 2 x.u / l.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, unit: Tensor) -> Tensor:
        length, product = _length(x), (x * unit).sum(dim=1, keepdim=True)
        ctx.save_for_backward(x, unit, length, product)
        own, other = 1 - SILENT / length.square(), torch.linalg.vector_norm(unit, dim=1, keepdim=True).square()
        return (own + other - 2 * product / length).mean(dim=(1, 2, 3))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        x, unit, length, product = ctx.saved_tensors
        each = (2 / (x.shape[2] * x.shape[3]) * gradients[0])[:, None, None, None]
        along = each * (product / length**3 + SILENT / length**4)
        return torch.addcmul(unit * (-each / length), x, along), None


def classifier_loss(classifier: Classifier, *_: object) -> PerceptualLoss:
    """Distance in the last layer but one of the classifier of real images."""
    return PerceptualLoss(classifier.embed_differentiable)


def vgg16_loss(_: Classifier, config: LossConfig, device: torch.device) -> PerceptualLoss:
    """Distance by VGG16 with the weights of the settings, downloaded once where these name no file."""
    published = replace(VGG16, offline=OFFLINE)
    network = build_from_weights(published, config.weights, lambda state: vgg16(state).network)
    return VggLoss(network, device, config.bfloat16)


LOSSES: dict[str, Callable[[Classifier, LossConfig, torch.device], PerceptualLoss]] = {
    "classifier": classifier_loss,
    "vgg16": vgg16_loss,
}


def build_loss(config: LossConfig, classifier: Classifier, device: torch.device) -> PerceptualLoss:
    """Distances by the network that the settings name."""
    if config.name not in LOSSES:
        raise ValueError(f"a projection's loss is one of {', '.join(LOSSES)}, but {config.name!r} came: {OFFLINE}")
    return LOSSES[config.name](classifier, config, device)
