"""Privacy of hospitals: clipping and noise are what the proof needs, and epsilon is that of closed forms."""

import dataclasses
import json
import math
from contextlib import suppress

import numpy as np
import pytest
import torch
import yaml
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from scipy.optimize import brentq
from scipy.stats import norm as gaussian

from skinsynth.federated.hospital import MEASURED, LocalResult
from skinsynth.federated.in_process import InProcessGrid, run_in_process
from skinsynth.federated.messages import ARRAYS, HOSPITAL, IMAGES, METRICS, answer, failure, numbers_as_in, weights_in
from skinsynth.federated.privacy import (
    AdaptiveConfig,
    PrivacyConfig,
    affords,
    check_everybody_is_needed,
    mods_of,
    noise_of_round,
    spent,
)
from skinsynth.federated.server import FederationConfig, FederationStalled, FederationState, Server, check_federation
from skinsynth.federated.strategies import StrategyConfig
from skinsynth.gan.checkpoint import finished_folder, keep_finished
from skinsynth.stage import load_params
from tests.test_federated_hospital import assert_same, distance
from tests.test_federated_rounds import GENERATOR, Killed, federation, files, hospitals, mean_weight

PRIVACY = PrivacyConfig(
    where="server", noise_multiplier=1.0, clipping_norm=2.0, adaptive=None, delta=1e-5, max_epsilon=None, seed=0
)
ADAPTIVE = AdaptiveConfig(target_clipped_quantile=0.5, clip_norm_lr=0.2, clipped_count_stddev=1.0)
# Nearly no noise, and nothing of it that would push the norm about.
QUIET = {"noise_multiplier": 1e-7}
QUIETLY_ADAPTIVE = dataclasses.replace(ADAPTIVE, clipped_count_stddev=1e-6)
SENT = {"matrix": torch.linspace(-1, 1, 6).reshape(2, 3), "number": torch.tensor(0.5)}
SIDES = pytest.mark.parametrize("where", ["server", "hospital"])


def privacy(**changes):
    return dataclasses.replace(PRIVACY, **changes)


def moved(by):
    """A hospital that moves every weight by so much."""
    return lambda weights: {name: tensor + by for name, tensor in weights.items()}


def contexts(count):
    return [Context(1, node, {"hospital": chr(96 + node)}, RecordDict(), {}) for node in range(1, count + 1)]


def app_of(trains, config, mods=None):
    """The app of hospitals a, b, … of which each trains by a function of the weights that came."""
    app = ClientApp()

    @app.train(mods=mods_of(config) if mods is None else mods)
    def train(message, context):
        name = context.node_config["hospital"]
        weights = numbers_as_in(SENT, weights_in(message.content[ARRAYS]))
        result = LocalResult(trains[ord(name) - ord("a")](weights), 5, dict.fromkeys(MEASURED, 1.0))
        return Message(answer(name, result), reply_to=message)

    return app


def server_of(count, config, sent=SENT, **changes):
    changes = {"rounds": 1, "least_hospitals": count, "privacy": config} | changes
    return Server(federation(**changes), FederationState(sent), None, lambda _: None)


def federate(trains, config, sent=SENT, mods=None, **changes):
    """What becomes of `sent` when hospitals train by these functions, and if that is nothing."""
    server = server_of(len(trains), config, sent, **changes)
    with suppress(FederationStalled):
        server.run(InProcessGrid(app_of(trains, config, mods), contexts(len(trains))))
    return server.state


def steps(state, sent=SENT):
    return np.concatenate([(state.weights[name] - sent[name]).numpy().ravel() for name in sent])


# Epsilon


def closed_bound(z, rounds, delta):
    """Composed Gaussian RDP, T alpha / (2 z²), by the plain conversion (Mironov 2017, proposition 3)."""
    alphas = 1 + np.geomspace(0.01, 1e4, 2000)
    return float((rounds * alphas / (2 * z * z) + math.log(1 / delta) / (alphas - 1)).min())


