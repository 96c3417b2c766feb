"""Splits never leak, and keep the proportions asked for."""

import dataclasses
import hashlib
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from skinsynth.partition.groups import independent_groups, spread
from skinsynth.partition.leakage import measure_leakage
from skinsynth.partition.split import (
    SplitConfig,
    draw_shares,
    held_out_of,
    images_of,
    read_split,
    rows_by_side,
    split_patients,
)
from stages.split_patients import count_images

CONFIG = SplitConfig(
    protocol="patient",
    classes=("benign", "malignant"),
    validation_share=0.15,
    test_share=0.15,
    hospitals={"small": 2.0, "middle": 12.0, "large": 20.0},
    class_skew=None,
    seed=1,
)


def lesions_of(patients: list[str], labels: list[int]) -> pd.DataFrame:
    blank = [""] * len(patients)
    return pd.DataFrame(
        {
            "image_id": [f"i{n:05d}" for n in range(len(patients))],
            "patient_id": patients,
            "lesion_id": blank,
            "duplicate_group": blank,
            "given_split": blank,
            "label": labels,
        }
    )


@pytest.fixture
def crowd() -> pd.DataFrame:
    """400 patients with one to many images each, a fifth of the images malignant."""
    rng = np.random.default_rng(0)
    counts = rng.geometric(0.2, size=400)
    patients = np.repeat([f"p{n}" for n in range(400)], counts)
    return lesions_of(list(patients), list((rng.random(len(patients)) < 0.2).astype(int)))


