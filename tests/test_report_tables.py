"""The study's tables: the paper's numbers beside ours, and what may not be compared says so."""

import math

import numpy as np
import pandas as pd
import pytest

from skinsynth.report.published import FIDELITY, PREDICTION, Facts, fidelity_differences, prediction_differences
from skinsynth.report.tables import (
    AS_MANY,
    CANNOT_BE_TOLD,
    MISSING,
    Part,
    Table,
    as_latex,
    as_markdown,
    cell,
    fidelity_table,
    not_worse,
    prediction_table,
)

FLOOR = "floor: held-out real against training"
COMPARED = ("generated against held-out real", "generated, as many as held out, against training", FLOOR)
GANS = ("ben", "mal", "cgan", "cgan-no-color", "cgan-no-aug")
SCENARIOS = (*PREDICTION, "majority")
MARGIN = 0.06
DISTANCES = ("fid", "fid_infinity", "kid_percent", "precision", "recall", "density", "coverage")
SHARES = (
    *("accuracy", "balanced_accuracy", "auc", "average_precision", "sensitivity", "specificity"),
    *("sensitivity_at_90_specificity", "calibration_error"),
)


def facts(**changes):
    told = {
        "source": "phantom",
        "images": 2053,
        "image_size": 32,
        "protocol": "patient",
        "network": "cnn-108k",
        "pretrained": False,
        "synthetic": {"real": 0, "synth-gan": 2000, "aug-gan": 800},
        "classes": ("benign", "malignant"),
        "positive": "malignant",
    }
    return Facts(**{**told, **changes})


def row_of_gan(metric, value, compared, extractor, reference="train", count=1000):
    return {
        "class": "all",
        "metric": metric,
        "value": value,
        "low": 0.8 * value,
        "high": 1.2 * value,
        "extractor": extractor,
        "compared": compared,
        "reference": reference,
        "real_count": 1437,
        "compared_count": count,
    }


def rows_of_gan(place=0, extractor="classifier"):
    """A GAN's CSV, with rows that are not the table's: other classes, other references, the smaller set."""
    values = dict(zip(DISTANCES, (8.94, 8.12, 2.326, 0.889, 0.597, 1.034, 0.493), strict=True))
    rows = [row_of_gan(name, value + place / 10, "generated", extractor) for name, value in values.items()]
    rows += [row_of_gan(name, value / 70, "held-out real", extractor, count=616) for name, value in values.items()]
    many = values | {"fid": 777.0}
    rows += [row_of_gan(name, value, AS_MANY, extractor, count=616) for name, value in many.items()]
    rows += [row_of_gan("fid", 888.0, "generated", extractor, reference="held-out real")]
    rows += [{**row_of_gan("fid", 999.0, "generated", extractor), "class": "benign"}]
    rows += [row_of_gan("ppl", 0.8558, "generated", "classifier", reference=np.nan, count=500)]
    return pd.DataFrame(rows)


def rows_of_gans():
    return {name: rows_of_gan(place) for place, name in enumerate(GANS)}


def rows_of_scenario(value=0.856, seeds=2, images=305):
    about = {"test_images": images, "test_groups": 48, "positives": 76, "seeds": seeds, "note": np.nan}
    spread = {"low": value - 0.069, "high": value + 0.059, "seed_min": value - 0.01, "seed_max": value + 0.01}
    rows = [{"arm": "all", "metric": name, "value": value, **spread, **about} for name in SHARES]
    part = {**about, "test_images": 204}
    rows += [{"arm": "2019-only", "metric": "auc", "value": value, **spread, **part, "positives": 67}]
    unknown = dict.fromkeys(["value", "low", "high", "seed_min", "seed_max"], np.nan)
    few = {**about, "positives": 9, "test_images": 101, "note": "too few"}
    return pd.DataFrame([*rows, {"arm": "2020-only", "metric": "auc", **unknown, **few}])


def rows_of_scenarios():
    return {name: rows_of_scenario(0.9 - place / 50) for place, name in enumerate(SCENARIOS)}


def comparisons(**changes):
    rows = [
        {
            "scenario": name,
            "auc_difference": -0.02,
            "low": -0.05,
            "high": 0.01,
            "p_delong": 0.0002,
            "p_patients": 0.147,
            "p_holm": 0.882,
        }
        for name in SCENARIOS
        if name not in ("real", "majority")
    ]
    return pd.DataFrame(rows).assign(**changes)


