"""What a GPU would have to do, counted without one, as JSON.

    python benchmarks/count_operators.py                   # the updates of a training step of `paper256`
    python benchmarks/count_operators.py --projection 64   # a step of projection, so many images at once, VGG16

Both run on tensors without contents, which have sizes, types and devices only: so this also shows that the way through
16 bits fits together. Counted are operators (each is a launch or a few), arithmetic, bytes that the operators read and
write, and the most memory that is alive at once. `floor` adds up, over the operators, the time that a given GPU (by
its data sheet) needs at least for their arithmetic or their bytes, whichever is longer. **It is no measurement**:
launches, workspaces and imperfect kernels come on top. Triton's kernels (`fused`) do not run without a GPU.
"""

import argparse
import copy
import json
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from torchvision.models import vgg16

from benchmarks.measuring import rounded
from benchmarks.project import MAP_WEIGHT, PUBLISHED, random_gan
from benchmarks.train_gan import paper256
from skinsynth.gan.layers import HALF_TYPES
from skinsynth.gan.trainer import Trainer, TrainerConfig
from skinsynth.projection.loss import VggLoss
from skinsynth.projection.projector import LatentStatistics, Projector

META = torch.device("meta")
IMAGES = 256
# Operators that only look at what is there in another way, or set memory aside.
VIEWS = frozenset([
    "_unsafe_view", "alias", "as_strided", "detach", "empty", "empty_like", "expand", "lift_fresh", "new_empty",
    "permute", "select", "slice", "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unsqueeze",
    "view",
])  # fmt: skip
# Products that PyTorch computes in full where numbers have 32 bits; convolutions are rounded to TF32.
PRODUCTS = frozenset(["mm", "bmm", "addmm", "baddbmm"])
CONVOLUTIONS = frozenset(["convolution", "convolution_backward"])


class MetaGenerator(torch.Generator):
    """A source of random numbers for tensors without contents; PyTorch has none."""

    device = property(lambda _: META)  # type: ignore[assignment]


@dataclass
class Tally:
    operators: int = 0
    flops: int = 0
    bytes_moved: int = 0
    floor_seconds: float = 0.0
    peak_bytes: int = 0
    by_operator: Counter[str] = field(default_factory=Counter)  # bytes moved

    def row(self) -> dict[str, Any]:
        return {
            "operators": self.operators,
            "tflop": self.flops / 1e12,
            "gigabytes_moved": self.bytes_moved / 1e9,
            "peak_gigabytes": self.peak_bytes / 1e9,
            "floor_ms": 1000 * self.floor_seconds,
            "most_bytes": {name: moved / 1e9 for name, moved in self.by_operator.most_common(5)},
        }

    def since(self, earlier: "Tally") -> "Tally":
        """What was added; the peak is that of all."""
        return Tally(
            self.operators - earlier.operators,
            self.flops - earlier.flops,
            self.bytes_moved - earlier.bytes_moved,
            self.floor_seconds - earlier.floor_seconds,
            self.peak_bytes,
            self.by_operator - earlier.by_operator,
        )


@dataclass(frozen=True)
class Gpu:
    bytes_per_second: float
    flops_per_second: dict[int, float]  # by the bytes of a number
    product_flops_per_second: float  # of 32 bits, in full

    def seconds(self, name: str, flops: int, moved: int, dtype: torch.dtype) -> float:
        """At least, for one operator."""
        if name in PRODUCTS and dtype == torch.float32:
            return max(flops / self.product_flops_per_second, moved / self.bytes_per_second)
        return max(flops and flops / self.flops_per_second[dtype.itemsize], moved / self.bytes_per_second)


class Counting(TorchDispatchMode):
    """Counts what runs on tensors without contents while it is entered."""

    def __init__(self, gpu: Gpu, alive: list[Tensor]) -> None:
        super().__init__()
        self.gpu, self.count = gpu, Tally()
        self.alive: dict[int, int] = {}
        for tensor in alive:
            self._see(tensor)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        result = func(*args, **kwargs)
        if name in CONVOLUTIONS:
            result = _as_on_a_gpu(result)
        given, made = list(_without_contents((args, kwargs))), list(_without_contents(result))
        for tensor in made:
            self._see(tensor)
        if made and name not in VIEWS:
            self._add(func, name, given + made, made[0].dtype, (args, kwargs, result))
        return result

    def _add(self, func: Any, name: str, tensors: list[Tensor], dtype: torch.dtype, call: tuple[Any, ...]) -> None:
        args, kwargs, result = call
        formula = flop_registry.get(func.overloadpacket)
        flops = formula(*args, **kwargs, out_val=result) if formula else 0
        moved = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        count = self.count
        count.operators += 1
        count.flops += flops
        count.bytes_moved += moved
        count.by_operator[name] += moved
        count.floor_seconds += self.gpu.seconds(name, flops, moved, dtype)

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self.alive:
            self.alive[key] = storage.nbytes()
            self.count.peak_bytes = max(self.count.peak_bytes, sum(self.alive.values()))
            weakref.finalize(storage, self.alive.pop, key, None)


def _without_contents(values: Any) -> Iterator[Tensor]:
    return (value for value in tree_leaves(values) if isinstance(value, Tensor) and value.device == META)


