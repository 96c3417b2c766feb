"""The study on a pretended GPU: nothing of it would meet a tensor of another device, and the GPU does its products."""

import dataclasses
import json

import pytest
import torch

from benchmarks import project, train_classifier, train_gan
from tests.pretended_gpu import pretended_gpu
from tests.test_stages import call
from tests.tiny import ROOT, tiny_params, write_params

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a real GPU")


def test_a_pretended_gpu_computes_what_the_cpu_does():
    values = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    weights = torch.randn(3, 2, generator=torch.Generator().manual_seed(2), requires_grad=True)
    (values @ weights).relu().square().sum().backward()
    with pretended_gpu() as products:
        there = weights.detach().to("cuda").requires_grad_()
        found = (values.cuda() @ there).relu().square().sum()
        found.backward()
        assert (found.device.type, there.grad.device.type) == ("cuda", "cuda")
        assert there.grad.cpu().equal(weights.grad)
        assert there.grad.tolist() == weights.grad.tolist()
    assert products["cuda"] == 2 * 2 * 4 * 3 * 2
    assert products["cpu"] == 0


def test_a_pretended_gpu_draws_the_numbers_of_the_cpus_generator():
    expected = torch.randn(3, generator=torch.Generator().manual_seed(1))
    with pretended_gpu():
        rng = torch.Generator("cuda").manual_seed(1)
        assert torch.randn(3, generator=rng, device=rng.device).cpu().equal(expected)


def test_places_may_lie_on_the_cpu_and_numbers_anywhere():
    with pretended_gpu():
        there = torch.arange(6, device="cuda").view(2, 3)
        assert (there[torch.tensor([1])] + torch.tensor(1)).tolist() == [[4, 5, 6]]
        there[torch.tensor([True, False])] = 7
        assert there.cpu().tolist() == [[7, 7, 7], [3, 4, 5]]


@pytest.mark.parametrize(
    "mixed",
    [
        lambda here, there: here + there,
        lambda here, there: torch.cat([there, here]),
        lambda here, there: there.addmm_(here, there),
        lambda here, there: here[there.argmax(dim=0)],
        lambda here, there: there.index_put((torch.tensor([0]),), here[0]),
        lambda _, there: there + there.new_tensor([1.0]).cpu(),
        lambda _, there: there.numpy(),
        lambda *_: torch.randn(2, generator=torch.Generator("cuda")),
        lambda _, there: torch.randn(2, generator=torch.Generator(), device=there.device),
        lambda _, there: there.normal_(generator=torch.Generator()),
    ],
)
def test_what_a_gpu_refuses_is_refused(mixed):
    with pretended_gpu(), pytest.raises((RuntimeError, TypeError)):
        mixed(torch.ones(2, 2), torch.ones(2, 2, device="cuda"))


STAGES = (
    ("prepare_images", None),
    ("split_patients", None),
    ("train_classifier", "real"),
    *(("train_gan", name) for name in ("ben", "mal", "cgan")),
    *(("train_federated", name) for name in ("federated", "small-alone", "middle-alone", "large-alone")),
    ("score_gan", "cgan"),
    ("score_federated", None),
    ("select_gan", None),
    *(("generate_images", name) for name in ("gan", "cgan", "selected", "doses")),
    ("score_images", "selected"),
    ("train_detectors", None),
    ("audit_artefacts", None),
    ("find_directions", None),
    ("remove_frames", None),
    ("project_images", None),
    ("augment_edges", None),
    *(("train_classifier", name) for name in ("synth-selected", "aug-selected")),
    ("measure_dose_response", None),
    ("explain_classifier", None),
    ("embed_images", None),
    ("score_authenticity", None),
)


def test_every_stage_that_may_use_a_gpu_is_among_them():
    asking = {path.stem for path in (ROOT / "stages").glob("*.py") if "best_device" in path.read_text()}
    assert asking <= {stage for stage, _ in STAGES}


@pytest.mark.slow
def test_the_study_runs_on_a_gpu_which_does_its_products(tmp_path, monkeypatch):
    params = tiny_params()
    scale = params["scales"]["phantom"]
    scale["train_gan"]["schedule"]["images"] = 32
    scale["train_federated"]["federation"] |= {"rounds": 1, "steps_per_round": 2}
    scale["select_gan"]["candidates"] = {"gan": ["ben", "mal"], "cgan": ["cgan"]}
    write_params(tmp_path, params)
    for place in ("data/raw", "data/initial"):
        (tmp_path / place).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("skinsynth.privacy.novelty.DRAWS", 5)
    for stage, item in STAGES:
        with pretended_gpu() as products:
            call(stage, item, monkeypatch)
        # Whitening for density ratios is left to the CPU, since scikit-learn goes on from there.
        assert products["cpu"] <= 0.01 * products["cuda"], (stage, item, dict(products))


@pytest.mark.slow
@pytest.mark.parametrize("half_type", ["float16", "bfloat16"])
def test_the_benchmark_of_training_runs_on_a_gpu(half_type):
    config, sizes = train_gan.paper256(half_type, fused=False), {"resolution": 16, "channel_base": 64, "channel_max": 4}
    networks = {name: dataclasses.replace(getattr(config, name), **sizes) for name in ("generator", "discriminator")}
    with pretended_gpu() as products:
        found = train_gan.measure_gpu(dataclasses.replace(config, **networks, batch_size=8, r1_interval=4))
    assert found["half_type"] == half_type
    assert set(found["phases"]) == {"generator", "path length", "discriminator", "R1", "average"}
    assert products["cpu"] < 0.01 * products["cuda"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("benchmark", "flags"),
    [
        (project, "--steps 1 --warm-up 1 --batch 1 2 --resolution 16 --bfloat16 --noise-maps"),
        (train_classifier, "--images 32 --batch 16"),
    ],
)
def test_other_benchmarks_run_on_a_gpu(benchmark, flags, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmark", *flags.split()])
    with pretended_gpu() as products:
        benchmark.main()
    assert json.loads(capsys.readouterr().out)["device"] == "pretended"
    assert products["cpu"] < 0.01 * products["cuda"]
