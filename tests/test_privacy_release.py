"""Rules of a release: a clean set is not stopped, each planted fault is, and nothing is ever called private."""

import math
from dataclasses import replace

import pandas as pd
import pytest

from skinsynth.files import sha256_of
from skinsynth.intervals import Interval, difference_of_shares, wilson_share
from skinsynth.partition.leakage import Leakage
from skinsynth.privacy.names import TABLES
from skinsynth.privacy.release import COLUMNS, ReleaseConfig, Tables, Verdict, eyes, findings
from skinsynth.report.checklist import Part, checklist
from stages.check_release import check_files, read_tables, summary

CONFIG = ReleaseConfig(equal=1e-6)
SEALED = Leakage(patient=0, patient_share=0.0, lesion=0, lesion_share=0.0, duplicate=0)


def training(**changes):
    return pd.DataFrame({"patient_id": ["p1", "p2"], "licence": ["CC0 1.0", "CC-BY-NC"]} | changes)


def pixels(repeated=0, training=0, held_out=0):
    row = {"images": 100, "repeated": repeated, "identical_to_training": training, "identical_to_held_out": held_out}
    return pd.DataFrame([row])


def copies(found=(0, 1, 1), gap=0.05, unlikely_from=9, chance=0.4):
    """Look-alikes by thumbnails of one class, and by features of two."""
    places = [("benign", "pixels"), ("benign", "real"), ("malignant", "real")]
    rows = [
        {
            "class": name,
            "images": 100,
            "smallest_held_out_gap": gap,
            "nearer_than_any_held_out": count,
            "expected_by_chance": 1.5,
            "chance_of_as_many": chance,
            "unlikely_from": unlikely_from,
            "features_of": space,
            "saw_the_set": 0,
        }
        for count, (name, space) in zip(found, places, strict=True)
    ]
    return pd.DataFrame(rows)


def copies_of_held_out(**changes):
    """The same rows the other way round, of thumbnails alone."""
    rows = copies(**changes).rename(columns={"nearer_than_any_held_out": "nearer_than_any_training"})
    return rows[rows["features_of"] == "pixels"].drop(columns="smallest_held_out_gap")


def disguises(**found):
    """What two ways of looking find of each disguise, of one class."""
    rows = [
        {"disguise": name, "class": "benign", "nearer_than_any_held_out": share, "features_of": space, "saw_the_set": 0}
        for name, shares in found.items()
        for space, share in zip(("pixels", "real"), shares, strict=True)
    ]
    return pd.DataFrame(rows)


def planted(copies_high=0.01, fresh_low=0.55):
    sets = {
        "generated": (0.6, 0.5, 0.7),
        "held-out real": (0.6, fresh_low, 0.7),
        "exact copies": (0.0, 0.0, copies_high),
        "half copies": (0.3, 0.25, 0.35),
    }
    columns = ("authenticity", "authenticity_low", "authenticity_high")
    return pd.DataFrame(
        [
            {"set": name, **dict(zip(columns, shares, strict=True)), "features_of": space, "saw_the_set": 0}
            for space in ("real", "aug")
            for name, shares in sets.items()
        ]
    )


def authenticity(generated=(0.6, 0.5, 0.7), beyond=(0.1, -0.5, 0.6), space="real"):
    """Two classes, of which malignant has these numbers."""
    rows = []
    for name, share, strangers in (
        ("benign", (0.6, 0.5, 0.7), (0.0, -0.4, 0.4)),
        ("malignant", generated, beyond),
    ):
        said = [
            ("authenticity", "generated", share),
            ("authenticity", "held-out real", (0.6, 0.5, 0.7)),
            ("copying_statistic", "generated", (-9.0, math.nan, math.nan)),
            ("copying_beyond_strangers", "generated", strangers),
        ]
        rows += [
            {"class": name, "metric": metric, "of": of, "value": value, "low": low, "high": high, "features_of": space}
            for metric, of, (value, low, high) in said
        ]
    return pd.DataFrame(rows).assign(saw_the_set=0)


def attacks(
    auc=(0.51, 0.48, 0.54),
    rate=(0.01, 0.002, 0.03),
    control=(0.5, 0.47, 0.53),
    model=(0.02, 0.005, 0.05),
    others=999,
    note=math.nan,
):
    said = [
        ("reconstruction", "auc", auc, "real"),
        ("density_ratio", "auc", (0.52, 0.47, 0.57), "real"),
        ("reconstruction", "tpr_at_1_percent_fpr", rate, "real"),
        ("random guess", "auc", control, "none"),
        ("random guess", "tpr_at_1_percent_fpr", (0.02, 0.015, 0.03), "none"),
        ("discriminator of cgan", "auc", (0.5, 0.4, 0.6), "none"),
        ("discriminator of cgan", "tpr_at_1_percent_fpr", model, "none"),
    ]
    rows = [
        {"attack": attack, "metric": metric, "value": value, "low": low, "high": high, "features_of": space}
        for attack, metric, (value, low, high), space in said
    ]
    return pd.DataFrame(rows).assign(saw_the_set=0, non_members=others, note=["", "", note, "", "", "", ""])


