"""The features whose gap a projection closes: VGG16's as in the papers, or those of the project's own classifier."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from skinsynth.classifier.classifier import Classifier, normalise
from skinsynth.features.perceptual import LARGEST, SMALLEST
from skinsynth.features.pretrained import VGG16, Weights, build_from_weights, vgg16

OFFLINE = "set loss.name to classifier, the project's own, which needs no download"
# The last ReLU of each of VGG16's five blocks, by its number in torchvision's `features`: the layers of LPIPS.
TAPPED = (3, 8, 15, 22, 29)

Perceptual = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LossConfig:
    name: str  # a key of LOSSES
    weights: Weights  # of vgg16; the classifier has its own
    bfloat16: bool  # vgg16 in 16 bits on a GPU: about half the time and the memory


class VggFeatures:
    """The layers of LPIPS in one vector, whose squared gap is its distance with all linear weights at 1.

    Zhang et al. 2018, eq. 1: channels have unit length at each pixel, and pixels are averaged. Of images in [-1, 1],
    which are averaged down to 256 px (StyleGAN2, appendix D).
    """

    def __init__(self, network: nn.Module, device: torch.device, bfloat16: bool) -> None:
        layers = network.get_submodule("features")[: TAPPED[-1] + 1]  # type: ignore[index]
        layers = layers.float().eval().requires_grad_(False)
        self.layers = layers.to(device, memory_format=torch.channels_last)
        self.bfloat16 = bfloat16 and device.type == "cuda"

    def __call__(self, images: Float[Tensor, "n 3 size size"]) -> Float[Tensor, "n dim"]:
        size = images.shape[-1]
        if size < SMALLEST:
            raise ValueError(f"vgg16 takes images of at least {SMALLEST} px, but these have {size}: {OFFLINE}")
        x = normalise((avg_pool2d(images, max(1, size // LARGEST)) + 1) / 2)
        x, features = x.contiguous(memory_format=torch.channels_last), []
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bfloat16):
            for number, layer in enumerate(self.layers):
                x = layer(x)
                if number in TAPPED:
                    features.append(unit_channels(x.float()).flatten(1))
        return torch.cat(features, dim=1)


def unit_channels(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Channels of unit length at each pixel, over the root of the number of pixels: squares then sum to means."""
    length = (x.square().sum(dim=1, keepdim=True) + 1e-10).sqrt()
    return x / (length * math.sqrt(x[0, 0].numel()))


def classifier_features(classifier: Classifier, *_: object) -> Perceptual:
    """The last layer but one of the classifier of real images."""
    return classifier.embed_differentiable


def vgg16_features(_: Classifier, config: LossConfig, device: torch.device) -> Perceptual:
    """VGG16 with the weights of the settings, downloaded once where these name no file."""
    published = replace(VGG16, offline=OFFLINE)
    network = build_from_weights(published, config.weights, lambda state: vgg16(state).network)
    return VggFeatures(network, device, config.bfloat16)


LOSSES: dict[str, Callable[[Classifier, LossConfig, torch.device], Perceptual]] = {
    "classifier": classifier_features,
    "vgg16": vgg16_features,
}


def build_loss(config: LossConfig, classifier: Classifier, device: torch.device) -> Perceptual:
    """Images in [-1, 1] to features, with gradient, by the network that the settings name."""
    if config.name not in LOSSES:
        raise ValueError(f"a projection's loss is one of {', '.join(LOSSES)}, but {config.name!r} came: {OFFLINE}")
    return LOSSES[config.name](classifier, config, device)
