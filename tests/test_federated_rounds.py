"""Rounds in one process: equal to central training where they must be, and unmoved by order, kills and faults."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, Context, Error, Message, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode

from skinsynth import stage
from skinsynth.federated.client import client_app
from skinsynth.federated.hospital import Hospital, weights_of
from skinsynth.federated.in_process import InProcessGrid, run_in_process
from skinsynth.federated.messages import ARRAYS, IMAGES, METRICS
from skinsynth.federated.server import FederationConfig, FederationStalled, FederationState, Server
from skinsynth.federated.strategies import StrategyConfig
from skinsynth.gan.checkpoint import keep_finished, read_checkpoint
from tests.test_federated_hospital import ALL, TINY, assert_same, distance, tiny_trainer

FEDERATION = FederationConfig(
    rounds=3,
    steps_per_round=1,
    averaged=ALL,
    strategy=StrategyConfig("FedAvg", {}),
    least_hospitals=1,
    patience_rounds=3,
    rounds_per_score=2,
    reply_timeout_seconds=60.0,
    privacy=None,
)
START = weights_of(tiny_trainer(), ALL)
GENERATOR = weights_of(tiny_trainer(), ("generator",))


def federation(**changes):
    return dataclasses.replace(FEDERATION, **changes)


def hospitals(*images):
    """Hospitals a, b, … with so many images, all different, and random numbers of their own."""
    return [
        Hospital(chr(ord("a") + place), tiny_trainer(count, place, dataclasses.replace(TINY, seed=place)))
        for place, count in enumerate(images)
    ]


def files(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def mean_weight(weights):
    return {"mean": float(torch.stack([tensor.mean() for tensor in weights.values()]).mean())}


def spoiling(name, spoil):
    """A mod that changes the replies of one hospital."""

    def mod(message, context, call_next):
        reply = call_next(message, context)
        if context.node_config["hospital"] == name:
            spoil(reply.content)
        return reply

    return mod


def scaled(content, factor):
    # Flower takes no numpy scalar, which is what a product of an array without axes is.
    content[ARRAYS] = ArrayRecord(
        {name: Array(np.asarray(array.numpy() * np.float32(factor))) for name, array in content[ARRAYS].items()}
    )


def test_one_hospital_and_one_step_a_round_are_central_training(tmp_path):
    central = tiny_trainer()
    for _ in range(7):
        central.step()
    state = run_in_process(federation(rounds=7), [Hospital("all", tiny_trainer())], START, tmp_path)
    for name, tensor in weights_of(central, ALL).items():
        torch.testing.assert_close(state.weights[name], tensor, rtol=1e-6, atol=0)
    assert state.images_shown == central.images_seen


def test_three_hospitals_of_equal_data_and_seed_are_one(tmp_path):
    config = federation(rounds=4)
    one = run_in_process(config, [Hospital("a", tiny_trainer())], START, tmp_path / "one")
    equal = [Hospital(name, tiny_trainer()) for name in "abc"]
    three = run_in_process(config, equal, START, tmp_path / "three")
    assert_same(one.weights, three.weights)
    assert three.images_shown == 3 * one.images_shown


def test_an_average_weighs_hospitals_by_their_images(tmp_path):
    config = federation(rounds=1)
    apart = [
        run_in_process(config, [hospital], START, tmp_path / hospital.name).weights for hospital in hospitals(6, 10)
    ]
    together = run_in_process(config, hospitals(6, 10), START, tmp_path / "both").weights
    for name, tensor in together.items():
        torch.testing.assert_close(tensor, (6 * apart[0][name] + 10 * apart[1][name]) / 16, rtol=1e-5, atol=1e-7)


def test_two_runs_write_the_same_bytes(tmp_path):
    for run in ("first", "second"):
        run_in_process(FEDERATION, hospitals(6, 8, 10), START, tmp_path / run, mean_weight)
    assert files(tmp_path / "first") == files(tmp_path / "second")


class Hurried(InProcessGrid):
    """Replies come in another order in each round."""

    def send_and_receive(self, messages, *, timeout=None):
        replies = list(super().send_and_receive(messages, timeout=timeout))
        np.random.default_rng(next(self.numbers)).shuffle(replies)
        return replies


@pytest.mark.parametrize("name", ["FedAvg", "FedAvgM"])
def test_the_order_of_replies_does_not_matter(name):
    options = {"server_learning_rate": 0.9, "server_momentum": 0.5} if name == "FedAvgM" else {}
    config = federation(strategy=StrategyConfig(name, options))
    results = []
    for kind in (InProcessGrid, Hurried):
        own = hospitals(6, 8, 10)
        contexts = [
            Context(1, node, {"hospital": hospital.name}, RecordDict(), {})
            for node, hospital in enumerate(own, start=1)
        ]
        server = Server(config, FederationState(START), None, lambda _: None)
        by_name = {hospital.name: hospital for hospital in own}
        grid = kind(client_app(lambda context, by_name=by_name: by_name[context.node_config["hospital"]]), contexts)
        server.run(grid)
        results.append(server.state)
    assert_same(results[0].weights, results[1].weights)
    assert results[0].numbers() == results[1].numbers()


class Killed(BaseException):
    """As a signal would end a run: nothing catches it."""


@pytest.mark.parametrize("moment", ["between rounds", "within a round"])
def test_a_killed_run_goes_on_and_ends_the_same(tmp_path, moment):
    undisturbed = run_in_process(FEDERATION, hospitals(6, 8), START, tmp_path / "whole", mean_weight)
    calls = iter(range(100))

    def kill(message, context, call_next):
        if moment == "within a round" and next(calls) == 3:
            raise Killed
        return call_next(message, context)

    def score(weights):
        if moment == "between rounds" and next(calls) == 1:
            raise Killed
        return mean_weight(weights)

    with pytest.raises(Killed):
        run_in_process(FEDERATION, hospitals(6, 8), START, tmp_path / "killed", score, [kill])
    state = run_in_process(FEDERATION, hospitals(6, 8), START, tmp_path / "killed", mean_weight)
    assert_same(state.weights, undisturbed.weights)
    assert state.numbers() == undisturbed.numbers()
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_more_rounds_go_on_from_the_last(tmp_path):
    run_in_process(federation(rounds=1), hospitals(6, 8), START, tmp_path / "longer")
    longer = run_in_process(federation(rounds=2), hospitals(6, 8), START, tmp_path / "longer")
    assert_same(
        longer.weights, run_in_process(federation(rounds=2), hospitals(6, 8), START, tmp_path / "at once").weights
    )


def test_more_rounds_go_on_from_where_a_federation_has_ended_and_leave_no_trace_of_its_end(tmp_path):
    run_in_process(federation(rounds=3), hospitals(6, 8), START, tmp_path / "all-0", mean_weight)
    keep_finished(tmp_path / "all-0")
    work = CountedWork()
    longer = run_in_process(federation(rounds=4), hospitals(6, 8), START, tmp_path / "all-0", mean_weight, [work])
    at_once = run_in_process(federation(rounds=4), hospitals(6, 8), START, tmp_path / "at once", mean_weight)
    assert work.messages == 2  # of one round
    assert_same(longer.weights, at_once.weights)
    assert longer.numbers() == at_once.numbers()


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_federation_that_is_no_longer_than_the_ended_one_begins_anew(tmp_path, rounds):
    run_in_process(federation(rounds=2), hospitals(6, 8), START, tmp_path / "all-0")
    keep_finished(tmp_path / "all-0")
    work = CountedWork()
    again = run_in_process(federation(rounds=rounds), hospitals(6, 8), START, tmp_path / "all-0", None, [work])
    assert work.messages == 2 * rounds
    assert again.round == rounds


def test_rounds_made_fewer_than_those_of_a_killed_run_begin_anew(tmp_path):
    run_in_process(federation(rounds=3), hospitals(6, 8), START, tmp_path / "all-0")
    shorter = run_in_process(federation(rounds=1), hospitals(6, 8), START, tmp_path / "all-0")
    assert shorter.round == 1
    assert_same(shorter.weights, run_in_process(federation(rounds=1), hospitals(6, 8), START, tmp_path / "1").weights)


class CountedWork:
    """A mod that counts the messages that a hospital answers."""

    def __init__(self) -> None:
        self.messages = 0

    def __call__(self, message, context, call_next):
        self.messages += 1
        return call_next(message, context)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    run_in_process(federation(rounds=1), hospitals(6), START, tmp_path)
    with pytest.raises(ValueError, match="other settings or hospitals"):
        run_in_process(federation(steps_per_round=5), hospitals(6), START, tmp_path)


def test_the_numbers_of_a_state_are_json_and_scores_come_when_due(tmp_path):
    state = run_in_process(federation(rounds=5), hospitals(6, 8), START, tmp_path, mean_weight)
    assert json.loads(json.dumps(state.numbers())) == state.numbers()
    assert [row["round"] for row in state.scores] == [0, 2, 4, 5]
    assert [row["images"] for row in state.scores] == [0, 16, 32, 40]
    assert [(row["hospital"], row["images"]) for row in state.visits[:2]] == [("a", 6), ("b", 8)]


def raise_(content):
    raise RuntimeError("the disk is\nfull")


def set_first(array):
    def spoil(content):
        content[ARRAYS][next(iter(content[ARRAYS]))] = Array(array)

    return spoil


def last_is_nan(content):
    name = list(content[ARRAYS])[-1]
    array = content[ARRAYS][name].numpy()
    array.flat[-1] = np.nan
    content[ARRAYS][name] = Array(array)


FAULTS = {
    "NaN": (last_is_nan, "not finite"),
    "wrong shape": (set_first(np.zeros(2, np.float32)), "not float32"),
    "wrong type": (set_first(np.zeros((4, 4, 4), np.float64)), "not float32"),
    "a missing array": (lambda content: content[ARRAYS].pop("generator/mapping.w_avg"), "missing or foreign"),
    "no arrays": (lambda content: content.pop(ARRAYS), "one record"),
    "arrays beside those asked for": (
        lambda content: content.update(more=ArrayRecord({"more": Array(np.zeros(2, np.float32))})),
        "one record",
    ),
    "no images": (lambda content: content[METRICS].update({IMAGES: 0}), "counts 0"),
    "negative images": (lambda content: content[METRICS].update({IMAGES: -5}), "counts -5"),
    "an infinite loss": (lambda content: content[METRICS].update(train_loss=float("inf")), "finite number"),
    "a foreign measurement": (lambda content: content[METRICS].update(more=1.0), "measurements"),
    "another's name": (lambda content: content["hospital"].update(name="a"), "claims to be a, which is node 1"),
    "an exception": (raise_, "the disk is full"),
}


SHORT = federation(rounds=2, averaged=("generator",))


@pytest.fixture(scope="module")
def without_the_faulty(tmp_path_factory):
    return run_in_process(SHORT, hospitals(6, 8), GENERATOR, tmp_path_factory.mktemp("without")).weights


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_hospital_is_left_out_and_counted_and_the_others_go_on(tmp_path, without_the_faulty, fault, caplog):
    spoil, reason = FAULTS[fault]
    state = run_in_process(SHORT, hospitals(6, 8, 10), GENERATOR, tmp_path, mods=[spoiling("c", spoil)])
    assert_same(state.weights, without_the_faulty)
    assert [row["round"] for row in state.incidents] == [1, 2]
    assert all(reason in row["reason"] for row in state.incidents)
    assert [(row["hospitals"], row["incidents"]) for row in state.rounds] == [(2, 1), (2, 1)]
    assert "is left out" in caplog.text


def test_a_silent_hospital_is_left_out():
    own = hospitals(6, 8)
    contexts = [Context(1, node, {"hospital": name}, RecordDict(), {}) for node, name in enumerate("ab", start=1)]
    server = Server(federation(rounds=1), FederationState(START), None, lambda _: None)

    class Lossy(InProcessGrid):
        def send_and_receive(self, messages, *, timeout=None):
            return list(super().send_and_receive(messages, timeout=timeout))[:1]

    server.run(Lossy(client_app(lambda context: own[context.node_id - 1]), contexts))
    assert server.state.incidents == [{"round": 1, "hospital": "node 2", "reason": "no reply in time"}]
    assert server.state.rounds[0]["hospitals"] == 1


@pytest.mark.parametrize(("silent", "told"), [(1, "no reply: node 13 is gone"), (2, "no reply in time")])
def test_what_the_superlink_says_of_one_is_not_said_of_all_who_are_silent(silent, told):
    own = hospitals(6, 8, 10)
    contexts = [Context(1, node, {"hospital": name}, RecordDict(), {}) for node, name in enumerate("abc", start=11)]
    server = Server(federation(rounds=1), FederationState(START), None, lambda _: None)

    class Lossy(InProcessGrid):
        def send_and_receive(self, messages, *, timeout=None):
            replies = list(super().send_and_receive(messages, timeout=timeout))
            gone = Message(Error(ErrorCode.NODE_UNAVAILABLE, "node 13 is gone"), reply_to=messages[-1])
            gone.metadata.__dict__["_src_node_id"] = SUPERLINK_NODE_ID
            return [*replies[:-silent], gone]

    server.run(Lossy(client_app(lambda context: own[context.node_id - 11]), contexts))
    assert {row["reason"] for row in server.state.incidents} == {told}
    assert len(server.state.incidents) == silent


class EndlessError(Exception):
    """What a wait without an end is in a test."""


def test_a_hospital_that_leaves_once_it_is_seen_is_left_out_and_not_waited_for(monkeypatch):
    def wait(_):
        raise EndlessError

    monkeypatch.setattr("flwr.serverapp.strategy.strategy_utils.sleep", wait)
    own = hospitals(6, 8)
    contexts = [Context(1, node, {"hospital": name}, RecordDict(), {}) for node, name in enumerate("ab", start=1)]

    looks = itertools.count()

    class Left(InProcessGrid):
        def get_node_ids(self):
            return [1, 2] if next(looks) == 0 else [1]

        def send_and_receive(self, messages, *, timeout=None):
            return list(super().send_and_receive(messages, timeout=timeout))[:1]

    config = federation(rounds=2, patience_rounds=1, least_hospitals=2, reply_timeout_seconds=0.01)
    server = Server(config, FederationState(START), None, lambda _: None)
    with pytest.raises(FederationStalled, match="node 2: no reply in time"):
        server.run(Left(client_app(lambda context: own[context.node_id - 1]), contexts))


def test_a_round_with_too_few_whole_replies_changes_nothing_and_the_next_goes_on(tmp_path):
    rounds = iter([1, 2, 3])

    def in_the_first_round(content):
        if next(rounds) == 1:
            scaled(content, np.nan)

    config = federation(least_hospitals=2)
    state = run_in_process(config, hospitals(6, 8), START, tmp_path, mods=[spoiling("b", in_the_first_round)])
    assert [row["changed"] for row in state.rounds] == [0, 1, 1]
    assert [row["images"] for row in state.rounds] == [0, 8, 16]
    assert any("the weights stay" in row["reason"] for row in state.incidents)


def overflow(content):
    """Finite weights, which a server learning rate of 3 takes beyond single precision."""
    content[ARRAYS] = ArrayRecord(
        {name: Array(np.full_like(array.numpy(), 3e38)) for name, array in content[ARRAYS].items()}
    )


def test_an_average_that_overflows_leaves_no_momentum_behind(tmp_path):
    config = federation(
        averaged=("generator",),
        strategy=StrategyConfig("FedAvgM", {"server_learning_rate": 3.0, "server_momentum": 0.5}),
    )

    def after(fault):
        numbers = itertools.count(1)
        mod = spoiling("a", lambda content: fault(content) if next(numbers) == 2 else None)
        state = run_in_process(config, hospitals(6), GENERATOR, tmp_path / fault.__name__, mods=[mod])
        assert [row["changed"] for row in state.rounds] == [1, 0, 1]
        return state.weights

    assert_same(after(overflow), after(raise_))


def test_an_average_that_overflows_changes_nothing(tmp_path):
    config = federation(
        rounds=2, strategy=StrategyConfig("FedAvgM", {"server_learning_rate": 3.0, "server_momentum": 0.0})
    )
    with pytest.raises(FederationStalled, match="their average is not finite: the weights stay"):
        run_in_process(config, hospitals(6), START, tmp_path, mods=[spoiling("a", overflow)])
    state = FederationState.of_parts(*read_checkpoint(tmp_path))
    assert_same(state.weights, START)
    assert [row["reason"] for row in state.incidents] == ["their average is not finite: the weights stay"] * 2


def test_rounds_that_change_nothing_end_the_run_which_goes_on_once_mended(tmp_path):
    config = federation(rounds=4)
    with pytest.raises(FederationStalled, match="the disk is full"):
        run_in_process(config, hospitals(6), START, tmp_path, mods=[spoiling("a", raise_)])
    state = run_in_process(config, hospitals(6), START, tmp_path)
    assert [row["changed"] for row in state.rounds] == [0, 0, 0, 1]


def failing_in(*rounds):
    """A mod that fails in these of the rounds that it sees, as its only hospital has them."""
    numbers = itertools.count(1)
    return spoiling("a", lambda content: raise_(content) if next(numbers) in rounds else None)


def test_a_run_whose_patience_ends_with_its_last_round_ends_well_with_what_it_has_learnt(tmp_path):
    config = federation(rounds=4, patience_rounds=2, averaged=("generator",))
    state = run_in_process(config, hospitals(6), GENERATOR, tmp_path, mods=[failing_in(3, 4)])
    assert [row["changed"] for row in state.rounds] == [1, 1, 0, 0]


def test_patience_begins_anew_with_each_start(tmp_path):
    config = federation(rounds=5, patience_rounds=2, averaged=("generator",))
    with pytest.raises(FederationStalled, match="2 rounds in a row changed nothing"):
        run_in_process(config, hospitals(6), GENERATOR, tmp_path, mods=[failing_in(1, 2)])
    state = run_in_process(config, hospitals(6), GENERATOR, tmp_path, mods=[failing_in(1)])
    assert [row["changed"] for row in state.rounds] == [0, 0, 0, 1, 1]


def test_a_run_that_ends_before_its_patience_without_any_change_is_no_success_and_goes_on_with_more_rounds(tmp_path):
    with pytest.raises(FederationStalled, match="none of 2 rounds changed a weight .*the disk is full.*more rounds"):
        run_in_process(SHORT, hospitals(6), GENERATOR, tmp_path, mods=[spoiling("a", raise_)])
    state = run_in_process(dataclasses.replace(SHORT, rounds=3), hospitals(6), GENERATOR, tmp_path)
    assert [row["changed"] for row in state.rounds] == [0, 0, 1]


def test_a_stalled_federation_ends_a_stage_in_one_line(monkeypatch, tmp_path):
    def main() -> None:
        """A federation whose only hospital fails."""
        run_in_process(SHORT, hospitals(6), GENERATOR, tmp_path, mods=[spoiling("a", raise_)])

    monkeypatch.setattr("sys.argv", ["train_federated.py"])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # else the stage sets it for all tests to come
    with pytest.raises(SystemExit, match="^train_federated: none of 2 rounds changed a weight [^\n]*$"):
        stage.run(main)


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """What the six honest hospitals of seven make alone."""
    return run_in_process(SHORT, hospitals(*[8] * 6), GENERATOR, tmp_path_factory.mktemp("honest")).weights


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "stands"),
    [
        ("FedAvg", {}, False),
        ("FedMedian", {}, True),
        ("FedTrimmedAvg", {"beta": 0.15}, True),
        ("Krum", {"num_malicious_nodes": 1}, True),
        ("MultiKrum", {"num_malicious_nodes": 1, "num_nodes_to_select": 3}, True),
        ("Bulyan", {"num_malicious_nodes": 1}, True),
    ],
)
def test_a_poisoned_hospital_of_seven_ruins_an_average_and_not_what_resists(tmp_path, honest, name, options, stands):
    config = dataclasses.replace(SHORT, strategy=StrategyConfig(name, options))
    poison = spoiling("g", lambda content: scaled(content, 100))
    state = run_in_process(config, hospitals(*[8] * 7), GENERATOR, tmp_path, mods=[poison])
    watched = [row for row in state.incidents if "TrainingDiverged" in row["reason"]]  # who trains on ruins may say so
    assert state.incidents == ([] if stands else watched)
    size = distance(honest, {name: torch.zeros_like(tensor) for name, tensor in honest.items()})
    error = distance(state.weights, honest) / size
    assert error < 0.01 if stands else error > 10
