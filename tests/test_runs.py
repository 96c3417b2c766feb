"""Runs of the same study side by side: what is said of differences over them."""

import csv
import math

import pytest

from benchmarks.runs import RUNS, compared, differences, over_runs, table_of_differences, write_differences

PLANTED = {"real": 0.9, "real, doses": 0.8, "synth-gan": 0.7, "aug-gan": 0.9, "aug-selected, doses: as many": 0.82}


def planted(shifts, **scatter):
    """Runs that move as a whole, each by its shift; `scatter` moves a scenario in each run by itself."""
    return {
        run: {
            name: auc + shift + scatter.get(name.replace("-", "_"), [0.0] * len(shifts))[place]
            for name, auc in PLANTED.items()
        }
        for place, (run, shift) in enumerate(zip(RUNS, shifts, strict=False))
    }


def test_the_interval_of_three_numbers_is_that_of_the_tables_of_t():
    # Mean 2, deviation 1, t of two degrees of freedom 4.302653.
    assert over_runs([1.0, 2.0, 3.0]) == pytest.approx((2, 1, 2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)))


def test_one_training_has_a_difference_and_no_interval():
    mean, *others = over_runs([0.1])
    assert mean == 0.1
    assert all(map(math.isnan, others))


def test_runs_that_move_with_their_real_images_leave_an_interval_of_no_width():
    # Dose scenarios are set beside the real images of the doses.
    means = {"synth-gan": -0.2, "aug-gan": 0.0, "aug-selected, doses: as many": 0.02}
    found = compared(planted([0.0, 0.01, -0.02, 0.03]))
    assert found.keys() == means.keys()
    for name, mean in means.items():
        assert len(found[name]) == 4
        assert over_runs(found[name]) == pytest.approx((mean, 0, mean, mean))


def test_a_run_that_trained_nothing_anew_does_not_narrow_the_interval():
    aucs = planted([0.0, 0.01, 0.02], synth_gan=[0.0, 0.05, 0.02])
    again = dict(list(aucs.items())[:2]) | {"again": aucs["second"]} | {"third": aucs["third"]}
    assert differences(again, "synth-gan") == differences(aucs, "synth-gan")


def test_a_scenario_that_a_run_lacks_is_compared_in_the_others():
    aucs = planted([0.0, 0.01, 0.02, 0.0], synth_gan=[0.0, 0.05, 0.02, 0.01])
    del aucs["first"]["synth-gan"]
    assert differences(aucs, "synth-gan") == pytest.approx([-0.15, -0.18, -0.19])


def test_the_tables_hold_the_differences_with_their_intervals(tmp_path):
    scatter = [0.0, 0.1, 0.05, 0.02, 0.3, 0.25]
    aucs = planted([0.0] * 6, synth_gan=scatter)  # of all others there is one training, six times
    write_differences(tmp_path / "differences.csv", aucs)
    with (tmp_path / "differences.csv").open() as file:
        rows = {row["scenario"]: row for row in csv.DictReader(file)}
    assert rows["aug-selected, doses: as many"]["less"] == "real, doses"
    assert (rows["aug-gan"]["trainings"], rows["aug-gan"]["low"]) == ("1", "nan")
    found = [float(rows["synth-gan"][key]) for key in ("mean", "standard_deviation", "low", "high")]
    assert found == pytest.approx(over_runs([number - 0.2 for number in scatter]), abs=5e-5)
    row = next(line for line in table_of_differences(aucs).splitlines() if "`synth-gan`" in line)
    # The last columns: before the fifth and since.
    assert [cell.strip() for cell in row.split("|")[-3:-1]] == ["-0.158", "+0.075"]
