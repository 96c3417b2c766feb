"""Published networks as extractors: torch-fidelity's Inception-v3, torchvision's VGG16, timm's DINOv2.

Each is built, and its input prepared, by the library that owns it. Weights are a file: given by its path, or downloaded
once into torch.hub's cache, where torchvision and torch-fidelity look too. DINOv2 takes the same way, because timm
retries at Hugging Face for most of a minute where the network is closed. None is taken without its SHA-256, published
or given. No file is unpickled: safetensors hold nothing but tensors, and .pth files go through torch.hub's reader of
tensors alone (`weights_only`).
"""

import hashlib
import importlib.util
import io
import socket
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from safetensors.torch import load_file, save
from torch import Tensor, nn
from tqdm import tqdm

from skinsynth.files import sha256_of

OFFLINE = "set extractor.name to classifier, the project's own, which needs no download"
# How long a server may stay silent before a download is given up.
PATIENCE_SECONDS = 10.0
SHORTEST_SHA256 = 8  # digits, as in the names of published files
DINOV2_SIZE = 224  # px

T = TypeVar("T")


@dataclass(frozen=True)
class Weights:
    """The file that a published network's weights come from."""

    path: str | None  # .safetensors or .pth: a state dict with its library's names; None: downloaded once
    sha256: str | None  # of that file, in full or its first digits; None: the published ones, which not all have


class Prepared(NamedTuple):
    """A network, and what turns pixels into its input."""

    prepare: Callable[[UInt8[Tensor, "n 3 size size"]], Tensor]
    network: nn.Module


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    name: str  # of the network, or of the part of it, that they belong to
    library: str  # that owns it
    url: str
    file_name: str  # in torch.hub's cache
    sha256: str | None  # of the file under `url`, its first digits
    offline: str = OFFLINE  # what to do where they cannot be had


@dataclass(frozen=True, kw_only=True)
class PublishedNetwork(PublishedWeights):
    build: Callable[[dict[str, Tensor]], Prepared]


class FrozenNetwork:
    """A published network that no longer changes, asked in batches."""

    def __init__(self, published: PublishedNetwork, prepared: Prepared, device: torch.device, batch_size: int) -> None:
        self.name = published.name
        self.library = published.library
        self.prepare = prepared.prepare
        self.network = prepared.network.float().eval().requires_grad_(False).to(device)
        self.device = device
        self.batch_size = batch_size

    def fingerprint(self) -> str:
        """Another one whenever features might be others: by weights, device, batch, library or this file's code."""
        libraries = [version(library) for library in ("torch", "torchvision", "pillow", self.library)]
        digest = hashlib.sha256(repr((self.name, self.device.type, self.batch_size, libraries)).encode())
        digest.update(Path(__file__).read_bytes())
        # One by one: VGG16 alone has half a gigabyte.
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(save({name: tensor.cpu().contiguous()}))
        return digest.hexdigest()

    @torch.no_grad()
    def embed(self, pixels: UInt8[np.ndarray | Tensor, "n 3 size size"]) -> Float32[Tensor, "n dim"]:
        """Features, on the network's device."""
        if len(pixels) == 0:
            raise ValueError(f"{self.name} was asked about no image at all: give at least one")
        features = []
        with tqdm(total=len(pixels), unit="image", desc=f"{self.name} features", leave=False, delay=5) as bar:
            for batch in torch.as_tensor(pixels).split(self.batch_size):
                features.append(self.network(self.prepare(batch.to(self.device)).to(self.device)))
                bar.update(len(batch))
        return torch.cat(features)


def load_network(published: PublishedNetwork, weights: Weights, device: torch.device, batch_size: int) -> FrozenNetwork:
    """The network with its weights in place; a ValueError or FileNotFoundError of one line says what to do."""
    return FrozenNetwork(published, build_from_weights(published, weights, published.build), device, batch_size)


def build_from_weights(published: PublishedWeights, weights: Weights, build: Callable[[dict[str, Tensor]], T]) -> T:
    """What `build` makes of the published tensors; it may draw from torch's generator, which nobody is to notice."""
    if importlib.util.find_spec(published.library) is None:
        raise ValueError(
            f"{published.name} is built by {published.library}, which is not installed: add it or {published.offline}"
        )
    file = weight_file(published, weights)
    state = _read_state(published, file)
    try:
        # The libraries draw weights of their own first.
        with torch.random.fork_rng(devices=[]):
            return build(state)
    except (RuntimeError, KeyError) as error:
        raise ValueError(
            f"{file} holds other weights than those of {published.name} ({_shortened(error)}): "
            f"give the file of {published.url} or {published.offline}"
        ) from error


def weight_file(published: PublishedWeights, weights: Weights) -> Path:
    """The file that `weights` names, or else the published one, downloaded once; its SHA-256 is checked."""
    if weights.path is None:
        file = Path(torch.hub.get_dir()) / "checkpoints" / published.file_name
        if not file.exists():
            _download(published, file)
    else:
        file = Path(weights.path)
        if not file.is_file():
            raise FileNotFoundError(
                f"the weights of {published.name} are not at {file}: bring {published.url} there or {published.offline}"
            )
    _check_sha256(published, file, weights.sha256 or published.sha256)
    return file


def _download(published: PublishedWeights, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _limited_patience():
            torch.hub.download_url_to_file(published.url, str(file), hash_prefix=published.sha256)
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"the weights of {published.name} cannot be had from {published.url} ({_shortened(error)}): "
            f"{published.offline}, or bring that file to {file}, or give its path"
        ) from error