def exact_epsilon(z, rounds, delta):
    """Of one Gaussian with z / sqrt(T), which is what T are together (Balle and Wang 2018, theorem 8)."""
    gap = math.sqrt(rounds) / z

    def excess(epsilon):
        tail = gaussian.logcdf(-gap / 2 - epsilon / gap)
        return gaussian.cdf(gap / 2 - epsilon / gap) - math.exp(epsilon + tail) - delta

    return float(brentq(excess, 0, 1e4))


@pytest.mark.parametrize(("z", "rounds"), [(1.0, 1), (1.0, 100), (0.5, 6), (4.0, 30), (20.0, 1000)])
def test_epsilon_lies_between_the_exact_one_and_the_plain_bound_of_renyi(z, rounds):
    epsilon = spent(privacy(noise_multiplier=z), rounds)["epsilon"]
    assert exact_epsilon(z, rounds, 1e-5) <= epsilon <= closed_bound(z, rounds, 1e-5)


def test_rounds_of_some_noise_are_one_round_of_less():
    one = spent(privacy(noise_multiplier=2.0 / 3), 1)
    assert spent(privacy(noise_multiplier=2.0), 9) == pytest.approx(one)


@pytest.mark.parametrize(("z", "sigma"), [(1.0, 1.0), (1.0, 0.55), (3.0, 1.6)])
def test_where_the_norm_adapts_one_without_a_change_differs_by_a_whole_bit_from_one_that_is_clipped(z, sigma):
    """Against the divergence of the two Gaussians of a round: weights one norm apart, counts of clipped ones by 1."""
    of_weights = (z**-2 - (2 * sigma) ** -2) ** -0.5  # Flower's noise on the weights
    apart = math.hypot(1 / of_weights, 1 / sigma)
    adaptive = privacy(noise_multiplier=z, adaptive=AdaptiveConfig(0.5, 0.2, sigma))
    told = spent(adaptive, 6)["epsilon"]
    assert told == pytest.approx(spent(privacy(noise_multiplier=1 / apart), 6)["epsilon"])
    assert told > spent(privacy(noise_multiplier=z), 6)["epsilon"]


def test_epsilon_falls_with_noise_grows_with_rounds_and_begins_at_nothing():
    by_noise = [spent(privacy(noise_multiplier=z), 5)["epsilon"] for z in (0.5, 1.0, 2.0, 8.0)]
    by_round = [spent(PRIVACY, releases)["epsilon"] for releases in range(4)]
    assert by_noise == sorted(by_noise, reverse=True)
    assert by_round == sorted(by_round)
    assert by_round[0] == 0
    assert spent(None, 3) == {}


# Clipping and noise


@SIDES
@pytest.mark.parametrize("adaptive", [None, QUIETLY_ADAPTIVE])
@pytest.mark.parametrize("strategy", [StrategyConfig("FedAvg", {}), StrategyConfig("FedProx", {"proximal_mu": 0.1})])
def test_without_clipping_and_noise_it_is_the_mean_in_which_all_weigh_the_same(where, adaptive, strategy):
    config = privacy(where=where, noise_multiplier=1e-12, clipping_norm=1e4, adaptive=adaptive)
    state = federate([moved(0.0), moved(1.0), moved(5.0)], config, strategy=strategy)
    np.testing.assert_allclose(steps(state), 2.0, atol=1e-5)
    assert state.weights["number"].shape == ()


@SIDES
@pytest.mark.parametrize("adaptive", [None, QUIETLY_ADAPTIVE])
def test_no_hospital_moves_the_weights_by_more_than_its_share_of_the_norm(where, adaptive):
    config = privacy(where=where, **QUIET, clipping_norm=0.3, adaptive=adaptive)
    state = federate([moved(0.0), moved(1e6), moved(0.0)], config)
    assert np.linalg.norm(steps(state)) == pytest.approx(0.3 / 3, rel=1e-3)
    # The same direction: a number is clipped as the arrays are.
    np.testing.assert_allclose(steps(state), 0.1 / math.sqrt(7), rtol=1e-3)


def only_the_number(by):
    return lambda weights: weights | {"number": weights["number"] + by}


@SIDES
def test_an_update_of_a_single_number_is_clipped_too(where):
    state = federate([only_the_number(100.0)], privacy(where=where, **QUIET, clipping_norm=0.5))
    assert float(state.weights["number"] - SENT["number"]) == pytest.approx(0.5, rel=1e-3)


