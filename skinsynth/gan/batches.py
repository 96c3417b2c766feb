"""Real images in the order in which training sees them, and how a batch is divided."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn.functional import one_hot

from skinsynth.gan.draws import RandomDraws
from skinsynth.gan.pixels import from_pixels


@dataclass(frozen=True)
class Part:
    """Some rows of a batch: what one process computes in one pass."""

    number: int  # of this process's parts, from 0
    batch_size: int
    rows: Int64[Tensor, " n"] | None  # on the CPU; None: the whole batch
    device_rows: Int64[Tensor, " n"] | None  # the same where the batch is

    def of(self, batch: Tensor) -> Tensor:
        """Its rows."""
        return batch if self.device_rows is None else batch[self.device_rows]

    def repeated(self, batches: int) -> "Part":
        """The same rows of so many batches, one after the other."""
        both = [
            None if rows is None else torch.cat([rows + batch * self.batch_size for batch in range(batches)])
            for rows in (self.rows, self.device_rows)
        ]
        return Part(self.number, batches * self.batch_size, *both)

    def draws(self, rng: torch.Generator, pixel_rng: torch.Generator) -> RandomDraws:
        return RandomDraws(self.batch_size, rng, self.rows, pixel_rng, self.device_rows)


@lru_cache(maxsize=8)
def parts_of(batch_size: int, group: int, rank: int, ranks: int, passes: int, device: torch.device) -> tuple[Part, ...]:
    """The parts that fall to one of `ranks` processes, which takes them in so many passes.

    A group of the minibatch deviation takes every (batch_size / group)-th image and stays in one part, so that dividing
    a batch changes no result but for rounding.
    """
    if ranks * passes == 1:
        return (Part(0, batch_size, None, None),)
    columns = torch.arange(batch_size).view(group, -1).chunk(ranks * passes, dim=1)
    own = [column.flatten() for column in columns[rank * passes : (rank + 1) * passes]]
    return tuple(Part(number, batch_size, rows, rows.to(device, non_blocking=True)) for number, rows in enumerate(own))


class TrainingImages:
    """Real images and their one-hot classes on one device."""

    def __init__(
        self,
        images: UInt8[Tensor, "count c h w"],
        labels: Int64[Tensor, " count"],
        class_count: int,
        device: torch.device,
        *,
        x_flip: bool,
        seed: int,
    ) -> None:
        self.images = images.to(device)
        self.classes = _one_hot(labels, class_count).to(device)
        self.x_flip, self.seed = x_flip, seed

    def __len__(self) -> int:
        return len(self.images)

    def batch(
        self, start: int, count: int, rng: torch.Generator
    ) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n class_count"]]:
        """The `count` images after the first `start` seen, half of them mirrored where asked for; `rng` is a CPU's."""
        chosen = data_order(len(self), start, count, self.seed).to(self.images.device, non_blocking=True)
        real = from_pixels(self.images[chosen])
        if self.x_flip:
            flipped = (torch.rand(count, generator=rng) < 0.5).to(self.images.device, non_blocking=True)
            real = real.flip(3).where(flipped[:, None, None, None], real)
        return real, self.classes[chosen]

    def by_class(self, count: int) -> Iterator[tuple[Float[Tensor, "n c h w"], Float[Tensor, "n class_count"]]]:
        """Up to `count` images of each class that has two or more, and their classes; all are one class without any."""
        for row in self.classes.unique(dim=0) if self.classes.shape[1] else self.classes[:1]:
            chosen = (self.classes == row).all(dim=1).nonzero()[:count, 0]
            if len(chosen) > 1:
                yield from_pixels(self.images[chosen]), self.classes[chosen]

    def drawn_classes(self, count: int, rng: torch.Generator) -> Float[Tensor, "n class_count"]:
        """Classes of fakes, as frequent as in the data."""
        chosen = torch.randint(len(self.classes), [count], generator=rng)
        return self.classes[chosen.to(self.classes.device, non_blocking=True)]


def data_order(image_count: int, start: int, count: int, seed: int) -> Int64[Tensor, " count"]:
    """Numbers of the images `start` to `start + count` of an endless row of permutations, one for each epoch."""
    places = torch.arange(start, start + count)
    epochs = places // image_count
    runs = [
        _permutation(image_count, seed, epoch)[places[epochs == epoch] % image_count]
        for epoch in epochs.unique().tolist()
    ]
    return torch.cat(runs)


@lru_cache(maxsize=4)
def _permutation(image_count: int, seed: int, epoch: int) -> Int64[Tensor, " image_count"]:
    # Neighbouring seeds and epochs fall far apart.
    rng = torch.Generator().manual_seed((seed * 1_000_003 + epoch + 1) % 2**63)
    return torch.randperm(image_count, generator=rng)


def _one_hot(labels: Int64[Tensor, " count"], class_count: int) -> Float[Tensor, "count class_count"]:
    if class_count == 0:
        return torch.zeros(len(labels), 0)
    return one_hot(labels, class_count).to(torch.float32)