@pytest.fixture
def pure_crowd() -> pd.DataFrame:
    """600 patients with one to many images each, all of one class; a third of them malignant."""
    rng = np.random.default_rng(0)
    counts = rng.geometric(0.3, size=600)
    return lesions_of(
        list(np.repeat([f"p{n}" for n in range(600)], counts)), np.repeat(np.arange(600) % 3 // 2, counts).tolist()
    )


def skewed(class_skew: float | None, **changes) -> SplitConfig:
    return dataclasses.replace(CONFIG, class_skew=class_skew, **changes)


def hospitals_in(split: pd.DataFrame) -> pd.DataFrame:
    """Training images by hospital (rows) and class (columns)."""
    train = split[split["split"] == "train"]
    return pd.crosstab(train["hospital"], train["label"])


@pytest.fixture(scope="module")
def official(isic) -> pd.DataFrame:
    """The study's 37,648 rows, read from the official CSVs with pandas alone."""
    train = pd.read_csv(isic / "ISIC_2020_Training_GroundTruth_v2.csv", dtype=str, keep_default_na=False)
    truth = pd.read_csv(isic / "ISIC_2019_Training_GroundTruth.csv")
    older = pd.read_csv(isic / "ISIC_2019_Training_Metadata.csv", dtype=str, keep_default_na=False)
    older = older[older["image"].isin(truth["image"][truth["MEL"] == 1])]
    pairs = pd.read_csv(isic / "ISIC_2020_Training_Duplicates.csv")
    group_of = {image: first for first, *rest in pairs.itertuples(index=False) for image in (first, *rest)}
    newer = {"image_id": train["image_name"], "patient_id": train["patient_id"], "lesion_id": train["lesion_id"]}
    rows = [
        pd.DataFrame({**newer, "label": train["target"].astype(int)}),
        pd.DataFrame({"image_id": older["image"], "patient_id": "", "lesion_id": older["lesion_id"], "label": 1}),
    ]
    table = pd.concat(rows, ignore_index=True)
    return table.assign(duplicate_group=table["image_id"].map(group_of).fillna(""), given_split="")


def test_a_chain_of_patient_lesion_and_duplicate_is_one_group():
    table = lesions_of(["p", "p", "", "", "q"], [0, 0, 0, 0, 0])
    table["lesion_id"] = ["", "l", "l", "", ""]
    table["duplicate_group"] = ["", "", "d", "d", ""]
    assert independent_groups(table).tolist() == [0, 0, 0, 0, 1]


def test_unknown_patients_are_not_one_patient():
    assert len(set(independent_groups(lesions_of(["", "", ""], [0, 0, 1])))) == 3


def test_spread_keeps_every_feature_in_proportion():
    counts = np.random.default_rng(0).integers(0, 5, size=(500, 3)).astype(float)
    part = spread(counts, np.array([2.0, 12.0, 20.0]), np.random.default_rng(0))
    shares = np.array([counts[part == p].sum(axis=0) for p in range(3)]) / counts.sum(axis=0)
    np.testing.assert_allclose(shares, np.array([[2], [12], [20]]) / 34 * np.ones((1, 3)), atol=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_hospitals_of_two_hundred_patients_are_malignant_alike(seed):
    """Some patients with dozens of images, which taken one after the other leave gaps of several points."""
    rng = np.random.default_rng(seed)
    counts = rng.geometric(0.04, size=200)
    patients = np.repeat([f"p{n}" for n in range(200)], counts)
    risk = np.repeat(rng.beta(0.5, 1.5, size=200), counts)
    split = split_patients(lesions_of(list(patients), list((rng.random(len(patients)) < risk).astype(int))), CONFIG)
    malignant = split[split["split"] == "train"].groupby("hospital")["label"].mean()
    assert malignant.max() - malignant.min() < 0.01


def test_spread_ends_where_no_move_and_no_exchange_helps():
    rng = np.random.default_rng(0)
    counts, shares = rng.integers(0, 9, size=(12, 2)).astype(float), np.array([1.0, 2.0])
    part = spread(counts, shares, rng)

    def distance(part):
        target = np.outer(shares / 3, counts.sum(axis=0))
        held = np.array([counts[part == p].sum(axis=0) for p in range(2)])
        return ((held - target) ** 2 / target).sum()

    changed = [np.where(np.isin(np.arange(12), pair), 1 - part, part) for pair in combinations(range(12), 1)]
    exchanged = [
        np.where(np.isin(np.arange(12), pair), 1 - part, part)
        for pair in combinations(range(12), 2)
        if part[pair[0]] != part[pair[1]]
    ]
    assert distance(part) <= min(map(distance, changed + exchanged)) + 1e-3


def test_no_group_stands_on_two_sides_or_in_two_hospitals(crowd):
    split = split_patients(crowd, CONFIG)
    assert split.groupby("group")["split"].nunique().max() == 1
    assert split.groupby("group")["hospital"].nunique().max() == 1
    assert measure_leakage(crowd, split).patient == 0


def test_the_order_of_the_rows_does_not_matter(crowd):
    shuffled = crowd.sample(frac=1, random_state=3)
    assert split_patients(shuffled, CONFIG).equals(split_patients(crowd, CONFIG))


def test_images_per_patient_are_alike_on_every_side(crowd):
    split = split_patients(crowd, CONFIG)
    per_patient = split.groupby("split")["group"].agg(lambda group: len(group) / group.nunique())
    assert per_patient.max() / per_patient.min() < 1.35


def test_a_given_test_set_stays_and_its_copies_leave_train():
    table = lesions_of([f"p{n}" for n in range(60)], [n % 2 for n in range(60)])
    table.loc[:9, "given_split"] = "test"
    table.loc[[0, 30], "duplicate_group"] = "d"
    split = split_patients(table, dataclasses.replace(CONFIG, hospitals={"all": 1.0}))
    assert set(split["image_id"][split["split"] == "test"]) == set(table["image_id"][:10])
    assert "i00030" not in set(split["image_id"])


def test_the_paper_s_protocol_tests_on_its_validation_images(crowd):
    split = split_patients(crowd, dataclasses.replace(CONFIG, protocol="paper"))
    assert images_of(split, "test").equals(images_of(split, "validation"))
    assert len(images_of(split, "test")) == pytest.approx(0.2 * len(crowd), abs=1)
    assert images_of(split, "test")["label"].sum() == pytest.approx(0.2 * crowd["label"].sum(), abs=1)


@pytest.mark.parametrize("protocol", ["patient", "paper"])
def test_the_sides_of_a_file_are_those_of_its_table_and_all_but_train_is_held_out(crowd, tmp_path, protocol):
    split_patients(crowd, dataclasses.replace(CONFIG, protocol=protocol)).to_csv(tmp_path / "split.csv", index=False)
    split = read_split(tmp_path / "split.csv")
    rows = rows_by_side(tmp_path / "split.csv")
    assert list(rows) == ["train", "validation", "test"]
    assert all(table.equals(images_of(split, side)) for side, table in rows.items())
    held_out = held_out_of(split)
    assert not held_out["image_id"].isin(rows["train"]["image_id"]).any()
    assert len(held_out) + len(rows["train"]) == len(split)


def test_too_few_patients_are_named():
    table = lesions_of(["p0", "p1", "p2", "p3"], [0, 0, 0, 1])
    with pytest.raises(ValueError, match="'malignant'.*1 patients in all"):
        split_patients(table, CONFIG)


def test_a_hospital_that_lacks_a_class_is_told_with_all_its_patients_and_what_to_set():
    table = lesions_of([f"p{number}" for number in range(64)], [0] * 60 + [1] * 4)
    config = dataclasses.replace(CONFIG, hospitals={"small": 1.0, "large": 9.0})
    with pytest.raises(ValueError, match=r"'malignant' in hospital 'small'; the class has 4 patients.*fewer hospitals"):
        split_patients(table, config)


def test_an_unknown_protocol_names_the_known_ones(crowd):
    with pytest.raises(ValueError, match="patient, paper"):
        split_patients(crowd, dataclasses.replace(CONFIG, protocol="patients"))


def test_a_file_that_is_no_split_is_refused(tmp_path):
    (tmp_path / "split.csv").write_text("image_id,label\na,0\n")
    with pytest.raises(ValueError, match="no column 'split', 'hospital', 'group': run split_patients again"):
        read_split(tmp_path / "split.csv")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (b"", "is no table of split_patients .*run split_patients again"),
        (b"PK\x03\x04\xff\xfe", "is no table of split_patients .*run split_patients again"),
        (b"image_id,label,split,hospital,group\n", "has no rows: run split_patients again"),
        (b"image_id,label,split,hospital,group\na,0,train,h,1\nb,0,tra", "1 rows are not whole .*'image_id': 'b'"),
        (b"image_id,label,split,hospital,group\na,0,train,h,1\nb,0,train,h,", "1 rows are not whole .*'group': ''"),
        (b"image_id,label,split,hospital,group\na,0,Train,h,1\n", "on no side of train, validation, test .*'Train'"),
    ],
)
@pytest.mark.parametrize("name", ["split.csv", "split.zip"])
def test_a_split_that_is_damaged_or_cut_off_is_refused_in_one_line_that_names_it(tmp_path, name, written, message):
    (tmp_path / name).write_bytes(written)
    with pytest.raises(ValueError, match=message) as error:
        read_split(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)


