"""Which replies of a round can be averaged, in an order that does not depend on who was first."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.supercore.differential_privacy import KEY_NORM_BIT

from skinsynth.federated.hospital import Weights
from skinsynth.federated.messages import ARRAYS, HOSPITAL, IMAGES, METRICS
from skinsynth.federated.privacy import PrivacyConfig, metrics_of

REASON_LENGTH = 200
# A hospital clips in single precision: the length of an update is off by so much of itself, and each weight, when the
# update is added to it again, by half of the last place.
LENGTH_ERROR, WEIGHT_ERROR = 1e-4, 2**-22


@dataclass(frozen=True)
class Rules:
    """What replies of one round are held to."""

    weights: Weights  # that were sent out
    nodes: Mapping[str, int]  # where a hospital is, by its name, if it has sent a whole reply before
    privacy: PrivacyConfig | None
    clipping_norm: float | None  # of this round; None without privacy
    names: Collection[str] | None = None  # of all that may take part; None: any


@dataclass(frozen=True)
class Reply:
    """A whole one: every array of the federation's shape and finite."""

    hospital: str
    message: Message
    measured: dict[str, float | int]  # by the names of `metrics_of`

    @property
    def node(self) -> int:
        return _node(self.message)


@dataclass(frozen=True)
class LeftOut:
    hospital: str  # its name, or its node where it told none
    reason: str


def sift(replies: Iterable[Message], asked: Collection[int], rules: Rules) -> tuple[list[Reply], list[LeftOut]]:
    """Whole replies by hospital's name, and why the others of the `asked` nodes are left out.

    The arrays of whole replies become double and are put in the order of the weights: sums of a few float32 are then
    exact enough that equal hospitals average to themselves, Krum's distances do not cancel, and the strategies that
    pair arrays by place pair the right ones.
    """
    replies = list(replies)
    of_superlink = [reply for reply in replies if reply.has_error() and _node(reply) not in asked]
    replies = [reply for reply in replies if reply not in of_superlink]
    whole: dict[str, Reply] = {}
    left_out = []
    nodes = dict(rules.nodes)
    for name, message in sorted(((_sender(reply), reply) for reply in replies), key=_by_name):
        foreign = _name_fault(name, message, nodes, rules.names)
        reason = foreign or (f"a second reply of {name}" if name in whole else _fault(message, rules))
        if reason is None:
            whole[name] = Reply(name, message, _in_double(message, rules.weights))
            nodes[name] = whole[name].node
        else:
            # Whoever takes another's name leaves no trace on that.
            left_out.append(LeftOut(name if foreign is None else f"node {_node(message)}", one_line(reason)))
    silent = sorted(set(asked) - {_node(reply) for reply in replies})
    left_out += [LeftOut(_known_as(node, nodes), _silence(len(silent), of_superlink)) for node in silent]
    return list(whole.values()), left_out


def one_line(reason: str) -> str:
    """Cut to what a log can take from a stranger."""
    return "".join(sign if sign.isprintable() else " " for sign in reason)[:REASON_LENGTH]


def _by_name(entry: tuple[str, Message]) -> tuple[str, int]:
    return entry[0], _node(entry[1])


def _known_as(node: int, nodes: Mapping[str, int]) -> str:
    return next((name for name, place in nodes.items() if place == node), f"node {node}")


def _silence(silent: int, of_superlink: list[Message]) -> str:
    """What the SuperLink says of those that it cannot reach, if it speaks of all who are silent."""
    if of_superlink and len(of_superlink) == silent:
        return one_line(f"no reply: {of_superlink[0].error.reason}")
    return "no reply in time"


def _node(message: Message) -> int:
    return message.metadata.src_node_id


def _sender(message: Message) -> str:
    if message.has_content() and HOSPITAL in message.content.config_records:
        name = message.content.config_records[HOSPITAL].get("name")
        if isinstance(name, str):
            return one_line(name)
    return f"node {_node(message)}"