def _as_on_a_gpu(result: Any) -> Any:
    """Convolutions keep images channels-last on a GPU; without contents they forget it."""
    if isinstance(result, tuple):
        return tuple(map(_as_on_a_gpu, result))
    is_image = isinstance(result, Tensor) and result.device == META and result.ndim == 4
    return result.contiguous(memory_format=torch.channels_last) if is_image else result


class MetaTrainer(Trainer):
    """A trainer whose networks and images are sizes and types only; its updates stop before Adam."""

    def __init__(self, config: TrainerConfig) -> None:
        size, classes = config.generator.resolution, config.generator.class_count
        pixels = torch.zeros(IMAGES, 3, size, size, dtype=torch.uint8)
        super().__init__(config, pixels, torch.arange(IMAGES) % max(classes, 1), "cpu")
        self.device = META
        for network in (self.generator, self.discriminator, self.generator_ema):
            network.to(META)
        self.data.images, self.data.classes = self.data.images.to(META), self.data.classes.to(META)
        self.path_mean, self.r1 = self.path_mean.to(META), self.r1.to(META)
        self.rng = MetaGenerator()
        self.real = self.data.batch(0, config.batch_size, self.decisions)

    def _descend(self, adam: torch.optim.Adam, raised: float = 1.0) -> None:  # noqa: ARG002 - weights have no contents
        for network in (self.generator, self.discriminator):
            network.zero_grad(set_to_none=True)

    def _train_discriminator(self, trains: bool) -> None:
        self.discriminator.requires_grad_(trains)

    def updates(self) -> dict[str, tuple[Callable[[], Any], int]]:
        """Each update, and how many steps lie between two of them."""
        config = self.config
        return {
            "generator": (self._update_generator, 1),
            "path length": (self._regularise_generator, config.path_length_interval),
            "discriminator": (lambda: self._update_discriminator(*self.real), 1),
            "R1": (lambda: self._regularise_discriminator(*self.real), config.r1_interval),
        }

    def kept(self) -> list[Tensor]:
        """What lies on the device between updates, with Adam's moments."""
        networks = (self.generator, self.discriminator, self.generator_ema)
        weights = [tensor for network in networks for tensor in (*network.parameters(), *network.buffers())]
        trained = [*self.generator.parameters(), *self.discriminator.parameters()]
        moments = [torch.empty_like(weight) for weight in trained * 2]
        return [*weights, *moments, self.data.images, *self.real]


def counted(trainer: MetaTrainer, gpu: Gpu) -> dict[str, Any]:
    """All updates, and a whole step with each regulariser's share."""
    counts, step_seconds, kept = {}, 0.0, trainer.kept()
    for name, (update, interval) in trainer.updates().items():
        with Counting(gpu, kept) as counting:
            update()
        step_seconds += counting.count.floor_seconds / interval
        counts[name] = counting.count.row()
    return {
        "updates": counts,
        "peak_gigabytes": max(count["peak_gigabytes"] for count in counts.values()),
        "floor_seconds_per_1000_images": 1000 * step_seconds / trainer.config.batch_size,
    }


def counted_projection(images: int, noise_maps: bool, gpu: Gpu) -> dict[str, Any]:
    """The second step of projecting so many images of 256 px into the sizes of `paper256`, all in 32 bits."""
    config = replace(PUBLISHED, steps=2, map_weight=MAP_WEIGHT if noise_maps else None)
    loss = VggLoss(vgg16(weights=None), META, bfloat16=False)
    projector = Projector(random_gan("paper256", 256, torch.device("cpu")), loss, config, META)
    sizes = projector.generator.to(META).config
    centre = LatentStatistics(torch.empty(sizes.w_size, device=META), 1.0)
    noise = projector._noise([centre] * images, range(images))
    real = torch.empty(images, sizes.image_channels, sizes.resolution, sizes.resolution, device=META)
    steps: list[Tally] = []
    with Counting(gpu, [*projector.generator.parameters(), *loss.layers.parameters()]) as counting:
        projector._descend(real, [centre] * images, noise, lambda: steps.append(copy.deepcopy(counting.count)))
    step = steps[1].since(steps[0])
    return step.row() | {"most_images_an_hour_at_1000_steps": 3.6 * images / step.floor_seconds}


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--projection", type=int, metavar="IMAGES", help="a step of projection in place of training")
    parser.add_argument("--noise-maps", action="store_true", help="projection searches the noise maps too")
    parser.add_argument("--half-type", default="float16", choices=HALF_TYPES, help="of training's top levels")
    parser.add_argument("--terabytes", type=float, default=4.8, help="the GPU moves a second (H200: 4.8, H100: 3.35)")
    parser.add_argument("--tflops", type=float, default=989, help="it does a second in 16 bits, dense")
    parser.add_argument("--tflops-32", type=float, default=495, help="in 32 bits (TF32, as convolutions do)")
    parser.add_argument("--tflops-full", type=float, default=67, help="in 32 bits in full (as products of matrices do)")
    flags = parser.parse_args()
    gpu = Gpu(flags.terabytes * 1e12, {2: flags.tflops * 1e12, 4: flags.tflops_32 * 1e12}, flags.tflops_full * 1e12)
    if flags.projection:
        counts = counted_projection(flags.projection, flags.noise_maps, gpu)
    else:
        counts = counted(MetaTrainer(paper256(flags.half_type, fused=False)), gpu)
    print(json.dumps(rounded(vars(flags) | counts), indent=2))


if __name__ == "__main__":
    main()