def fidelity_of(rows, strength=0.3, **changes):
    """Table 1 of GANs that were all augmented as strongly."""
    return fidelity_table(rows, dict.fromkeys(rows, strength), facts(**changes))


def table_1(**changes):
    return fidelity_of(rows_of_gans(), **changes)


def table_2(**changes):
    return prediction_table(rows_of_scenarios(), comparisons(), MARGIN, facts(**changes))


def cells_of(table, part, column):
    cells = table.parts[part].cells
    return dict(zip(cells.iloc[:, 0], cells[column], strict=True))


def held_out_of(table, column, gan="ben"):
    """Cells of Table 1c of one GAN by what is compared."""
    cells = table.parts[2].cells
    own = cells[cells["GAN"] == gan]
    return dict(zip(own["compared"], own[column], strict=True))


def test_each_gan_stands_beside_the_paper_s_own_numbers():
    table = table_1()
    assert cells_of(table, 0, "FID (classifier)")["ben"] == "8.94 (7.15 to 10.73)"
    assert cells_of(table, 0, "FID (paper, inception)") == {
        "ben": "7.99",
        "mal": "15.46",
        "cgan": "7.33",
        "cgan-no-color": "7.02",
        "cgan-no-aug": "",
    }
    assert cells_of(table, 0, "recall (paper, vgg16)")["mal"] == "0.40"
    assert cells_of(table, 0, "PPL (paper, vgg16)")["cgan"] == "193"


def test_every_pooled_comparison_is_among_the_numbers_and_no_class():
    fid = table_1().numbers.query("metric == 'fid' and gan == 'ben'")
    assert fid.set_index(["compared", "reference"])["value"].to_dict() == pytest.approx(
        {
            ("generated", "train"): 8.94,
            ("generated", "held-out real"): 888,
            ("generated, as many as held out", "train"): 777,
            ("held-out real", "train"): 8.94 / 70,
        }
    )


def test_the_floor_is_of_held_out_real_images_and_says_of_how_many():
    table = table_1()
    assert held_out_of(table, "FID (classifier)") == {
        "generated against held-out real": "888 (710 to 1066)",
        "generated, as many as held out, against training": "777 (622 to 932)",
        FLOOR: "0.128 (0.102 to 0.153)",
    }
    assert held_out_of(table, "images") == dict(zip(COMPARED, ("1,000", "616", "616"), strict=True))
    assert cells_of(table, 1, "generated images")["ben"] == "1,000"


def test_the_floor_stands_under_as_many_generated_images_in_every_share():
    for column, value in {"precision": 0.889, "recall": 0.597, "density": 1.034, "coverage": 0.493}.items():
        cells = held_out_of(table_1(), f"{column} (classifier)")
        assert cells[COMPARED[1]].startswith(f"{value:.3f}")
        assert cells[FLOOR].startswith(f"{value / 70:.3f}")


def test_notes_say_what_the_number_of_images_does_to_fidelity():
    notes = " ".join(table_1().notes)
    assert "extrapolated to infinitely many real and generated images" in notes
    assert "Recall falls and coverage rises" in notes


def test_numbers_hold_every_metric_with_interval_counts_extractor_and_the_paper_s_value():
    numbers = table_1().numbers
    assert len(numbers) == len(GANS) * (3 * len(DISTANCES) + 2)
    row = numbers.query(
        "gan == 'cgan-no-color' and metric == 'kid_percent' and compared == 'generated' and reference == 'train'"
    ).iloc[0]
    assert (row["extractor"], row["compared_count"], row["real_count"], row["paper"]) == (
        "classifier",
        1000,
        1437,
        0.24,
    )
    assert row["low"] < row["value"] < row["high"]
    assert numbers.query("compared == 'held-out real'")["paper"].isna().all()
    assert numbers["paper"].notna().sum() == sum(map(len, FIDELITY.values()))


def test_gans_of_different_extractors_share_no_column():
    rows = {"ben": rows_of_gan(), "mal": rows_of_gan(extractor="inception")}
    with pytest.raises(ValueError, match="of one network.*classifier and inception") as error:
        fidelity_of(rows)
    assert "\n" not in str(error.value)


