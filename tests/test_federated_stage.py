"""The federated stage: who gets which images, and what its settings say."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from skinsynth.federated.cohort import hospitals_of, seeds_of, weights_at_start
from skinsynth.federated.hospital import weights_of
from skinsynth.federated.privacy import spent
from skinsynth.federated.server import FederationConfig, FederationState
from skinsynth.federated.strategies import StrategyConfig, least_hospitals
from skinsynth.gan.model import load_gan, save_gan
from skinsynth.gan.presets import shared_config
from skinsynth.images.archive import Images
from skinsynth.stage import load_params
from stages.train_federated import Settings, federation_of, headlines
from tests.test_federated_hospital import ALL, TINY, assert_same, tiny_trainer
from tests.test_federated_privacy import PRIVACY
from tests.test_federated_rounds import federation
from tests.tiny import ROOT

ROWS = pd.DataFrame({"hospital": ["large", "small", "large", "middle", "large", "small"]})
REAL = Images(
    [str(number) for number in range(6)],
    np.arange(6, dtype=np.uint8)[:, None, None, None].repeat(3, 1).repeat(8, 2).repeat(8, 3),
    np.arange(6, dtype=np.int64) % 2,
)


def of_cohort(*names, initial=()):
    return hospitals_of(names, ROWS, REAL, TINY, torch.device("cpu"), list(initial))


@pytest.fixture
def teacher(tmp_path):
    """A folder with a GAN of the same sizes after a few steps."""
    trainer = tiny_trainer(config=dataclasses.replace(TINY, seed=9))
    for _ in range(3):
        trainer.step()
    save_gan(tmp_path / "teacher", trainer.generator_ema, trainer.discriminator, [0, 1])
    return tmp_path / "teacher"


def numbers(hospital):
    return hospital.trainer.data.images[:, 0, 0, 0].tolist()


def test_each_hospital_has_its_own_images_and_random_numbers():
    small, middle, large = of_cohort("small", "middle", "large")
    assert (numbers(small), numbers(middle), numbers(large)) == ([1, 5], [3], [0, 2, 4])
    assert len({hospital.trainer.config.seed for hospital in (small, middle, large)}) == 3


def test_seeds_follow_the_names_and_not_the_order_of_the_rows():
    assert seeds_of(["small", "large", "small", "middle"], 5) == {"large": 5, "middle": 6, "small": 7}


@pytest.mark.parametrize("name", ["small", "middle", "large"])
def test_a_hospital_trains_alone_with_the_random_numbers_it_has_in_a_federation(name):
    (alone,) = of_cohort(name)
    in_federation = {hospital.name: hospital for hospital in of_cohort("small", "middle", "large")}[name]
    assert_same(alone.state()[0], in_federation.state()[0])
    assert alone.trainer.step() == in_federation.trainer.step()


@pytest.mark.parametrize("averaged", [ALL, ("generator",)])
def test_every_cohort_begins_with_the_same_weights(averaged):
    begun = weights_at_start(TINY, REAL, averaged, [])
    assert_same(begun, weights_of(tiny_trainer(), averaged))


def test_a_federation_and_what_stays_at_its_hospitals_begin_with_the_initial_weights(teacher, capsys):
    given = load_gan(teacher, "cpu")
    begun = weights_at_start(TINY, REAL, ("generator",), [teacher])
    assert_same(begun, {f"generator/{name}": weight for name, weight in given.generator.state_dict().items()})
    assert "but from noise: nothing" in capsys.readouterr().err
    for hospital in of_cohort("small", "large", initial=[teacher]):
        assert_same(dict(hospital.trainer.discriminator.state_dict()), dict(given.discriminator.state_dict()))
        assert_same(dict(hospital.trainer.generator_ema.state_dict()), dict(given.generator.state_dict()))
        # A round that fails is begun again from here.
        assert_same(hospital.state_at_start[0], hospital.state()[0])


def test_a_hospital_with_one_class_and_one_image_trains():
    (middle,) = of_cohort("middle")
    middle.trainer.step()
    assert middle.trainer.data.classes.tolist() == [[0, 1]]


def test_a_hospital_without_images_is_named():
    with pytest.raises(ValueError, match="no training image of tiny"):
        of_cohort("small", "tiny")


def test_one_hospital_needs_no_strategy_and_no_privacy():
    config = federation(strategy=StrategyConfig("Krum", {"num_malicious_nodes": 1}), least_hospitals=5, privacy=PRIVACY)
    assert federation_of(config, 7) == config
    alone = federation_of(config, 1)
    assert (alone.strategy.name, alone.least_hospitals, alone.privacy) == ("FedAvg", 1, None)


def test_what_privacy_has_spent_stands_next_to_fid():
    state = FederationState({}, scores=[{"round": 2, "fid_classifier": 3.0}], releases=2)
    told = headlines(state, PRIVACY, 3)
    assert told["fid_classifier"] == 3
    assert told["epsilon"] == spent(PRIVACY, 2)["epsilon"]
    assert "epsilon" not in headlines(state, None, 3)


@pytest.mark.parametrize(
    ("name", "options"), [("Krum", {"num_malicious_nodes": 1}), ("FedProx", {"proximal_mu": 0.5}), ("FedAvg", {})]
)
def test_settings_are_read_with_whole_numbers_kept_whole(tmp_path, name, options):
    config = federation(strategy=StrategyConfig(name, options))
    values = dataclasses.asdict(config) | {"averaged": list(config.averaged)}
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump({"scale": "one", "scales": {"one": {"federation": values}}}))
    read = load_params("federation", FederationConfig, file)
    assert read == config
    least_hospitals(read.strategy)


@pytest.fixture
def params(tmp_path):
    """Settings of the stage as they are, to change; and what loads them."""
    file = tmp_path / "params.yaml"
    whole = yaml.safe_load((ROOT / "params.yaml").read_text())
    section = whole["scales"][whole["scale"]]["train_federated"]

    def load(**changes):
        section.update(changes)
        file.write_text(yaml.safe_dump(whole))
        return load_params("train_federated", Settings, file)

    return load


def test_a_preset_stands_in_the_place_of_the_trainer_s_numbers(params):
    preset = {"name": "stylegan2", "x_flip": False, "seed": 7}
    config = shared_config(params(preset=preset, trainer=None), (100, 3, 64, 64))
    assert (config.r1_gamma, config.generator.resolution, config.x_flip, config.seed) == (10, 64, False, 7)
    assert (config.frozen_levels, config.ema_rampup, config.augment.images_to_full) == (0, None, 500_000)


def test_a_preset_freezes_accumulates_and_starts_from_other_weights(params):
    preset = {"name": "auto", "x_flip": False, "seed": 7, "frozen_levels": 2, "images_per_pass": 8, "transfer": True}
    config = shared_config(params(preset=preset, trainer=None), (100, 3, 64, 64))
    assert (config.frozen_levels, config.images_per_pass) == (2, 8)
    assert (config.ema_rampup, config.augment.images_to_full) == (None, 100_000)


@pytest.mark.parametrize("own", [["benign"], ["malignant", "benign"]])
def test_a_federation_s_gan_is_of_all_classes_in_the_order_of_their_labels(params, own):
    gan = {"classes": own, "conditional": True, "augment": "bgc", "adaptive": True}
    with pytest.raises(ValueError, match=r"train_federated\.gan has \[[^\n]*give all stages the same ones in the same"):
        params(gan=gan)


def test_neither_both_nor_none_of_preset_and_trainer_are_given(params):
    preset = {"name": "auto", "x_flip": True, "seed": 1}
    for changes, came in (({"preset": preset}, "given"), ({"preset": None, "trainer": None}, "null")):
        with pytest.raises(ValueError, match=rf"exactly one of preset and trainer.*\(both are {came}\)"):
            shared_config(params(**changes), (100, 3, 64, 64))