def _name_fault(name: str, message: Message, nodes: Mapping[str, int], names: Collection[str] | None) -> str | None:
    """Whether a node takes another's name, leaves its own, or has one that the federation does not know; a name is of
    the node that first sent a whole reply."""
    node = _node(message)
    if message.has_content() and names is not None and name not in names:
        return f"calls itself {name}, which is none of this federation's hospitals"
    if nodes.get(name, node) != node:
        return f"claims to be {name}, which is node {nodes[name]}"
    own = next((known for known, place in nodes.items() if place == node), name)
    return f"calls itself {name}, but is {own}" if message.has_content() and name != own else None


def _fault(message: Message, rules: Rules) -> str | None:
    """What keeps a reply out of the average, if anything."""
    if message.has_error():
        return f"error {message.error.code}: {message.error.reason}"
    content = message.content
    if "error" in content.config_records.get(HOSPITAL, ConfigRecord()):
        return str(content.config_records[HOSPITAL]["error"])
    if set(content.array_records) != {ARRAYS} or set(content.metric_records) != {METRICS}:
        return f"a reply holds one record {ARRAYS} and one {METRICS}"
    arrays = content.array_records[ARRAYS]
    return (
        _measurement_fault(content.metric_records[METRICS], rules.privacy)
        or _array_fault(arrays, rules.weights)
        or _length_fault(arrays, rules)
    )


def _measurement_fault(metrics: MetricRecord, privacy: PrivacyConfig | None) -> str | None:
    expected = metrics_of(privacy)
    if set(metrics) != expected:
        return f"its measurements are not {', '.join(sorted(expected))}"
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in metrics.values()):
        return "a measurement is not a finite number"
    images, bit = metrics[IMAGES], metrics.get(KEY_NORM_BIT, 0)
    if not isinstance(images, int) or images < 1:
        return f"it counts {images} images"
    if privacy is not None and images != 1:
        return f"it weighs {images}, but with privacy every hospital weighs 1"
    return None if bit in (0, 1) else f"{KEY_NORM_BIT} is {bit}, not 0 or 1"


def _array_fault(arrays: ArrayRecord, weights: Weights) -> str | None:
    if set(arrays) != set(weights):
        return f"{len(set(arrays) ^ set(weights))} arrays are missing or foreign"
    for name, expected in weights.items():
        try:
            array = arrays[name].numpy()
        except Exception as error:
            # Bytes from a stranger: numpy raises one of many.
            return f"{name} cannot be read ({error})"
        shape = tuple(expected.shape) or (1,)  # see `arrays_of`
        if array.dtype != np.float32 or array.shape != shape:
            return f"{name} is {array.dtype}{list(array.shape)}, not float32{list(shape)}"
        if not np.isfinite(array).all():
            return f"{name} is not finite"
    return None


def _length_fault(arrays: ArrayRecord, rules: Rules) -> str | None:
    """Whether a hospital that was to clip has not."""
    norm = rules.clipping_norm
    if rules.privacy is None or rules.privacy.where == "server" or norm is None:
        return None
    sent = {name: tensor.numpy().astype(np.float64).ravel() for name, tensor in rules.weights.items()}
    length = math.hypot(*(float(np.linalg.norm(arrays[name].numpy().ravel() - own)) for name, own in sent.items()))
    reach = math.hypot(*(float(np.linalg.norm(own)) for own in sent.values())) + norm
    longest = norm * (1 + LENGTH_ERROR) + WEIGHT_ERROR * reach
    return None if length <= longest else f"its update is {length:.6g} long, but is to be clipped to {norm:.6g}"


def _in_double(message: Message, weights: Weights) -> dict[str, float | int]:
    arrays = message.content.array_records[ARRAYS]
    message.content[ARRAYS] = ArrayRecord({name: Array(arrays[name].numpy().astype(np.float64)) for name in weights})
    return dict(message.content.metric_records[METRICS].items())  # type: ignore[arg-type]
