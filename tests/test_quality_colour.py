"""Hue, saturation and brightness of generated images against real ones: distances, leaks, intervals, bars."""

import colorsys
import math

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

from skinsynth.features.extractor import Extractor
from skinsynth.gan.augment import turn_about_grey_axis
from skinsynth.images.archive import Images
from skinsynth.quality.by_class import POOLED, Labelled, Sides, features_of
from skinsynth.quality.colour import (
    HUES,
    LINE,
    ColourHistograms,
    by_quantity,
    colour_rows,
    colour_rows_by_class,
    colour_scores,
    hue_rows,
    hue_saturation_brightness,
    mean_hues,
    mean_levels,
    share_of_hues_outside,
    share_outside,
    wasserstein_on_circle,
    wasserstein_on_line,
)
from skinsynth.quality.fidelity import Patients

HISTOGRAMS = ColourHistograms()
# What 8 bits of a channel may turn a hue by at the chromas below, in degrees, and what they may move a level by.
DEGREE, LEVEL = 0.5, 1 / 255


def painted(hue, saturation, brightness):
    """Images of these HSV planes [n size size], by the formula without cases."""
    channels = []
    for offset in (5, 3, 1):
        k = (offset + hue / 60) % 6
        channels.append(brightness * (1 - saturation * k.minimum(4 - k).clamp(0, 1)))
    return (255 * torch.stack(channels, dim=1)).round().to(torch.uint8)


def skin(count, rng, hue=20.0, saturation=0.6, brightness=0.7, size=4):
    """HSV planes of pictures that differ in colour within themselves and among each other."""

    def planes(centre, among, within):
        differences = torch.randn(count, 1, 1, generator=rng) * among
        return centre + differences + torch.randn(count, size, size, generator=rng) * within

    return [
        planes(hue, 6, 8),
        planes(saturation, 0.05, 0.05).clamp(0.2, 0.95),
        planes(brightness, 0.03, 0.03).clamp(0.5, 0.99),
    ]


def histogram_of(bins, size):
    return torch.tensor(bins).bincount(minlength=size).double()


def row_of(rows, metric, compared="generated", name=POOLED):
    keys = ("metric", "compared", "reference", "class")
    (row,) = (row for row in rows if tuple(row[key] for key in keys) == (metric, compared, "train", name))
    return row


