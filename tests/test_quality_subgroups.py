"""Parts of the test set: every image in one of each kind, and no number from too few."""

import math

import numpy as np
import pandas as pd
import pytest

from skinsynth.lesions.table import COLUMNS
from skinsynth.quality.classification import METRICS as CLASSIFICATION
from skinsynth.quality.classification import score_predictions
from skinsynth.quality.subgroups import (
    LEAST,
    LEAST_PATIENTS,
    METRICS,
    Outcomes,
    arm,
    arm_rows,
    check_arms,
    part_rows,
    subgroup_rows,
    subgroups,
)

KEYS = {"part", "metric", "value", "low", "high", "seed_min", "seed_max"}
COUNTS = {"test_images", "test_groups", "positives", "positive_groups", "other_groups"}


@pytest.fixture
def draws():
    return np.random.default_rng(0)


def lesions(**columns):
    """A table as `read_lesions` gives it: "" wherever nothing is said."""
    table = pd.DataFrame(dict.fromkeys(COLUMNS, ""), index=range(len(next(iter(columns.values())))))
    return table.assign(**columns)


def outcomes(rng, images=200, positives=60, seeds=2):
    """Patients of two images each, and seeds that know something."""
    labels = rng.permutation((np.arange(images) < positives).astype(np.int64))
    score = 1 / (1 + np.exp(-rng.normal(size=(seeds, images)) - labels))
    return Outcomes(labels, np.stack([1 - score, score], axis=2), [f"p{place // 2}" for place in range(images)], 1)


def test_every_image_is_in_one_part_of_each_grouping(draws):
    table = lesions(
        age=draws.choice(["", "0", "39", "40", "59", "60", "85"], 300),
        sex=draws.choice(["", "female", "male"], 300),
        site=draws.choice(["", "torso", "head/neck"], 300),
        hair=draws.choice(["", "0", "1"], 300),
        ruler=draws.choice(["0", "1"], 300),
    )
    parts_of = subgroups(table)
    assert list(parts_of) == ["age", "sex", "site", "hair", "ruler"]
    for parts in parts_of.values():
        assert (np.stack(list(parts.values())).sum(axis=0) == 1).all()


def test_parts_stand_in_a_readable_order_and_unknown_last():
    table = lesions(age=["70", "", "40"], sex=["male", "female", ""], hair=["0", "", "1"], ruler=["0", "0", "0"])
    assert {by: list(parts) for by, parts in subgroups(table).items()} == {
        "age": ["under 40", "40 to 59", "60 and over", "unknown"],
        "sex": ["female", "male", "unknown"],
        "hair": ["with", "without", "unknown"],
        "ruler": ["with", "without"],
    }


def test_bands_begin_at_40_and_60_years():
    bands = subgroups(lesions(age=["39", "40", "59", "60", ""]))["age"]
    assert {band: images.tolist() for band, images in bands.items()} == {
        "under 40": [True, False, False, False, False],
        "40 to 59": [False, True, True, False, False],
        "60 and over": [False, False, False, True, False],
        "unknown": [False, False, False, False, True],
    }


def test_flags_part_images_with_from_images_without():
    hair = subgroups(lesions(hair=["1", "0", ""]))["hair"]
    assert [hair[part].tolist() for part in ("with", "without", "unknown")] == np.eye(3, dtype=bool).tolist()


def test_a_said_unknown_is_no_other_part_than_an_empty_one():
    sexes = subgroups(lesions(sex=["unknown", "", "male"]))["sex"]
    assert sexes["unknown"].tolist() == [True, True, False]


def test_what_nothing_is_known_of_parts_nothing():
    assert subgroups(lesions(source=["phantom", "phantom"])) == {}


def test_an_age_in_words_is_refused():
    with pytest.raises(ValueError, match=r"number of years or nothing, but '85\+' came \(2 rows\)"):
        subgroups(lesions(age=["50", "85+", "85+"]))


