"""The same two apps in one process: no Ray, no ports, the hospitals one after the other, resumable by round."""

import dataclasses
import itertools
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import Mod
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from skinsynth.federated.client import client_app
from skinsynth.federated.hospital import Hospital, Weights, named, under
from skinsynth.federated.messages import recall, remember
from skinsynth.federated.privacy import mods_of
from skinsynth.federated.server import FederationConfig, FederationState, Score, Server, check_federation
from skinsynth.gan.checkpoint import read_earlier, write_checkpoint

LOG = logging.getLogger(__name__)
RUN_ID = 1


class InProcessGrid(Grid):
    """Delivers each message by calling the client app, one node after the other."""

    def __init__(self, app: ClientApp, contexts: Sequence[Context]) -> None:
        self.app = app
        self.contexts = {context.node_id: context for context in contexts}
        self.numbers = itertools.count(1)
        self.replies: dict[str, Message] = {}
        # Flower 1.41 asks who is talking whenever a Message is made; its own simulation sets the same three.
        TaskIdentity.task_id = TaskIdentity.run_id = RUN_ID
        TaskIdentity.node_id = SUPERLINK_NODE_ID

    def set_run(self, run: Run) -> None:
        raise NotImplementedError("an in-process grid belongs to no run of a SuperLink")

    @property
    def run(self) -> Run:
        raise NotImplementedError("an in-process grid belongs to no run of a SuperLink")

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        return list(self.contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        numbers = []
        for message in sorted(messages, key=lambda message: message.metadata.dst_node_id):
            number = str(next(self.numbers))
            message.metadata.__dict__["_message_id"] = number  # what a SuperLink would give it
            self.replies[number] = self._deliver(message)
            numbers.append(number)
        return numbers

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self.replies.pop(number) for number in message_ids if number in self.replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:  # noqa: ARG002
        return self.pull_messages(self.push_messages(messages))

    def _deliver(self, message: Message) -> Message:
        try:
            return self.app(message, self.contexts[message.metadata.dst_node_id])
        except Exception as error:
            # A SuperNode answers in the same way where its app raises.
            LOG.exception("node %d: its app raised", message.metadata.dst_node_id)
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, str(error)), reply_to=message)


def run_in_process(
    config: FederationConfig,
    hospitals: Sequence[Hospital],
    weights: Weights,
    checkpoints: Path,
    score: Score | None = None,
    mods: Sequence[Mod] = (),
) -> FederationState:
    """Run all rounds from `weights`, or on from the checkpoint where there is one; ends the same either way.

    Without one it goes on from a federation that has ended with fewer rounds.
    """
    by_name = {hospital.name: hospital for hospital in sorted(hospitals, key=lambda hospital: hospital.name)}
    if len(by_name) < len(hospitals):
        raise ValueError("two hospitals have the same name: rename one")
    check_federation(config, len(by_name))
    memories = {name: RecordDict() for name in by_name}
    state = _resume(checkpoints, config, memories) or FederationState(weights)
    nodes = _nodes(by_name, state.nodes)
    contexts = [_context(nodes[name], name, memory) for name, memory in memories.items()]
    server = Server(config, state, score, lambda state: _save(checkpoints, config, state, memories), memories)
    app = client_app(lambda context: by_name[str(context.node_config["hospital"])], [*mods_of(config.privacy), *mods])
    server_context = Context(RUN_ID, SUPERLINK_NODE_ID, {}, RecordDict(), {})
    server.app()(InProcessGrid(app, contexts), server_context)
    return server.state


def _nodes(names: Iterable[str], known: Mapping[str, int]) -> dict[str, int]:
    """A node for each hospital: that of an earlier run, else the lowest that is free."""
    free = (node for node in itertools.count(1) if node not in known.values())
    return {name: known[name] if name in known else next(free) for name in names}


def _context(node: int, name: str, memory: RecordDict) -> Context:
    return Context(run_id=RUN_ID, node_id=node, node_config={"hospital": name}, state=memory, run_config={})


def _save(folder: Path, config: FederationConfig, state: FederationState, memories: Mapping[str, RecordDict]) -> None:
    """Write the server and all hospitals as they are after a round, as one checkpoint."""
    tensors, numbers = state.parts()
    hospitals: dict[str, Any] = {}
    for name, memory in memories.items():
        if (own := recall(memory)) is not None:
            tensors |= named(f"hospital/{name}", own[0])
            hospitals[name] = own[1]
    write_checkpoint(folder, (tensors, numbers | {"config": _plain(config), "hospitals": hospitals}))


def _resume(folder: Path, config: FederationConfig, memories: Mapping[str, RecordDict]) -> FederationState | None:
    """The state to go on from, after giving each hospital its own; None where there is none."""
    found = read_earlier(folder, lambda numbers: numbers["state"]["round"], config.rounds)
    if found is None:
        return None
    tensors, numbers = found
    if numbers["config"] != _plain(config) or not numbers["hospitals"].keys() <= memories.keys():
        raise ValueError(f"{folder} holds a federation of other settings or hospitals: remove it and start again")
    for name, own in numbers["hospitals"].items():
        remember(memories[name], (under(tensors, f"hospital/{name}"), own))
    return FederationState.of_parts(tensors, numbers)


def _plain(config: FederationConfig) -> dict[str, Any]:
    """The settings as JSON gives them back; more rounds may be asked for later."""
    plain = dataclasses.asdict(config) | {"averaged": list(config.averaged)}
    del plain["rounds"]
    return plain
