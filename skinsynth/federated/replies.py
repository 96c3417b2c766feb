"""Which replies of a round can be averaged, in an order that does not depend on who was first."""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord

from skinsynth.federated.hospital import MEASURED, Weights
from skinsynth.federated.messages import ARRAYS, HOSPITAL, IMAGES, METRICS

EXPECTED = {IMAGES, *MEASURED}
REASON_LENGTH = 200


@dataclass(frozen=True)
class Reply:
    """A whole one: every array of the federation's shape and finite."""

    hospital: str
    message: Message
    measured: dict[str, float | int]  # by IMAGES and MEASURED


@dataclass(frozen=True)
class LeftOut:
    hospital: str  # its name, or its node where it told none
    reason: str


def sift(replies: Iterable[Message], asked: Collection[int], weights: Weights) -> tuple[list[Reply], list[LeftOut]]:
    """Whole replies by hospital's name, and why the others of the `asked` nodes are left out.

    The arrays of whole replies become double and are put in the order of `weights`: sums of a few float32 are then
    exact enough that equal hospitals average to themselves, Krum's distances do not cancel, and the strategies that
    pair arrays by place pair the right ones.
    """
    replies = list(replies)
    whole: dict[str, Reply] = {}
    left_out = []
    for name, message in sorted(((_sender(reply), reply) for reply in replies), key=_by_name):
        reason = f"a second reply of {name}" if name in whole else _fault(message, weights)
        if reason is None:
            whole[name] = Reply(name, message, _in_double(message, weights))
        else:
            left_out.append(LeftOut(name, one_line(reason)))
    silent = sorted(set(asked) - {reply.metadata.src_node_id for reply in replies})
    left_out += [LeftOut(f"node {node}", "no reply in time") for node in silent]
    return list(whole.values()), left_out


def one_line(reason: str) -> str:
    """Cut to what a log can take from a stranger."""
    return "".join(sign if sign.isprintable() else " " for sign in reason)[:REASON_LENGTH]


def _by_name(entry: tuple[str, Message]) -> tuple[str, int]:
    return entry[0], entry[1].metadata.src_node_id


def _sender(message: Message) -> str:
    if message.has_content() and HOSPITAL in message.content.config_records:
        name = message.content.config_records[HOSPITAL].get("name")
        if isinstance(name, str):
            return one_line(name)
    return f"node {message.metadata.src_node_id}"


def _fault(message: Message, weights: Weights) -> str | None:
    """What keeps a reply out of the average, if anything."""
    if message.has_error():
        return f"error {message.error.code}: {message.error.reason}"
    content = message.content
    if "error" in content.config_records.get(HOSPITAL, ConfigRecord()):
        return str(content.config_records[HOSPITAL]["error"])
    if set(content.array_records) != {ARRAYS} or set(content.metric_records) != {METRICS}:
        return f"a reply holds one record {ARRAYS} and one {METRICS}"
    return _measurement_fault(content.metric_records[METRICS]) or _array_fault(content.array_records[ARRAYS], weights)


def _measurement_fault(metrics: MetricRecord) -> str | None:
    if set(metrics) != EXPECTED:
        return f"its measurements are not {', '.join(sorted(EXPECTED))}"
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in metrics.values()):
        return "a measurement is not a finite number"
    images = metrics[IMAGES]
    return None if isinstance(images, int) and images > 0 else f"it counts {images} images"


def _array_fault(arrays: ArrayRecord, weights: Weights) -> str | None:
    if set(arrays) != set(weights):
        return f"{len(set(arrays) ^ set(weights))} arrays are missing or foreign"
    for name, expected in weights.items():
        try:
            array = arrays[name].numpy()
        except Exception as error:
            # Bytes from a stranger: numpy raises one of many.
            return f"{name} cannot be read ({error})"
        if array.dtype != np.float32 or array.shape != tuple(expected.shape):
            return f"{name} is {array.dtype}{list(array.shape)}, not float32{list(expected.shape)}"
        if not np.isfinite(array).all():
            return f"{name} is not finite"
    return None


def _in_double(message: Message, weights: Weights) -> dict[str, float | int]:
    arrays = message.content.array_records[ARRAYS]
    message.content[ARRAYS] = ArrayRecord({name: Array(arrays[name].numpy().astype(np.float64)) for name in weights})
    return dict(message.content.metric_records[METRICS].items())  # type: ignore[arg-type]
