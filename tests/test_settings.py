"""Numbers that make no sense are refused at the border, in one line that names their key."""

import copy
import importlib
import math
from contextlib import nullcontext
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Annotated, Any, get_args

import pytest
import yaml
from sklearn.utils import check_random_state

from skinsynth.settings import (
    Above,
    AtLeast,
    Below,
    Between,
    Count,
    Distinct,
    Finite,
    NotEmpty,
    NotNegative,
    Positive,
    Rule,
    Seed,
    Share,
    ShareBelowOne,
    Whole,
    check_ranges,
)
from skinsynth.stage import load_params

ROOT = Path(__file__).parent.parent
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
SCRIPTS = sorted(path.stem for path in (ROOT / "stages").glob("[!_]*.py"))


@dataclass(frozen=True)
class Inner:
    rate: Positive
    betas: tuple[ShareBelowOne, ShareBelowOne]


@dataclass(frozen=True)
class Settings:
    steps: Count
    ramp: NotNegative | None
    inner: Inner
    beside: Inner | None
    seeds: Annotated[tuple[Whole, ...], NotEmpty()]
    images: dict[str, dict[str, Whole]]
    runs: dict[str, Inner]
    ranges: tuple[tuple[Whole, Whole] | None, ...]
    shares: list[Share]
    name: str
    free: float


INNER = Inner(0.1, (0.0, 0.99))
GOOD = {
    "steps": 1,
    "ramp": 0.0,
    "inner": INNER,
    "beside": INNER,
    "seeds": (0,),
    "images": {"gan": {"benign": 0}},
    "runs": {"first": INNER},
    "ranges": (None, (0, 3)),
    "shares": [0.0, 1.0],
    "name": "",
    "free": -math.inf,
}


def refusal(**changes: Any) -> str:
    with pytest.raises(ValueError, match="^settings") as error:
        check_ranges(Settings(**(GOOD | changes)), "settings")
    return str(error.value)


@pytest.mark.parametrize(
    ("rule", "allowed", "refused"),
    [
        (AtLeast(1), (1, 2, 1.5, 10**400), (0, -16, 0.999)),
        (Above(0), (1, 1e-300), (0, 0.0, -1)),
        (Below(1), (0, -5, 0.999), (1, 1.0, 2)),
        (Between(0, 256), (0, 256, 40, 0.5), (-4, 257, -0.001)),
        (Finite(), (0, -1e300, 10**400), ()),
    ],
)
def test_a_rule_allows_what_is_within_its_bounds_and_nothing_else(rule, allowed, refused):
    assert all(rule.holds(value) for value in allowed)
    assert not any(rule.holds(value) for value in (*refused, math.nan, math.inf, -math.inf))


@pytest.mark.parametrize(("seed", "allowed"), [(0, True), (2**32 - 1, True), (2**32, False), (-1, False)])
def test_seeds_are_those_that_scikit_learn_takes(seed, allowed):
    rules = [rule for rule in get_args(Seed)[1:] if isinstance(rule, Rule)]
    assert all(rule.holds(seed) for rule in rules) == allowed
    with nullcontext() if allowed else pytest.raises(ValueError, match="between 0 and"):
        check_random_state(seed)


def test_a_sequence_that_may_not_be_empty_has_an_entry():
    assert NotEmpty().holds((0,))
    assert not NotEmpty().holds(())


def test_a_distinct_sequence_has_each_entry_once():
    assert all(Distinct().holds(value) for value in ((), (1,), (1, 2), [2, 1]))
    assert not Distinct().holds((1, 2, 1))


@pytest.mark.parametrize("changes", [{}, {"ramp": None, "beside": None}, {"images": {}, "runs": {}, "shares": []}])
def test_settings_within_their_ranges_pass(changes):
    check_ranges(Settings(**(GOOD | changes)), "settings")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "settings.steps is 0, but it must be 1 or more: change it"),
        ({"ramp": -0.5}, "settings.ramp is -0.5, but it must be 0 or more: change it"),
        ({"ramp": math.nan}, "settings.ramp is nan, but it must be 0 or more: change it"),
        ({"ramp": math.inf}, "settings.ramp is inf, but it must be 0 or more: change it"),
        ({"inner": Inner(0.0, (0, 0))}, "settings.inner.rate is 0.0, but it must be above 0: change it"),
        ({"beside": Inner(1.0, (0.0, 1.0))}, "settings.beside.betas[1] is 1.0, but it must be below 1: change it"),
        ({"beside": Inner(1.0, (-1.0, 0.0))}, "settings.beside.betas[0] is -1.0, but it must be 0 or more: change it"),
        ({"seeds": ()}, "settings.seeds is [], but it must have one entry or more: change it"),
        ({"seeds": (1, -1)}, "settings.seeds[1] is -1, but it must be 0 or more: change it"),
        ({"images": {"gan": {"benign": -5}}}, "settings.images.gan.benign is -5, but it must be 0 or more: change it"),
        ({"runs": {"one": Inner(-1.0, (0, 0))}}, "settings.runs.one.rate is -1.0, but it must be above 0: change it"),
        ({"ranges": ((0, 1), (2, -3))}, "settings.ranges[1][1] is -3, but it must be 0 or more: change it"),
        ({"shares": [1.5]}, "settings.shares[0] is 1.5, but it must be 0 to 1: change it"),
    ],
)
def test_a_value_out_of_its_range_is_named_by_its_whole_place(changes, message):
    assert refusal(**changes) == message