@contextmanager
def _limited_patience() -> Iterator[None]:
    """torch.hub sets no timeout of its own: where packets are dropped, it would wait for good."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _check_sha256(published: PublishedWeights, file: Path, expected: str | None) -> None:
    if expected is None:
        raise ValueError(
            f"no SHA-256 is published of {published.name}'s weights: where {file} is what you expect, write its own, "
            f"{sha256_of(file)}, into `sha256` beside `path` in params.yaml, or {published.offline}"
        )
    if len(expected) < SHORTEST_SHA256:
        raise ValueError(
            f"{expected!r} is too short for a SHA-256 of {published.name}'s weights: "
            f"give its first {SHORTEST_SHA256} digits or more"
        )
    found = sha256_of(file)
    if not found.startswith(expected.lower()):
        raise ValueError(
            f"{file} is not the file that {published.name} expects: its SHA-256 is {found}, not {expected}; remove it "
            f"and fetch {published.url} again, or write into `sha256` what you expect, or {published.offline}"
        )


def _read_state(published: PublishedWeights, file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            state = load_file(file)
        else:
            # A file that is there is not downloaded, only read: torch.hub's public door to the reader of tensors.
            state = torch.hub.load_state_dict_from_url(
                file.resolve().as_uri(), str(file.parent), map_location="cpu", file_name=file.name, weights_only=True
            )
    except Exception as error:  # a file of unknown content fails in as many ways as there are formats
        raise ValueError(
            f"{file} cannot be read as weights of {published.name} ({_shortened(error)}): "
            f"remove it and fetch {published.url} again, or {published.offline}"
        ) from error
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(
            f"{file} holds no state dict, a mapping from names to tensors, of {published.name}: "
            f"give the file of {published.url} or {published.offline}"
        )
    return dict(state)


def _shortened(error: Exception) -> str:
    return textwrap.shorten(str(error) or type(error).__name__, 160, placeholder=" …")


class FirstOutput(nn.Sequential):
    """The first of the outputs that a network gives as a tuple."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images)[0]


def inception(state: dict[str, Tensor]) -> Prepared:
    """Inception-v3 as FID was published with (Heusel et al. 2017), its 2048 pooled features.

    torch-fidelity's module takes pixels as they are: it resizes to 299 px as TensorFlow 1 did, bilinear and without
    antialiasing, and maps [0, 256) to [-1, 1).
    """
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    # Its own reader unpickles: it gets a file, in memory, that holds the tensors read here and nothing else.
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=file)
    return Prepared(_unchanged, FirstOutput(network))


def _unchanged(pixels: UInt8[Tensor, "n 3 size size"]) -> Tensor:
    return pixels


def vgg16(state: dict[str, Tensor]) -> Prepared:
    """VGG16's second fully connected layer after ReLU: the 4096 features of Kynkäänniemi et al. 2019.

    torchvision's own preset prepares the input (bilinear with antialiasing, ImageNet's mean and spread), but resizes
    the whole image to 224 px where the preset would crop its border away.
    """
    from torchvision.models import VGG16_Weights
    from torchvision.models import vgg16 as torchvision_vgg16

    with torch.device("meta"):  # no memory for weights that are replaced at once
        network = torchvision_vgg16(init_weights=False)
    network.load_state_dict(state, assign=True)
    network.classifier = network.classifier[:5]
    return Prepared(VGG16_Weights.IMAGENET1K_V1.transforms(resize_size=224), network)


def dinov2(state: dict[str, Tensor]) -> Prepared:
    """DINOv2 ViT-S/14 (Oquab et al. 2023) at 224 px, the 384 features of its class token after the last norm.

    timm's own evaluation transform prepares the input: bicubic to 224 px with Pillow, ImageNet's mean and spread. timm
    resamples the position embedding, published for 518 px; torch-fidelity's dinov2-vit-s-14 takes 224 px too, but
    resizes and resamples in ways of its own, so that numbers of the two are close and not equal.
    """
    import timm
    from PIL import Image

    network = timm.create_model(
        "vit_small_patch14_dinov2",
        pretrained=True,
        img_size=DINOV2_SIZE,
        pretrained_cfg_overlay={"state_dict": state},
    )
    asked = timm.data.resolve_model_data_config(network, {"img_size": DINOV2_SIZE})
    transform = timm.data.create_transform(**asked, is_training=False)

    def prepare(pixels: UInt8[Tensor, "n 3 size size"]) -> Float[Tensor, "n 3 224 224"]:
        images = pixels.permute(0, 2, 3, 1).cpu().numpy()
        return torch.stack([transform(Image.fromarray(image)) for image in images])

    return Prepared(prepare, network)


INCEPTION = PublishedNetwork(
    name="inception",
    library="torch_fidelity",
    url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    file_name="weights-inception-2015-12-05-6726825d.pth",
    sha256="6726825d",
    build=inception,
)
VGG16 = PublishedNetwork(
    name="vgg16",
    library="torchvision",
    url="https://download.pytorch.org/models/vgg16-397923af.pth",
    file_name="vgg16-397923af.pth",
    sha256="397923af",
    build=vgg16,
)
DINOV2 = PublishedNetwork(
    name="dinov2",
    library="timm",
    url="https://huggingface.co/timm/vit_small_patch14_dinov2.lvd142m/resolve/main/model.safetensors",
    file_name="vit_small_patch14_dinov2.lvd142m.safetensors",
    sha256=None,  # the hub publishes none in a name: `Weights` must have it
    build=dinov2,
)
