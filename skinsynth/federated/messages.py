"""What travels between the server and a hospital: weights in one record, the work, and what was measured.

All networks share one ArrayRecord (`generator/…`, `discriminator/…`, `ema/…`), since Flower's strategies and its
privacy wrappers take exactly one of each kind of record.
"""

import json
import re
from collections.abc import Mapping

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from safetensors.torch import load, save
from torch import Tensor

from skinsynth.federated.hospital import LocalResult, LocalWork, Weights
from skinsynth.gan.checkpoint import State

ARRAYS, CONFIG, METRICS, HOSPITAL = "arrays", "config", "metrics", "hospital"  # records
IMAGES = "num-examples"  # the metric that weighs a hospital
IMAGES_SHOWN = "images_shown"  # the metric that counts what its trainer was shown
STATE = "state"  # the record of a hospital's own


def arrays_of(weights: dict[str, Tensor]) -> ArrayRecord:
    """A record of tensors on the CPU, in their order.

    A number travels as an array of one element: Flower's clipping scales arrays in place, which would leave a number as
    long as it was.
    """
    return ArrayRecord({name: Array(np.atleast_1d(tensor.numpy())) for name, tensor in weights.items()})


def weights_in(arrays: ArrayRecord) -> Weights:
    """In the record's order, as tensors of their own."""
    return {name: torch.from_numpy(array.numpy()) for name, array in arrays.items()}


def numbers_as_in(like: Mapping[str, Tensor], weights: Weights) -> Weights:
    """The weights, in which arrays of one element are numbers again where they were (`arrays_of`)."""
    return {
        name: tensor.reshape(()) if tensor.shape == (1,) and name in like and like[name].ndim == 0 else tensor
        for name, tensor in weights.items()
    }


def work_record(work: LocalWork, run: str) -> ConfigRecord:
    """Of a run by its name; without FedProx's pull, which its strategy adds."""
    return ConfigRecord({"steps": work.steps, "averaged": list(work.averaged), "run": run})


def work_in(config: ConfigRecord) -> LocalWork:
    """What the server asks for; the pull is 0 where the strategy is not FedProx."""
    averaged = tuple(str(name) for name in config["averaged"])  # type: ignore[union-attr]
    return LocalWork(int(config["steps"]), averaged, float(config.get("proximal-mu", 0.0)))  # type: ignore[arg-type]


def run_in(config: ConfigRecord) -> str:
    """The run's name, by which a hospital keeps its state; raises ValueError where it is no plain one."""
    name = str(config["run"])
    if not re.fullmatch("[0-9a-f]{16}", name):
        raise ValueError("a run is named by 16 hexadecimal digits, but the server sent something else")
    return name


def answer(hospital: str, result: LocalResult) -> RecordDict:
    """A reply to a round: weights, measurements and who sends them."""
    return RecordDict(
        {
            ARRAYS: arrays_of(result.weights),
            METRICS: MetricRecord({IMAGES: result.images, **result.measured}),
            HOSPITAL: ConfigRecord({"name": hospital}),
        }
    )


def failure(hospital: str, reason: str) -> RecordDict:
    """A reply without weights, which says what went wrong."""
    return RecordDict({HOSPITAL: ConfigRecord({"name": hospital, "error": reason})})


def remember(memory: RecordDict, state: State) -> None:
    """Keep a hospital's state where Flower keeps it from round to round (`context.state`).

    Its hundreds of small tensors go as one block of safetensors, which is ten times faster than as many arrays.
    """
    tensors, numbers = state
    block = save({name: tensor.contiguous() for name, tensor in tensors.items()})
    memory[STATE] = ConfigRecord({"tensors": block, "numbers": json.dumps(numbers)})


def recall(memory: RecordDict) -> State | None:
    """The state that was kept; None before the first round."""
    if STATE not in memory:
        return None
    kept = memory.config_records[STATE]
    return load(bytes(kept["tensors"])), json.loads(str(kept["numbers"]))  # type: ignore[arg-type]