LARGE = {"matrix": torch.zeros(200, 200), "number": torch.tensor(0.0)}


@SIDES
def test_the_noise_on_each_weight_is_z_c_over_n(where):
    state = federate([moved(0.0)] * 4, privacy(where=where, noise_multiplier=1.5, clipping_norm=8.0), LARGE)
    assert steps(state, LARGE).std() == pytest.approx(1.5 * 8 / 4, rel=0.02)
    assert abs(steps(state, LARGE).mean()) < 5 * 3 / 200
    assert float(state.weights["number"]) != 0


@SIDES
@pytest.mark.parametrize("by", [0.0, 100.0])
def test_adaptive_noise_is_that_of_the_norm_that_clipped_and_not_of_the_next(where, by):
    sigma = 0.6
    adaptive = AdaptiveConfig(target_clipped_quantile=0.5, clip_norm_lr=20.0, clipped_count_stddev=sigma)
    state = federate([moved(by)] * 20, privacy(where=where, clipping_norm=8.0, adaptive=adaptive), LARGE)
    z = (1 - (2 * sigma) ** -2) ** -0.5  # Andrew et al. 2021, theorem 1: of the updates alone, at 1 for both
    assert steps(state, LARGE).std() == pytest.approx(z * 8 / 20, rel=0.02)
    # Nobody was clipped, or all were: the next norm is far away.
    assert (state.clipping_norm < 0.1) if by == 0 else (state.clipping_norm > 1000)


@SIDES
def test_the_norm_moves_by_the_share_that_was_clipped(where):
    config = privacy(where=where, **QUIET, clipping_norm=1.0, adaptive=QUIETLY_ADAPTIVE)
    state = federate([moved(0.0), moved(0.1), moved(0.2), moved(9.0)], config)
    assert state.clipping_norm == pytest.approx(math.exp(0.2 * (1 / 4 - 0.5)), rel=1e-5)
    assert state.rounds[0]["clipping_norm"] == 1.0


@SIDES
@pytest.mark.parametrize("start", [0.5, 50.0])
def test_the_norm_settles_where_the_wanted_share_is_clipped(where, start):
    lengths = [1.0, 2.0, 4.0, 8.0, 16.0]
    adaptive = dataclasses.replace(QUIETLY_ADAPTIVE, target_clipped_quantile=0.4)
    config = privacy(where=where, **QUIET, clipping_norm=start, adaptive=adaptive)
    state = federate([only_the_number(length) for length in lengths], config, rounds=50)
    assert 4 * math.exp(-0.2) < state.clipping_norm < 8 * math.exp(0.2)


@SIDES
@pytest.mark.parametrize("adaptive", [None, QUIETLY_ADAPTIVE])
def test_hospitals_that_change_nothing_give_no_nan(where, adaptive):
    state = federate([moved(0.0)] * 2, privacy(where=where, **QUIET, adaptive=adaptive), rounds=2)
    assert not state.incidents
    np.testing.assert_allclose(steps(state), 0, atol=1e-6)


@pytest.mark.parametrize("adaptive", [None, ADAPTIVE])
def test_clipping_at_the_hospital_is_clipping_at_the_server(adaptive):
    trains = [moved(0.2), moved(3.0), lambda weights: {name: 2 * tensor for name, tensor in weights.items()}]
    server, hospital = (
        federate(trains, privacy(where=where, adaptive=adaptive), rounds=3) for where in ("server", "hospital")
    )
    for name, tensor in server.weights.items():
        torch.testing.assert_close(hospital.weights[name], tensor, rtol=1e-5, atol=1e-5)
    assert hospital.clipping_norm == pytest.approx(server.clipping_norm)


def test_noise_is_new_in_each_round_and_numpys_own_numbers_go_on_undisturbed():
    np.random.seed(7)
    expected = np.random.rand(2).tolist()
    np.random.seed(7)
    first = np.random.rand()
    draws = []
    for config, number in [(PRIVACY, 1), (PRIVACY, 1), (PRIVACY, 2), (privacy(seed=1), 1), (privacy(seed=None), 1)]:
        with noise_of_round(config, number):
            draws.append(np.random.rand())
    assert draws[0] == draws[1]
    assert len(set(draws)) == 4
    assert [first, np.random.rand()] == expected