def in_two_features(place=0):
    """A GAN's CSV of two extractors."""
    rows, others = rows_of_gan(place), rows_of_gan(place, "classifier_levels")
    others = others[others["metric"] != "ppl"]
    return pd.concat([rows.iloc[:-1], others.assign(value=others["value"] + 50), rows.iloc[-1:]])


def test_further_extractors_have_a_part_of_their_own_and_the_others_stay_as_they_were():
    alone = fidelity_of({"ben": rows_of_gan(), "mal": rows_of_gan(1)})
    both = fidelity_of({"ben": in_two_features(), "mal": in_two_features(1)})
    for part, same in zip(alone.parts, both.parts, strict=False):
        pd.testing.assert_frame_equal(part.cells, same.cells)
    assert [part.name for part in both.parts] == ["Table 1a", "Table 1b", "Table 1c", "Table 1d"]
    further = both.parts[3].cells
    assert "features of classifier_levels" in both.parts[3].caption
    assert further["compared"].tolist()[:4] == [
        "generated against training",
        "generated against held-out real",
        "generated, as many as held out, against training",
        FLOOR,
    ]
    assert further["GAN"].tolist() == 4 * ["ben"] + 4 * ["mal"]
    assert further["FID (classifier_levels)"].str.split().str[0].tolist()[:2] == ["58.9", "938"]
    why, counts = sorted(set(both.notes) - set(alone.notes), reverse=True)
    assert "classifier_levels, mean and spread" in why
    assert "Of Table 1c and those after it only the floor" in counts
    assert "Of Table 1c only the floor" in " ".join(alone.notes)


def test_inception_beside_the_classifier_says_whose_features_are_not_the_papers():
    rows, others = rows_of_gan(extractor="inception"), rows_of_gan(extractor="vgg16")
    both = pd.concat([rows, others[others["metric"] != "ppl"]])
    assert not any(note.startswith("Features are those") for note in fidelity_of({"ben": rows}).notes)
    assert any(note.startswith("Features are those of vgg16, the") for note in fidelity_of({"ben": both}).notes)


def test_numbers_of_further_extractors_stand_without_the_papers_beside_them():
    numbers = fidelity_of({"ben": in_two_features()}).numbers
    assert numbers.groupby("extractor")["paper"].count().to_dict() == {"classifier": 5, "classifier_levels": 0}
    fid = numbers.query("metric == 'fid' and compared == 'generated' and reference == 'train'")
    assert fid["value"].tolist() == [8.94, 58.94]


def test_a_gan_that_a_further_extractor_did_not_see_says_so():
    table = fidelity_of({"ben": in_two_features(), "mal": rows_of_gan()})
    cells = table.parts[3].cells
    assert set(cells.loc[cells["GAN"] == "mal", "FID (classifier_levels)"]) == {MISSING}
    assert set(cells.loc[cells["GAN"] == "mal", "images"]) == {""}


def test_path_lengths_of_different_networks_share_no_column():
    other = rows_of_gan()
    other.loc[other["metric"] == "ppl", "extractor"] = "vgg16"
    with pytest.raises(ValueError, match="path lengths.*classifier and vgg16"):
        fidelity_of({"ben": rows_of_gan(), "mal": other})


def test_a_header_names_the_network_found_in_the_rows():
    table = fidelity_of({"ben": rows_of_gan(extractor="dinov2")})
    assert {"KID % (dinov2)", "PPL (classifier)"} <= set(table.parts[0].cells.columns)


def test_what_was_not_measured_says_so_and_keeps_the_paper_s_number():
    rows = rows_of_gan()
    rows = rows[~rows["metric"].isin(["ppl", "fid_infinity"]) & (rows["compared"] != "held-out real")]
    table = fidelity_of({"ben": rows})
    assert cells_of(table, 0, "PPL") == {"ben": MISSING}
    assert cells_of(table, 0, "PPL (paper, vgg16)") == {"ben": "60"}
    assert cells_of(table, 1, "FID extrapolated (classifier)") == {"ben": MISSING}
    assert held_out_of(table, "FID (classifier)")[FLOOR] == MISSING
    assert held_out_of(table, "images")[FLOOR] == ""