def test_colours_are_those_of_the_standard_library(rng):
    corners = torch.cartesian_prod(*3 * [torch.tensor([0, 1, 2, 127, 254, 255])])
    colours = torch.cat([corners, torch.randint(256, (800, 3), generator=rng)]).to(torch.uint8)
    found = torch.stack([plane.flatten() for plane in hue_saturation_brightness(colours[:, :, None, None])], dim=1)
    expected = torch.tensor(
        [colorsys.rgb_to_hsv(*(channel / 255 for channel in colour)) for colour in colours.tolist()]
    )
    torch.testing.assert_close(found, expected * torch.tensor([360, 1, 1]), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("degrees", [0, 7, 45, 120, 250])
def test_a_planted_turn_of_hue_is_its_distance_the_short_way_round(rng, degrees):
    hue, saturation, brightness = skin(150, rng)
    real = HISTOGRAMS(painted(hue, saturation, brightness))
    scores = colour_scores(real, HISTOGRAMS(painted(hue + degrees, saturation, brightness)))
    shortest = min(degrees, 360 - degrees)
    assert scores["hue_w1_degrees"] == pytest.approx(shortest, abs=DEGREE)
    assert scores["mean_hue_w1_degrees"] == pytest.approx(shortest, abs=DEGREE)
    assert scores["saturation_w1"] < LEVEL
    assert scores["brightness_w1"] < LEVEL
    assert scores["hue_leak_share"] == pytest.approx(0 if degrees == 0 else 0.3 if degrees == 7 else 1, abs=0.25)


def test_planted_saturation_and_brightness_are_their_distances_and_leave_hue(rng):
    hue, saturation, brightness = skin(150, rng)
    real = HISTOGRAMS(painted(hue, saturation, brightness))
    dull = colour_scores(real, HISTOGRAMS(painted(hue, saturation - 0.15, brightness)))
    dark = colour_scores(real, HISTOGRAMS(painted(hue, saturation, brightness - 0.2)))
    for scores, moved, still, distance in (
        (dull, "saturation", "brightness", 0.15),
        (dark, "brightness", "saturation", 0.2),
    ):
        assert scores[f"{moved}_w1"] == pytest.approx(distance, abs=LEVEL)
        assert scores[f"mean_{moved}_w1"] == pytest.approx(distance, abs=LEVEL)
        assert scores[f"{moved}_leak_share"] > 0.6
        assert scores[f"{still}_w1"] < LEVEL
        assert scores["hue_w1_degrees"] < 2 * DEGREE
        assert max(scores[f"{still}_leak_share"], scores["hue_leak_share"]) < 0.05


def test_half_the_brightness_moves_no_hue_and_no_saturation(rng):
    pixels = 2 * torch.randint(128, (20, 3, 4, 4), generator=rng).to(torch.uint8)
    bright, dark = by_quantity(HISTOGRAMS(pixels)), by_quantity(HISTOGRAMS(pixels // 2))
    for quantity in ("hue", "saturation"):
        torch.testing.assert_close(dark[quantity], bright[quantity] / 2)
    scores = colour_scores(HISTOGRAMS(pixels), HISTOGRAMS(pixels // 2))
    assert scores["hue_w1_degrees"] == pytest.approx(0, abs=1e-5)
    assert scores["brightness_w1"] == pytest.approx(float(pixels.amax(1).double().mean()) / 2 / 255, rel=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_the_leak_share_is_the_share_of_images_that_were_turned(rng, share):
    real, hue = painted(*skin(300, rng)), skin(300, rng)
    hue[0][: int(share * 300)] += 180
    leak = colour_scores(HISTOGRAMS(real), HISTOGRAMS(painted(*hue)))["hue_leak_share"]
    assert leak == pytest.approx(share + (1 - share) * 0.02, abs=0.04)


def test_images_that_adas_hue_has_turned_leak(rng):
    pixels = painted(*skin(100, rng))
    turned = pixels.clone()
    third = turn_about_grey_axis(torch.full((50,), 2 * math.pi / 3))[:, :3, :3]
    turned[:50] = (third @ pixels[:50].float().flatten(2)).view(50, 3, 4, 4).round().to(torch.uint8)
    scores = colour_scores(HISTOGRAMS(pixels), HISTOGRAMS(turned))
    assert scores["hue_w1_degrees"] == pytest.approx(60, abs=2)
    assert scores["hue_leak_share"] == pytest.approx(0.5, abs=0.02)


def test_reds_on_both_sides_of_zero_are_neighbours():
    before, after = [HISTOGRAMS(painted(*(torch.full((2, 8, 8), x) for x in (hue, 1.0, 1.0)))) for hue in (359.0, 1.0)]
    assert colour_scores(before, after)["hue_w1_degrees"] == pytest.approx(2)
    assert colour_scores(before, after)["mean_hue_w1_degrees"] == pytest.approx(2)
    both = by_quantity(torch.cat([before, after]).sum(dim=0, keepdim=True))["hue"]
    assert (float(mean_hues(both)) + 180) % 360 == pytest.approx(180, abs=0.01)
    around_red = torch.linspace(-10, 10, 201, dtype=torch.float64) % 360
    assert share_of_hues_outside(around_red, torch.tensor([0.0, 355, 5, 349, 11, 180]).double()) == 0.5


def test_mean_hues_lie_on_the_circle_once_and_mean_levels_within_the_scale(rng):
    histograms = by_quantity(HISTOGRAMS(painted(*skin(50, rng, 350.0))))
    hues = mean_hues(histograms["hue"])
    assert 300 < float(hues.median()) < 360
    assert 0 <= float(hues.min()) <= float(hues.max()) < 360
    torch.testing.assert_close(mean_levels(torch.eye(LINE.bins)), torch.linspace(0, 1, LINE.bins).double())


def test_rounding_of_means_is_no_leak():
    real = torch.full((10,), 20.0, dtype=torch.float64)
    nearly = real + torch.tensor([-1e-6, 1e-6] * 5)
    assert share_outside(real, nearly) == share_of_hues_outside(real, nearly) == 0
    assert share_outside(real, real + torch.tensor([-0.1, 0.1] * 5)) == 1


def test_grey_counts_nothing_for_hue_and_black_nothing_for_saturation(rng):
    pixels = painted(*skin(30, rng))
    levels = torch.randint(1, 256, (30, 1, 4, 4), generator=rng).to(torch.uint8)
    greys, blacks = HISTOGRAMS(levels.expand(-1, 3, -1, -1)), HISTOGRAMS(torch.zeros_like(pixels))
    real = HISTOGRAMS(pixels)
    assert by_quantity(greys)["hue"].sum() == 0
    assert by_quantity(blacks)["saturation"].sum() == 0
    assert mean_hues(by_quantity(greys)["hue"]).isnan().all()
    assert mean_levels(by_quantity(blacks)["saturation"]).isnan().all()
    beside_greys = colour_scores(real, torch.cat([real, greys]))
    assert (beside_greys["hue_w1_degrees"], beside_greys["mean_hue_w1_degrees"]) == pytest.approx((0, 0), abs=1e-5)
    assert beside_greys["hue_leak_share"] < 0.1
    assert beside_greys["saturation_leak_share"] >= 0.5
    assert colour_scores(real, torch.cat([real, blacks]))["saturation_w1"] == pytest.approx(0, abs=1e-6)
    alone = colour_scores(real, greys)
    assert all(math.isnan(value) for metric, value in alone.items() if "hue" in metric)
    assert not any(math.isnan(value) for metric, value in alone.items() if "hue" not in metric)
    assert math.isnan(row_of(colour_rows(real, greys, None, 3, rng), "hue_leak_share")["high"])


def test_equal_sets_have_no_distance_and_distances_are_symmetric(rng):
    real, fake = HISTOGRAMS(painted(*skin(60, rng))), HISTOGRAMS(painted(*skin(40, rng, 35, 0.5, 0.6)))
    own, forth, back = colour_scores(real, real), colour_scores(real, fake), colour_scores(fake, real)
    for metric in own:
        if "leak" in metric:
            assert own[metric] <= 2 / 60
        else:
            assert own[metric] == pytest.approx(0, abs=1e-9)
            assert forth[metric] == pytest.approx(back[metric], rel=1e-9)
            assert forth[metric] > 0.02


def test_images_of_one_hue_each_differ_from_images_of_all_hues(rng):
    hues = 40 * torch.rand(1600, generator=rng)
    mixed, pure = hues.view(100, 4, 4), hues[:100, None, None].expand(-1, 4, 4)
    full = torch.ones(100, 4, 4)
    scores = colour_scores(HISTOGRAMS(painted(mixed, full, full)), HISTOGRAMS(painted(pure, full, full)))
    assert scores["hue_w1_degrees"] < 3
    assert scores["mean_hue_w1_degrees"] > 6
    assert scores["hue_leak_share"] > 0.5


def test_the_circular_distance_is_the_least_over_all_cuts(rng):
    for bins in (12, 37, 360):
        p, q = (torch.rand(2, bins, generator=rng, dtype=torch.float64) ** 4).unbind()
        places = np.arange(bins) * 360 / bins
        cuts = [wasserstein_distance(places, places, p.roll(k).numpy(), q.roll(k).numpy()) for k in range(bins)]
        # Cutting never shortens a way; the least cut is one that no mass would cross.
        assert wasserstein_on_circle(p, q) <= min(cuts) + 1e-9
        gap = (p / p.sum() - q / q.sum()).cumsum(0)
        flows = (gap[None] - gap[:, None]).abs().mean(dim=1) * 360
        assert wasserstein_on_circle(p, q) == pytest.approx(float(flows.min()), rel=1e-9)


def test_the_circular_distance_is_that_of_the_best_pairing(rng):
    for _ in range(20):
        a, b = (torch.randint(HUES, (2, 12), generator=rng).sort(dim=1).values).tolist()
        pairings = [
            np.mean([min((x - y) % HUES, (y - x) % HUES) for x, y in zip(a, b[k:] + b[:k], strict=True)])
            for k in range(len(b))
        ]
        assert wasserstein_on_circle(histogram_of(a, HUES), histogram_of(b, HUES)) == pytest.approx(min(pairings))


def test_distances_that_need_not_wrap_are_those_of_scipy(rng):
    p, q = torch.zeros(2, HUES, dtype=torch.float64)
    p[20:120], q[50:150] = torch.rand(2, 100, generator=rng, dtype=torch.float64)
    places = np.arange(HUES)
    expected = wasserstein_distance(places, places, p.numpy(), q.numpy())
    assert wasserstein_on_circle(p, q) == pytest.approx(expected, rel=1e-9)
    assert wasserstein_on_line(p, q) == pytest.approx(expected / (HUES - 1), rel=1e-9)


def test_pooled_distances_are_scipys_between_all_pixels(rng):
    pixels = [torch.randint(low, 256, (12, 3, 5, 5), generator=rng).to(torch.uint8) for low in (0, 60)]
    scores = colour_scores(*map(HISTOGRAMS, pixels))
    (_, *real), (_, *fake) = ([plane.flatten().numpy() for plane in hue_saturation_brightness(p)] for p in pixels)
    assert scores["brightness_w1"] == pytest.approx(wasserstein_distance(real[1], fake[1]), rel=1e-5)
    expected = wasserstein_distance(real[0], fake[0], real[1], fake[1])
    assert scores["saturation_w1"] == pytest.approx(expected, abs=LEVEL / 2)


def test_order_batches_arrays_and_image_size_do_not_matter(rng, monkeypatch):
    pixels = painted(*skin(37, rng))
    whole = HISTOGRAMS(pixels)
    monkeypatch.setattr("skinsynth.quality.colour.PIXELS_AT_ONCE", 5 * 16)
    assert torch.equal(HISTOGRAMS(pixels), whole)
    assert torch.equal(HISTOGRAMS(pixels.numpy()), whole)
    order = torch.randperm(37, generator=rng)
    assert torch.equal(HISTOGRAMS(pixels[order]), whole[order])
    torch.testing.assert_close(HISTOGRAMS(pixels.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)), whole)
    other = HISTOGRAMS(painted(*skin(20, rng, 40)))
    assert colour_scores(whole[order], other) == pytest.approx(colour_scores(whole, other), rel=1e-6)
    assert HISTOGRAMS(np.zeros((0, 3, 0, 0), dtype=np.uint8)).shape == (0, HISTOGRAMS.dim)


def test_histograms_are_features_like_any_extractors(rng):
    assert isinstance(HISTOGRAMS, Extractor)
    pixels = painted(*skin(6, rng)).numpy()
    labelled = features_of(HISTOGRAMS, Images([str(n) for n in range(6)], pixels, np.arange(6) % 2))
    assert torch.equal(labelled.of(1).features, HISTOGRAMS(pixels[1::2]))


def test_intervals_hold_a_planted_turn_at_about_their_rate(rng):
    turn, hits = 25, 0
    for _ in range(40):
        real, fake = HISTOGRAMS(painted(*skin(40, rng))), HISTOGRAMS(painted(*skin(40, rng, 20 + turn)))
        row = row_of(colour_rows(real, fake, None, 15, rng), "hue_w1_degrees")
        assert row["low"] < row["value"] < row["high"] < turn + 10
        hits += row["low"] <= turn <= row["high"]
    assert hits / 40 >= 0.85


def test_the_floor_of_held_out_images_lies_below_a_leak(rng):
    real, held_out = HISTOGRAMS(painted(*skin(200, rng))), HISTOGRAMS(painted(*skin(60, rng)))
    fake = HISTOGRAMS(painted(*skin(150, rng, 35)))
    rows = colour_rows(real, fake, held_out, 10, rng)
    counts = {(row["compared"], row["reference"]): (row["compared_count"], row["real_count"]) for row in rows}
    alike = "generated, as many as held out"
    assert counts == {
        ("generated", "train"): (150, 200),
        ("generated", "held-out real"): (150, 60),
        ("held-out real", "train"): (60, 200),
        (alike, "train"): (60, 200),
    }
    assert {row["extractor"] for row in rows} == {"colour"}
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows)
    for metric in ("hue_w1_degrees", "mean_hue_w1_degrees", "hue_leak_share"):
        floor, leak = (row_of(rows, metric, compared) for compared in ("held-out real", alike))
        assert floor["high"] < leak["low"]
    assert row_of(rows, "hue_leak_share", "held-out real")["value"] < 0.1


def test_rows_are_reproducible_and_have_the_columns_of_fidelity(rng):
    real, fake = HISTOGRAMS(painted(*skin(20, rng))), HISTOGRAMS(painted(*skin(20, rng, 35)))
    rows, again = (colour_rows(real, fake, real, 5, torch.Generator().manual_seed(3)) for _ in range(2))
    assert rows == again
    sets = ["compared", "reference", "real_count", "compared_count"]
    assert all(list(row) == ["class", "metric", "value", "low", "high", "extractor", *sets] for row in rows)
    assert len(rows) == 4 * len(colour_scores(real, fake)) == 36


def test_each_class_is_compared_with_its_own_kind(rng):
    labels = torch.arange(80) % 2
    hue = torch.where(labels == 0, 20.0, 60.0)[:, None, None].expand(-1, 4, 4)
    same = Labelled(HISTOGRAMS(painted(hue, *skin(80, rng)[1:])), labels)
    swapped = Labelled(same.features, 1 - labels)
    rows = colour_rows_by_class(Sides(same, swapped, None), ["benign", "malignant"], 3, seed=1)
    distance = {row["class"]: row["value"] for row in rows if row["metric"] == "hue_w1_degrees"}
    assert distance == pytest.approx({POOLED: 0, "benign": 40, "malignant": 40}, abs=2 * DEGREE)
    only = same.of(1)
    assert {row["class"] for row in colour_rows_by_class(Sides(only, only, only), ["benign", "malignant"], 2, 1)} == {
        POOLED
    }


def test_too_few_images_are_refused_in_one_line_and_too_few_held_out_give_no_floor(rng):
    some = HISTOGRAMS(painted(*skin(8, rng)))
    with pytest.raises(ValueError, match="class 'all' .* two images or more .* not 8 real and 1 generated"):
        colour_rows(some, some[:1], None, 2, rng)
    assert {row["compared"] for row in colour_rows(some, some, some[:1], 2, rng)} == {"generated"}


def test_bars_add_up_and_stand_where_the_hue_is():
    greens, greys = (painted(*(torch.full((3, 4, 4), x) for x in (90.0, saturation, 0.8))) for saturation in (0.5, 0.0))
    rows = hue_rows({"generated": HISTOGRAMS(greens), "train_real": HISTOGRAMS(greys)})
    assert len(rows) == 72
    assert sum(row["generated"] for row in rows) == pytest.approx(1)
    (full,) = (row for row in rows if row["generated"] > 0.99)
    assert full["hue_degrees"] == pytest.approx(90, abs=2.5)
    assert all(math.isnan(row["train_real"]) for row in rows)


def test_intervals_are_over_patients(rng):
    """Eight equal images of each patient are no eight patients."""
    real = HISTOGRAMS(painted(*(plane.repeat_interleave(8, dim=0) for plane in skin(10, rng))))
    fake, widths = HISTOGRAMS(painted(*skin(80, rng, hue=60.0))), []
    for patients in (torch.arange(80) // 8, None):
        row = row_of(colour_rows(real, fake, None, 20, rng, patients=Patients(patients)), "hue_w1_degrees")
        widths.append(row["high"] - row["low"])
    assert widths[0] > 1.5 * widths[1]
