"""The table of predictions: what is written is what is read, and what is compared is the same images."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from skinsynth.quality.predictions import (
    PredictionTable,
    always_most_frequent,
    comparison_row,
    prediction_rows,
    read_predictions,
)
from skinsynth.quality.subgroups import Outcomes, arm_rows
from skinsynth.stage import write_rows

CLASSES = ("benign", "malignant")
IDS = [f"image-{place:03d}" for place in range(120)]


@pytest.fixture
def said():
    rng = np.random.default_rng(0)
    labels = rng.permutation((np.arange(120) < 40).astype(np.int64))
    score = 1 / (1 + np.exp(-rng.normal(size=(2, 120)) - labels))
    return Outcomes(labels, np.stack([1 - score, score], axis=2), np.arange(120) // 2, 1)


def written(path, outcomes, ids=IDS):
    pd.DataFrame(prediction_rows(ids, outcomes, CLASSES, (7, 9))).to_csv(path, index=False)
    return path


def test_what_is_written_is_what_is_read(said, tmp_path):
    image_ids, outcomes = read_predictions(written(tmp_path / "predictions.csv", said), CLASSES, "malignant")
    assert image_ids == IDS
    np.testing.assert_array_equal(outcomes.labels, said.labels)
    np.testing.assert_array_equal(outcomes.groups, said.groups)
    np.testing.assert_allclose(outcomes.probabilities, said.probabilities)
    assert outcomes.positive == 1


def test_predictions_of_a_sure_network_keep_their_ranks(said, tmp_path):
    """Softmax of 32 bits tells 1 - 1e-7 from 1; six digits do not."""
    score = 1 - np.arange(120) * np.finfo(np.float32).eps / 2
    sure = replace(said, probabilities=np.stack([[1 - score, score]]).transpose(0, 2, 1))
    write_rows(tmp_path / "predictions.csv", prediction_rows(IDS, sure, CLASSES, (7,)))
    read = read_predictions(tmp_path / "predictions.csv", CLASSES, "malignant").outcomes.probabilities
    for index in (0, 1):
        np.testing.assert_array_equal(
            read[..., index].astype(np.float32), sure.probabilities[..., index].astype(np.float32)
        )
    assert len(np.unique(read[..., 1])) == 120


def test_a_table_of_another_kind_is_refused_in_one_line(said, tmp_path):
    path = written(tmp_path / "predictions.csv", said)
    with pytest.raises(ValueError, match="no column 'probability_nevus': run train_classifier again"):
        read_predictions(path, ("benign", "nevus"), "nevus")
    table = pd.read_csv(path)
    table.iloc[:-1].to_csv(path, index=False)
    with pytest.raises(ValueError, match="seeds predict different images"):
        read_predictions(path, CLASSES, "malignant")
    with pytest.raises(FileNotFoundError, match="no .*none.csv: run train_classifier"):
        read_predictions(tmp_path / "none.csv", CLASSES, "malignant")


def test_predictions_that_are_empty_or_cut_off_are_refused_in_one_line(said, tmp_path):
    path = written(tmp_path / "predictions.csv", said)
    whole = path.read_text()
    header, first = whole.splitlines()[:2]
    for text, message in (
        ("", "is no table of train_classifier .*: run train_classifier again"),
        (header + "\n", "has no rows: run train_classifier again"),
        (whole + first.rpartition(",")[0], "has rows that are not whole: run train_classifier again"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=f"predictions.csv {message}"):
            read_predictions(path, CLASSES, "malignant")


def test_always_saying_the_most_frequent_class_is_chance(said):
    rows = arm_rows(always_most_frequent(said, np.array([0.7, 0.3])), pd.DataFrame(), {}, 50, 1)
    value = {row["metric"]: row["value"] for row in rows}
    assert value["accuracy"] == pytest.approx(80 / 120)
    assert value["auc"] == value["balanced_accuracy"] == 0.5
    assert (value["sensitivity"], value["specificity"]) == (0, 1)
    assert value["average_precision"] == pytest.approx(40 / 120)


def test_images_of_one_patient_make_p_larger(said):
    """Ten photographs of each lesion are no ten patients."""
    few = Outcomes(said.labels.repeat(10), said.probabilities.repeat(10, axis=1), said.groups.repeat(10), 1)
    better = replace(few, probabilities=few.probabilities * 0.8 + 0.2 * np.eye(2)[few.labels])
    ids = [f"{n}" for n in range(len(few.labels))]
    row = comparison_row("better", PredictionTable(ids, better), PredictionTable(ids, few))
    assert row["p_delong"] < row["p_patients"]


def test_the_baseline_says_the_class_shares_of_training(said):
    told = always_most_frequent(said, np.array([0.7, 0.3]))
    assert np.unique(told.probabilities.reshape(-1, 2), axis=0).tolist() == [[0.7, 0.3]]


def test_a_scenario_is_compared_on_the_same_images_alone(said):
    better = replace(said, probabilities=np.eye(2)[said.labels][None] * 0.9 + 0.05)
    row = comparison_row("better", PredictionTable(IDS, better), PredictionTable(IDS, said))
    assert row["low"] < row["auc_difference"] < row["high"]
    assert row["auc_difference"] > 0.1
    assert max(row["p_delong"], row["p_patients"]) < 0.01
    same = comparison_row("same", PredictionTable(IDS, said), PredictionTable(IDS, said))
    assert (same["auc_difference"], same["p_delong"], same["p_patients"]) == (0, 1, 1)
    with pytest.raises(ValueError, match="better predicts other test images than the reference"):
        comparison_row("better", PredictionTable(IDS[::-1], better), PredictionTable(IDS, said))


def test_the_mean_prediction_of_all_seeds_is_compared(said):
    other = replace(said, probabilities=said.probabilities[:1])
    row = comparison_row("both", PredictionTable(IDS, said), PredictionTable(IDS, other))
    both, first = (roc_auc_score(said.labels, one.probabilities.mean(axis=0)[:, 1]) for one in (said, other))
    assert row["auc_difference"] == pytest.approx(both - first)
    assert both != first
