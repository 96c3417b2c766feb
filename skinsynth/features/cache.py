"""Features on disk, named after the content that they come from: no stage computes those of an image set again."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from skinsynth.files import written_whole

SUFFIX = ".safetensors"
GIGABYTE = 10**9
FEATURES = "features"  # the tensor's name in its file


@runtime_checkable
class IdentifiedExtractor(Protocol):
    """An extractor that can say what its features depend on."""

    @property
    def name(self) -> str: ...

    @property
    def device(self) -> torch.device: ...  # of its features

    def fingerprint(self) -> str: ...

    def __call__(self, pixels: UInt8[np.ndarray | Tensor, "n 3 size size"]) -> Float32[Tensor, "n dim"]: ...


class CachedExtractor:
    """An extractor that looks in a folder first; stages that run at the same time may share the folder.

    What was not used for longest is deleted as soon as the folder holds more than its bound.
    """

    def __init__(self, extract: IdentifiedExtractor, folder: Path, gigabytes: float) -> None:
        if not gigabytes > 0:
            raise ValueError(
                f"a cache of features holds more than 0 GB, but its bound is {gigabytes}: "
                f"set extractor.cache_gigabytes to a positive number, or to 0 for no cache"
            )
        self.name = extract.name
        self.extract = extract
        self.folder = folder
        self.bound = gigabytes * GIGABYTE
        self.fingerprint = extract.fingerprint()

    def __call__(self, pixels: UInt8[np.ndarray | Tensor, "n 3 size size"]) -> Float32[Tensor, "n dim"]:
        file = self.folder / f"{self._key(pixels)}{SUFFIX}"
        features = self._read(file, len(pixels))
        if features is None:
            features = self.extract(pixels)
            self._keep(file, features)
        return features

    def _key(self, pixels: UInt8[np.ndarray | Tensor, "n 3 size size"]) -> str:
        array = pixels.cpu().numpy() if isinstance(pixels, Tensor) else pixels
        digest = hashlib.sha256(repr((self.name, self.fingerprint, array.shape, str(array.dtype))).encode())
        # Image by image: where a set is not contiguous, no more than an image is copied at a time.
        for image in array:
            digest.update(image.ravel())
        return digest.hexdigest()

    def _read(self, file: Path, count: int) -> Float32[Tensor, "n dim"] | None:
        """The features kept there; None where there are none, where the file is damaged or vanishes meanwhile."""
        try:
            os.utime(file)
            # Opened once: load_file opens a file twice, between which it may vanish.
            features = load(file.read_bytes())[FEATURES]
        except (FileNotFoundError, SafetensorError, KeyError):
            return None
        if features.ndim != 2 or len(features) != count or features.dtype != torch.float32:
            return None
        # In memory of torch's own, aligned as that of computed features is: sums may round by alignment.
        return features.clone().to(self.extract.device)

    def _keep(self, file: Path, features: Float32[Tensor, "n dim"]) -> None:
        if features.nbytes > self.bound:
            return
        # A stage that makes room in the folder may take the file that is being written: then it is not kept.
        with suppress(FileNotFoundError), written_whole(file) as aside:
            save_file({FEATURES: features.cpu().contiguous()}, aside)
        self._make_room()

    def _make_room(self) -> None:
        """Delete what was not used for longest, leftovers of killed runs among it, until the rest is in the bound."""
        files = sorted(self._ages_and_sizes())
        excess = sum(size for _, size, _ in files) - self.bound
        for _, size, file in files:
            if excess <= 0:
                return
            file.unlink(missing_ok=True)
            excess -= size

    def _ages_and_sizes(self) -> list[tuple[int, int, Path]]:
        found = []
        for file in self.folder.glob(f"*{SUFFIX}"):
            with suppress(FileNotFoundError):
                status = file.stat()
                found.append((status.st_mtime_ns, status.st_size, file))
        return found
