"""Comparisons of all classes together and of each: shares of classes, who is compared with whom."""

from pathlib import Path

import pytest
import torch

from skinsynth.quality.by_class import POOLED, Labelled, Sides, drawn_of_each, score_by_class, sides_by_class
from skinsynth.quality.colour import ColourHistograms
from skinsynth.quality.fidelity import FidelityConfig
from skinsynth.quality.proportions import as_frequent_as, counts_in_proportion, in_proportion


@pytest.mark.parametrize("count", [0, 1, 7, 100, 1001])
def test_counts_add_up_and_are_off_by_less_than_one(count):
    labels = torch.tensor([0] * 5 + [1] * 3 + [2] * 1)
    counts = counts_in_proportion(labels, count)
    assert counts.sum() == count == len(in_proportion(labels, count))
    assert ((counts - torch.tensor([5, 3, 1]) * count / 9).abs() < 1).all()


def test_a_set_in_proportion_is_kept_whole(rng):
    real = torch.randint(0, 2, (1437,), generator=rng)
    for count in (10, 60, 999, 1000):
        fake = in_proportion(real, count)
        assert as_frequent_as(fake, real, rng).tolist() == list(range(count))


def test_of_a_balanced_set_as_many_are_kept_as_the_real_shares_allow(rng):
    real = torch.tensor([0] * 75 + [1] * 25)
    fake = torch.tensor([0, 1] * 300)
    kept = as_frequent_as(fake, real, rng)
    assert fake[kept].bincount().tolist() == [300, 100]
    assert len(kept.unique()) == len(kept)


def test_a_class_that_the_fakes_lack_is_named(rng):
    with pytest.raises(ValueError, match="no image of class 1 in a set"):
        as_frequent_as(torch.zeros(50, dtype=torch.long), torch.tensor([0, 0, 0, 1]), rng)


def test_pooled_fakes_have_the_real_shares_and_classes_keep_all(rng):
    real = Labelled(torch.randn(40, 2, generator=rng), torch.tensor([0] * 30 + [1] * 10))
    fake = Labelled(torch.randn(40, 2, generator=rng), torch.tensor([0, 1] * 20))
    sides = {name: one.features()[:2] for name, one in sides_by_class(Sides(real, fake, None), ["a", "b"], 1)}
    counts = {name: tuple(map(len, features)) for name, features in sides.items()}
    assert counts[POOLED][1] in (26, 27)
    assert counts == {POOLED: (40, counts[POOLED][1]), "a": (30, 20), "b": (10, 20)}


def test_the_real_shares_are_those_of_training_and_each_class_has_its_own_held_out_images(rng):
    real, fake, held_out = (
        Labelled(torch.randn(12, 2, generator=rng), torch.tensor(labels))
        for labels in ([0, 1] * 6, [0, 1] * 6, [0] * 9 + [1] * 3)
    )
    sides = {name: one.features() for name, one in sides_by_class(Sides(real, fake, held_out), ["a", "b"], 1)}
    counts = {name: (len(made), len(own)) for name, (_, made, own) in sides.items()}
    assert counts == {POOLED: (12, 12), "a": (6, 9), "b": (6, 3)}


def test_a_draw_of_each_class_is_no_head_of_the_file():
    images = Labelled(torch.arange(60.0)[:, None], torch.tensor([0, 1]).repeat_interleave(30))
    drawn = drawn_of_each(images, 2, 10, Path("fakes.zip"), 1)
    assert drawn.labels.bincount().tolist() == [10, 10]
    assert (drawn.features[:, 0] // 30 == drawn.labels).all()
    assert drawn.features[:10, 0].tolist() != list(range(10))


def test_which_images_are_kept_is_drawn(rng):
    kept = as_frequent_as(torch.tensor([0] * 100 + [1] * 10), torch.tensor([0, 1]), rng)
    first = kept[kept < 100].tolist()
    assert first != list(range(len(first)))


def test_the_seed_alone_decides_the_halves_behind_intervals_of_every_class(rng):
    real, fake = (Labelled(torch.randn(40, 2, generator=rng), torch.tensor([0, 1] * 20)) for _ in range(2))
    config = FidelityConfig(neighbours=3, kid_subset_size=0, kid_subsets=0, interval_draws=3)
    first, same, other = (
        score_by_class(Sides(real, fake, None), ["a", "b"], config, seed, ColourHistograms()).rows for seed in (1, 1, 2)
    )
    ends = [[row["high"] for row in rows if row["metric"] == "kid_percent"] for rows in (first, same, other)]
    assert ends[0] == ends[1]
    assert len(ends[0]) == 3
    assert all(one != another for one, another in zip(ends[0], ends[2], strict=True))


def test_each_class_keeps_who_is_behind_its_images(rng):
    labels, patients = torch.tensor([0, 1] * 6), torch.tensor([0, 1, 2, 3]).repeat_interleave(3)
    real, held_out = (Labelled(torch.randn(12, 2, generator=rng), labels, first + patients) for first in (0, 10))
    fake = Labelled(torch.randn(12, 2, generator=rng), labels)
    found = {name: one.patients() for name, one in sides_by_class(Sides(real, fake, held_out), ["a", "b"], 1)}
    behind = {POOLED: patients, "a": patients[::2], "b": patients[1::2]}
    assert {name: (one.real.tolist(), one.held_out.tolist()) for name, one in found.items()} == {
        name: (own.tolist(), (10 + own).tolist()) for name, own in behind.items()
    }
