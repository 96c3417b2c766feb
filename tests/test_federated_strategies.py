"""Flower's strategies by name: each trains a GAN, is resumed with its momenta, and says what it needs."""

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from skinsynth.federated.in_process import InProcessGrid, run_in_process
from skinsynth.federated.messages import ARRAYS, IMAGES, METRICS
from skinsynth.federated.server import check_federation
from skinsynth.federated.strategies import (
    BOUNDS,
    STRATEGIES,
    StrategyConfig,
    build_strategy,
    check_strategy,
    least_hospitals,
    options_of,
)
from tests.test_federated_hospital import assert_same
from tests.test_federated_rounds import GENERATOR, Killed, federation, hospitals

OPTIONS = {
    "FedAvg": {},
    "FedAvgM": {"server_learning_rate": 0.8, "server_momentum": 0.5},
    "FedProx": {"proximal_mu": 0.1},
    "QFedAvg": {"client_learning_rate": 0.1, "q": 0.2},
    "FedAdam": {"eta": 0.01, "beta_1": 0.9, "beta_2": 0.99, "tau": 0.001},
    "FedYogi": {"eta": 0.01, "beta_1": 0.9, "beta_2": 0.99, "tau": 0.001},
    "FedAdagrad": {"eta": 0.01, "tau": 0.001},
    "FedMedian": {},
    "FedTrimmedAvg": {"beta": 0.4},
    "Krum": {"num_malicious_nodes": 0},
    "MultiKrum": {"num_malicious_nodes": 0, "num_nodes_to_select": 1},
    "Bulyan": {"num_malicious_nodes": 0},
}
SENT = {"first": np.linspace(-1, 1, 6).reshape(2, 3), "second": np.asarray(0.5)}


@pytest.mark.slow
@pytest.mark.parametrize("name", STRATEGIES)
def test_each_strategy_trains_and_a_killed_run_ends_the_same(tmp_path, name):
    config = federation(rounds=2, averaged=("generator",), strategy=StrategyConfig(name, OPTIONS[name]))
    whole = run_in_process(config, hospitals(6, 8, 10), GENERATOR, tmp_path / "whole")
    assert not whole.incidents
    assert all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in whole.weights.values())
    assert any(not torch.equal(whole.weights[key], GENERATOR[key]) for key in GENERATOR)
    visits = iter(range(6))

    def kill(message, context, call_next):
        if next(visits) == 4:
            raise Killed
        return call_next(message, context)

    with pytest.raises(Killed):
        run_in_process(config, hospitals(6, 8, 10), GENERATOR, tmp_path / "killed", mods=[kill])
    resumed = run_in_process(config, hospitals(6, 8, 10), GENERATOR, tmp_path / "killed")
    assert_same(resumed.weights, whole.weights)
    assert_same(resumed.memory, whole.memory)


# Four hospitals that moved every weight by so much, and how many images each has.
MOVED, IMAGES_OF, MEAN = (0, 1, 2, 20), (4, 2, 1, 3), 6.4


def reply(asked, step, images):
    arrays = ArrayRecord({key: Array(np.asarray(value + step)) for key, value in SENT.items()})
    return Message(
        RecordDict({ARRAYS: arrays, METRICS: MetricRecord({IMAGES: images, "train_loss": 2.0})}), reply_to=asked
    )


def moves(name, options, rounds=1):
    """How far a strategy has moved the weights after some rounds in which the hospitals sent the same."""
    grid = InProcessGrid(ClientApp(), [])
    grid.get_node_ids = lambda: list(range(len(MOVED)))
    strategy = build_strategy(StrategyConfig(name, options), len(MOVED))
    current = ArrayRecord({key: Array(value) for key, value in SENT.items()})
    for number in range(1, rounds + 1):
        asked = strategy.configure_train(number, current, ConfigRecord(), grid)
        replies = [reply(*entry) for entry in zip(asked, MOVED, IMAGES_OF, strict=True)]
        current, _ = strategy.aggregate_train(number, replies)
    return np.concatenate([(current[key].numpy() - value).ravel() for key, value in SENT.items()])