JUDGED = pd.DataFrame({"what": ["file"], "value": ["set.zip"]})


def clean_tables():
    """Those of a set without a fault."""
    return {
        "judged": JUDGED,
        "pixels": pixels(),
        "copies": copies(),
        "copies_of_held_out": copies_of_held_out(),
        "disguises": disguises(mirrored=(1.0, 0.0)),
        "planted": planted(),
        "authenticity": authenticity(),
        "attacks": attacks(),
    }


def answers(leakage=SEALED, people=None, others=None, **tables):
    """The answer to every question, about a set without a fault but for what is given."""
    clean = clean_tables()
    sides = (training() if given is None else given for given in (people, others))
    found = findings(CONFIG, leakage, *sides, Tables(**(clean | tables)))
    return {(one.section, one.question): one for one in found}


def answer(question, **given):
    (found,) = (one for (_, asked), one in answers(**given).items() if asked == question)
    return found


CLEAN = {question: one.verdict for question, one in answers().items()}


def changed(**given):
    """Verdicts that are not those of a set without a fault."""
    return [one.verdict for question, one in answers(**given).items() if one.verdict != CLEAN[question]]


def test_the_rules_read_columns_of_tables_that_are_written():
    assert set(Tables._fields) == set(COLUMNS) <= set(TABLES)


def test_a_set_without_a_fault_leaves_licences_and_pairs_to_a_person_and_is_not_called_private():
    counts = {verdict: list(CLEAN.values()).count(verdict) for verdict in Verdict if verdict in CLEAN.values()}
    assert counts == {Verdict.LOOK: 2, Verdict.NOTHING: 10, Verdict.HOLDS: 6}
    said = " ".join(f"{verdict}" for verdict in Verdict)
    assert "private" not in said
    assert "safe" not in said


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        ({"leakage": replace(SEALED, patient=1)}, Verdict.BLIND),
        ({"leakage": replace(SEALED, lesion=1)}, Verdict.BLIND),
        ({"leakage": replace(SEALED, duplicate=1)}, Verdict.BLIND),
        ({"people": training(patient_id=["p1", ""])}, Verdict.WARNS),
        ({"others": training(patient_id=["p1", ""])}, Verdict.WARNS),
        ({"pixels": pixels(training=1)}, Verdict.STOPS),
        ({"pixels": pixels(held_out=1)}, Verdict.STOPS),
        ({"pixels": pixels(repeated=1)}, Verdict.WARNS),
        ({"pixels": pixels(repeated=49)}, Verdict.WARNS),
        ({"pixels": pixels(repeated=50)}, Verdict.STOPS),
        ({"copies": copies((8, 0, 0), chance=0.016)}, Verdict.WARNS),  # of three rows together less than 0.05
        ({"copies_of_held_out": copies_of_held_out(found=(8, 0, 0), chance=0.049)}, Verdict.WARNS),
        ({"copies_of_held_out": copies_of_held_out(found=(9, 0, 0))}, Verdict.STOPS),
        ({"copies_of_held_out": copies_of_held_out(found=(9, 0, 0), unlikely_from=101)}, Verdict.BLIND),
        ({"copies": copies((9, 0, 0))}, Verdict.STOPS),
        ({"copies": copies((0, 0, 9))}, Verdict.STOPS),
        ({"copies": copies(gap=0.0)}, Verdict.BLIND),
        ({"copies": copies((100, 0, 0), unlikely_from=101)}, Verdict.BLIND),
        ({"planted": planted(copies_high=0.6)}, Verdict.BLIND),
        ({"disguises": disguises(mirrored=(0.49, 0.2))}, Verdict.WARNS),
        ({"authenticity": authenticity(generated=(0.4, 0.35, 0.45))}, Verdict.WARNS),
        ({"authenticity": authenticity(generated=(0.36, 0.3, 0.42))}, Verdict.WARNS),
        ({"authenticity": authenticity(generated=(0.35, 0.3, 0.4))}, Verdict.STOPS),
        ({"authenticity": authenticity(generated=(0.1, 0.05, 0.15))}, Verdict.STOPS),
        ({"authenticity": authenticity(beyond=(-3.0, -4.0, -0.1))}, Verdict.WARNS),
        ({"authenticity": authenticity(beyond=(math.nan,) * 3)}, Verdict.BLIND),
        ({"attacks": attacks(auc=(0.55, 0.51, 0.6))}, Verdict.WARNS),
        ({"attacks": attacks(rate=(0.04, 0.02, 0.06))}, Verdict.WARNS),
        ({"attacks": attacks(model=(0.04, 0.02, 0.06))}, Verdict.WARNS),
        ({"attacks": attacks(auc=(math.nan,) * 3)}, Verdict.BLIND),
        ({"attacks": attacks(note="too few")}, Verdict.BLIND),
        ({"attacks": attacks(control=(math.nan,) * 3)}, Verdict.BLIND),
        ({"attacks": attacks(control=(0.56, 0.53, 0.6))}, Verdict.WARNS),
        ({"attacks": attacks(control=(0.44, 0.4, 0.47))}, Verdict.WARNS),
    ],
)
def test_one_planted_fault_changes_one_verdict(fault, verdict):
    assert changed(**fault) == [verdict]