def test_equal_shares_are_what_they_were_before_they_could_be_skewed(crowd):
    """A split that is published stays what it is: these are its bytes."""
    written = split_patients(crowd, CONFIG).to_csv(index=False, lineterminator="\n")
    assert hashlib.sha256(written.encode()).hexdigest().startswith("1ef9fbba91f44d0d")


@pytest.mark.parametrize("class_skew", [None, 1000.0])
def test_seven_hospitals_have_the_sizes_asked_for(crowd, class_skew):
    proportions = {f"h{n}": n + 1.0 for n in range(7)}
    found = hospitals_in(split_patients(crowd, skewed(class_skew, hospitals=proportions)))
    expected = np.arange(1, 8) / 28
    tolerance = 0.01 if class_skew is None else 0.06
    np.testing.assert_allclose(found.sum(axis=1) / found.to_numpy().sum(), expected, atol=tolerance)


def test_a_large_class_skew_is_nearly_equal_shares(pure_crowd):
    even, skew = (hospitals_in(split_patients(pure_crowd, skewed(value))) for value in (None, 1e6))
    np.testing.assert_allclose(skew, even, atol=8)


def test_a_small_class_skew_leaves_hospitals_nearly_one_class(pure_crowd):
    halves = {"first": 1.0, "second": 1.0}
    gaps = []
    for seed in range(25):
        try:
            found = hospitals_in(split_patients(pure_crowd, skewed(0.1, hospitals=halves, seed=seed)))
        except ValueError:
            continue  # both classes went to one hospital
        shares = found.div(found.sum(axis=1), axis=0)[1]
        gaps.append(shares.max() - shares.min())
    assert len(gaps) > 10
    assert np.median(gaps) > 0.9


@pytest.mark.parametrize("class_skew", [0.1, 1.0, 100.0])
def test_shares_of_a_class_are_on_average_the_proportions(class_skew):
    shares = draw_shares([2.0, 12.0, 20.0], class_skew, 20_000, np.random.default_rng(0))
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    np.testing.assert_allclose(shares.mean(axis=0), np.array([2, 12, 20]) / 34, atol=0.01)
    # Var of Dir(α p): p (1 - p) / (α + 1)
    spread_of = shares.std(axis=0) / np.sqrt(np.array([2 * 32, 12 * 22, 20 * 14]) / 34**2)
    np.testing.assert_allclose(spread_of, 1 / np.sqrt(class_skew + 1), rtol=0.05)


def test_hospitals_hold_the_shares_of_patients_that_were_drawn(pure_crowd):
    """Of each class, in images: patients are whole, and there are hundreds."""
    config = skewed(20.0)
    found = hospitals_in(split_patients(pure_crowd, config)).loc[list(config.hospitals)]
    drawn = draw_shares(list(config.hospitals.values()), 20.0, 2, np.random.default_rng(config.seed + 1))
    np.testing.assert_allclose(found / found.sum(), drawn.T, atol=0.01)