def test_an_arm_fulfils_every_condition():
    table = lesions(source=["a", "a", "b"], sex=["male", "", "male"]).astype({"label": object}).assign(label=[0, 1, 1])
    assert arm(table, {"source": "a"}).tolist() == [True, True, False]
    assert arm(table, {"source": "a", "sex": ""}).tolist() == [False, True, False]
    assert arm(table, {"label": "1", "source": "b"}).tolist() == [False, False, True]
    assert arm(table, {}).all()
    assert not arm(table, {"source": "c"}).any()


def test_rows_of_a_shuffled_table_stay_where_they_are():
    table = lesions(source=["a", "b", "a"], sex=["male", "female", "male"]).set_index(pd.Index([7, 3, 5]))
    assert arm(table, {"source": "a"}).tolist() == subgroups(table)["sex"]["male"].tolist() == [True, False, True]


def test_an_unknown_column_is_answered_with_the_one_that_was_meant():
    with pytest.raises(ValueError, match="no column 'sauce': did you mean 'source'.*image_id, patient_id"):
        arm(lesions(source=["a"]), {"sauce": "a"})


def test_a_part_is_scored_as_if_it_were_all(draws):
    all_images = outcomes(draws)
    half = np.arange(200) < 120
    rows = part_rows(all_images, {"half": half}, 50, np.random.default_rng(3))
    groups = all_images.groups[:120]
    alone = score_predictions(
        all_images.labels[half], all_images.probabilities[:, half], groups, 1, 50, np.random.default_rng(3)
    )
    expected = {row["metric"]: row for row in alone}
    assert [row["metric"] for row in rows] == list(METRICS)
    for row in rows:
        assert row.keys() == KEYS | COUNTS | {"note"}
        assert {key: row[key] for key in KEYS - {"part"}} == expected[row["metric"]]
        assert (row["part"], row["test_images"], row["test_groups"], row["note"]) == ("half", 120, 60, "")
        assert row["positives"] == all_images.labels[:120].sum()


def test_parts_come_one_after_the_other(draws):
    known = draws.random(200) < 0.5
    rows = part_rows(outcomes(draws), {"known": known, "unknown": ~known}, 10, draws)
    assert [row["part"] for row in rows] == ["known"] * len(METRICS) + ["unknown"] * len(METRICS)
    assert sum(row["test_images"] for row in rows if row["metric"] == "auc") == 200


@pytest.mark.parametrize(
    ("images", "positives", "rows"),
    [(200, LEAST - 1, 1), (200, LEAST, len(METRICS)), (100, 101 - LEAST, 1), (100, 100 - LEAST, len(METRICS))],
)
def test_fewer_than_twenty_of_either_kind_make_no_number(draws, images, positives, rows):
    everything = np.ones(images, bool)
    scored = part_rows(outcomes(draws, images, positives), {"all": everything}, 10, draws)
    assert len(scored) == rows
    assert all(math.isnan(row["value"]) == (rows == 1) for row in scored)


@pytest.mark.parametrize("patients", [LEAST_PATIENTS - 1, LEAST_PATIENTS])
@pytest.mark.parametrize("rare", [0, 1])
def test_many_images_of_few_patients_are_too_few(draws, patients, rare):
    labels = np.repeat([rare, 1 - rare], 60)
    groups = np.concatenate([np.arange(60) % patients, np.arange(100, 160)])
    told = Outcomes(labels, np.full((1, 120, 2), 0.5), groups, 1)
    (row, *others) = part_rows(told, {"all": np.ones(120, bool)}, 10, draws)
    assert (row["note"] == "too few", not others) == (patients < LEAST_PATIENTS,) * 2
    assert (row["positive_groups"], row["other_groups"]) == ((60, patients) if rare == 0 else (patients, 60))