@pytest.mark.parametrize(
    "harmless",
    [
        {"copies": copies((8, 8, 8), chance=0.017)},
        {"copies_of_held_out": copies_of_held_out(found=(8, 8, 8), chance=0.051)},
        {"disguises": disguises(mirrored=(0.1, 0.5))},
        {"authenticity": authenticity(generated=(0.9, 0.85, 0.95))},
        {"authenticity": authenticity(generated=(0.55, 0.45, 0.65))},
        {"authenticity": authenticity(beyond=(9.0, 8.0, 10.0))},
        {"attacks": attacks(auc=(0.4, 0.35, 0.45))},
        # Of 49 non-members the largest score alone is the threshold, which one in 50 members passes by chance.
        {"attacks": attacks(rate=(0.04, 0.019, 0.06), others=49)},
    ],
)
def test_what_speaks_of_no_copy_changes_none(harmless):
    assert changed(**harmless) == []


def with_a_classifier_that_saw_the_set(fine, faulty):
    """A table without a fault, and the same with one in features of a classifier that was trained on the set."""
    return pd.concat([fine, faulty.assign(features_of="aug", saw_the_set=1)])


def test_features_that_learnt_from_the_set_are_asked_nothing_but_which_pairs_to_look_at():
    faults = {
        "copies": with_a_classifier_that_saw_the_set(copies(), copies((9, 9, 9), gap=0.0)),
        "disguises": with_a_classifier_that_saw_the_set(disguises(mirrored=(1.0, 0.0)), disguises(other=(0.0, 0.0))),
        "planted": with_a_classifier_that_saw_the_set(planted(), planted(copies_high=0.6)),
        "authenticity": with_a_classifier_that_saw_the_set(
            authenticity(), authenticity(generated=(0.1, 0.05, 0.15), beyond=(-3.0, -4.0, -0.1))
        ),
        "attacks": with_a_classifier_that_saw_the_set(attacks(), attacks(auc=(0.6, 0.55, 0.65), rate=(0.5, 0.4, 0.6))),
    }
    assert changed(**faults) == []
    looked_at = answer("Does the same lesion stand on both sides of a nearest pair?", copies=faults["copies"])
    assert "27 in features of aug" in looked_at.found


def test_where_every_classifier_learnt_from_the_set_questions_are_left_open_and_say_so():
    seen = {"planted": planted().assign(saw_the_set=1), "authenticity": authenticity().assign(saw_the_set=1)}
    assert changed(**seen) == [Verdict.UNANSWERED] * 3
    found = answer("Are images less authentic than held-out ones?", **seen)
    assert "learnt from this set" in found.found
    said = summary(list(answers(**seen).values()))
    assert "3 of 18 questions are not answered" in said


def test_changes_that_hide_a_copy_are_named_by_the_best_way_of_looking_in_the_worst_class():
    other = disguises(mirrored=(0.4, 0.6), turned=(0.04, 0.01)).assign(**{"class": "malignant"})
    found = answer(
        "Do usual changes hide a copy from every way of looking?",
        disguises=pd.concat([disguises(mirrored=(1.0, 0.9), turned=(0.3, 0.0)), other]),
    )
    assert found.verdict is Verdict.WARNS
    assert "turned (4.0%)" in found.found
    assert "mirrored" not in found.found


def test_an_unchanged_copy_is_looked_for_but_counts_as_no_change():
    seen = disguises(none=(1.0, 1.0), mirrored=(0.6, 0.9), turned=(0.7, 0.0))
    found = answer("Do usual changes hide a copy from every way of looking?", disguises=seen)
    assert found.verdict is Verdict.HOLDS
    assert found.found == "one way finds 70% or more of copies, unchanged ones and those of each of 2 changes"


