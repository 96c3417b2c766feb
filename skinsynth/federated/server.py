"""The federation's side of Flower: rounds of asking, sifting, averaging and scoring."""

import dataclasses
import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Strategy
from torch import Tensor

from skinsynth.federated.hospital import MEASURED, LocalWork, Weights, check_averaged, named, under
from skinsynth.federated.messages import IMAGES, IMAGES_SHOWN, arrays_of, numbers_as_in, weights_in, work_record
from skinsynth.federated.privacy import (
    PrivacyConfig,
    affords,
    check_everybody_is_needed,
    check_privacy,
    noise_of_round,
    private,
    spent,
)
from skinsynth.federated.replies import LeftOut, Reply, Rules, sift
from skinsynth.federated.strategies import (
    StrategyConfig,
    build_strategy,
    check_strategy,
    least_hospitals,
    memory_of,
    remind,
)
from skinsynth.gan.checkpoint import State
from skinsynth.settings import Count, Names, Positive

LOG = logging.getLogger(__name__)
SECONDS_PER_LOOK = 1.0  # at who is connected

Row = dict[str, Any]
Score = Callable[[Weights], dict[str, float]]


@dataclass(frozen=True)
class FederationConfig:
    rounds: Count
    steps_per_round: Count  # of each hospital's trainer
    averaged: Names  # of generator, discriminator and ema; the others stay at each hospital
    strategy: StrategyConfig
    least_hospitals: Count  # whose replies a round must have to change the weights
    patience_rounds: Count  # so many in a row may change nothing; then the run stops
    rounds_per_score: Count
    reply_timeout_seconds: Positive  # who is later is left out of the round; in one process nobody is late
    privacy: PrivacyConfig | None  # None: the weights of a round say what they say about each hospital