def test_augmentation_that_hardly_acted_is_said_under_the_table():
    rows, of_idle = rows_of_gans(), "Augmentation hardly acted"
    strengths = {"ben": 0.2, "mal": 0.0099, "cgan": 0.0, "cgan-no-color": 0.01, "cgan-no-aug": 0.5}
    table = fidelity_table(rows, strengths, facts())
    told = {"ben": "0.2000", "mal": "0.0099", "cgan": "0.0000", "cgan-no-color": "0.0100", "cgan-no-aug": "0.5000"}
    assert cells_of(table, 1, "augmentation p, mean") == told
    (note,) = (note for note in table.notes if note.startswith(of_idle))
    assert "in the training of mal, cgan. GANs" in note
    assert not any(note.startswith(of_idle) for note in fidelity_of(rows, strength=0.01).notes)


def test_a_set_that_was_not_trained_here_has_a_row_without_a_strength_and_is_not_called_idle():
    rows = rows_of_gan()
    table = fidelity_table({"cgan": rows, "vendor": rows[rows["metric"] != "ppl"]}, {"cgan": 0.0}, facts())
    assert cells_of(table, 1, "augmentation p, mean") == {"cgan": "0.0000", "vendor": MISSING}
    assert cells_of(table, 0, "PPL (classifier)")["vendor"] == MISSING
    (note,) = (note for note in table.notes if note.startswith("Augmentation hardly acted"))
    assert "in the training of cgan. GANs" in note


def test_names_that_the_paper_does_not_know_make_a_table_too():
    assert cells_of(fidelity_of({"mine": rows_of_gan()}), 0, "FID (paper, inception)") == {"mine": ""}
    table = prediction_table({"mine": rows_of_scenario()}, comparisons().iloc[:0], MARGIN, facts())
    assert cells_of(table, 0, "AUC (paper)") == {"mine": ""}
    assert cells_of(table, 0, "p (DeLong)") == {"mine": ""}


def test_rows_of_another_version_or_without_the_pooled_ones_are_named():
    with pytest.raises(ValueError, match="rows of ben lack the columns reference"):
        fidelity_of({"ben": rows_of_gan().drop(columns="reference")})
    with pytest.raises(ValueError, match="every gan needs.*but mal has none"):
        fidelity_of({"ben": rows_of_gan(), "mal": rows_of_gan().query("`class` == 'benign'")})


def test_each_scenario_stands_beside_the_paper_s_accuracy_and_auc_in_the_same_unit():
    table = table_2()
    assert cells_of(table, 0, "AUC")["real"] == "0.900 (0.831 to 0.959)"
    assert cells_of(table, 0, "AUC (paper)")["real"] == "0.988"
    assert cells_of(table, 0, "accuracy (paper)")["synth-cgan-no-color"] == "0.926"
    assert cells_of(table, 0, "accuracy (paper)")["majority"] == ""


def test_differences_to_real_carry_sign_interval_and_both_p_values():
    table = table_2()
    differences = cells_of(table, 0, "AUC of the seeds' mean answer, minus that of real")
    assert differences["aug-gan"] == "-0.020 (-0.050 to +0.010)"
    assert cells_of(table, 0, "p (DeLong)")["aug-gan"] == "<0.001"
    assert cells_of(table, 0, "p (patients)")["aug-gan"] == "0.147"
    assert cells_of(table, 0, "p (Holm)")["aug-gan"] == "0.882"
    assert differences["real"] == ""


def test_no_significant_difference_of_few_patients_is_no_proof_that_images_stand_in():
    assert not_worse(-0.02, 0.03, 0.05) == "yes"
    assert not_worse(-0.04, -0.01, 0.05) == "yes"  # worse beyond doubt, but by less than one would give up
    assert not_worse(-0.09, -0.06, 0.05) == "no"
    for low, high in ((-0.30, 0.30), (-0.06, -0.04), (-0.05, 0.01), (-0.09, -0.05), (math.nan, math.nan)):
        assert not_worse(low, high, 0.05) == CANNOT_BE_TOLD


def test_each_scenario_but_real_images_is_judged_by_the_margin():
    judged = cells_of(table_2(), 0, f"at most {MARGIN:g} below real")
    assert judged == {name: "" if name in ("real", "majority") else "yes" for name in SCENARIOS}
    table = prediction_table(rows_of_scenarios(), comparisons(), 0.03, facts())
    assert cells_of(table, 0, "at most 0.03 below real")["aug-gan"] == CANNOT_BE_TOLD
    row = table.numbers.query("metric == 'auc_difference' and scenario == 'aug-gan'").iloc[0]
    assert (row["margin"], row["not_worse"]) == (0.03, CANNOT_BE_TOLD)