def test_a_patient_with_one_malignant_lesion_is_dealt_out_with_the_malignant_ones():
    patients = np.repeat([f"p{n:03d}" for n in range(300)], 4)
    kind = np.arange(300) % 3  # benign alone, one image of four malignant, malignant alone
    labels = np.concatenate([[[0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 1, 1]][one] for one in kind])
    split = split_patients(lesions_of(list(patients), labels.tolist()), skewed(0.3, seed=3))
    hospital = split[split["hospital"] != ""].groupby("group")["hospital"].first()
    own = split.groupby("group")["label"].mean()[hospital.index]
    shares = {share: hospital[own == share].value_counts(normalize=True) for share in (0.0, 0.25, 1.0)}
    gap = {share: (shares[share].sub(shares[1.0], fill_value=0)).abs().sum() for share in (0.0, 0.25)}
    assert gap[0.25] < 0.25 < gap[0.0]


def test_skewed_hospitals_share_no_patient_and_are_the_same_again(crowd):
    split = split_patients(crowd, skewed(20.0))
    assert split.groupby("group")["hospital"].nunique().max() == 1
    assert measure_leakage(crowd, split).patient == 0
    shuffled = crowd.sample(frac=1, random_state=3)
    assert split_patients(shuffled, skewed(20.0)).equals(split)
    assert not split_patients(crowd, skewed(20.0, seed=2)).equals(split)


def test_skew_moves_nobody_between_train_and_test(crowd):
    even, skew = split_patients(crowd, CONFIG), split_patients(crowd, skewed(20.0))
    assert skew.drop(columns="hospital").equals(even.drop(columns="hospital"))


def test_a_hospital_that_skew_leaves_empty_is_named(crowd):
    proportions = {"rest": 1000.0, "tiny": 0.001}
    with pytest.raises(ValueError, match="leaves no image to tiny: choose a larger class_skew"):
        split_patients(crowd, skewed(1.0, hospitals=proportions))


@pytest.mark.parametrize("class_skew", [0.0, -1.0, float("nan"), float("inf")])
def test_a_class_skew_that_is_no_concentration_is_refused(crowd, class_skew):
    with pytest.raises(ValueError, match="class_skew is above 0, or null"):
        split_patients(crowd, skewed(class_skew))


@pytest.mark.parametrize("class_skew", [None, 1.0])
def test_hospitals_without_a_proportion_are_refused(crowd, class_skew):
    with pytest.raises(ValueError, match="above 0"):
        split_patients(crowd, skewed(class_skew, hospitals={"first": 1.0, "second": 0.0}))


def test_counts_say_which_classes_a_hospital_lacks(pure_crowd):
    split = split_patients(pure_crowd, CONFIG)
    split = split[(split["hospital"] != "small") | (split["label"] == 0)]
    rows = {(row["hospital"], row["class"]): row for row in count_images(split, CONFIG.classes)}
    assert (rows["small", "malignant"]["images"], rows["small", "malignant"]["share"]) == (0, 0.0)
    assert (rows["small", "malignant"]["groups"], rows["small", "benign"]["share"]) == (0, 1.0)
    large = split[split["hospital"] == "large"]
    assert rows["large", "malignant"]["share"] == pytest.approx(large["label"].mean())
    assert rows["large", "benign"]["groups"] == large.loc[large["label"] == 0, "group"].nunique()


def test_official_csvs_split_without_a_patient_lesion_or_duplicate_on_two_sides(official):
    split = split_patients(official, CONFIG)
    assert len(split) == 37_648
    leakage = measure_leakage(official, split)
    assert (leakage.patient, leakage.lesion, leakage.duplicate) == (0, 0, 0)
    assert (official["duplicate_group"] != "").sum() == 850


def test_official_csvs_give_three_alike_hospitals_of_the_sizes_asked(official):
    split = split_patients(official, CONFIG)
    train = split[split["split"] == "train"]
    sizes = train["hospital"].value_counts(normalize=True)
    assert sizes["small"] == pytest.approx(2 / 34, abs=0.002)
    assert sizes["middle"] == pytest.approx(12 / 34, abs=0.002)
    malignant = train.groupby("hospital")["label"].mean()
    assert malignant.max() - malignant.min() < 0.01
    assert abs(malignant - split["label"].mean()).max() < 0.01
    assert train.groupby("group")["hospital"].nunique().max() == 1


def test_the_paper_s_split_of_the_official_csvs_shares_nearly_every_patient(official):
    leakage = measure_leakage(official, split_patients(official, dataclasses.replace(CONFIG, protocol="paper")))
    assert leakage.patient_share > 0.99
    assert 0.7 < leakage.lesion_share < 0.85