@pytest.mark.parametrize("about", [{"sha256 of the split": "another"}, {}])
def test_a_page_about_another_split_is_refused_in_one_line(tmp_path, about):
    (tmp_path / "main.csv").write_text("image_id")
    with pytest.raises(ValueError, match=r"^[^\n]*main\.csv is not the file[^\n]*\(sha256 of the split: [^\n]*again$"):
        check_files(about, {"sha256 of the split": tmp_path / "main.csv"})
    check_files(
        {"sha256 of the split": sha256_of(tmp_path / "main.csv")}, {"sha256 of the split": tmp_path / "main.csv"}
    )


def test_a_set_in_the_place_of_its_judgement_is_refused(tmp_path):
    (tmp_path / "set.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"set\.zip is a set, not its judgement: run score_authenticity first"):
        read_tables(tmp_path / "set.zip")


def test_tables_of_another_version_and_empty_ones_are_named(tmp_path):
    for name, table in clean_tables().items():
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    assert len(read_tables(tmp_path).copies) == 3
    copies().drop(columns="unlikely_from").to_csv(tmp_path / "copies.csv", index=False)
    with pytest.raises(ValueError, match=r"copies\.csv: no column 'unlikely_from'"):
        read_tables(tmp_path)
    copies().to_csv(tmp_path / "copies.csv", index=False)
    pixels().iloc[:0].to_csv(tmp_path / "pixels.csv", index=False)
    with pytest.raises(ValueError, match=r"pixels\.csv has no rows: run score_authenticity again"):
        read_tables(tmp_path)


def test_a_missing_file_beside_the_judgement_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no .*lesions\.csv: give the file that this set was judged by"):
        check_files({}, {"sha256 of lesions.csv": tmp_path / "lesions.csv"})


def test_the_worst_answer_is_told_and_not_the_lowest_number():
    wide_and_low = authenticity(generated=(0.45, 0.2, 0.7))
    narrow = authenticity(generated=(0.48, 0.46, 0.5), space="aug")
    found = answer("Are images less authentic than held-out ones?", authenticity=pd.concat([wide_and_low, narrow]))
    assert found.verdict is Verdict.WARNS
    assert "0.480 (0.460 to 0.500) (malignant, in features of aug)" in found.found
    assert "planted half copies 0.30" in found.found
    assert "the worst of 4" in found.found


def test_a_set_without_a_model_is_not_asked_about_it():
    without = attacks()
    without = without[~without["attack"].str.startswith("discriminator")]
    found = answers(attacks=without)
    assert "Attacks by who has the discriminator too" not in {section for section, _ in found}
    assert len(found) == len(CLEAN) - 2


def test_a_licence_that_nobody_knows_is_said():
    found = answers(people=training(licence=["", "CC0 1.0"]))
    (licences,) = (one.found for (section, _), one in found.items() if section == "Rights")
    assert "unknown (1 training images)" in licences
    assert "CC0 1.0 (1 training images)" in licences


def test_eyes_are_told_by_disguise_and_way_of_looking_over_classes():
    other = disguises(mirrored=(0.9, 0.2), turned=(0.1, 0.0)).assign(**{"class": "malignant"})
    seen = eyes(pd.concat([disguises(mirrored=(1.0, 0.0), turned=(0.1, 0.0)), other]))
    assert seen.columns.tolist() == ["training images, changed", "by thumbnails", "in features of real"]
    assert seen.to_numpy().tolist() == [["mirrored", "90 to 100%", "0 to 20%"], ["turned", "10%", "0%"]]


def test_a_cell_of_a_page_cannot_end_its_row():
    page = checklist("T", "S", [Part("H", "", ("a",), [("CC-BY | see\ncontract",)]), Part("L", "", (), [("one",)])])
    assert "| CC-BY \\| see contract |" in page
    assert page.startswith("# T\n\n**S**\n")
    assert page.endswith("## L\n\n- one\n")


def test_a_difference_of_shares_is_newcombes_example():
    # Newcombe 1998, Statistics in Medicine 17, table II: 56 of 70 less 48 of 80, method 10.
    found = difference_of_shares(wilson_share(56, 70), wilson_share(48, 80))
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    turned = difference_of_shares(wilson_share(48, 80), wilson_share(56, 70))
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


def test_a_difference_of_exact_shares_is_exact():
    assert difference_of_shares(Interval(0.5, 0.5, 0.5), Interval(0.2, 0.2, 0.2)) == pytest.approx((0.3, 0.3, 0.3))
