"""The federated stage: who gets which images, and what its settings say."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from skinsynth.federated.server import FederationConfig
from skinsynth.federated.strategies import StrategyConfig, least_hospitals
from skinsynth.images.archive import Images
from skinsynth.stage import load_params
from stages.train_federated import Cohort, federation_of, hospitals_of
from tests.test_federated_hospital import TINY
from tests.test_federated_rounds import federation

ROWS = pd.DataFrame({"hospital": ["large", "small", "large", "middle", "large", "small"]})
REAL = Images(
    [str(number) for number in range(6)],
    np.arange(6, dtype=np.uint8)[:, None, None, None].repeat(3, 1).repeat(8, 2).repeat(8, 3),
    np.arange(6, dtype=np.int64) % 2,
)


def numbers(hospital):
    return hospital.trainer.data.images[:, 0, 0, 0].tolist()


def test_each_hospital_has_its_own_images_and_random_numbers():
    cohort = Cohort(("small", "middle", "large"), pooled=False)
    small, middle, large = hospitals_of(cohort, ROWS, REAL, TINY, torch.device("cpu"))
    assert (numbers(small), numbers(middle), numbers(large)) == ([1, 5], [3], [0, 2, 4])
    assert [hospital.trainer.config.seed for hospital in (small, middle, large)] == [0, 1, 2]


def test_a_pooled_cohort_is_one_hospital_with_all_images_and_one_alone_has_its_own():
    (all_,) = hospitals_of(Cohort(("small", "large"), pooled=True), ROWS, REAL, TINY, torch.device("cpu"))
    assert numbers(all_) == [0, 1, 2, 4, 5]
    (small,) = hospitals_of(Cohort(("small",), pooled=False), ROWS, REAL, TINY, torch.device("cpu"))
    assert numbers(small) == [1, 5]


def test_a_hospital_without_images_is_named():
    with pytest.raises(ValueError, match="no training image of tiny"):
        hospitals_of(Cohort(("small", "tiny"), pooled=False), ROWS, REAL, TINY, torch.device("cpu"))


def test_one_hospital_needs_no_strategy():
    config = federation(strategy=StrategyConfig("Krum", {"num_malicious_nodes": 1}), least_hospitals=5)
    assert federation_of(config, 7) == config
    assert (federation_of(config, 1).strategy.name, federation_of(config, 1).least_hospitals) == ("FedAvg", 1)


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
