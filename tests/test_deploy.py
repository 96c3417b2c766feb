"""Between real machines: keys, the gate, the two apps with their folders, and (slow) the whole on loopback."""

import argparse
import asyncio
import dataclasses
import fcntl
import itertools
import json
import os
import re
import resource
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import grpc
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization.ssh import load_ssh_private_key, load_ssh_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from flwr.app import Context, RecordDict
from flwr.superlink.grid import HttpGrid
from grpc_health.v1.health import HealthServicer
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from safetensors.torch import save_file

from deploy.address import check_free, check_reached, host_port, port
from deploy.check_health import main as check_health
from deploy.environment import ENVIRONMENT
from deploy.hospital import check_folder, images_line, keep_running
from deploy.hospital import main as run_hospital
from deploy.make_keys import make_node_key, make_server_keys
from deploy.rehearse import Rehearsal
from deploy.rehearse import main as rehearse
from deploy.start import PATIENCE_QUESTIONS, News, cause, deployment_of, refusal, wait, who, write_app
from deploy.start import main as start
from skinsynth.federated.deployment import (
    Deployment,
    check_deployment,
    forget,
    hospital_app,
    hospital_in,
    serve,
    training_images,
)
from skinsynth.federated.folder import alone_in, read_state, write_state
from skinsynth.federated.gate import Gate
from skinsynth.federated.hospital import first_weights, weights_of
from skinsynth.federated.in_process import InProcessGrid, run_in_process
from skinsynth.federated.messages import answer
from skinsynth.federated.privacy import PrivacyConfig
from skinsynth.federated.server import FederationStalled
from skinsynth.files import write_lines, written_whole
from skinsynth.gan.checkpoint import INDEX
from skinsynth.gan.model import load_gan
from skinsynth.gan.trainer import Trainer
from skinsynth.images.archive import write_archive
from skinsynth.stage import load_params
from tests.test_federated_hospital import ALL, TINY, assert_same
from tests.test_federated_rounds import federation

PROJECT = Path(__file__).parents[1]
SIZE = TINY.generator.resolution
CPU = torch.device("cpu")


def deployment(**changes):
    return Deployment(("b", "a"), ("benign", "malignant"), TINY, federation(**changes))


def images(count, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 3, SIZE, SIZE), dtype=np.uint8)
    return [f"{seed}-{number:02}" for number in range(count)], pixels, [number % 2 for number in range(count)]


def write_split(place, ids, labels, sides, hospitals):
    rows = {"image_id": ids, "label": labels, "group": range(len(ids)), "split": sides, "hospital": hospitals}
    pd.DataFrame(rows).to_csv(place, index=False)


@pytest.fixture
def folders(tmp_path):
    """Of hospitals a and b, each with images of its own."""
    for seed, name in enumerate("ab"):
        write_archive(tmp_path / name / "images.zip", *images(8 + seed, seed))
    return tmp_path


def grid_of(settings, folders):
    """What a SuperLink and two SuperNodes would be, in this process."""
    contexts = [
        Context(1, node, {"hospital": name, "folder": str(folders / name)}, RecordDict(), {})
        for node, name in enumerate("ab", start=1)
    ]
    return InProcessGrid(hospital_app(settings, CPU), contexts)


# Keys


