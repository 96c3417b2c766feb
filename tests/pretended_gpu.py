"""A GPU that is none: its tensors say that they lie on one, are computed by the CPU, and refuse what a GPU refuses.

Refused are operands on two devices, random numbers by another device's generator, places on the GPU in a tensor on the
CPU, and NumPy's view of a tensor on the GPU. Unlike tensors without contents, these have values, so that whole stages
run. Not told: kernels that a GPU lacks, its memory, time and rounding, and anything of streams. What a GPU can and this
cannot: pinned memory, and a tensor made of a list of tensors.
"""

import contextlib
import functools
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only
from torch.utils.flop_counter import flop_registry

GPU = torch.device("cuda", 0)
# What these tensors are to PyTorch's own code, which would start CUDA for the other name.
BEHIND = torch.device("meta")
MEMORY = 2**30
MAKE_FROM_DATA = (torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor)
INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
# What asks for CUDA itself.
CUDA: dict[str, Any] = {
    "is_available": lambda: True,
    "is_initialized": lambda: True,  # derivatives in Python name devices where `_Calls` does not hear it
    "device_count": lambda: 1,
    "is_bf16_supported": lambda *_: True,
    "get_device_name": lambda *_: "pretended",
    "mem_get_info": lambda *_: (MEMORY, MEMORY),
    **dict.fromkeys(("memory_allocated", "memory_reserved"), lambda *_: 0),
    **dict.fromkeys(("max_memory_allocated", "max_memory_reserved"), lambda *_: MEMORY),
    **dict.fromkeys(("synchronize", "empty_cache", "reset_peak_memory_stats"), lambda *_: None),
    "get_rng_state": lambda *_: torch.zeros(16, dtype=torch.uint8),
    "set_rng_state": lambda *_: None,
}


class OnGpu(Tensor):
    """A tensor that says it lies on the GPU; `values` hold what it is."""

    values: Tensor
    device = property(lambda _: GPU)  # type: ignore[assignment]
    is_cuda = property(lambda _: True)  # type: ignore[assignment]
    is_meta = property(lambda _: False)  # type: ignore[assignment]
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, values: Tensor) -> "OnGpu":
        """A tensor of the same layout, of which PyTorch believes that it has no contents."""
        layout = {"strides": values.stride(), "storage_offset": values.storage_offset(), "dtype": values.dtype}
        made = Tensor._make_wrapper_subclass(cls, values.size(), **layout, device=BEHIND)
        made.values = values
        return made

    def __repr__(self) -> str:
        """What can be said without the values, which may be gone."""
        return f"OnGpu({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, operator, types, args=(), kwargs=None):
        """Whatever is done to it goes through `_Operators`, which is active while a GPU is pretended."""
        raise RuntimeError(f"{operator} met a tensor of a pretended GPU after that was gone")


class GeneratorOf(torch.Generator):
    """A generator that knows on which device it draws; numbers are those of the CPU's."""

    def __new__(cls, device="cpu"):
        """The CPU's own, with a name."""
        made = super().__new__(cls, "cpu")
        made.place = torch.device(device)
        return made

    def __init__(self, device="cpu"):
        """The device is known by then."""

    @property
    def device(self):
        """As a GPU's generator says it, with its number."""
        return GPU if self.place.type == "cuda" else self.place


class _Operators(TorchDispatchMode):
    """Computes every operator by the CPU, and gives what a GPU would have computed the look of lying there."""

    def __init__(self, products: Counter[str]) -> None:
        super().__init__()
        self.products = products

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        """What the CPU makes of the same call, or the GPU's refusal."""
        kwargs = kwargs or {}
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        asked = kwargs.get("device")
        if asked is None:
            on_gpu = any(isinstance(tensor, OnGpu) for tensor in given)
        else:
            on_gpu = torch.device(asked).type != "cpu"
        plain_args, plain = tree_map_only(OnGpu, lambda tensor: tensor.values, (args, kwargs))
        if asked is not None:
            plain = {name: value for name, value in plain.items() if name != "pin_memory"} | {"device": "cpu"}
        elif operator is torch.ops.aten.copy_.default:  # the one that takes two devices
            operator(*plain_args, **plain)
            return args[0]
        else:
            _refuse_two_devices(operator, args, given)
        made = operator(*plain_args, **plain)
        if count := flop_registry.get(operator._overloadpacket):
            self.products["cuda" if on_gpu else "cpu"] += count(*plain_args, **plain, out_val=made)
        if not on_gpu:
            return made
        made = tree_map_only(Tensor, lambda tensor: tensor if isinstance(tensor, OnGpu) else OnGpu(tensor), made)
        return return_and_correct_aliasing(operator, args, kwargs, made)