def test_without_a_seed_no_two_runs_have_the_same_noise():
    first, second = (federate([moved(0.0)], privacy(seed=None)) for _ in range(2))
    assert np.abs(steps(first) - steps(second)).min() > 0


# What travels, and what is refused


@SIDES
@pytest.mark.parametrize("adaptive", [None, ADAPTIVE])
def test_neither_losses_nor_numbers_of_images_leave_a_hospital(where, adaptive):
    config, sent = privacy(where=where, adaptive=adaptive), []

    def spy(message, context, call_next):
        reply = call_next(message, context)
        sent.append(dict(reply.content[METRICS]))
        return reply

    state = federate([moved(0.0), moved(9.0)], config, mods=[spy, *mods_of(config)])
    bits = [{"norm_bit": 0}, {"norm_bit": 1}] if where == "hospital" and adaptive else [{}, {}]
    assert sent == [{IMAGES: 1, "images_shown": 1.0} | bit for bit in bits]
    assert state.visits == [{"round": 1, "hospital": name, "images_shown": 1.0} for name in "ab"]


def cheat(**metrics):
    def mod(message, context, call_next):
        reply = call_next(message, context)
        if context.node_id == 2:
            reply.content[METRICS] = MetricRecord(dict(reply.content[METRICS]) | metrics)
        return reply

    return mod


@pytest.mark.parametrize(
    ("where", "cheating", "reason"),
    [
        ("server", cheat(**{IMAGES: 1000}), "weighs 1000"),
        ("server", cheat(train_loss=0.1), "measurements are not"),
        ("hospital", cheat(norm_bit=-50), "not 0 or 1"),
    ],
)
def test_a_hospital_that_would_weigh_or_tell_more_is_left_out_and_nothing_is_released(where, cheating, reason):
    config = privacy(where=where, adaptive=ADAPTIVE)
    state = federate([moved(0.0)] * 2, config, mods=[cheating, *mods_of(config)])
    assert reason in state.incidents[0]["reason"]
    assert_same(state.weights, SENT)


def test_a_hospital_that_should_clip_and_does_not_is_left_out():
    # The mods of a server that clips do not clip at the hospital.
    config = privacy(where="hospital")
    state = federate([moved(0.0), moved(10.0)], config, mods=mods_of(PRIVACY))
    assert [row["hospital"] for row in state.incidents] == ["b", "all"]
    assert "is 26.4575 long, but is to be clipped to 2" in state.incidents[0]["reason"]
    assert_same(state.weights, SENT)


@pytest.mark.parametrize(("length", "changed"), [(1.9999, 1), (2.01, 0)])
def test_an_update_is_as_long_as_the_norm_and_hardly_longer(length, changed):
    config = privacy(where="hospital", **QUIET)
    state = federate([moved(0.0), moved(length / math.sqrt(7))], config, mods=mods_of(PRIVACY))
    assert state.rounds[0]["changed"] == changed


def test_a_hospital_that_clips_is_not_left_out_for_what_single_precision_makes_of_large_weights():
    """Of 10.75 last places of each weight, which is what clipping leaves of the update, 11 arrive."""
    large = {"matrix": torch.full((200, 200), 8192.0)}
    place = 2.0**-10
    norm = 10.75 * place * 200
    state = federate([moved(1.0)] * 2, privacy(where="hospital", **QUIET, clipping_norm=norm), large)
    assert not state.incidents
    assert np.abs(steps(state, large)).max() == pytest.approx(11 * place)
    assert np.linalg.norm(steps(state, large)) > 1.02 * norm


def test_arrays_in_another_order_are_not_clipped_one_for_the_other():
    def turned_round(weights):
        return dict(reversed(moved(1.0)(weights).items()))

    state = federate([moved(0.1), turned_round], privacy(where="hospital"))
    assert "the trained networks have other arrays than the federation's" in state.incidents[0]["reason"]
    assert_same(state.weights, SENT)


