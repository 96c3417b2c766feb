"""LPIPS with VGG16, the distance of the published perceptual path length: torch-fidelity's module, weights by file."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from skinsynth.features.pretrained import VGG16, PublishedWeights, Weights, build_from_weights, vgg16

OFFLINE = "set path.distance.name to classifier, the project's own, which needs no download"
SMALLEST = 16  # px, of which VGG16's four poolings leave one
LARGEST = 256  # px that the published number is measured at

NETWORK = replace(VGG16, name="LPIPS's vgg16", library="torch_fidelity", offline=OFFLINE)
LINEAR_LAYERS = PublishedWeights(
    name="LPIPS's linear layers",
    library="torch_fidelity",
    url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-vgg16-lpips.pth",
    file_name="weights-vgg16-lpips.pth",
    sha256=None,  # its name has none: give it in `Weights` once the file is at hand
    offline=OFFLINE,
)


def lpips_vgg16(network: Weights, linear_layers: Weights, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """LPIPS (Zhang et al. 2018, eq. 1) of image pairs in [-1, 1], of 16 px and more."""
    features = build_from_weights(NETWORK, network, lambda state: vgg16(state).network)
    module = build_from_weights(LINEAR_LAYERS, linear_layers, lambda state: _lpips(features, state)).to(device)

    def distance(a: Float[Tensor, "n 3 size size"], b: Float[Tensor, "n 3 size size"]) -> Float[Tensor, " n"]:
        return module(levels(a), levels(b)).flatten()

    return distance


def levels(images: Float[Tensor, "n 3 size size"]) -> Float[Tensor, "n 3 _ _"]:
    """Images in [-1, 1] on the scale of 8 bits, unrounded, averaged down to 256 px as for `ppl2_wend`."""
    size = images.shape[-1]
    if size < SMALLEST:
        raise ValueError(f"LPIPS takes images of at least {SMALLEST} px, but these have {size}: {OFFLINE}")
    return (avg_pool2d(images, max(1, size // LARGEST)) + 1) * (255 / 2)


def _lpips(network: nn.Module, linear_layers: dict[str, Tensor]) -> nn.Module:
    """The library's module, frozen, around a VGG16 and the weights of the linear layers."""
    from torch_fidelity import sample_similarity_lpips as library

    with _standing_in(
        library,
        load_state_dict_from_url=lambda *_, **__: linear_layers,
        torchvision_load_pretrained_vgg16=lambda: network,
    ):
        return library.SampleSimilarityLPIPS("lpips-vgg16")


@contextmanager
def _standing_in(library: ModuleType, **functions: Callable) -> Iterator[None]:
    """The library's constructor takes no weights: it downloads by functions of its own, which these replace meanwhile.

    A function that the library no longer has is an AttributeError, so that another version cannot download unseen.
    """
    before = {name: getattr(library, name) for name in functions}
    vars(library).update(functions)
    try:
        yield
    finally:
        vars(library).update(before)