@dataclass
class FederationState:
    """All that a later round depends on, but for what the hospitals keep; rows of numbers for the curves."""

    weights: Weights
    memory: dict[str, Tensor] = field(default_factory=dict)  # the strategy's momenta
    round: int = 0  # the last that is over
    images_shown: int = 0  # real ones, to all discriminators whose weights were averaged
    rounds: list[Row] = field(default_factory=list)
    visits: list[Row] = field(default_factory=list)  # of each round to each hospital that was averaged
    scores: list[Row] = field(default_factory=list)
    incidents: list[Row] = field(default_factory=list)  # who was left out when, and why
    # Each hospital's node, from its first whole reply on. A SuperNode keeps its node if it has a key of its own.
    nodes: dict[str, int] = field(default_factory=dict)
    releases: int = 0  # averages with noise that were made: what has been spent of the privacy
    clipping_norm: float | None = None  # of the next round; None without privacy
    # By which hospitals tell their states from those of another run of the same settings; in one process there is one.
    run: str = "0" * 16

    def numbers(self) -> dict[str, Any]:
        """All but the tensors, for JSON."""
        names = [entry.name for entry in dataclasses.fields(self) if entry.name not in ("weights", "memory")]
        return {name: getattr(self, name) for name in names}

    def parts(self) -> State:
        """Tensors and numbers for a checkpoint, which forgets the weights' order, on which strategies rely."""
        tensors = named("global", self.weights) | named("strategy", self.memory)
        return tensors, {"order": list(self.weights), "state": self.numbers()}

    @classmethod
    def of_parts(cls, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> "FederationState":
        """What `parts` took apart; a checkpoint may hold more."""
        weights = under(tensors, "global")
        return cls({name: weights[name] for name in numbers["order"]}, under(tensors, "strategy"), **numbers["state"])


class FederationStalled(ValueError):  # noqa: N818 - it tells what happened, not who erred
    """Round after round too few hospitals send whole weights; what a stage tells of it is one line."""


class Server:
    """Goes on from a state to the last round; `save` is called with the state after each.

    Replies count under the names of `hospitals`, where these are given. Where round after round changes nothing and
    more are to come, or none has changed anything at the end, it raises FederationStalled; what it has reached is
    saved. Where the next round would spend more privacy than there is, the run is over, which is an incident.
    """

    def __init__(
        self,
        config: FederationConfig,
        state: FederationState,
        score: Score | None,
        save: Callable[[FederationState], None],
        hospitals: Collection[str] | None = None,
    ) -> None:
        check_averaged(config.averaged)
        self.hospitals = hospitals
        self.config, self.state, self.score, self.save = config, state, score, save
        self.rounds_before = len(state.rounds)  # this start, with which patience begins anew
        self.least = max(config.least_hospitals, least_hospitals(config.strategy))
        self.names = list(state.weights)
        if config.privacy is not None:
            check_privacy(config.privacy, config.strategy.name)
            if state.clipping_norm is None:
                state.clipping_norm = config.privacy.clipping_norm
        self._renew_strategy()

    def app(self) -> ServerApp:
        app = ServerApp()

        @app.main()
        def main(grid: Grid, context: Context) -> None:  # noqa: ARG001 - Flower names both
            self.run(grid)

        return app

    def run(self, grid: Grid) -> None:
        self._foretell_epsilon()
        if not self.state.scores:
            self._score()
        while not self._over():
            self._check_progress()
            self._round(grid)
            if self.state.round % self.config.rounds_per_score == 0:
                self._score()
            self.save(self.state)
        self._check_change()
        # Not part of what was saved: a longer federation has no score there.
        if self.score is not None and self.state.scores[-1]["round"] < self.state.round:
            self._score()

    def _over(self) -> bool:
        return self.state.round >= self.config.rounds or not affords(self.config.privacy, self.state.releases + 1)

    def _foretell_epsilon(self) -> None:
        if self.config.privacy is not None:
            left = self.config.rounds - self.state.round
            all_rounds = spent(self.config.privacy, self.state.releases + left)
            LOG.warning(
                "privacy: after %d rounds epsilon is %.4g at a delta of %g; what it protects is a hospital's part in "
                "the weights, against all but the server",
                self.config.rounds,
                all_rounds["epsilon"],
                all_rounds["delta"],
            )

    def _check_progress(self) -> None:
        """Raises FederationStalled where the latest rounds since this start, as many as patience allows, changed
        nothing."""
        latest = self.state.rounds[self.rounds_before :][-self.config.patience_rounds :]
        if len(latest) == self.config.patience_rounds and not any(row["changed"] for row in latest):
            raise FederationStalled(
                f"{len(latest)} rounds in a row changed nothing ({self._latest_reasons()}): mend the hospitals and "
                "start again, the run goes on from here"
            )

    def _check_change(self) -> None:
        """Raises FederationStalled where the run is over and no round has changed a weight."""
        if not any(row["changed"] for row in self.state.rounds):
            raise FederationStalled(
                f"none of {len(self.state.rounds)} rounds changed a weight ({self._latest_reasons()}), so there is no "
                "GAN: mend the hospitals and ask for more rounds, or correct the settings"
            )

    def _latest_reasons(self) -> str:
        return "; ".join(f"{row['hospital']}: {row['reason']}" for row in self.state.incidents[-3:])

    def _renew_strategy(self) -> None:
        """A strategy as it was after the last round that is over."""
        strategy = build_strategy(self.config.strategy, self.least)
        remind(strategy, self.state.memory, self.names)
        self.strategy: Strategy = strategy
        if self.config.privacy is not None and self.state.clipping_norm is not None:
            self.strategy = private(strategy, self.config.privacy, self.least, self.state.clipping_norm)

    def _score(self) -> None:
        if self.score is not None:
            row = {"round": self.state.round, "images": self.state.images_shown}
            self.state.scores.append({**row, **self.score(self.state.weights)})

    def _round(self, grid: Grid) -> None:
        number, norm = self.state.round + 1, self.state.clipping_norm
        connected = self._connected(grid)
        if len(connected) < self.least:
            reason = f"{len(connected)} hospitals are connected, but {self.least} are needed: the weights stay"
            self._record(number, [], [LeftOut("all", reason)], {"changed": 0, **self._privacy_row(norm)})
            return
        work = work_record(LocalWork(self.config.steps_per_round, self.config.averaged, 0.0), self.state.run)
        # Who leaves from now on is asked all the same: a strategy of Flower's would wait for another without an end.
        seen: Any = SimpleNamespace(get_node_ids=lambda: connected)
        messages = list(self.strategy.configure_train(number, arrays_of(self.state.weights), work, seen))
        replies = grid.send_and_receive(messages, timeout=self.config.reply_timeout_seconds)
        asked = [message.metadata.dst_node_id for message in messages]
        rules = Rules(self.state.weights, self.state.nodes, self.config.privacy, norm, self.hospitals)
        whole, left_out = sift(replies, asked, rules)
        changed = self._average(number, whole, left_out)
        self._record(number, whole, left_out, {"changed": int(changed), **self._privacy_row(norm)})
        self._check_budget()

    def _connected(self, grid: Grid) -> list[int]:
        """The nodes that are there, once they are enough or `reply_timeout_seconds` are over."""
        end, told = time.monotonic() + self.config.reply_timeout_seconds, False
        while len(nodes := list(grid.get_node_ids())) < self.least and time.monotonic() < end:
            if not told:
                LOG.warning("waiting for hospitals: %d of at least %d are connected", len(nodes), self.least)
            told = True
            time.sleep(SECONDS_PER_LOOK)
        return nodes

    def _average(self, number: int, replies: list[Reply], left_out: list[LeftOut]) -> bool:
        """Move the weights to what the strategy makes of the replies, if it can; says in `left_out` why it cannot."""
        reason: str | None = None
        if len(replies) < self.least:
            reason = f"{len(replies)} whole replies, but {self.least} are needed: the weights stay"
        else:
            arrays = self._aggregate(number, replies)
            weights = None if arrays is None else self._in_single(arrays)
            if weights is None:
                reason = "their average is not finite: the weights stay"
            else:
                self.state.weights = weights
                self.state.memory = memory_of(self.strategy, self.names)
        if reason is not None:
            left_out.append(LeftOut("all", reason))
            self._renew_strategy()
        return reason is None

    def _aggregate(self, number: int, replies: list[Reply]) -> ArrayRecord | None:
        messages, privacy = [reply.message for reply in replies], self.config.privacy
        if privacy is None:
            return self.strategy.aggregate_train(number, messages)[0]
        with noise_of_round(privacy, number):
            arrays, _ = self.strategy.aggregate_train(number, messages)
        # Spent even if what comes of it is not finite and is dropped: that it was so is told.
        self.state.releases += 1
        self.state.clipping_norm = float(self.strategy.clipping_norm)  # type: ignore[attr-defined]
        return arrays

    def _in_single(self, arrays: ArrayRecord) -> Weights | None:
        """An average as float32, or None where that is not finite."""
        doubles = numbers_as_in(self.state.weights, weights_in(arrays))
        weights = {name: tensor.to(torch.float32) for name, tensor in doubles.items()}
        return weights if all(bool(tensor.isfinite().all()) for tensor in weights.values()) else None

    def _privacy_row(self, norm: float | None) -> Row:
        """What a round adds to the curves: what is spent by now, and the norm that clipped."""
        now = spent(self.config.privacy, self.state.releases)
        return {**now, "releases": self.state.releases, "clipping_norm": norm} if now else {}

    def _record(self, number: int, replies: list[Reply], left_out: list[LeftOut], outcome: Row) -> None:
        state = self.state
        for entry in left_out:
            LOG.warning("round %d: %s is left out: %s", number, entry.hospital, entry.reason)
            state.incidents.append({"round": number, **dataclasses.asdict(entry)})
        if outcome["changed"]:
            state.images_shown += int(sum(reply.measured[IMAGES_SHOWN] for reply in replies))
        for reply in replies:
            state.nodes.setdefault(reply.hospital, reply.node)
            # With privacy a hospital tells no number of images; whether its update was clipped is not for the curves.
            images = {"images": reply.measured[IMAGES]} if self.config.privacy is None else {}
            measured = {key: value for key, value in reply.measured.items() if key in MEASURED}
            state.visits.append({"round": number, "hospital": reply.hospital, **images, **measured})
        counts = {"hospitals": len(replies), "incidents": len(left_out)}
        state.rounds.append({"round": number, "images": state.images_shown, **counts, **outcome})
        state.round = number

    def _check_budget(self) -> None:
        privacy, state = self.config.privacy, self.state
        if privacy is None or state.round >= self.config.rounds or not self._over():
            return
        now, then = spent(privacy, state.releases)["epsilon"], spent(privacy, state.releases + 1)["epsilon"]
        reason = (
            f"the run ends before round {state.round + 1}: it would raise epsilon from {now:.4g} to {then:.4g}, "
            f"above max_epsilon {privacy.max_epsilon:g}"
        )
        LOG.warning(reason)
        state.incidents.append({"round": state.round, "hospital": "all", "reason": reason})


def check_federation(config: FederationConfig, hospitals: int) -> None:
    """Raises ValueError where a federation of so many hospitals cannot run, before it begins."""
    check_averaged(config.averaged)
    counts = ("rounds", "steps_per_round", "least_hospitals", "patience_rounds", "rounds_per_score")
    if min(getattr(config, name) for name in counts) < 1:
        raise ValueError(f"{', '.join(counts)} are 1 or more: change them")
    if hospitals < config.least_hospitals:
        raise ValueError(
            f"a round needs {config.least_hospitals} hospitals (least_hospitals), but there are {hospitals}: change it"
        )
    check_strategy(config.strategy, hospitals)
    if config.privacy is not None:
        check_privacy(config.privacy, config.strategy.name)
        check_everybody_is_needed(config.privacy, config.least_hospitals, hospitals)