def test_the_servers_certificate_is_signed_for_the_names_by_which_it_is_called(tmp_path):
    make_server_keys(tmp_path, ["gan.example.org"], [])
    authority, server = (
        x509.load_pem_x509_certificate((tmp_path / name).read_bytes()) for name in ("ca.crt", "server.crt")
    )
    server.verify_directly_issued_by(authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["gan.example.org", "localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def extension(certificate, kind):
    return certificate.extensions.get_extension_for_class(kind).value


def test_an_authority_signs_servers_and_no_other_authority_and_no_server_signs_anything(tmp_path):
    make_server_keys(tmp_path, ["gan.example.org"], [])
    authority, server = (
        x509.load_pem_x509_certificate((tmp_path / name).read_bytes()) for name in ("ca.crt", "server.crt")
    )
    of_authority, of_server = (extension(one, x509.BasicConstraints) for one in (authority, server))
    assert (of_authority.ca, of_authority.path_length, of_server.ca) == (True, 0, False)
    assert list(extension(server, x509.ExtendedKeyUsage)) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_a_folder_that_is_made_for_keys_is_its_owner_s_alone(tmp_path):
    make_node_key(tmp_path / "node")
    assert stat.S_IMODE((tmp_path / "node").stat().st_mode) == 0o700


def test_a_new_certificate_keeps_the_authority_that_hospitals_know(tmp_path):
    make_server_keys(tmp_path, ["gan.example.org"], [])
    authority, first = (tmp_path / "ca.crt").read_bytes(), (tmp_path / "server.crt").read_bytes()
    make_server_keys(tmp_path, ["other.example.org"], [])
    assert (tmp_path / "ca.crt").read_bytes() == authority
    second = x509.load_pem_x509_certificate((tmp_path / "server.crt").read_bytes())
    second.verify_directly_issued_by(x509.load_pem_x509_certificate(authority))
    assert second != x509.load_pem_x509_certificate(first)


def test_a_nodes_two_keys_belong_together_and_are_of_the_kind_that_flower_takes(tmp_path):
    make_node_key(tmp_path)
    private = load_ssh_private_key((tmp_path / "node.key").read_bytes(), None)
    public = load_ssh_public_key((tmp_path / "node.pub").read_bytes())
    assert private.public_key() == public
    assert public.curve.name == "secp384r1"


def test_private_keys_are_for_their_owner_alone_and_never_replaced(tmp_path):
    make_server_keys(tmp_path, ["gan.example.org"], [])
    make_node_key(tmp_path)
    for name in ("ca.key", "server.key", "node.key"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    with pytest.raises(FileExistsError, match=r"node\.key is there already"):
        make_node_key(tmp_path)


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_public_key_that_is_left_over_is_told_before_a_private_one_is_made(tmp_path):
    (tmp_path / "node.pub").write_text("of a key that is lost")
    with pytest.raises(FileExistsError, match=r"node\.pub is there already: remove it"):
        make_node_key(tmp_path)
    assert contents(tmp_path) == {"node.pub": b"of a key that is lost"}


@pytest.mark.parametrize("lost", ["ca.crt", "ca.key"])
def test_an_authority_of_which_one_half_is_lost_signs_nothing_and_changes_nothing(tmp_path, lost):
    make_server_keys(tmp_path, ["gan.example.org"], [])
    (tmp_path / lost).unlink()
    before = contents(tmp_path)
    for _ in range(2):
        with pytest.raises(ValueError, match=f"lacks {lost}, the other half of its authority: bring it back"):
            make_server_keys(tmp_path, ["gan.example.org"], [])
    assert contents(tmp_path) == before


def test_an_authority_with_the_key_of_another_signs_nothing_and_changes_nothing(tmp_path):
    for name in ("ours", "theirs"):
        make_server_keys(tmp_path / name, ["gan.example.org"], [])
    (tmp_path / "theirs" / "ca.key").replace(tmp_path / "ours" / "ca.key")
    before = contents(tmp_path / "ours")
    with pytest.raises(ValueError, match=r"ca\.key is not the key of ca\.crt beside it: bring it back"):
        make_server_keys(tmp_path / "ours", ["gan.example.org"], [])
    assert contents(tmp_path / "ours") == before


@contextmanager
def no_file_longer_than(count):
    """As on a disk that fills up: what is longer than so many bytes is cut off there, with an OSError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_servers_keys_stay_as_they_were_where_new_ones_cannot_be_written(tmp_path):
    make_server_keys(tmp_path, ["gan.example.org"], [])
    before = contents(tmp_path)
    with no_file_longer_than(len(before["server.key"])), pytest.raises(OSError, match="File too large"):
        make_server_keys(tmp_path, ["gan.example.org"], [])
    assert contents(tmp_path) == before


def test_a_server_that_nobody_can_call_gets_no_certificate(tmp_path):
    with pytest.raises(ValueError, match="give one or more"):
        make_server_keys(tmp_path, [], [])
    assert not list(tmp_path.iterdir())


# The gate


def asked(path, client):
    """The status that the gate and an app behind it, which answers 200 to all, give to a call."""
    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "path": path, "client": client, "method": "POST", "headers": []}
    asyncio.run(Gate(app)(scope, None, send))
    return sent[0]["status"]


FAR, NEAR = ("192.0.2.7", 5000), ("127.0.0.1", 5000)


@pytest.mark.parametrize("path", ["/v1/control/start-run", "/v1/control/register-node", "/v1/runtime/x", "/docs", "/"])
def test_other_machines_give_no_orders(path):
    assert asked(path, FAR) == 403
    assert asked(path, None) == 403
    assert asked(path, NEAR) == 200
    assert asked(path, ("::1", 5000)) == 200


def test_other_machines_reach_what_supernodes_need():
    assert asked("/v1/fleet/pull-messages", FAR) == 200


@pytest.mark.parametrize("path", ["/v1/fleet", "/v1/fleets/x", "/V1/FLEET/x", "/v1/fleet/../control/x"])
def test_what_only_looks_like_the_supernodes_path_is_closed(path):
    assert asked(path, FAR) == 403


def test_flower_still_has_the_hook_and_the_paths_that_the_gate_relies_on():
    from flwr.superlink import extensions, main
    from flwr.superlink.routers import control, fleet

    assert main.extensions is extensions
    assert callable(extensions.get_middleware)
    assert fleet.router.router.prefix == "/v1/fleet"
    assert control.router.prefix == "/v1/control"


def test_flower_still_has_the_times_that_the_failure_table_says():
    """A minute until a node counts as gone; three from the last piece of a reply until the server gives it up."""
    from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL, HEARTBEAT_PATIENCE
    from flwr.supercore.constant import OBJECT_PUSH_SESSION_TTL_SECONDS

    assert HEARTBEAT_PATIENCE * HEARTBEAT_DEFAULT_INTERVAL == 60
    assert OBJECT_PUSH_SESSION_TTL_SECONDS == 180


@pytest.mark.parametrize(("timeout", "received"), [(30, 1), (60, 2)])
def test_the_time_for_replies_holds_their_fetching_but_not_the_handing_out(monkeypatch, timeout, received):
    """Of Flower's own grid: it hands out for 100 seconds, then fetches two replies, one at a time, 40 seconds each."""
    clock, left = SimpleNamespace(now=0.0), iter("ab")

    def passes(seconds):
        clock.now += seconds

    class SlowGrid(HttpGrid):
        def __init__(self):
            """Calls nobody."""

        def push_messages(self, _):
            passes(100)
            return ["a", "b"]

        def pull_messages(self, _):
            passes(40)
            return [SimpleNamespace(metadata=SimpleNamespace(reply_to_message_id=next(left)))]

    monkeypatch.setattr("flwr.superlink.grid.http_grid.time", SimpleNamespace(time=lambda: clock.now, sleep=passes))
    assert len(SlowGrid().send_and_receive([], timeout=timeout)) == received


# The two apps


def test_a_server_without_images_begins_with_a_trainers_weights():
    trainer = Trainer(TINY, torch.zeros(4, 3, SIZE, SIZE, dtype=torch.uint8), torch.arange(4) % 2, CPU)
    assert_same(first_weights(TINY, ALL), weights_of(trainer, ALL))


def test_folders_and_a_server_end_as_one_process(folders):
    settings = deployment(rounds=2)
    state = serve(grid_of(settings, folders), settings, folders / "server")
    hospitals = [hospital_in(folders / name, name, settings, CPU) for name in "ab"]
    start = first_weights(TINY, ALL)
    assert_same(state.weights, run_in_process(settings.federation, hospitals, start, folders / "one").weights)
    gan = load_gan(folders / "server" / "model", "cpu")
    assert gan.classes == [0, 1]
    ema = {f"ema/{name}": tensor for name, tensor in gan.generator.state_dict().items()}
    assert_same(ema, {name: tensor for name, tensor in state.weights.items() if name.startswith("ema/")})


def test_a_server_begins_with_the_weights_in_its_folder_in_the_order_of_its_networks(folders):
    settings = deployment(rounds=1)
    start = {name: 0.9 * tensor.contiguous() for name, tensor in first_weights(TINY, ALL).items()}
    (folders / "server").mkdir()
    save_file(start, folders / "server" / "start.safetensors")
    state = serve(grid_of(settings, folders), settings, folders / "server")
    hospitals = [hospital_in(folders / name, name, settings, CPU) for name in "ab"]
    expected = run_in_process(settings.federation, hospitals, start, folders / "one").weights
    assert_same(state.weights, expected)
    assert list(state.weights) == list(expected)


def test_weights_of_other_networks_are_refused_before_the_first_round(folders):
    (folders / "server").mkdir()
    others = {name: tensor.contiguous() for name, tensor in first_weights(TINY, ("generator",)).items()}
    save_file(others, folders / "server" / "start.safetensors")
    with pytest.raises(ValueError, match=r"start\.safetensors holds other networks or sizes"):
        serve(grid_of(deployment(rounds=1), folders), deployment(rounds=1), folders / "server")
    assert not (folders / "server" / "checkpoint").exists()


@pytest.mark.parametrize("where", ["server", "hospital"])
def test_hospitals_on_machines_of_their_own_clip_and_withhold_as_the_settings_say(folders, where):
    settings = deployment(rounds=1, least_hospitals=2, privacy=PrivacyConfig(where, 1.0, 0.5, None, 1e-5, None, 0))
    state = serve(grid_of(settings, folders), settings, folders / "server")
    assert (state.incidents, state.releases) == ([], 1)
    hospitals = [hospital_in(folders / name, name, settings, CPU) for name in "ab"]
    start = first_weights(TINY, ALL)
    assert_same(state.weights, run_in_process(settings.federation, hospitals, start, folders / "one").weights)
    assert not set(state.visits[0]) & {"images", "train_loss"}


class KilledError(Exception):
    pass


@pytest.mark.parametrize("after", [1, 2])
def test_a_server_killed_within_a_round_goes_on_to_the_same_end(folders, monkeypatch, after):
    settings = deployment(rounds=2)
    whole = serve(grid_of(settings, folders), settings, folders / "whole")
    for name in "ab":  # as new hospitals, without a state
        for state in (folders / name).glob("federation-*"):
            state.rename(folders / f"{name}-{state.name}")
    grid, calls = grid_of(settings, folders), itertools.count()
    deliver = grid._deliver

    def delivered(message):
        if next(calls) == after:
            raise KilledError
        return deliver(message)

    monkeypatch.setattr(grid, "_deliver", delivered)
    with pytest.raises(KilledError):
        serve(grid, settings, folders / "server")
    again = serve(grid_of(settings, folders), settings, folders / "server")
    assert_same(again.weights, whole.weights)
    assert again.rounds == whole.rounds


def after_round(number):
    """What a hospital might keep."""
    return {"weight": torch.tensor([float(number)])}, {"round": number}


def kill_before_the_index(monkeypatch):
    """From now on whoever writes a checkpoint is killed between its tensors and its index."""

    def killed(path):
        if path.name == INDEX:
            raise KilledError
        return written_whole(path)

    monkeypatch.setattr("skinsynth.gan.checkpoint.written_whole", killed)


def test_a_hospital_killed_while_it_writes_its_state_goes_on_from_the_round_before(tmp_path, monkeypatch):
    for number in (1, 2):
        write_state(tmp_path, "run", number, after_round(number))
    with monkeypatch.context() as patched, pytest.raises(KilledError):
        kill_before_the_index(patched)
        write_state(tmp_path, "run", 3, after_round(3))
    assert read_state(tmp_path, "run", 4)[1] == {"round": 2}
    write_state(tmp_path, "run", 4, after_round(4))
    assert sorted(place.name for place in (tmp_path / "run").iterdir()) == ["after-2", "after-4"]
    assert read_state(tmp_path, "run", 4)[1] == {"round": 2}


def test_a_hospital_that_has_no_whole_state_of_its_run_says_that_it_begins_anew(tmp_path, monkeypatch, caplog):
    assert read_state(tmp_path, "run", 1) is None
    assert not caplog.text
    kill_before_the_index(monkeypatch)
    with pytest.raises(KilledError):
        write_state(tmp_path, "run", 1, after_round(1))
    assert read_state(tmp_path, "run", 2) is None
    assert "no whole state from before round 2: this hospital begins anew" in caplog.text


def test_the_state_of_a_hospital_belongs_to_one_federation(folders):
    first, second = deployment(rounds=1), deployment(rounds=1, steps_per_round=2)
    for number, settings in enumerate((first, second)):
        serve(grid_of(settings, folders), settings, folders / f"server{number}")
    assert len(list((folders / "a").glob("federation-*"))) == 2
    assert deployment(rounds=5).digest() == first.digest()


def test_a_run_goes_on_with_more_patience(folders):
    serve(grid_of(deployment(rounds=1), folders), deployment(rounds=1), folders / "server")
    patient = deployment(rounds=2, patience_rounds=9, reply_timeout_seconds=7200.0)
    assert serve(grid_of(patient, folders), patient, folders / "server").round == 2
    assert len(list((folders / "a").glob("federation-*"))) == 1


def test_a_run_goes_on_whatever_the_order_of_its_hospitals_and_however_often_others_would_score(folders):
    first = deployment(rounds=1)
    serve(grid_of(first, folders), first, folders / "server")
    longer = deployment(rounds=2, rounds_per_score=first.federation.rounds_per_score + 1)
    again = dataclasses.replace(longer, hospitals=first.hospitals[::-1])
    assert serve(grid_of(again, folders), again, folders / "server").round == 2
    assert len(list((folders / "a").glob("federation-*"))) == 1


def test_a_run_that_has_lost_a_hospital_goes_on_with_fewer(folders):
    both = deployment(rounds=1, least_hospitals=2)
    serve(grid_of(both, folders), both, folders / "server")
    fewer = deployment(rounds=2, least_hospitals=1)
    grid = grid_of(fewer, folders)
    del grid.contexts[2]
    state = serve(grid, fewer, folders / "server")
    assert [(row["hospitals"], row["changed"]) for row in state.rounds] == [(2, 1), (1, 1)]
    assert len(list((folders / "a").glob("federation-*"))) == 1


def test_a_run_with_privacy_does_not_go_on_with_fewer(folders):
    privacy = PrivacyConfig("server", 1.0, 1.0, None, 1e-5, None, None)
    all_needed = deployment(rounds=1, least_hospitals=2, privacy=privacy)
    serve(grid_of(all_needed, folders), all_needed, folders / "server")
    fewer = deployment(rounds=2, least_hospitals=1, privacy=privacy)
    with pytest.raises(ValueError, match="privacy needs all 2 hospitals in every round"):
        serve(grid_of(fewer, folders), fewer, folders / "server")


def test_a_checkpoint_of_other_settings_is_not_gone_on_with(folders):
    serve(grid_of(deployment(rounds=1), folders), deployment(rounds=1), folders / "server")
    other = deployment(rounds=2, steps_per_round=2)
    with pytest.raises(ValueError, match="other settings: name another run with --run"):
        serve(grid_of(other, folders), other, folders / "server")


def test_a_run_without_privacy_does_not_go_on_with_it_nor_the_other_way_round(folders):
    private = PrivacyConfig("server", 1.0, 1.0, None, 1e-5, None, None)
    for first, then in ((None, private), (private, None)):
        before, after = (deployment(rounds=1, least_hospitals=2, privacy=privacy) for privacy in (first, then))
        assert before.digest() != after.digest()
        folder = folders / f"server-{before.digest()}"
        serve(grid_of(before, folders), before, folder)
        with pytest.raises(ValueError, match="other settings: name another run with --run"):
            serve(grid_of(after, folders), after, folder)


def test_a_hospital_trains_on_the_train_side_of_its_split_alone(folders):
    ids, _, labels = images(8, 0)
    sides = ["train"] * 5 + ["test"] * 3
    write_split(folders / "a" / "split.csv", ids, labels, sides, "a")
    assert len(hospital_in(folders / "a", "a", deployment(), CPU).trainer.data) == 5


def test_hospitals_draw_from_seeds_by_their_names(folders):
    seeds = {name: hospital_in(folders / name, name, deployment(), CPU).trainer.config.seed for name in "ab"}
    assert seeds == {"a": TINY.seed, "b": TINY.seed + 1}


def test_a_stranger_is_named(folders):
    with pytest.raises(ValueError, match="'c' is none of this federation's hospitals, b, a"):
        hospital_in(folders / "a", "c", deployment(), CPU)


def test_two_hospitals_of_one_name_are_refused():
    with pytest.raises(ValueError, match="rename one"):
        check_deployment(dataclasses.replace(deployment(), hospitals=("a", "a")))


def test_two_servers_do_not_share_a_folder(folders, monkeypatch):
    monkeypatch.setattr("skinsynth.federated.deployment.LOCK_SECONDS", 0.0)
    settings = deployment(rounds=1)
    (folders / "server").mkdir()
    with (folders / "server" / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError, match="another run is at work"):
            serve(grid_of(settings, folders), settings, folders / "server")


def test_a_relative_folder_is_refused(folders, caplog):
    settings = deployment(rounds=1, patience_rounds=1)
    context = Context(1, 1, {"hospital": "a", "folder": "here"}, RecordDict(), {})
    grid = InProcessGrid(hospital_app(settings, CPU), [context])
    with pytest.raises(FederationStalled, match="ValueError: its own log says more"):
        serve(grid, settings, folders / "server")
    assert "absolute path" in caplog.text


def test_no_text_of_an_error_leaves_a_hospital(folders):
    """A split that names an image which is not there: the message would tell the image's name and the folder."""
    write_split(folders / "a" / "split.csv", ["schmidt_hans_1950"], [0], ["train"], "a")
    settings = deployment(rounds=1, patience_rounds=1, least_hospitals=2)
    with pytest.raises(FederationStalled) as stalled:
        serve(grid_of(settings, folders), settings, folders / "server")
    incidents = (folders / "server" / "incidents.jsonl").read_text()
    for told in (str(stalled.value), incidents):
        assert "its own log says more" in told
        assert "schmidt" not in told
        assert "images.zip" not in told


def test_a_name_that_is_none_of_the_federations_counts_for_nothing(folders, monkeypatch):
    settings = deployment(rounds=1, patience_rounds=1)
    monkeypatch.setattr("skinsynth.federated.client.answer", lambda _, result: answer("c", result))
    with pytest.raises(FederationStalled, match="calls itself c, which is none of this federation's hospitals"):
        serve(grid_of(settings, folders), settings, folders / "server")


def test_hospitals_that_are_not_there_are_waited_for_as_long_as_replies(folders):
    settings = deployment(rounds=9, patience_rounds=2, least_hospitals=2, reply_timeout_seconds=0.01)
    with pytest.raises(FederationStalled, match="0 hospitals are connected, but 2 are needed"):
        serve(InProcessGrid(hospital_app(settings, CPU), []), settings, folders / "server")
    rounds = (folders / "server" / "rounds.jsonl").read_text().splitlines()
    assert [json.loads(line)["changed"] for line in rounds] == [0, 0]


def test_a_hospital_with_a_new_key_comes_back_once_it_is_forgotten(folders):
    settings = deployment(rounds=1)
    serve(grid_of(settings, folders), settings, folders / "server")
    longer = deployment(rounds=2)
    grid = grid_of(longer, folders)
    grid.contexts[7] = dataclasses.replace(grid.contexts.pop(1), node_id=7)  # what another key makes of hospital a
    for unknown in ("c", ""):
        with pytest.raises(ValueError, match="has heard of a, b, but not of"):
            forget(folders / "server", unknown)
    forget(folders / "server", "a")
    state = serve(grid, longer, folders / "server")
    assert [row["hospitals"] for row in state.rounds] == [2, 2]
    assert state.nodes == {"a": 7, "b": 2}


def test_a_run_that_is_not_there_is_not_made_by_forgetting_a_hospital(tmp_path):
    with pytest.raises(ValueError, match="typo has heard of none, but not of 'a': there is nothing to forget"):
        forget(tmp_path / "typo", "a")
    assert not (tmp_path / "typo").exists()


def test_names_and_nodes_are_told_once_hospitals_have_replied(folders):
    with pytest.raises(ValueError, match="no hospital has replied"):
        who(folders / "server")
    settings = deployment(rounds=1)
    serve(grid_of(settings, folders), settings, folders / "server")
    assert who(folders / "server") == "a  1\nb  2"


def test_a_late_hospital_ends_a_round_before_the_next(folders):
    """Flower starts a process for each message and waits for none."""
    settings = deployment(rounds=1)
    place = folders / "a" / f"federation-{settings.digest()}"
    over: list[str] = []

    def train():
        serve(grid_of(settings, folders), settings, folders / "server")
        over.append("trained")

    with alone_in(place, 0.0):
        late = threading.Thread(target=train)
        late.start()
        late.join(2.0)
        assert over == []
    late.join(60.0)
    assert over == ["trained"]


# What is checked before Flower starts


def test_a_hospital_is_told_how_many_images_are_held_back(folders):
    own = training_images(folders / "a")
    assert images_line(own, folders / "a").startswith("all 8 images")
    assert images_line(own, folders / "a").endswith("there is no split.csv, so none are held back")
    ids, _, labels = images(8, 0)
    write_split(folders / "a" / "split.csv", ids, labels, ["train"] * 5 + ["test"] * 3, "a")
    own = training_images(folders / "a")
    assert images_line(own, folders / "a").startswith("5 images")
    assert images_line(own, folders / "a").endswith("split.csv holds 3 back")


@pytest.mark.parametrize("address", ["federation.example.org:8000", "127.0.0.1:1", "[::1]:65535"])
def test_an_address_is_a_host_and_a_port(address):
    assert host_port(address) == address


@pytest.mark.parametrize("address", ["federation.example.org", "https://a:8000", ":8000", "a:", "a:x", "::1:80", "a:0"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(argparse.ArgumentTypeError, match="came"):
        host_port(address)


def test_ports_end_at_65535():
    assert port("65535") == 65535
    with pytest.raises(argparse.ArgumentTypeError, match="from 1 to 65535, but '99999' came"):
        port("99999")


@contextmanager
def listening(folder=None):
    """A port of this machine that somebody listens at, with the certificate of a folder; without one it says "no"."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet():
            with suppress(OSError):
                wire = server.accept()[0]
                if folder is None:
                    wire.sendall(b"no, not here")
                    wire.close()
                    return
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(folder / "server.crt", folder / "server.key")
                with context.wrap_socket(wire, server_side=True) as secure:
                    secure.recv(1)

        greeting = threading.Thread(target=greet)
        greeting.start()
        yield server.getsockname()[1]
        with suppress(OSError):
            socket.create_connection(server.getsockname()).close()  # where nobody came
        greeting.join(10.0)


@pytest.fixture
def authorities(tmp_path):
    for name in ("ours", "theirs"):
        make_server_keys(tmp_path / name, ["localhost"], [])
    return tmp_path


def test_a_federation_that_answers_with_a_certificate_of_the_authority_is_reached(authorities):
    with listening(authorities / "ours") as number:
        check_reached(f"127.0.0.1:{number}", authorities / "ours" / "ca.crt")


def test_a_federation_of_another_authority_is_not_trusted(authorities):
    with listening(authorities / "theirs") as number, pytest.raises(OSError, match="certificate is not trusted"):
        check_reached(f"127.0.0.1:{number}", authorities / "ours" / "ca.crt")


def test_a_certificate_of_the_authority_for_another_name_is_not_trusted(authorities):
    """This machine answers to 0.0.0.0 too; macOS has no 127.0.0.2."""
    with listening(authorities / "ours") as number, pytest.raises(OSError, match="is not trusted.*mismatch"):
        check_reached(f"0.0.0.0:{number}", authorities / "ours" / "ca.crt")


def test_who_listens_without_tls_is_no_superlink(authorities):
    with listening() as number, pytest.raises(OSError, match="speaks no TLS"):
        check_reached(f"127.0.0.1:{number}", authorities / "ours" / "ca.crt")


def test_a_port_without_a_listener_is_told(authorities):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="nobody listens there"):
            check_reached(f"127.0.0.1:{held.getsockname()[1]}", authorities / "ours" / "ca.crt")


def test_a_name_that_does_not_resolve_is_told(authorities):
    with pytest.raises(OSError, match="the name nowhere.invalid does not resolve"):
        check_reached("nowhere.invalid:8000", authorities / "ours" / "ca.crt")


def test_a_file_that_is_no_certificate_is_told(tmp_path):
    (tmp_path / "ca.crt").write_text("none")
    with pytest.raises(OSError, match="ca.crt is no certificate"):
        check_reached("localhost:8000", tmp_path / "ca.crt")


def test_a_port_in_use_is_told_in_one_line():
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen at port {number} of 127.0.0.1.*choose another"):
            check_free("127.0.0.1", number)
    check_free("127.0.0.1", number)


def test_a_run_without_hospitals_is_refused(tmp_path, monkeypatch):
    (tmp_path / "ca.crt").touch()
    monkeypatch.setattr("sys.argv", ["start.py", "--folder", str(tmp_path)])
    with pytest.raises(SystemExit, match="start: no hospitals are named: give --hospitals"):
        start()


def test_a_folder_without_keys_is_refused_and_not_made(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["start.py", "--folder", str(tmp_path / "typo"), "--connect-only"])
    with pytest.raises(SystemExit, match="start: .*typo is no SuperLink's folder, since it lacks ca.crt"):
        start()
    assert not (tmp_path / "typo").exists()


def type_start(monkeypatch, folder, *flags):
    """As if `start.py` were typed with these flags and the project's settings."""
    for name in (*ENVIRONMENT, "FLWR_HOME", "PATH"):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # what the script sets is forgotten after the test
    params = str(PROJECT / "params.yaml")
    monkeypatch.setattr("sys.argv", ["start.py", "--folder", str(folder), "--params", params, *flags])
    start()


def test_a_run_without_a_superlink_is_told_in_one_line_with_the_remedy(authorities, monkeypatch):
    """By Flower itself: a test of its words alone would not notice that they change."""
    folder = authorities / "ours"
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(SystemExit) as ended:
            type_start(monkeypatch, folder, "--hospitals", "a", "b", "--superlink", address)
    said = str(ended.value)
    assert said.startswith(f"start: no SuperLink answers at {address} (Flower: Connection to the SuperLink is unavail")
    assert f"start `python deploy/superlink.py --folder {folder}` first" in said
    assert "\n" not in said


def test_what_else_flower_says_against_a_run_is_one_line_too(tmp_path):
    said = refusal("Using SuperLink: superlink (a:1)\n\nNo such\nfederation.", "a:1", tmp_path)
    assert said == "the SuperLink at a:1 took no run: No such federation."


def answering(monkeypatch, *answers):
    """Flower's command line gives these answers, one a question; what has been asked."""
    asked, left = [], iter(answers)
    for name in ("SECONDS_PER_LOOK", "SECONDS_PER_QUESTION"):
        monkeypatch.setattr(f"deploy.start.{name}", 0.0)

    def flwr(*command):
        asked.append(command)
        return next(left)

    monkeypatch.setattr("deploy.start.flwr", flwr)
    return asked


TAKEN, COMPLETED = {"success": True, "run-id": "7"}, {"runs": [{"status": "finished:completed"}]}


def test_the_app_in_the_runs_folder_is_that_of_the_last_run_that_was_taken(monkeypatch, tmp_path):
    (tmp_path / "ca.crt").touch()
    answering(monkeypatch, TAKEN, COMPLETED, {"error-message": "no"})
    type_start(monkeypatch, tmp_path, "--hospitals", "a", "b")
    settings = tmp_path / "run" / "app" / "skinsynth_app" / "settings.yaml"
    taken = settings.read_text()
    with pytest.raises(SystemExit, match="took no run: no"):
        type_start(monkeypatch, tmp_path, "--hospitals", "a", "c")
    assert settings.read_text() == taken
    assert [place.name for place in (tmp_path / "run").iterdir()] == ["app"]


def test_a_run_of_other_settings_is_refused_before_flower_hears_of_it(folders, monkeypatch):
    (folders / "ca.crt").touch()
    serve(grid_of(deployment(rounds=1), folders), deployment(rounds=1), folders / "run")
    asked = answering(monkeypatch)
    with pytest.raises(SystemExit, match="other settings: name another run with --run"):
        type_start(monkeypatch, folders, "--hospitals", "a", "b")
    assert not asked
    assert not (folders / "run" / "app").exists()


def test_a_superlink_that_is_gone_ends_the_wait_in_one_line(monkeypatch, tmp_path):
    (tmp_path / "ca.crt").touch()
    asked = answering(monkeypatch, TAKEN, *[{"error-message": "Connection refused"}] * PATIENCE_QUESTIONS)
    with pytest.raises(SystemExit, match="^start: the SuperLink does not answer: start it, then this command again$"):
        type_start(monkeypatch, tmp_path, "--hospitals", "a", "b")
    assert len(asked) == 1 + PATIENCE_QUESTIONS


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_a_superlink_that_answers_again_is_waited_for(monkeypatch, tmp_path, status):
    silent, running = [{"error-message": "busy"}] * (PATIENCE_QUESTIONS - 1), {"runs": [{"status": "running"}]}
    over = {"runs": [{"status": f"finished:{status}"}]}
    answering(monkeypatch, *silent, running, *silent, over)
    assert wait("7", 3, News(tmp_path, [])) == f"finished:{status}"


def interrupt(*_):
    raise KeyboardInterrupt


def test_who_interrupts_the_wait_is_told_the_whole_command_that_ends_the_run(monkeypatch, tmp_path):
    (tmp_path / "ca.crt").touch()
    answering(monkeypatch, TAKEN)
    monkeypatch.setattr("deploy.start.wait", interrupt)
    command = f"`FLWR_HOME={tmp_path}/flower flwr stop 7 superlink` ends it"
    with pytest.raises(SystemExit, match=f"^start: the run goes on without this; {command}$"):
        type_start(monkeypatch, tmp_path, "--hospitals", "a", "b")


def test_who_interrupts_before_a_run_has_a_number_is_not_told_that_it_goes_on(monkeypatch, tmp_path):
    (tmp_path / "ca.crt").touch()
    monkeypatch.setattr("deploy.start.flwr", interrupt)
    command = f"`FLWR_HOME={tmp_path}/flower flwr list superlink`"
    with pytest.raises(SystemExit, match=f"^start: stopped before a run was known to be on its way; {command}"):
        type_start(monkeypatch, tmp_path, "--hospitals", "a", "b")


ORDERS = ("--who", "--connect-only", "--forget=a", "--hospitals=a")


@pytest.mark.parametrize("others", list(itertools.combinations(ORDERS, 2)))
def test_orders_that_exclude_one_another_are_refused(monkeypatch, tmp_path, capsys, others):
    (tmp_path / "ca.crt").touch()
    answering(monkeypatch)
    with pytest.raises(SystemExit):
        type_start(monkeypatch, tmp_path, *others)
    assert "not allowed with argument" in capsys.readouterr().err


def failed_log(error):
    """What Flower 1.41 was seen to keep of a run whose app raised this."""
    try:
        raise error
    except type(error):
        trace = traceback.format_exc()
    before = "\x1b[92mINFO \x1b[0m:      Start `flwr-serverapp` process\nround 3: a is left out: no reply in time\n"
    after = "\x1b[91mERROR \x1b[0m:     Exit Code: 201\n\nAn unhandled exception occurred in the ServerApp.\n"
    return f"{before}\x1b[91mERROR \x1b[0m:     ServerApp raised an exception\n{trace}{after}"


def with_log(monkeypatch, log, code=0):
    """Flower's command line has this log of any run."""
    script = f"import sys; sys.stdout.write({log!r}); sys.exit({code})"
    run = subprocess.run
    monkeypatch.setattr("deploy.start.subprocess.run", lambda _, **how: run([sys.executable, "-c", script], **how))


def test_the_error_that_ended_a_run_is_told_by_its_line_of_the_log(monkeypatch):
    with_log(monkeypatch, failed_log(ValueError("checkpoint is of other settings: name another run")))
    assert cause("7").splitlines()[0] == "ValueError: checkpoint is of other settings: name another run"


def test_of_errors_that_follow_from_one_another_the_last_is_told(monkeypatch):
    error = ValueError("no whole checkpoint")
    error.__cause__ = KeyError("format")
    with_log(monkeypatch, failed_log(error))
    assert cause("7").splitlines()[0] == "ValueError: no whole checkpoint"


@pytest.mark.parametrize("log", ["", "INFO: round 1\nTraceback (most recent call last):\nValueError: of a hospital\n"])
def test_without_an_error_of_the_app_in_the_log_no_cause_is_told(monkeypatch, log):
    with_log(monkeypatch, log, code=1)
    assert cause("7") == ""


def left_out(number):
    return {"round": number, "hospital": "a", "reason": "no reply in time"}


def test_a_run_that_goes_on_tells_its_new_incidents_alone_and_each_once(tmp_path):
    write_lines(tmp_path / "incidents.jsonl", [left_out(1), left_out(2)])
    news = News(tmp_path, ["a"])
    assert news.lines() == []
    write_lines(tmp_path / "incidents.jsonl", [left_out(1), left_out(2), left_out(3)])
    assert news.lines() == ["round 3: a is left out: no reply in time"]
    assert news.lines() == []


def test_who_is_missing_in_the_first_round_since_a_start_is_told_once(tmp_path):
    def replied(*rounds):
        rows = [{"round": number, "hospital": name} for number, names in rounds for name in names]
        write_lines(tmp_path / "hospitals.jsonl", rows)

    replied((1, "abc"))
    news = News(tmp_path, ["a", "b", "c"])
    assert news.lines() == []
    replied((1, "abc"), (2, "b"))
    assert news.lines() == ["round 2: without a, c: not connected, or left out"]
    replied((1, "abc"), (2, "b"), (3, "ab"))
    assert news.lines() == []


def test_nobody_is_called_missing_where_all_have_replied(folders):
    news = News(folders / "server", ["a", "b"])
    settings = deployment(rounds=1)
    serve(grid_of(settings, folders), settings, folders / "server")
    assert news.lines() == []


def test_a_hospital_that_never_connects_is_missing_in_the_tables_of_the_server(folders):
    settings = deployment(rounds=1)
    news, grid = News(folders / "server", settings.hospitals), grid_of(settings, folders)
    del grid.contexts[2]
    serve(grid, settings, folders / "server")
    assert news.lines() == ["round 1: without b: not connected, or left out"]


@pytest.mark.parametrize("missing", ["images.zip", "main.csv"])
def test_a_rehearsal_without_its_files_is_refused_before_its_folder_is_made(tmp_path, monkeypatch, missing):
    for name in {"images.zip", "main.csv", "params.yaml"} - {missing}:
        (tmp_path / name).touch()
    flags = ["--images", "images.zip", "--split", "main.csv", "--params", "params.yaml", "--folder", "rehearsal"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["rehearse.py", *flags])
    for _ in range(2):
        with pytest.raises(SystemExit, match=f"rehearse: there is no {missing}: run `dvc repro split_patients`"):
            rehearse()
    assert not (tmp_path / "rehearsal").exists()


def test_a_rehearsal_with_a_table_that_is_no_split_is_refused_in_one_line(folders, monkeypatch):
    (folders / "other.csv").write_text("image,side\n1,train\n")
    (folders / "params.yaml").touch()
    flags = ["--images", "a/images.zip", "--split", "other.csv", "--params", "params.yaml", "--folder", "rehearsal"]
    monkeypatch.chdir(folders)
    monkeypatch.setattr("sys.argv", ["rehearse.py", *flags])
    with pytest.raises(SystemExit, match="^rehearse: [^\n]*other.csv[^\n]*$"):
        rehearse()
    assert not (folders / "rehearsal").exists()


def test_a_command_that_fails_ends_a_rehearsal_in_one_line(monkeypatch, tmp_path):
    def fails(*_):
        code = "import sys; sys.exit('first\\nmake_keys: the second line')"
        Rehearsal._ended(None, ["make_keys.py"], [sys.executable, "-c", code])

    monkeypatch.setattr("deploy.rehearse.check_inputs", lambda _: None)
    monkeypatch.setattr("deploy.rehearse.Rehearsal", fails)
    monkeypatch.setattr("sys.argv", ["rehearse.py", "--folder", str(tmp_path)])
    with pytest.raises(SystemExit, match="^rehearse: make_keys.py ended with 1: first make_keys: the second line$"):
        rehearse()


# What a service does


def test_flowers_programs_are_found_without_an_activated_environment(tmp_path):
    code = (
        "import pathlib, shutil, sys; from deploy.environment import prepare_environment; "
        "prepare_environment(pathlib.Path(sys.argv[1])); "
        "sys.exit(not all(map(shutil.which, ('flower-superexec', 'flwr-clientapp', 'flwr-serverapp'))))"
    )
    bare = {"PATH": os.defpath, "PYTHONPATH": str(PROJECT)}
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=bare, check=False).returncode == 0


def test_flower_calls_nobody_installs_nothing_and_believes_no_proxy(tmp_path):
    code = (
        "import json, os, pathlib, sys; from deploy.environment import prepare_environment; "
        "prepare_environment(pathlib.Path(sys.argv[1])); print(json.dumps(dict(os.environ)))"
    )
    trusting = {
        "PATH": os.defpath,
        "PYTHONPATH": str(PROJECT),
        "FORWARDED_ALLOW_IPS": "*",
        "FLWR_TELEMETRY_ENABLED": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=trusting, check=True, capture_output=True, text=True
    )
    found = json.loads(done.stdout)
    said = {
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_HOME": str(tmp_path / "flower"),
    }
    assert said.items() <= found.items()
    assert "FORWARDED_ALLOW_IPS" not in found


def test_a_supernode_s_own_processes_are_reached_from_this_machine_alone(tmp_path, monkeypatch):
    write_archive(tmp_path / "images.zip", *images(4, 0))
    make_node_key(tmp_path)
    (tmp_path / "ca.crt").touch()
    commands = []

    def kept_running(command, once):
        commands.append((command, once))
        return 0

    monkeypatch.setattr("deploy.hospital.keep_running", kept_running)
    monkeypatch.setattr("deploy.hospital.prepare_environment", lambda _: None)
    flags = ["--name", "a", "--folder", str(tmp_path), "--superlink", "gan.example.org:8000", "--once"]
    monkeypatch.setattr("sys.argv", ["hospital.py", *flags])
    with pytest.raises(SystemExit, match="0"):
        run_hospital()
    ((command, once),) = commands
    said = dict(zip(command[2::2], command[3::2], strict=True))
    assert once
    assert said["--host"] == "127.0.0.1"
    assert said["--node-config"] == f'hospital="a" folder="{tmp_path}"'
    assert said["--root-certificates"] == str(tmp_path / "ca.crt")
    assert "--insecure" not in command


def test_a_node_that_fails_and_is_to_run_once_is_not_started_again(monkeypatch, tmp_path):
    monkeypatch.setattr("deploy.hospital.SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr("deploy.hospital.signal.signal", lambda *_: None)
    fails_once = (
        "import pathlib, sys; began = pathlib.Path(sys.argv[1]); sys.exit(0 if began.exists() else began.touch() or 3)"
    )
    command = [sys.executable, "-c", fails_once, str(tmp_path / "began")]
    assert keep_running(command, once=True) == 1
    assert keep_running(command, once=True) == 0


@pytest.mark.parametrize(("status", "code"), [("SERVING", 0), ("NOT_SERVING", 1)])
def test_the_health_of_a_service_is_an_exit_code(monkeypatch, capsys, status, code):
    servicer = HealthServicer()
    servicer.set("", HealthCheckResponse.ServingStatus.Value(status))
    server = grpc.server(ThreadPoolExecutor(1))
    add_HealthServicer_to_server(servicer, server)
    number = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setattr("sys.argv", ["check_health.py", f"127.0.0.1:{number}"])
    try:
        with pytest.raises(SystemExit) as ended:
            check_health()
    finally:
        server.stop(None).wait()
    assert int(ended.value.code) == code
    assert capsys.readouterr().out == f"{status}\n"


# The node's handlers write past Python's buffer, since a signal may come while "begun" is still being flushed.
NODE = r"""
import sys
from deploy.hospital import keep_running
node = '''
import os, signal, sys, time
def leave(*_):
    signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"hurried\\n"))
    os.write(1, b"asked\\n")
    time.sleep(1)
    sys.exit(3)
signal.signal(signal.SIGTERM, leave)
print("begun", flush=True)
time.sleep(60)
'''
keep_running([sys.executable, "-c", node], once=False)
print("ended")
"""


@pytest.mark.parametrize(
    ("ask", "number"),
    [(os.kill, signal.SIGTERM), (os.kill, signal.SIGINT), (os.killpg, signal.SIGINT)],
    ids=["by a service", "by SIGINT to it alone", "by Ctrl-C, which reaches both"],
)
def test_a_hospital_that_is_asked_to_end_asks_its_node_once_and_does_not_start_it_again(ask, number):
    with subprocess.Popen(
        [sys.executable, "-c", NODE], stdout=subprocess.PIPE, text=True, cwd=PROJECT, start_new_session=True
    ) as node:
        assert node.stdout.readline() == "begun\n"
        ask(node.pid, number)
        assert node.communicate(timeout=30)[0] == "asked\nended\n"


def test_a_node_that_fails_is_started_again(monkeypatch):
    monkeypatch.setattr("deploy.hospital.SECONDS_BETWEEN", 0.0)
    codes = iter([1, 1, 0])
    started = []

    def node(command):
        started.append(command)
        return subprocess.Popen([sys.executable, "-c", f"raise SystemExit({next(codes)})"])

    monkeypatch.setattr("deploy.hospital.subprocess", SimpleNamespace(Popen=node))
    monkeypatch.setattr("deploy.hospital.signal.signal", lambda *_: None)
    assert keep_running(["node"], once=False) == 0
    assert len(started) == 3


def test_a_node_that_gives_up_ends_though_a_thread_of_its_own_goes_on():
    code = (
        "import threading, time; import deploy.supernode as node; "
        "node.flower_supernode = lambda: threading.Thread(target=time.sleep, args=(60,)).start(); node.main()"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT, timeout=30, check=False).returncode == 1


def test_a_key_that_this_user_may_not_read_is_told_before_a_start(tmp_path, monkeypatch):
    monkeypatch.setattr("deploy.hospital.os.access", lambda file, _: file.name != "node.key")
    with pytest.raises(PermissionError, match=r"may not read node\.key in .*: chown"):
        check_folder(tmp_path)


# What is handed out


def test_the_app_says_the_settings_of_params_yaml(tmp_path):
    settings = deployment_of(PROJECT / "params.yaml", ["small", "large"])
    write_app(tmp_path, settings)
    assert load_params("federation", Deployment, tmp_path / "skinsynth_app" / "settings.yaml") == settings
    assert settings.trainer.generator.class_count == 2


def test_weights_to_start_from_are_not_handed_out_with_the_settings(tmp_path):
    params = yaml.safe_load((PROJECT / "params.yaml").read_text())
    params["scales"][params["scale"]]["train_federated"]["start_from"] = "teacher"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(ValueError, match=r"start_from is not taken here: lay its weights as start\.safetensors"):
        deployment_of(tmp_path / "params.yaml", ["small", "large"])


def test_the_documentation_names_scripts_and_flags_that_there_are():
    for page in ("README.md", "HOSPITAL.md", "skinsynth-supernode.service", "skinsynth-superlink.service"):
        text = (PROJECT / "deploy" / page).read_text().replace("\\\n", " ")
        for line in re.findall(r"python deploy/[^\n`]*", text):
            script, *flags = re.findall(r"deploy/\w+\.py|--[a-z-]+", line.split("#")[0])
            source = (PROJECT / script).read_text()
            assert not [flag for flag in flags if f'"{flag}"' not in source], line


@pytest.mark.slow
def test_a_federation_on_loopback_ends_as_one_process_and_refuses_strangers(tmp_path):
    ids, pixels, labels = images(60, 3)
    write_archive(tmp_path / "images.zip", ids, pixels, labels)
    hospital = ["small", "middle", "middle", "large", "large", "large"] * 10
    write_split(tmp_path / "split.csv", ids, labels, "train", hospital)
    params = yaml.safe_load((PROJECT / "params.yaml").read_text())
    scale = params["scales"][params["scale"]]
    scale["prepare_images"]["size"] = SIZE
    trainer = scale["train_federated"]["trainer"]
    trainer["generator"]["resolution"] = trainer["discriminator"]["resolution"] = SIZE
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    flags = ["--images", "images.zip", "--split", "split.csv", "--params", "params.yaml", "--folder", "rehearsal"]
    command = [sys.executable, PROJECT / "deploy" / "rehearse.py", *flags]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["superlink"] == "SERVING"
    assert found["difference"] == 0
    assert found["incidents"] == 0
    for case, said in (("unregistered", "activate SuperNode"), ("wrong_certificate", "certificate verify failed")):
        assert found[case]["exit_code"] != 0
        assert said in found[case]["said"]