def load_with(name: str, tmp_path: Path, scale: str, key: str = "", value: Any = None) -> None:
    """Load a stage's settings of a scale, one of them changed."""
    settings = copy.deepcopy(PARAMS["scales"][scale][name])
    if key:
        *parents, last = key.split(".")
        section = reduce(getitem, parents, settings)
        assert last in section
        section[last] = value
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump({"scale": scale, "scales": {scale: {name: settings}}}))
    load_params(name, importlib.import_module(f"stages.{name}").SETTINGS, path)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("prepare_images", "size", 0),
        ("prepare_images", "duplicates.max_distance", -4),
        ("prepare_images", "duplicates.max_distance", 257),
        ("prepare_images", "sources.phantom.hair.benign", 1.5),
        ("prepare_images", "sources.phantom.lesions_per_patient", math.nan),
        ("split_patients", "validation_share", 1),
        ("split_patients", "hospitals.small", 0),
        ("split_patients", "classes", []),
        ("train_classifier", "classifier.epochs", 0),
        ("train_classifier", "classifier.seeds", []),
        ("train_classifier", "classifier.seeds", [1, 1]),
        ("train_classifier", "classifier.seeds", [2**70]),
        ("measure_dose_response", "doses.seeds_below_all_patients", [2, 2]),
        ("train_classifier", "classifier.learning_rate", -1),
        ("train_classifier", "classifier.learning_rate", math.nan),
        ("train_classifier", "classifier.dropout", 1),
        ("train_classifier", "scenarios.aug-gan.synthetic.malignant", -5),
        ("train_classifier", "bootstrap_draws", 0),
        ("train_gan", "schedule.images", -5),
        ("train_gan", "schedule.images_per_tick", 0),
        ("train_gan", "schedule.ticks_per_score", 0),
        ("train_gan", "runs.ben.classes", []),
        ("train_gan", "runs.cgan.classes", ["malignant", "malignant"]),
        ("train_gan", "classes", ["benign", "malignant", "benign"]),
        ("train_federated", "cohorts.federated", ["small", "large", "small"]),
        ("train_gan", "extractor.batch_size", 0),
        ("train_gan", "trainer.batch_size", -16),
        ("train_gan", "trainer.batch_size", 0),
        ("train_gan", "trainer.learning_rate", -1),
        ("train_gan", "trainer.r1_interval", 0),
        ("train_gan", "trainer.r1_gamma", math.inf),
        ("train_gan", "trainer.seed", -1),
        ("train_gan", "trainer.augment.interval", 0),
        ("train_gan", "trainer.generator.channel_max", 0),
        ("train_gan", "trainer.generator.mapping_layers", -1),
        ("train_gan", "trainer.discriminator.mbstd_group", 0),
        ("train_federated", "federation.rounds_per_score", 0),
        ("train_federated", "federation.reply_timeout_seconds", 0),
        ("train_federated", "trainer.batch_size", 0),
        ("score_gan", "fidelity.interval_draws", 0),
        ("score_gan", "fidelity.neighbours", 0),
        ("score_gan", "path.epsilon", 0),
        ("generate_images", "images.gan.benign", -5),
        ("generate_images", "batch_size", 0),
        ("measure_dose_response", "doses.patient_shares", [0.5, 2]),
        ("explain_classifier", "cases.edge_share", 1.1),
        ("find_directions", "steps", []),
        ("remove_frames", "removal.steps", [1, math.inf]),
        ("project_images", "projection.noise", -0.1),
        ("augment_edges", "projection.steps", 0),
        ("embed_images", "embedding.pca_components", 0),
        ("score_authenticity", "attacks.draws", 0),
    ],
)
def test_a_nonsensical_number_of_a_stage_is_refused_by_its_key_in_one_line(name, key, value, tmp_path):
    with pytest.raises(ValueError, match=" is .*: change it$") as error:
        load_with(name, tmp_path, "phantom", key, value)
    message = str(error.value)
    assert message.startswith(f"{tmp_path / 'params.yaml'}: scales.phantom.{name}.{key}")
    assert "\n" not in message


def test_a_value_beside_null_is_checked_in_every_scale_that_has_one(tmp_path):
    load_with("train_gan", tmp_path, "isic128", "trainer.ema_rampup", None)
    with pytest.raises(ValueError, match=r"scales\.isic128\.train_gan\.trainer\.generator\.activation_clamp is -1\.0"):
        load_with("train_gan", tmp_path, "isic128", "trainer.generator.activation_clamp", -1)