def _refuse_two_devices(operator: Any, args: tuple[Any, ...], given: list[Tensor]) -> None:
    """As PyTorch does: numbers (tensors without dimensions) may be anywhere, and places on the CPU fit any tensor."""
    if operator._schema.name in INDEXING:
        changed, places, *values = args
        if changed.device.type == "cpu" and any(isinstance(place, OnGpu) for place in places):
            raise RuntimeError(f"{operator}: places on the GPU in a tensor on the CPU")
        given = [tensor for tensor in (changed, *values) if isinstance(tensor, Tensor)]
    devices = {tensor.device.type for tensor in given if tensor.dim()}
    if len(devices) > 1 or (devices == {"cpu"} and any(isinstance(tensor, OnGpu) for tensor in given)):
        shapes = ", ".join(f"{tuple(tensor.shape)} on {tensor.device.type}" for tensor in given)
        raise RuntimeError(f"{operator}: tensors on two devices, {shapes}")


class _Calls(TorchFunctionMode):
    """Reads "cuda" in any call as the device behind, and asks generators where they draw."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        """The same call, of the device behind."""
        kwargs = dict(kwargs or {})
        if function is torch.device:
            return function(*args, **kwargs)
        _refuse_foreign_generator(args, kwargs)
        if function is Tensor.cuda:
            return args[0].to(BEHIND)
        if function is Tensor.tolist and isinstance(args[0], OnGpu):
            return args[0].detach().cpu().tolist()
        if function in MAKE_FROM_DATA:
            return self._made_from_data(function, args, kwargs)
        return function(*tree_map(_behind, args), **tree_map(_behind, kwargs))

    def _made_from_data(self, function, args, kwargs):
        """PyTorch makes these on the CPU and moves them where no mode sees it."""
        if function is Tensor.new_tensor:
            first, *args = args
            kwargs = {"device": first.device, "dtype": first.dtype} | kwargs
        on = _behind(torch.device(kwargs.pop("device", None) or getattr(args[0], "device", "cpu")))
        if isinstance(args[0], Tensor):
            return args[0].to(on, kwargs.get("dtype", args[0].dtype))
        maker = torch.tensor if function is Tensor.new_tensor else function
        return maker(*args, **kwargs).to(on)


def _behind(value: Any) -> Any:
    named = isinstance(value, torch.device | str) and str(value).split(":")[0] == "cuda"
    return BEHIND if named else value


def _refuse_foreign_generator(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    generator = kwargs.get("generator")
    if generator is None:
        return
    first = next((arg for arg in args if isinstance(arg, Tensor)), None)
    wanted = torch.device(kwargs.get("device") or ("cpu" if first is None else first.device)).type
    if wanted != generator.device.type:
        raise RuntimeError(f"numbers for {wanted} by a generator of {generator.device.type}")


def forget_constants() -> None:
    """Empties what functions of ours keep for each device: tensors of a pretended one must meet no others."""
    for name, module in list(sys.modules.items()):
        for kept in vars(module).values() if name.split(".")[0] == "skinsynth" else ():
            if isinstance(kept, functools._lru_cache_wrapper):
                kept.cache_clear()


@contextlib.contextmanager
def pretended_gpu() -> Iterator[Counter[str]]:
    """While it is entered PyTorch seems to have one GPU; yields the operations of matrix products and convolutions so
    far, by device type."""
    products: Counter[str] = Counter()
    forget_constants()
    with contextlib.ExitStack() as stack:
        stack.callback(forget_constants)
        for name, answer in CUDA.items():
            stack.enter_context(patch.object(torch.cuda, name, answer))
        stack.enter_context(patch.object(torch, "Generator", GeneratorOf))
        capture = "_accelerator_graph_capture_health_check"  # of optimizers; it starts CUDA
        stack.enter_context(patch.object(torch.optim.Optimizer, capture, lambda _: None, create=True))
        stack.enter_context(_Operators(products))
        stack.enter_context(_Calls())
        yield products