@SIDES
def test_a_reply_that_is_not_finite_releases_nothing_and_spends_nothing(where):
    rounds = iter(range(9))

    def diverges_at_first(weights):
        return moved(math.nan if next(rounds) == 0 else 0.1)(weights)

    state = federate([moved(0.1), diverges_at_first], privacy(where=where), rounds=2)
    assert [(row["changed"], row["releases"]) for row in state.rounds] == [(0, 0), (1, 1)]
    assert [row["epsilon"] for row in state.rounds] == [0, spent(PRIVACY, 1)["epsilon"]]
    assert "matrix is not finite" in state.incidents[0]["reason"]


@pytest.mark.parametrize("adaptive", [None, ADAPTIVE])
def test_what_failed_at_a_hospital_that_clips_is_told(adaptive):
    config = privacy(where="hospital", adaptive=adaptive)

    def fail(message, context, call_next):
        reply = call_next(message, context)
        return Message(failure("b", "the disk is full"), reply_to=message) if context.node_id == 2 else reply

    state = federate([moved(0.1)] * 2, config, mods=[*mods_of(config), fail])
    assert state.incidents[0] == {"round": 1, "hospital": "b", "reason": "the disk is full"}


@pytest.mark.parametrize("name", ["FedAvgM", "QFedAvg", "FedAdam", "FedMedian", "Krum"])
def test_strategies_whose_step_is_no_mean_are_refused(name):
    options = {
        "FedAvgM": {"server_learning_rate": 1.0, "server_momentum": 0.0},
        "QFedAvg": {"client_learning_rate": 0.1, "q": 0.2},
        "FedAdam": {"eta": 0.01, "beta_1": 0.9, "beta_2": 0.99, "tau": 0.001},
        "FedMedian": {},
        "Krum": {"num_malicious_nodes": 0},
    }
    config = federation(strategy=StrategyConfig(name, options[name]), privacy=PRIVACY, least_hospitals=7)
    for refuse in (lambda: check_federation(config, 7), lambda: server_of(7, PRIVACY, strategy=config.strategy)):
        with pytest.raises(ValueError, match=f"mean of updates, which {name} is not") as raised:
            refuse()
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"where": "nowhere"}, "one of server, hospital"),
        ({"noise_multiplier": 0.0}, "noise_multiplier is above 0"),
        ({"clipping_norm": math.inf}, "clipping_norm is above 0"),
        ({"delta": 1.0}, "delta is above 0 and below 1"),
        ({"delta": 0.4}, "less than 1/3"),
        ({"seed": -1}, "32 bits"),
        ({"max_epsilon": 3.0}, "the first round alone spends an epsilon of 4.7"),
        ({"adaptive": dataclasses.replace(ADAPTIVE, clipped_count_stddev=0.5)}, "more than half of noise_multiplier"),
        ({"adaptive": dataclasses.replace(ADAPTIVE, target_clipped_quantile=1.5)}, "a share"),
        ({"adaptive": dataclasses.replace(ADAPTIVE, clip_norm_lr=0.0)}, "clip_norm_lr"),
    ],
)
def test_settings_under_which_nothing_could_be_promised_are_refused(changes, message):
    check_federation(federation(privacy=PRIVACY, least_hospitals=3), 3)
    with pytest.raises(ValueError, match=message) as raised:
        check_federation(federation(privacy=privacy(**changes), least_hospitals=3), 3)
    assert "\n" not in str(raised.value)


def test_a_delta_of_one_in_the_number_of_hospitals_is_refused():
    with pytest.raises(ValueError, match="allows to publish one of 4 hospitals as it is: make it much less than 1/4"):
        check_everybody_is_needed(privacy(delta=0.25), 4, 4)
    check_everybody_is_needed(privacy(delta=0.24), 4, 4)


def test_a_budget_holds_the_round_that_spends_it_to_the_last_digit():
    config = privacy(max_epsilon=spent(PRIVACY, 3)["epsilon"])
    assert [affords(config, releases) for releases in (2, 3, 4)] == [True, True, False]


