"""The networks that a classifier can be built on, one visible dict and any name that timm knows."""

import difflib
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

PRETRAINED_HELP = (
    "ImageNet weights of {name} cannot be had here ({error}): set `pretrained: false`, or download them once "
    "where the network is open and bring the cache folder ({cache}) along"
)


class Network(nn.Module):
    """A body that gives one feature vector an image, and a linear head that gives one logit a class."""

    def __init__(
        self, body: nn.Module, dim: int, class_count: int, dropout: float, image_size: int | None = None
    ) -> None:
        super().__init__()
        self.image_size = image_size  # of a body that is built for one size; None: it takes others too
        self.body = body
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(dim, class_count)

    def forward(self, images: Float[Tensor, "n 3 size size"]) -> Float[Tensor, "n classes"]:
        """Logits of images normalised as ImageNet's."""
        return self.head(self.dropout(self.body(images)))


class CompactBody(nn.Sequential):
    """The four convolutions of the 108,225-parameter CNN of papers/003, for images of 20 px and more.

    At its own 32 px the last map is 2x2 as in the paper; larger images are averaged down to that.
    """

    dim = 512
    smallest = 20

    def __init__(self, dropout: float) -> None:
        super().__init__(
            *_convolution(3, 32, 3, dropout, nn.MaxPool2d(2), padding=1),
            *_convolution(32, 64, 2, dropout, nn.MaxPool2d(2, ceil_mode=True)),
            *_convolution(64, 128, 2, dropout, nn.MaxPool2d(2)),
            *_convolution(128, 128, 2, 0.0, nn.AdaptiveAvgPool2d(2)),  # the head brings the last dropout
            nn.Flatten(),
        )

    def forward(self, images: Float[Tensor, "n 3 size size"]) -> Float[Tensor, "n 512"]:
        if min(images.shape[2:]) < self.smallest:
            raise ValueError(
                f"cnn-108k takes images of at least {self.smallest} px, but these have {images.shape[2]} x "
                f"{images.shape[3]}: prepare larger images or choose another network"
            )
        return super().forward(images)


def _convolution(
    channels_in: int, channels_out: int, kernel: int, dropout: float, pool: nn.Module, padding: int = 0
) -> list[nn.Module]:
    convolution = nn.Conv2d(channels_in, channels_out, kernel, padding=padding)
    # The largest of rectified numbers is the largest one rectified, which takes a quarter of the work.
    rectified = [pool, nn.ReLU()] if isinstance(pool, nn.MaxPool2d) else [nn.ReLU(), pool]
    return [convolution, *rectified, nn.Dropout(dropout)]


def compact_cnn(class_count: int, pretrained: bool, dropout: float) -> Network:
    """The CNN of papers/003: 108,225 parameters with one output."""
    if pretrained:
        raise ValueError("cnn-108k has no ImageNet weights: set `pretrained: false` or choose another network")
    return Network(CompactBody(dropout), CompactBody.dim, class_count, dropout)


def googlenet(class_count: int, pretrained: bool, dropout: float) -> Network:
    """GoogLeNet (Szegedy et al. 2015) of torchvision, without its auxiliary heads."""
    # torchvision costs seconds to import and only this choice needs it.
    from torchvision.models import GoogLeNet_Weights
    from torchvision.models import googlenet as torchvision_googlenet

    weights = GoogLeNet_Weights.DEFAULT if pretrained else None
    try:
        body = torchvision_googlenet(weights=weights, aux_logits=False, init_weights=False)
    except OSError as error:
        raise ValueError(_pretrained_help("googlenet", error, torch.hub.get_dir())) from error
    dim = body.fc.in_features
    body.dropout, body.fc = nn.Identity(), nn.Identity()
    return Network(body, dim, class_count, dropout)


def timm_network(name: str, class_count: int, pretrained: bool, dropout: float, image_size: int | None) -> Network:
    """Any network of timm by its name there, pooled features under a head of ours.

    One that takes a single size, such as a ViT, is built for `image_size`, or for timm's own where that is None.
    """
    # timm brings torchvision along; only its own networks need it.
    import timm

    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models())
        raise ValueError(
            f"no network is called {name!r}: choose one of {sorted(NETWORKS)} or a name that timm knows"
            + (f", such as {', '.join(close)}" if close else "")
        )
    own = timm.get_pretrained_cfg(name)
    only_size = image_size if own is not None and own.fixed_input_size else None
    size_of_images: dict[str, Any] = {} if only_size is None else {"img_size": only_size}
    try:
        body = timm.create_model(name, pretrained=pretrained, num_classes=0, **size_of_images)
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        raise ValueError(_pretrained_help(name, error, "~/.cache/huggingface")) from error
    # Some networks widen their features once more after pooling.
    dim: int = getattr(body, "head_hidden_size", None) or body.num_features  # type: ignore[assignment]
    network = Network(body, dim, class_count, dropout, only_size)
    if image_size is not None:
        _check_takes(network, name, image_size)
    return network


def _pretrained_help(name: str, error: Exception, cache: str) -> str:
    return PRETRAINED_HELP.format(name=name, error=_reason(error), cache=cache)


def _reason(error: Exception) -> str:
    """The first sentence of what libraries say, which may be long."""
    return str(error).split("\n", maxsplit=1)[0].split(". ", maxsplit=1)[0] or type(error).__name__


def _check_takes(network: Network, name: str, size: int) -> None:
    """Raises ValueError where a blank image of this size cannot go through; weights and random state stay."""
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            network.eval()(torch.zeros(1, 3, size, size))
    # Each network fails in its own way.
    except Exception as error:
        raise ValueError(
            f"{name} takes no images of {size} px ({_reason(error)}): choose another `network` in params.yaml, or "
            "another `size` in prepare_images"
        ) from error
    network.train()


NETWORKS: dict[str, Callable[[int, bool, float], Network]] = {"cnn-108k": compact_cnn, "googlenet": googlenet}


def build_network(
    name: str, class_count: int, pretrained: bool, dropout: float, image_size: int | None = None
) -> Network:
    """A fresh network with `class_count` outputs; its weights come from torch's generator of the moment.

    A network of timm that does not take images of `image_size`, where this is given, is a ValueError. Convolutions lie
    channels-last in memory, which is faster on CPUs and in 16 bits on GPUs.
    """
    if build := NETWORKS.get(name):
        network = build(class_count, pretrained, dropout)
    else:
        network = timm_network(name, class_count, pretrained, dropout, image_size)
    return network.to(memory_format=torch.channels_last)