def test_a_p_value_is_told_in_three_decimals_down_to_a_thousandth():
    table = prediction_table(rows_of_scenarios(), comparisons(p_delong=0.004, p_patients=0.00099), MARGIN, facts())
    told = {p: cells_of(table, 0, f"p ({p})")["aug-gan"] for p in ("DeLong", "patients")}
    assert told == {"DeLong": "0.004", "patients": "<0.001"}


def test_a_whole_test_set_with_too_few_positives_says_so_beside_its_numbers():
    few = {name: rows.assign(note="too few") for name, rows in rows_of_scenarios().items()}
    table = prediction_table(few, comparisons(), MARGIN, facts())
    assert cells_of(table, 0, "AUC")["real"] == "0.900 (0.831 to 0.959), too few"
    assert cells_of(table, 1, "sensitivity")["real"].endswith(", too few")


def test_a_part_with_too_few_positives_shows_their_count_and_no_number():
    table = table_2()
    assert set(cells_of(table, 2, "2020-only (101 images, 9 positives)").values()) == {
        "too few (9 positives, 92 others)"
    }
    assert cells_of(table, 2, "2019-only (204 images, 67 positives)")["real"] == "0.900 (0.831 to 0.959)"


def table_of_three_classes(note=np.nan):
    """Each scenario with two AUCs, and a part of the test set without one of the classes."""
    area = {name: rows.query("metric == 'auc' and arm == 'all'") for name, rows in rows_of_scenarios().items()}
    own = {name: rows.assign(metric="positive_auc", value=rows["value"] - 0.2) for name, rows in area.items()}
    lacking = {name: rows.assign(arm="2019-only", value=np.nan, note=note) for name, rows in area.items()}
    whole = {name: rows.query("arm == 'all'") for name, rows in rows_of_scenarios().items()}
    rows = {name: pd.concat([whole[name], own[name], lacking[name]]) for name in SCENARIOS}
    return prediction_table(
        rows, comparisons(), MARGIN, facts(classes=("nevus", "melanoma", "keratosis"), positive="melanoma")
    )


def test_of_three_classes_the_auc_and_its_difference_are_those_of_the_positive_one():
    table = table_of_three_classes()
    assert cells_of(table, 0, "AUC of melanoma")["real"].startswith("0.700")
    assert cells_of(table, 0, "AUC (paper)")["real"] == "0.988"
    assert cells_of(table, 0, "AUC of melanoma, of the seeds' mean answer, minus that of real")["aug-gan"] == (
        "-0.020 (-0.050 to +0.010)"
    )
    assert cells_of(table, 1, "AUC averaged over classes")["real"].startswith("0.900")
    assert "AUC" not in table.parts[0].cells.columns
    assert any("AUC of melanoma ranks" in note for note in table.notes)


@pytest.mark.parametrize(("note", "said"), [(np.nan, "a class is missing"), ("no image of class 2", "class 2")])
def test_a_part_without_a_class_says_so(note, said):
    table = table_of_three_classes(note)
    assert said in cells_of(table, 2, "2019-only (305 images, 76 positives)")["real"]
    assert table.parts[2].caption.startswith("AUC averaged over classes on parts")


def test_without_other_arms_there_is_no_table_of_them():
    rows = rows_of_scenario().query("arm == 'all'")
    assert len(prediction_table({"real": rows}, comparisons().iloc[:0], MARGIN, facts()).parts) == 2


def test_numbers_of_predictions_hold_all_arms_and_the_differences():
    numbers = table_2().numbers
    assert len(numbers) == len(SCENARIOS) * (len(SHARES) + 2) + len(comparisons())
    difference = numbers.query("scenario == 'synth-gan' and metric == 'auc_difference'").iloc[0]
    assert (difference["value"], difference["p_delong"], difference["arm"]) == (-0.02, 0.0002, "all")
    assert list(dict.fromkeys(numbers["scenario"])) == list(SCENARIOS)
    assert numbers["paper"].notna().sum() == 2 * len(PREDICTION)


def test_scenarios_tested_on_different_images_share_no_table():
    rows = {"real": rows_of_scenario(), "aug-gan": rows_of_scenario(images=7)}
    with pytest.raises(ValueError, match="'real': 305, 'aug-gan': 7"):
        prediction_table(rows, comparisons().iloc[:0], MARGIN, facts())


