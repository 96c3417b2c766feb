"""Seven hospitals of which one is hostile: who has which patients, and whose weights are scaled."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from flwr.app import RecordDict

from benchmarks.federated_attack import ATTACKS, HOSPITALS, deal_out, diversity, hostile
from skinsynth.federated.messages import ARRAYS, arrays_of, failure, weights_in
from skinsynth.partition.split import SplitConfig, images_of, split_patients
from tests.test_federated_hospital import assert_same

CONFIG = SplitConfig(
    protocol="patient",
    classes=("benign", "malignant"),
    validation_share=0.15,
    test_share=0.15,
    hospitals={"small": 1.0, "large": 9.0},
    class_skew=1.0,
    seed=1,
)
WEIGHTS = {"generator/w": torch.tensor([[1.0, -2.0]]), "ema/w": torch.tensor([0.5])}


@pytest.fixture(scope="module")
def lesions():
    rng = np.random.default_rng(0)
    patients = np.repeat([f"p{number}" for number in range(300)], rng.geometric(0.3, size=300))
    columns = {"image_id": [f"i{number:05d}" for number in range(len(patients))], "patient_id": patients}
    blank = dict.fromkeys(("lesion_id", "duplicate_group", "given_split"), "")
    return pd.DataFrame({**columns, **blank, "label": (rng.random(len(patients)) < 0.3).astype(int)})


def test_seven_equal_hospitals_have_the_studys_own_training_patients_whole(lesions):
    dealt, own = deal_out(lesions, CONFIG), split_patients(lesions, CONFIG)
    assert dealt.drop(columns="hospital").equals(own.drop(columns="hospital"))
    train = images_of(dealt, "train")
    assert train.groupby("group")["hospital"].nunique().max() == 1
    counts = train["hospital"].value_counts()
    assert sorted(counts.index) == sorted(HOSPITALS)
    assert counts.max() < 1.1 * counts.min()


def replied(own, hospital, attack="scaled"):
    """What becomes of a hospital's reply of `own` records to WEIGHTS where g is hostile."""
    asked = SimpleNamespace(content=RecordDict({ARRAYS: arrays_of(WEIGHTS)}))
    context = SimpleNamespace(node_config={"hospital": hospital})
    return hostile("g", ATTACKS[attack])(asked, context, lambda *_: SimpleNamespace(content=own)).content


@pytest.mark.parametrize(
    ("hospital", "attack", "factor"),
    [("a", "scaled", 3), ("g", "scaled", 300), ("a", "reversed", 3), ("g", "reversed", -1)],
)
def test_the_hostile_hospitals_weights_are_changed_and_no_others(hospital, attack, factor):
    own = {name: 3 * tensor for name, tensor in WEIGHTS.items()}
    sent = replied(RecordDict({ARRAYS: arrays_of(own)}), hospital, attack)
    assert_same(weights_in(sent[ARRAYS]), {name: factor * tensor for name, tensor in WEIGHTS.items()})


def test_a_round_that_failed_at_the_hostile_hospital_stays_failed():
    content = failure("g", "TrainingDiverged: a loss is not finite")
    assert replied(content, "g") == content


def test_copies_of_one_image_have_no_diversity():
    one = torch.randint(0, 256, (1, 3, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert diversity(one.expand(5, -1, -1, -1)) == 0
    assert diversity(torch.cat([one, 255 - one])) > 0