@pytest.mark.parametrize(
    ("name", "options", "rounds", "step"),
    [
        ("FedAvg", {}, 1, MEAN),
        ("FedProx", {"proximal_mu": 1.0}, 1, MEAN),
        ("FedAvgM", {"server_learning_rate": 1.0, "server_momentum": 0.0}, 1, MEAN),
        ("FedAvgM", {"server_learning_rate": 0.5, "server_momentum": 0.0}, 1, MEAN / 2),
        ("FedAvgM", {"server_learning_rate": 1.0, "server_momentum": 0.5}, 2, MEAN * 1.5),  # swings past the mean
        ("QFedAvg", {"client_learning_rate": 0.1, "q": 0.0}, 1, 5.75),  # q = 0: each hospital counts alike
        ("FedMedian", {}, 1, 1.5),
        ("FedTrimmedAvg", {"beta": 0.25}, 1, 1.5),
        ("Krum", {"num_malicious_nodes": 0}, 1, 1.0),
        ("MultiKrum", {"num_malicious_nodes": 0, "num_nodes_to_select": 1}, 1, 1.0),
        ("Bulyan", {"num_malicious_nodes": 0}, 1, 5.75),  # nobody is hostile: the mean
        ("FedAdagrad", {"eta": 0.1, "tau": 1e-9}, 1, 0.1),  # a first step is eta, however far the hospitals went
        ("FedYogi", {"eta": 0.1, "beta_1": 0.0, "beta_2": 0.0, "tau": 1e-9}, 1, 0.1),
        ("FedAdam", {"eta": 0.1, "beta_1": 0.0, "beta_2": 0.0, "tau": 1e-9}, 1, 0.1),
    ],
)
def test_planted_moves_come_out_as_the_papers_say(name, options, rounds, step):
    np.testing.assert_allclose(moves(name, options, rounds), step, rtol=1e-6)


def test_options_are_those_of_flowers_signatures_and_have_bounds():
    assert {name: set(options_of(name)) for name in STRATEGIES} == {name: set(own) for name, own in OPTIONS.items()}
    assert {key for name in STRATEGIES for key in options_of(name)} == BOUNDS.keys()


@pytest.mark.parametrize(
    ("name", "options", "least"),
    [
        ("FedAvg", {}, 1),
        ("FedMedian", {}, 3),
        ("FedTrimmedAvg", {"beta": 0.2}, 5),
        ("FedTrimmedAvg", {"beta": 0.0}, 1),
        ("Krum", {"num_malicious_nodes": 1}, 5),
        ("MultiKrum", {"num_malicious_nodes": 1, "num_nodes_to_select": 4}, 7),
        ("Bulyan", {"num_malicious_nodes": 1}, 7),
    ],
)
def test_too_few_hospitals_are_refused_before_training(name, options, least):
    config = StrategyConfig(name, options)
    assert least_hospitals(config) == least
    check_strategy(config, least)
    with pytest.raises(ValueError, match=f"needs {least} hospitals or more, but there are {least - 1}") as raised:
        check_federation(federation(strategy=config), least - 1) if least > 1 else check_strategy(config, least - 1)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("FedSGD", {}, "a strategy is one of FedAvg"),
        ("FedProx", {}, r"missing \['proximal_mu'\]"),
        ("FedAvg", {"proximal_mu": 0.1}, r"unknown \['proximal_mu'\]"),
        ("Krum", {"num_malicious_nodes": 1.0}, "a whole number"),
        ("Krum", {"num_malicious_nodes": -1}, "at least 0"),
        ("FedTrimmedAvg", {"beta": 0.5}, "below 0.5"),
        ("FedAvgM", {"server_learning_rate": float("nan"), "server_momentum": 0}, "server_learning_rate"),
    ],
)
def test_options_that_do_not_fit_are_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        least_hospitals(StrategyConfig(name, options))


@pytest.mark.parametrize(
    "changes",
    [
        {"rounds": 0},
        {"steps_per_round": 0},
        {"patience_rounds": 0},
        {"rounds_per_score": 0},
        {"least_hospitals": 4},
        {"averaged": ("ema",)},
    ],
)
def test_a_federation_that_cannot_run_is_refused(changes):
    with pytest.raises(ValueError, match="change"):
        check_federation(federation(**changes), 3)