def test_a_round_of_fewer_than_all_hospitals_is_refused():
    with pytest.raises(ValueError, match="all 3 hospitals in every round, but least_hospitals is 2: make it 3"):
        check_federation(federation(privacy=PRIVACY, least_hospitals=2), 3)


@pytest.mark.parametrize("config", [PRIVACY, privacy(adaptive=ADAPTIVE, max_epsilon=9.5, seed=None), None])
def test_settings_are_read_from_yaml(tmp_path, config):
    values = dataclasses.asdict(federation(privacy=config))
    values["averaged"] = list(values["averaged"])
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump({"scale": "one", "scales": {"one": {"federation": values}}}))
    assert load_params("federation", FederationConfig, file) == federation(privacy=config)


# Whole runs


def gan_federation(config, **changes):
    return federation(averaged=("generator",), least_hospitals=2, privacy=config, **changes)


@pytest.mark.parametrize(
    "config", [PRIVACY, privacy(where="hospital", adaptive=ADAPTIVE)], ids=["server", "hospital-adaptive"]
)
def test_a_run_and_one_that_is_killed_and_resumed_write_the_same_bytes(tmp_path, config):
    federated = gan_federation(config)
    whole = run_in_process(federated, hospitals(6, 8), GENERATOR, tmp_path / "whole", mean_weight)
    visits = iter(range(9))

    def kill(message, context, call_next):
        if next(visits) == 5:
            raise Killed
        return call_next(message, context)

    with pytest.raises(Killed):
        run_in_process(federated, hospitals(6, 8), GENERATOR, tmp_path / "killed", mean_weight, [kill])
    run_in_process(federated, hospitals(6, 8), GENERATOR, tmp_path / "killed", mean_weight)
    assert files(tmp_path / "killed") == files(tmp_path / "whole")
    assert not whole.incidents
    assert (whole.clipping_norm == 2.0) == (config.adaptive is None)
    assert distance(whole.weights, GENERATOR) > 0
    assert json.loads(json.dumps(whole.numbers())) == whole.numbers()
    assert [row["releases"] for row in whole.rounds] == [1, 2, 3]
    assert [row["epsilon"] for row in whole.rounds] == [spent(config, releases)["epsilon"] for releases in (1, 2, 3)]


def test_a_run_ends_before_the_round_that_would_spend_too_much_and_keeps_its_weights(tmp_path):
    between = (spent(PRIVACY, 1)["epsilon"] + spent(PRIVACY, 2)["epsilon"]) / 2
    config = gan_federation(privacy(max_epsilon=between), rounds_per_score=5)
    state = run_in_process(config, hospitals(6, 8), GENERATOR, tmp_path / "budget", mean_weight)
    one = run_in_process(gan_federation(PRIVACY, rounds=1), hospitals(6, 8), GENERATOR, tmp_path / "one", mean_weight)
    assert_same(state.weights, one.weights)
    (incident,) = state.incidents
    assert (incident["round"], incident["hospital"]) == (1, "all")
    assert incident["reason"].startswith("the run ends before round 2: it would raise epsilon from 4.7")
    assert [row["round"] for row in state.scores] == [0, 1]
    before = files(tmp_path / "budget")
    again = run_in_process(config, hospitals(6, 8), GENERATOR, tmp_path / "budget", mean_weight)
    assert again.numbers() == state.numbers()
    assert files(tmp_path / "budget") == before


def test_a_run_whose_budget_has_ended_it_goes_no_further_when_asked_again_and_its_state_stays(tmp_path):
    between = (spent(PRIVACY, 1)["epsilon"] + spent(PRIVACY, 2)["epsilon"]) / 2
    config = gan_federation(privacy(max_epsilon=between), rounds_per_score=5)
    state = run_in_process(config, hospitals(6, 8), GENERATOR, tmp_path / "budget-0", mean_weight)
    keep_finished(tmp_path / "budget-0")
    longer = dataclasses.replace(config, rounds=config.rounds + 2)
    for asked in (config, longer):
        again = run_in_process(asked, hospitals(6, 8), GENERATOR, tmp_path / "budget-0", mean_weight)
        keep_finished(tmp_path / "budget-0")
        assert again.numbers() == state.numbers()
    assert files(finished_folder(tmp_path / "budget-0"))


