"""Who gets where after how many images, and what may be said of it: planted curves, planted intervals, planted sets."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from skinsynth.quality.by_class import Labelled
from skinsynth.quality.cohorts import (
    HARMED,
    HELPED,
    UNTOLD,
    Pair,
    Real,
    Standings,
    facts_of,
    gain_rows,
    headlines,
    helped,
    judge_models,
    verdict,
)
from skinsynth.quality.cohorts import pairs_of as pairs_of_curves
from skinsynth.quality.fidelity import FidelityConfig
from skinsynth.quality.reach import Curve, curve_rows, federations_of, reach_rows, read_curves
from skinsynth.report.reach import draw_reach

TRAIN = pd.DataFrame(
    {
        "label": [0, 0, 1, 0, 1, 0, 0, 0],
        "hospital": ["a", "a", "b", "b", "b", "c", "c", "c"],
        "group": [1, 1, 2, 2, 3, 4, 5, 6],
    }
)
CONFIG = FidelityConfig(neighbours=2, kid_subset_size=0, kid_subsets=1, interval_draws=4)


def curve(hospitals, *points):
    """Points of images per trainer, images in all, FID and KID."""
    columns = ["images_per_trainer", "images_in_all", "fid_x", "kid_x_percent"]
    return Curve(hospitals, pd.DataFrame(points, columns=columns))


CURVES = {
    "central": curve((), (0, 0, 1.0, 0.1), (10, 10, 6.0, 6.0), (20, 20, 4.0, 4.0), (30, 30, 5.0, 3.0)),
    "all": curve(("a", "b"), (0, 0, 1.0, 0.1), (10, 20, 4.0, 9.0), (20, 40, 2.0, 2.0), (30, 60, 1.5, 1.5)),
    "a-alone": curve(("a",), (0, 0, 1.0, 0.1), (10, 10, 9.0, 9.0), (20, 20, 5.0, 5.0), (30, 30, 4.5, 4.0)),
    "b-alone": curve(("b",), (0, 0, 1.0, 0.1), (30, 30, 1.4, 4.0), (60, 60, 1.5, 3.0)),
}


def reached(target, model, score="fid_x"):
    rows = reach_rows(CURVES, ["central", "all"])
    wanted = (score, target, model)
    return next(row for row in rows if (row["score"], row["target_of"], row["model"]) == wanted)


def test_the_first_point_at_the_target_counts_and_a_ratio_above_one_means_more_images():
    together = reached("central", "all")
    assert together["target"] == 4.0
    assert (together["images_per_trainer"], together["images_in_all"]) == (10, 20)
    assert (together["ratio_per_trainer"], together["ratio_in_all"]) == (0.5, 1.0)
    late = reached("central", "b-alone")
    assert (late["images_per_trainer"], late["ratio_per_trainer"]) == (30, 1.5)


def test_who_never_gets_there_has_an_empty_cell_and_its_own_lowest_point():
    alone = reached("central", "a-alone")
    assert (alone["images_per_trainer"], alone["images_in_all"]) == ("", "")
    assert math.isnan(alone["ratio_per_trainer"])
    assert (alone["lowest"], alone["lowest_images_per_trainer"], alone["lowest_images_in_all"]) == (4.5, 30, 30)


def test_a_model_reaches_its_own_lowest_point_with_as_many_images():
    for name in ("central", "all"):
        for score in ("fid_x", "kid_x_percent"):
            row = reached(name, name, score)
            assert (row["ratio_per_trainer"], row["ratio_in_all"]) == (1.0, 1.0)
            assert row["images_in_all"] == row["lowest_images_in_all"]


def test_the_start_is_no_point_that_training_reached():
    assert reached("central", "central")["lowest"] == 4.0  # and not the 1.0 before any image


def test_hospitals_alone_are_measured_by_the_federation_s_best_too():
    assert reached("all", "b-alone")["ratio_per_trainer"] == 1.0
    assert reached("all", "b-alone")["ratio_in_all"] == 0.5
    assert reached("all", "a-alone")["images_per_trainer"] == ""


def write(folder: Path, **tables: list[dict]) -> Path:
    folder.mkdir(parents=True)
    for name, rows in tables.items():
        pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False)
    return folder


def scores(*images):
    return [{"images": shown, "fid_x": 9.0 - n, "kid_x_percent": 1.0} for n, shown in enumerate(images)]


def rounds(*images):
    return [{"round": n, **row} for n, row in enumerate(scores(*images))]


def visits(*shown):
    return [{"round": n, "hospital": name, "images_shown": images} for n, name, images in shown]


def test_images_per_trainer_are_those_of_the_longest_visit_of_each_round(tmp_path):
    central = write(tmp_path / "cgan", scores=scores(0, 50))
    # In turn one of the two hospitals drops out: every round lasts as long as the other one's part.
    by_turns = visits((1, "north", 16), (2, "NA", 16), (3, "NA", 16), (3, "north", 8))
    both = write(tmp_path / "both", scores=rounds(0, 16, 32, 56), hospitals=by_turns)
    alone = write(tmp_path / "NA-alone", scores=rounds(0, 16), hospitals=visits((1, "NA", 16)))
    found = read_curves(central, [alone, both])
    assert list(found) == ["central", "both", "NA-alone"]
    assert found["both"].hospitals == ("NA", "north")
    assert found["both"].points["images_per_trainer"].tolist() == [0, 16, 32, 48]
    assert found["both"].points["images_in_all"].tolist() == [0, 16, 32, 56]
    assert found["central"].points["images_per_trainer"].tolist() == [0, 50]
    assert federations_of(found) == ["both"]
    assert curve_rows(found)[1] == {
        "model": "central",
        "images_per_trainer": 50,
        "images_in_all": 50,
        "fid_x": 8.0,
        "kid_x_percent": 1.0,
    }


def test_curves_that_cannot_be_compared_are_named(tmp_path):
    central = write(tmp_path / "cgan", scores=scores(0, 50))
    alone = write(tmp_path / "alone", scores=rounds(0, 16), hospitals=visits((1, "a", 16)))
    with pytest.raises(ValueError, match="alone: give a cohort of several hospitals"):
        read_curves(central, [alone])
    both = visits((1, "a", 16), (1, "b", 16))
    with pytest.raises(ValueError, match="none called 'central'"):
        read_curves(central, [write(tmp_path / "central", scores=rounds(0, 32), hospitals=both)])
    other = [{**row, "fid_y": 1.0} for row in rounds(0, 32)]
    with pytest.raises(ValueError, match="curves of different scores"):
        read_curves(central, [write(tmp_path / "both", scores=other, hospitals=both)])
    with pytest.raises(FileNotFoundError, match=r"no .*missing.scores.csv"):
        read_curves(central, [tmp_path / "missing"])


def facts():
    return {name: facts_of(one, TRAIN, ("benign", "malignant")) for name, one in CURVES.items()}


def test_facts_are_of_the_hospitals_behind_a_model():
    found = facts()
    assert (found["central"]["training_images"], found["central"]["training_patients"]) == (8, 6)
    assert (found["all"]["training_images"], found["all"]["training_patients"]) == (5, 3)
    assert (found["all"]["images_per_trainer"], found["all"]["images_in_all"]) == (30, 60)
    assert found["b-alone"]["malignant_share"] == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="d trained, but the split has no such hospital"):
        facts_of(curve(("d",), (1, 1, 1.0, 1.0)), TRAIN, ("benign", "malignant"))


def test_pairs_begin_with_the_smallest_hospital_and_need_one_that_trained_both_ways():
    assert pairs_of_curves(CURVES, facts()) == [Pair("all", "a-alone", "a"), Pair("all", "b-alone", "b")]
    outside = {"central": CURVES["central"], "all": CURVES["all"], "c-alone": curve(("c",), (1, 1, 1.0, 1.0))}
    with pytest.raises(ValueError, match="both alone and in a federation"):
        pairs_of_curves(outside, {name: facts_of(one, TRAIN, ()) for name, one in outside.items()})


LUCK = (-5.0, 0.0, 5.0)  # of the halves that all models share: their own intervals are wide
OWN_LUCK = {"all": (0.1, -0.2, 0.1), "a-alone": (-0.1, 0.2, -0.1)}


def judged_with(**fid_and_kid):
    """FID and KID of each model, against training and held-out images."""
    found = Standings([], {})
    for model, both in fid_and_kid.items():
        for metric, value in zip(("fid", "kid_percent"), both, strict=True):
            for reference in ("train", "held-out real"):
                about = {"model": model, "metric": metric, "reference": reference}
                found.rows.append({**about, "value": value, "low": value - 9, "high": value + 9})
                own = OWN_LUCK.get(model, (0.0, 0.0, 0.0))
                found.halves[model, metric, reference] = [value + a + b for a, b in zip(LUCK, own, strict=True)]
    return found


PAIR = Pair("all", "a-alone", "a")


@pytest.mark.parametrize(
    ("together", "alone", "answer", "said"),
    [
        ((3.0, 3.0), (9.0, 9.0), HELPED, "The federation 'all' helped a (2 training images of 1 patients): FID"),
        ((9.0, 9.0), (3.0, 3.0), HARMED, "gave a worse GAN than training alone to a"),
        ((3.0, 3.0), (4.0, 4.0), UNTOLD, "It cannot be told whether the federation 'all' helped a"),
        ((3.0, 3.0), (9.0, 4.0), UNTOLD, "It cannot be told"),  # FID alone tells
        ((3.0, 9.0), (9.0, 3.0), UNTOLD, "It cannot be told"),  # they contradict each other
        ((3.0, 3.0), (5.0, 5.0), HELPED, "The federation 'all' helped a"),  # their own intervals overlap
    ],
)
def test_a_verdict_needs_both_gains_clear_and_agreed(together, alone, answer, said):
    found = judged_with(**{"all": together, "a-alone": alone})
    assert helped(found, PAIR) == answer
    text = verdict(found, [PAIR], facts(), CURVES)
    assert said in text.splitlines()[0]
    assert "generated images, not over trainings" in text
    assert "all 0.5, a-alone 0.5" in text  # how far the last step of each curve moved


def test_a_gain_is_free_of_the_luck_that_both_models_share():
    (fid, kid) = gain_rows(judged_with(**{"all": (3.0, 3.0), "a-alone": (4.0, 9.0)}), [PAIR])
    assert (fid["federation"], fid["alone"], fid["hospital"], fid["metric"]) == ("all", "a-alone", "a", "fid")
    assert (fid["value"], kid["value"]) == (1.0, 6.0)
    # Student's quantile of two degrees of freedom times the deviation of -0.2, 0.4, -0.2.
    assert fid["high"] - fid["value"] == pytest.approx(4.302653 * 0.12**0.5, rel=1e-6)
    assert fid["value"] - fid["low"] == pytest.approx(fid["high"] - fid["value"])


def test_headlines_are_nine_at_most_however_many_hospitals_there_are():
    names = [f"h{n}-alone" for n in range(7)]
    judged = judged_with(**{"central": (5.0, 5.0), "all": (3.0, 3.0), **dict.fromkeys(names, (9.0, 8.0))})
    found = headlines(judged, [Pair("all", name, name[:2]) for name in names], "x")
    assert len(found) == 9
    assert found["fid_x_gain_of_smallest"] == 6.0
    assert (found["fid_x_central"], found["kid_x_percent_h0-alone"]) == (5.0, 8.0)
    assert found["federation_helped_smallest"] == HELPED


@pytest.fixture
def real(rng):
    train, held_out = (torch.randn(count, 4, generator=rng) for count in (60, 40))
    labels = [torch.zeros(count, dtype=torch.int64) for count in (60, 40)]
    return Real(Labelled(train, labels[0]), Labelled(held_out, labels[1]), "a", Labelled(train[:10], labels[0][:10]))


def judged(made, real):
    rows = judge_models(made, real, {"good": {"training_images": 60}}, CONFIG, 1, "x").rows
    return {(row["model"], row["reference"], row["metric"]): row for row in rows}


def test_models_share_the_halves_they_are_compared_by(real, rng):
    one = torch.randn(30, 4, generator=rng)
    found = judge_models({"all": one, "a-alone": one.clone()}, real, {}, CONFIG, 1, "x")
    for metric in ("fid", "kid_percent"):
        assert found.gain(PAIR, metric) == (0, 0, 0)
        assert len(set(found.halves["all", metric, "held-out real"])) == CONFIG.interval_draws


def test_models_are_judged_alike_and_real_images_set_the_floor(real, rng):
    good, bad = torch.randn(30, 4, generator=rng), torch.randn(30, 4, generator=rng) + 3
    found = judged({"good": good, "bad": bad, "twin": bad.clone()}, real)
    references = {(model, reference) for model, reference, _ in found}
    own, held_out = "train of a", "held-out real"
    assert references == {
        *((model, reference) for model in ("good", "bad", "twin") for reference in ("train", held_out, own)),
        *((held_out, reference) for reference in ("train", own)),
    }
    for reference in ("train", held_out, own):
        assert found["bad", reference, "fid"]["low"] > found["good", reference, "fid"]["high"]
        for metric in ("fid", "kid_percent"):
            one, other = (found[name, reference, metric] for name in ("bad", "twin"))
            assert {**one, "model": ""} == {**other, "model": ""}
    assert {metric for model, reference, metric in found if (model, reference) == ("good", "train")} == {
        *("fid", "kid_percent", "precision", "recall", "density", "coverage")
    }
    assert found[held_out, "train", "fid"]["compared_count"] == 30
    assert found["good", own, "fid"]["real_count"] == 10
    assert found["good", "train", "fid"]["training_images"] == 60


def test_a_hospital_of_too_few_images_is_left_out(real, rng):
    found = judged({"good": torch.randn(30, 4, generator=rng)}, real._replace(own=real.own.at(torch.arange(3))))
    assert {reference for _, reference, _ in found} == {"train", "held-out real"}


def test_the_figure_has_the_same_bytes_twice_and_takes_many_models_and_a_kid_below_zero(tmp_path):
    curves = {f"model-{n}": CURVES["all"].points.assign(kid_x_percent=-0.5 - n) for n in range(9)}
    about = {"extractor": "x", "reference": "train", "compared_count": 30, "low": 1.0, "high": 2.0, "value": 1.5}
    finals = [{**about, "model": "model-3", "metric": metric} for metric in ("fid", "kid_percent", "recall")]
    for name in ("once", "twice"):
        draw_reach(tmp_path / f"{name}.png", curves, finals)
    assert (tmp_path / "once.png").read_bytes() == (tmp_path / "twice.png").read_bytes()
    with Image.open(tmp_path / "once.png") as picture:
        assert np.asarray(picture.convert("RGB")).reshape(-1, 3).std() > 5


def test_the_verdict_is_by_held_out_patients_not_by_training_images():
    by_train = judged_with(**{"all": (9.0, 9.0), "a-alone": (3.0, 3.0)})
    by_held_out = judged_with(**{"all": (3.0, 3.0), "a-alone": (9.0, 9.0)})
    rows = [row for row in by_train.rows if row["reference"] == "train"]
    rows += [row for row in by_held_out.rows if row["reference"] == "held-out real"]
    halves = {key: by_train.halves[key] if "train" in key else by_held_out.halves[key] for key in by_train.halves}
    assert helped(Standings(rows, halves), PAIR) == HELPED


def test_a_federation_that_looks_worse_within_the_intervals_has_not_harmed():
    assert helped(judged_with(**{"all": (4.0, 4.0), "a-alone": (3.0, 3.0)}), PAIR) == UNTOLD


def test_intervals_are_over_the_patients_of_the_real_images(rng):
    """Six images of each patient that hardly differ are no six patients."""
    features = torch.randn(12, 4, generator=rng).repeat_interleave(6, dim=0) + 0.01 * torch.randn(72, 4, generator=rng)
    labels, config = torch.zeros(72, dtype=torch.int64), dataclasses.replace(CONFIG, interval_draws=20)
    made, widths = torch.randn(600, 4, generator=rng) + 1, {}
    for patients in (torch.arange(72) // 6, None):
        real = Labelled(features, labels, patients)
        rows = judge_models({"all": made}, Real(real, real, "a", real), {}, config, 1, "x").rows
        for row in rows:
            widths.setdefault((row["model"], row["reference"], row["metric"]), []).append(row["high"] - row["low"])
    for reference in ("train", "held-out real", "train of a"):
        grouped, alone = widths["all", reference, "fid"]
        assert grouped > 1.5 * alone


def test_the_floor_is_drawn_from_all_held_out_images(real, rng):
    """Of 40, of which the first half is far from training, as many as were generated."""
    real.held_out.features[:20] += 100
    found = judged({"good": torch.randn(20, 4, generator=rng)}, real)
    assert 0.2 < found["held-out real", "train", "precision"]["value"] < 0.8