def test_a_comparison_of_an_unknown_scenario_is_named():
    with pytest.raises(ValueError, match="without rows: aug-gna"):
        prediction_table(
            {"real": rows_of_scenario()}, comparisons().iloc[:1].assign(scenario="aug-gna"), MARGIN, facts()
        )


@pytest.mark.parametrize(
    ("metric", "numbers", "text"),
    [
        ("auc", (0.8561, 0.7872, 0.915), "0.856 (0.787 to 0.915)"),
        ("auc", (0.5, math.nan, math.nan), "0.500"),
        ("auc", (math.nan, math.nan, math.nan), MISSING),
        ("fid", (15.463, 14.0, 17.0), "15.5 (14.0 to 17.0)"),
        ("fid", (1234.5, 1200.0, 1300.0), "1234 (1200 to 1300)"),
        ("kid_percent", (-0.01478, -0.03947, 0.00991), "-0.0148 (-0.0395 to 0.0099)"),
        ("kid_percent", (0.0, -0.1, 0.1), "0.000 (-0.100 to 0.100)"),
        ("kid_percent", (0.0000012, -0.1, 0.1), "0.0000 (-0.1000 to 0.1000)"),
        ("auc_difference", (-0.0001, -0.02, 0.03), "+0.000 (-0.020 to +0.030)"),
    ],
)
def test_cells_are_as_precise_as_their_value(metric, numbers, text):
    assert cell(metric, *numbers) == text


@pytest.mark.parametrize("render", [as_markdown, as_latex])
def test_text_is_printed_as_it_is_and_never_read_as_a_number(render):
    part = Part("Table 9", "A caption", pd.DataFrame({"name": ["1e5"], "value": ["0.40"], "long": ["2,053"]}))
    assert all(text in render(Table(pd.DataFrame(), [part], [])) for text in ("1e5", "0.40", "2,053"))


@pytest.mark.parametrize("make", [table_1, table_2])
def test_latex_leaves_no_sign_that_it_would_read_as_its_own(make):
    table = make()
    text = as_latex(table)
    assert r"\caption{Table" not in text
    assert text.count("{") == text.count("}")
    bare = text.replace("{%\n", "").replace("\\%", "").replace("\\_", "").replace("\\&", "")
    assert "%" not in bare
    assert "_" not in bare
    assert text.count(r"\begin{table}") == text.count(r"\toprule") == len(table.parts)


@pytest.mark.parametrize("make", [table_1, table_2])
def test_markdown_holds_every_row_and_every_note(make):
    table = make()
    lines = as_markdown(table).splitlines()
    assert [line for line in lines if line.startswith("- ")] == [f"- {note}" for note in table.notes]
    assert sum(line.startswith("|") for line in lines) == sum(len(part.cells) + 2 for part in table.parts)


def test_notes_are_one_line_each():
    assert not any("\n" in note for note in table_1().notes + table_2().notes)


def test_the_study_s_own_settings_leave_no_difference_of_data_features_or_network():
    same = facts(
        source="isic", images=37648, image_size=256, protocol="paper", network="efficientnet_b2", pretrained=True
    )
    told = " ".join(
        fidelity_differences(same, "inception", "vgg16") + prediction_differences(same, [1], SCENARIOS, MARGIN)
    )
    assert "images of the source" not in told
    assert "Features are those" not in told
    assert "EfficientNet" not in told
    assert "on one side" not in told


def test_notes_name_what_differs():
    notes = " ".join(fidelity_differences(facts(), "classifier", "classifier"))
    assert "Features are those of the project's own classifier of real images" in notes
    assert "precision and recall are in features of classifier and PPL is in features of classifier" in notes
    assert "2,053 images of the source phantom at 32 px" in notes
    notes = " ".join(prediction_differences(facts(), [2], SCENARIOS, MARGIN))
    assert "cnn-108k from random weights" in notes
    assert "training stops on the validation side" in notes
    assert "means over 2 seeds" in notes
    assert "2,000 by synth-gan, 800 by aug-gan" in notes


def test_seeds_are_told_as_they_are():
    assert any("values are of one training" in note for note in prediction_differences(facts(), [1], SCENARIOS, MARGIN))
    assert any("means over 2 to 5 seeds" in note for note in prediction_differences(facts(), [2, 5], ["real"], MARGIN))