def test_a_run_says_at_its_start_how_much_it_will_spend_and_on_whom(caplog):
    federate([moved(0.1)], privacy(noise_multiplier=4.0), rounds=3)
    epsilon = spent(privacy(noise_multiplier=4.0), 3)["epsilon"]
    (said,) = (record.getMessage() for record in caplog.records if record.name.endswith("server"))
    assert f"after 3 rounds epsilon is {epsilon:.4g} at a delta of 1e-05" in said
    assert "a hospital's part" in said


# Names


def renaming(name, node, from_round):
    def mod(message, context, call_next):
        reply = call_next(message, context)
        if context.node_id == node and message.content["config"]["server-round"] >= from_round:
            reply.content[HOSPITAL]["name"] = name
        return reply

    return mod


@pytest.mark.parametrize(
    ("name", "reason"),
    [("a", "claims to be a, which is node 1"), ("z", "calls itself z, but is b")],
)
@pytest.mark.parametrize("config", [None, PRIVACY])
def test_a_node_keeps_its_name_and_nobody_elses(name, reason, config):
    changes = {"rounds": 2, "least_hospitals": 1 if config is None else 2}
    state = federate(
        [moved(1.0), moved(2.0)], config, mods=[renaming(name, 2, from_round=2), *mods_of(config)], **changes
    )
    assert state.nodes == {"a": 1, "b": 2}
    assert state.incidents[0] == {"round": 2, "hospital": "node 2", "reason": reason}
    assert [row["hospitals"] for row in state.rounds] == [2, 1]


class Echo(InProcessGrid):
    """Every reply comes twice, the second time under a name that `again` makes of the first."""

    def __init__(self, app, contexts, again):
        super().__init__(app, contexts)
        self.again = again

    def send_and_receive(self, messages, *, timeout=None):
        messages = list(messages)
        second = [renamed(reply, self.again) for reply in super().send_and_receive(messages, timeout=timeout)]
        return [*super().send_and_receive(messages, timeout=timeout), *second]


def renamed(reply, again):
    reply.content[HOSPITAL]["name"] = again(reply.content[HOSPITAL]["name"])
    return reply


@pytest.mark.parametrize(
    ("again", "reason"), [(str, "a second reply of a"), (lambda name: f"{name}2", "calls itself a2, but is a")]
)
def test_no_hospital_counts_twice(again, reason):
    config = privacy(**QUIET, clipping_norm=1e4)
    server = server_of(2, config)
    server.run(Echo(app_of([moved(1.0), moved(2.0)], config), contexts(2), again))
    assert server.state.incidents[0]["reason"] == reason
    assert server.state.rounds[0]["hospitals"] == 2
    np.testing.assert_allclose(steps(server.state), 1.5, atol=0.01)


def test_a_name_is_kept_for_its_node_over_a_restart_and_large_node_numbers_are_kept_whole():
    large = 2**64 - 3
    server = server_of(1, None)
    first, second = (Context(1, node, {"hospital": "a"}, RecordDict(), {}) for node in (large, 7))
    app = app_of([moved(0.0)], None)
    server.run(InProcessGrid(app, [first]))
    numbers = json.loads(json.dumps(server.state.numbers()))
    again = Server(
        federation(rounds=5, patience_rounds=3, least_hospitals=1),
        FederationState(server.state.weights, **numbers),
        None,
        lambda _: None,
    )
    with pytest.raises(FederationStalled, match=f"claims to be a, which is node {large}"):
        again.run(InProcessGrid(app, [second]))
    assert again.state.nodes == {"a": large}


def test_hospitals_in_one_process_keep_their_nodes_when_others_join(tmp_path):
    config = federation(rounds=1, averaged=("generator",))
    first, second, third = hospitals(6, 8, 10)
    run_in_process(config, [first, third], GENERATOR, tmp_path)
    state = run_in_process(dataclasses.replace(config, rounds=2), [first, second, third], GENERATOR, tmp_path)
    assert state.nodes == {"a": 1, "c": 2, "b": 3}
    assert not state.incidents