def test_a_value_that_no_lesion_has_is_answered_with_the_one_that_was_meant():
    table = lesions(source=["ISIC 2019", "ISIC 2020"], hair=["0", "1"])
    assert check_arms(table, {"2020-only": {"source": "ISIC 2020", "hair": "0"}, "every": {}}) == []
    for wrong in ("isic2020", "ISIC 202O", "isic 2020"):
        with pytest.raises(ValueError, match=f"the arm new asks for source '{wrong}', .* did you mean 'ISIC 2020'"):
            check_arms(table, {"old": {"source": "ISIC 2019"}, "new": {"source": wrong}})
    (line,) = check_arms(table, {"haired": {"hair": "yes"}})
    assert "hair 'yes', which no row of lesions.csv has: it has '0', '1'; its numbers will say 'too few'" in line
    with pytest.raises(ValueError, match="no column 'sauce': did you mean 'source'"):
        check_arms(table, {"new": {"sauce": "ISIC 2020"}})


def test_no_arm_takes_the_name_of_the_whole_test_set():
    with pytest.raises(ValueError, match=r"an arm is called 'all', as the whole test set is: rename it \(train_clas"):
        check_arms(lesions(source=["ISIC 2019"]), {"all": {"source": "ISIC 2019"}})


def test_of_many_values_the_first_few_are_told():
    (line,) = check_arms(lesions(age=[str(age) for age in range(100)]), {"old": {"age": "old"}})
    assert "it has '0', '1', '10', " in line
    assert " and 90 others" in line


def test_what_is_too_small_says_so_with_its_counts(draws):
    few = np.arange(200) < 7
    all_images = outcomes(draws)
    small, empty = part_rows(all_images, {"few": few, "none": np.zeros(200, bool)}, 10, draws)
    assert small.keys() == empty.keys() == KEYS | COUNTS | {"note"}
    assert (small["metric"], small["note"], small["test_images"], small["test_groups"]) == ("auc", "too few", 7, 4)
    assert small["positives"] == all_images.labels[:7].sum()
    assert [empty[name] for name in ("part", "metric", "note")] == ["none", "auc", "too few"]
    assert all(empty[count] == 0 for count in COUNTS)
    assert all(math.isnan(row[name]) for row in (small, empty) for name in KEYS - {"part", "metric"})


def test_a_part_of_another_table_is_refused(draws):
    with pytest.raises(ValueError, match="has 150 entries, but there are 200 labels, 200 groups and 200 rows"):
        part_rows(outcomes(draws), {"all": np.ones(150, bool)}, 10, draws)


def test_the_whole_test_set_comes_first_with_every_metric_and_arms_follow(draws):
    told = outcomes(draws, 200, 100)
    table = lesions(source=["new"] * 120 + ["old"] * 80, black_frame=["0"] * 195 + ["1"] * 5)
    arms = {"new-only": {"source": "new"}, "framed": {"black_frame": "1"}}
    rows = arm_rows(told, table, arms, 20, 1)
    assert list(dict.fromkeys(row["arm"] for row in rows)) == ["all", "new-only", "framed"]
    assert [row["metric"] for row in rows if row["arm"] == "all"] == list(CLASSIFICATION)
    new = next(row for row in rows if (row["arm"], row["metric"]) == ("new-only", "auc"))
    assert (new["test_images"], new["note"]) == (120, "")
    (framed,) = (row for row in rows if row["arm"] == "framed")
    assert framed["note"] == "too few"
    assert math.isnan(framed["value"])
    assert len({tuple(row) for row in rows}) == 1


def test_an_arm_s_interval_does_not_depend_on_the_arms_before_it(draws):
    told, table = outcomes(draws), lesions(source=["new", "old"] * 100)
    alone, second = (
        [row for row in arm_rows(told, table, arms, 20, 1) if row["arm"] == "old"]
        for arms in ({"old": {"source": "old"}}, {"new": {"source": "new"}, "old": {"source": "old"}})
    )
    assert alone == second


def test_subgroups_say_by_what_they_divide(draws):
    rows = subgroup_rows(outcomes(draws), lesions(sex=["male", "female"] * 100), 10, 1)
    assert {(row["by"], row["part"]) for row in rows} == {("sex", "female"), ("sex", "male")}


def test_a_part_keeps_the_patients_of_its_own_images():
    every = Outcomes(np.array([0, 1, 0, 1]), np.full((1, 4, 2), 0.5), np.array([7, 7, 8, 9]), 1)
    assert every.of(np.array([False, True, False, True])).groups.tolist() == [7, 9]
