"""A trained classifier: what it says about images, its features, and its two files."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file, save, save_file
from torch import Tensor

from skinsynth.classifier.networks import Network, build_network
from skinsynth.files import folder_written_whole

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
WEIGHTS, ARCHITECTURE = "weights.safetensors", "config.json"
# Pixels of the images that go through a network at once: keeps EfficientNet-B2 under half a GB on a CPU.
PIXELS_AT_ONCE = {"cpu": 2**20, "cuda": 2**24}


@dataclass(frozen=True)
class Architecture:
    network: str  # a key of NETWORKS or a name that timm knows
    class_count: int
    dropout: float
    image_size: int | None = None  # of a network that takes no other, such as a ViT; not written where None


class Examined(NamedTuple):
    """What a classifier sees in images and says of them, on its device."""

    features: Float[Tensor, "n dim"]  # penultimate
    probabilities: Float[Tensor, "n classes"]


class Classifier:
    """A network that no longer changes, asked in batches; pixels come as uint8 and NCHW."""

    def __init__(self, network: Network, architecture: Architecture) -> None:
        self.network = network.eval().requires_grad_(False)
        self.architecture = architecture
        self.name = architecture.network
        self.dim = network.head.in_features
        self.device = network.head.weight.device

    def fingerprint(self) -> str:
        """Another one whenever features might be others: by weights, architecture, device, code or library."""
        libraries = [version(library) for library in ("torch", "torchvision", "timm")]
        digest = hashlib.sha256(repr((self.architecture, self.device.type, libraries)).encode())
        for file in sorted(Path(__file__).parent.glob("*.py")):
            digest.update(file.read_bytes())
        digest.update(save(self.state()))
        return digest.hexdigest()

    def state(self) -> dict[str, Tensor]:
        """The weights as safetensors take them."""
        return {name: tensor.cpu().contiguous() for name, tensor in self.network.state_dict().items()}

    @torch.no_grad()
    def embed(self, pixels: UInt8[np.ndarray | Tensor, "n 3 size size"]) -> Float[Tensor, "n dim"]:
        """Penultimate features, on the classifier's device."""
        return torch.cat([self.network.body(batch) for batch in self._batches(pixels)])

    @torch.no_grad()
    def logits(self, pixels: UInt8[np.ndarray | Tensor, "n 3 size size"]) -> Float[Tensor, "n classes"]:
        return torch.cat([self.network(batch) for batch in self._batches(pixels)])

    def probabilities(self, pixels: UInt8[np.ndarray | Tensor, "n 3 size size"]) -> Float[Tensor, "n classes"]:
        return self.logits(pixels).softmax(dim=1)

    @torch.no_grad()
    def examine(self, pixels: UInt8[np.ndarray | Tensor, "n 3 size size"]) -> Examined:
        """What `embed` and `probabilities` give, to the bit, in one pass."""
        features = [self.network.body(batch) for batch in self._batches(pixels)]
        # Batch by batch, since another size would round differently.
        logits = torch.cat([self.network.head(of_batch) for of_batch in features])
        return Examined(torch.cat(features), logits.softmax(dim=1))

    def embed_differentiable(self, images: Float[Tensor, "n 3 size size"]) -> Float[Tensor, "n dim"]:
        """Penultimate features of images in [-1, 1], with their gradient."""
        return self.network.body(normalise((images + 1) / 2))

    def logits_differentiable(self, images: Float[Tensor, "n 3 size size"]) -> Float[Tensor, "n classes"]:
        """Logits of images in [-1, 1], with their gradient."""
        return self.network(normalise((images + 1) / 2))

    def _batches(
        self, pixels: UInt8[np.ndarray | Tensor, "n 3 size size"]
    ) -> Iterator[Float[Tensor, "batch 3 size size"]]:
        """Images as the network takes them, on its device."""
        if len(pixels) == 0:
            raise ValueError("a classifier was asked about no image at all: give at least one")
        images = torch.as_tensor(pixels)
        count = max(1, PIXELS_AT_ONCE.get(self.device.type, 2**20) // images[0, 0].numel())
        for batch in images.split(count):
            yield normalise(batch.to(self.device) / 255)


def normalise(images: Float[Tensor, "n 3 size size"]) -> Float[Tensor, "n 3 size size"]:
    """Images in [0, 1] to the mean and spread that ImageNet's networks expect."""
    mean, std = _imagenet(images.device, images.dtype)
    return (images - mean) / std


@cache
def _imagenet(device: torch.device, dtype: torch.dtype) -> tuple[Float[Tensor, "3 1 1"], Float[Tensor, "3 1 1"]]:
    """Mean and spread; kept, since a GPU waits for what comes from the CPU."""
    mean, std = (torch.tensor(values, device=device, dtype=dtype) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return mean[:, None, None], std[:, None, None]


def save_classifier(folder: Path, classifier: Classifier) -> None:
    """Write weights as safetensors and the architecture as JSON; the folder is replaced as a whole."""
    said = {name: value for name, value in asdict(classifier.architecture).items() if value is not None}
    architecture = json.dumps(said, indent=2) + "\n"
    with folder_written_whole(folder) as aside:
        save_file(classifier.state(), aside / WEIGHTS)
        (aside / ARCHITECTURE).write_text(architecture)


def load_classifier(folder: Path, device: torch.device) -> Classifier:
    """What `save_classifier` wrote; a FileNotFoundError or ValueError says what is missing or does not fit."""
    for name in (WEIGHTS, ARCHITECTURE):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"no classifier at {folder}: {name} is missing; train one with train_classifier")
    try:
        architecture = Architecture(**json.loads((folder / ARCHITECTURE).read_text()))
        network = build_network(
            architecture.network, architecture.class_count, False, architecture.dropout, architecture.image_size
        )
        network.load_state_dict(load_file(folder / WEIGHTS))
    except (TypeError, RuntimeError, SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{folder} holds no classifier of ours ({error}): train it again") from error
    return Classifier(network.to(device), architecture)
