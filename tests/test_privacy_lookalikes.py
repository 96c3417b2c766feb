"""Copies that were changed: thumbnails find what features may not, and a table says which of them pass."""

import colorsys

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import ndtr, ndtri

from skinsynth.images.archive import Images
from skinsynth.lesions.phantom import PhantomConfig, Rate, draw_phantom
from skinsynth.privacy.disguises import DISGUISES, disguised
from skinsynth.privacy.distances import nearest
from skinsynth.privacy.lookalikes import Lookalikes, disguised_copies, nearer_than_any
from skinsynth.privacy.thumbnails import nearest_in_any_orientation, orientations, thumbnails

NEVER = Rate(0.0, 0.0)
CLASSES = ("benign", "malignant")
# All that leaves the lesion as it is, wherever it lies.
FOUND = (
    *("none", "JPEG of quality 75", "blurred", "half the saturation", "mirrored"),
    *("turned by 90 degrees", "turned by 20 degrees", "central 90 %", "central 75 %"),
)


@pytest.fixture(scope="module")
def lesions():
    """A hundred lesions of a hundred patients, 32 px."""
    catalogue = draw_phantom(PhantomConfig(3, 100, 1.0, 0.0, 0.6, 0.2, 32, NEVER, NEVER, NEVER, NEVER, 0.0, 0.0))
    squares = [picture()[:, 5:37].transpose(2, 0, 1) for picture in catalogue.pictures.values()]
    labels = np.arange(len(squares)) % 2
    return Images([f"lesion{number:03d}" for number in range(len(squares))], np.stack(squares), labels)


@pytest.fixture(scope="module")
def sides(lesions):
    return tuple(lesions.at(np.arange(start, start + 33)) for start in (0, 33, 66))  # train, held out, synthetic


def by_thumbnails(train):
    others = thumbnails(train.pixels)
    return lambda pixels: nearest_in_any_orientation(pixels, others)


def looked_at(fake, held_out, find):
    return Lookalikes(fake, find(fake.pixels), torch.from_numpy(held_out.labels), find(held_out.pixels)[0])


def disguise_rows(seen, train, find):
    """Of all training images in every disguise."""
    copies = disguised_copies(train, len(train.ids), seed=1)
    return [row for some in copies for row in seen.disguise_rows(some, find(some.pixels), CLASSES)]


@pytest.mark.parametrize("orientation", range(8))
def test_an_image_is_found_in_every_orientation_and_colour(lesions, orientation):
    chosen = torch.from_numpy(lesions.pixels[[7, 21, 40]]).float()
    # Less contrast and another cast: no level is cut off, so that only rounding is left.
    recoloured = chosen * torch.tensor([0.8, 0.7, 0.6])[:, None, None] + torch.tensor([20.0, 40.0, 60.0])[:, None, None]
    turned = orientations(recoloured)[orientation].round().byte().numpy()
    gaps, partners = nearest_in_any_orientation(turned, thumbnails(lesions.pixels))
    assert partners.tolist() == [7, 21, 40]
    assert (gaps < 1e-3).all()


def test_eight_orientations_are_all_that_a_square_has(rng):
    image = torch.rand(1, 3, 5, 5, generator=rng)
    ways = orientations(image)
    assert ways[0].equal(image)
    assert len({way.numpy().tobytes() for way in ways}) == 8
    again = {turned.numpy().tobytes() for way in ways for turned in orientations(way)}
    assert again == {way.numpy().tobytes() for way in ways}


def cut_and_turned(pixels, rng):
    """Each flipped half the time, turned by 10 to 80 degrees and cropped to 70 to 90 %, wherever the crop lies."""
    images = [Image.fromarray(image) for image in np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))]
    changed = []
    for image in images:
        flipped = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image
        turned = flipped.rotate(rng.uniform(10, 80), Image.Resampling.BICUBIC)
        side = image.width * rng.uniform(0.7, 0.9)
        left, top = rng.uniform(0, image.width - side, 2)
        box = (left, top, left + side, top + side)
        changed.append(np.asarray(turned.resize(image.size, Image.Resampling.BICUBIC, box)))
    return np.stack(changed).transpose(0, 3, 1, 2)


def test_copies_that_are_cut_and_turned_at_random_are_beyond_chance_and_fresh_images_are_not(sides):
    train, held_out, fake = sides
    find = by_thumbnails(train)
    copies = np.concatenate([cut_and_turned(train.pixels, np.random.default_rng(seed)) for seed in range(3)])
    gaps_of_held_out = find(held_out.pixels)[0]
    found = nearer_than_any(find(copies)[0], gaps_of_held_out)
    assert found.nearer_than_any_held_out >= 0.5 * len(copies)
    of_fresh = nearer_than_any(find(fake.pixels)[0], gaps_of_held_out)
    assert of_fresh.chance_of_as_many > 0.05


def test_an_image_is_as_near_whatever_it_is_asked_with(sides, monkeypatch):
    train, _, fake = sides
    together = nearest_in_any_orientation(fake.pixels, thumbnails(train.pixels))
    monkeypatch.setattr("skinsynth.privacy.thumbnails.IMAGES_AT_ONCE", 7)
    monkeypatch.setattr("skinsynth.privacy.thumbnails.DISCS_AT_ONCE", 10)
    monkeypatch.setattr("skinsynth.privacy.thumbnails.BLOCK", (20, 300))
    in_blocks = nearest_in_any_orientation(fake.pixels, thumbnails(train.pixels))
    assert together[1].equal(in_blocks[1])
    torch.testing.assert_close(together[0], in_blocks[0], atol=1e-5, rtol=0)


def test_the_count_that_stops_a_release_is_the_first_that_chance_hardly_has():
    gaps, of_held_out = torch.arange(1.0, 501.0), torch.full((154,), 1000.0)
    first = nearer_than_any(gaps + 1000, of_held_out).unlikely_from
    chances = [
        nearer_than_any(torch.where(gaps <= count, 0.0, 2000.0), of_held_out).chance_of_as_many
        for count in (first - 1, first)
    ]
    assert chances[1] < 0.001 <= chances[0]
    # A chance of exactly one in a thousand is not below it: one image among 999 held-out ones.
    assert nearer_than_any(torch.zeros(1), torch.ones(999)).unlikely_from == 2
    # With few images no count is unlikely.
    assert nearer_than_any(torch.zeros(3), torch.ones(2)).unlikely_from == 4


def test_an_image_of_one_colour_is_like_none_and_breaks_nothing():
    pixels = np.full((2, 3, 32, 32), 130, np.uint8)
    assert thumbnails(pixels).abs().max() == 0
    others = thumbnails(np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), np.uint8))
    gaps, _ = nearest_in_any_orientation(pixels, others)
    assert gaps.tolist() == pytest.approx([0.25, 0.25])


def test_sets_smaller_than_a_thumbnail_are_compared_as_they_are():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 8, 8), np.uint8)
    assert thumbnails(pixels).shape == (5, 3, 8, 8)
    gaps, partners = nearest_in_any_orientation(pixels, thumbnails(pixels))
    assert (gaps.abs().max() < 1e-9, partners.tolist()) == (True, [0, 1, 2, 3, 4])


@pytest.mark.parametrize("name", DISGUISES)
def test_a_disguise_leaves_the_lesion_and_is_the_same_again(lesions, name):
    changed = disguised(lesions.pixels[:10], name)
    assert (changed.shape, changed.dtype) == ((10, 3, 32, 32), np.uint8)
    assert changed.tobytes() == disguised(lesions.pixels[:10], name).tobytes()
    assert (changed.tobytes() == lesions.pixels[:10].tobytes()) == (name == "none")
    best = nearest_in_any_orientation(changed, thumbnails(lesions.pixels[:10]))[0]
    assert best.median() < 0.3  # in some orientation still the lesion that it was


def test_disguised_copies_are_counted_where_they_are_seen(sides):
    train, held_out, fake = sides
    find = by_thumbnails(train)
    rows = disguise_rows(looked_at(fake, held_out, find), train, find)
    assert [row["disguise"] for row in rows] == [name for name in DISGUISES for _ in CLASSES]
    share_of = {(row["disguise"], row["class"]): row["nearer_than_any_held_out"] for row in rows}
    for name in FOUND:
        assert min(share_of[name, label] for label in CLASSES) > 0.9, name
    assert sum(row["images"] for row in rows) == len(train.ids) * len(DISGUISES)
    assert all(row["own_is_nearest"] == 1 for row in rows if row["disguise"] in FOUND)


def test_features_that_see_colour_alone_miss_copies_of_another_colour(sides):
    train, held_out, fake = sides

    def find(pixels):
        colours = [torch.from_numpy(images).double().mean(dim=(2, 3)) for images in (pixels, train.pixels)]
        return nearest(*colours)

    rows = disguise_rows(looked_at(fake, held_out, find), train, find)
    share_of = {(row["disguise"], row["class"]): row["nearer_than_any_held_out"] for row in rows}
    for label in CLASSES:
        assert share_of["none", label] == share_of["mirrored", label] == 1
        assert share_of["brighter by a fifth", label] < 0.5


def test_a_set_is_counted_by_class_and_its_copies_are_named(sides):
    train, held_out, fake = sides
    mirrored = disguised(train.pixels[:6], "mirrored")
    changed = Images(fake.ids, np.concatenate([mirrored, fake.pixels[6:]]), np.r_[train.labels[:6], fake.labels[6:]])
    found = looked_at(changed, held_out, by_thumbnails(train))
    rows = {row["class"]: row for row in found.rows(CLASSES)}
    assert all(rows[label]["nearer_than_any_held_out"] >= 3 for label in CLASSES)
    assert sum(row["images"] for row in rows.values()) == 33
    closest = found.closest_rows(train, CLASSES, at_least=2)
    for label in CLASSES:
        distances = [row["distance"] for row in closest if row["class"] == label]
        assert distances == sorted(distances)
    named = {row["synthetic_image"]: row["nearest_real_image"] for row in closest}
    assert {fake.ids[place]: train.ids[place] for place in range(6)}.items() <= named.items()
    counted = sum(row["nearer_than_any_held_out"] for row in rows.values())
    assert sum(row["marked"] for row in closest) == counted
    assert len(found.closest_rows(train, CLASSES, at_least=20)) >= 20


def test_images_nearer_than_any_held_out_one_are_as_many_as_chance_has_it_unless_they_are_copies(rng):
    train, found = torch.randn(200, 4, generator=rng), []
    for _ in range(1000):
        fresh, held_out = torch.randn(50, 4, generator=rng), torch.randn(24, 4, generator=rng)
        gaps, gaps_of_held_out = (nearest(images, train)[0] for images in (fresh, held_out))
        found.append(nearer_than_any(gaps, gaps_of_held_out))
    assert {row.expected_by_chance for row in found} == {2.0}
    assert np.mean([row.nearer_than_any_held_out for row in found]) == pytest.approx(2.0, abs=0.3)
    # Of independent images the chance is exact: so many fresh sets come under it, or fewer, since a count has steps.
    for level in (0.5, 0.1, 0.02):
        share = np.mean([row.chance_of_as_many <= level for row in found])
        assert share <= level + 3 * np.sqrt(level / 1000)
        assert share >= level / 3
    # Copies that are not exact are under no bound of 1e-5.
    changed = torch.cat([train[:12] + 1e-3, fresh])
    gaps = nearest(changed, train)[0]
    assert (gaps > 1e-5).all()
    copies = nearer_than_any(gaps, gaps_of_held_out)
    assert copies.nearer_than_any_held_out >= 12
    assert (copies.chance_of_as_many < 0.001) == (copies.nearer_than_any_held_out >= copies.unlikely_from)
    assert copies.chance_of_as_many < 0.01


def share_of_clean_sets_that_stop(sizes, correlation, sets=20_000, images=500):
    """Of sets without copies, where the gaps of a held-out patient's images have this correlation.

    All gaps are normal, and those of synthetic images independent, so that the count is binomial given the smallest
    held-out gap.
    """
    rng = np.random.default_rng(1)
    smallest = np.full(sets, np.inf)
    for size in sizes:
        of_patient = np.sqrt(correlation) * rng.standard_normal(sets)
        # The smallest of `size` independent normal numbers, by its distribution.
        of_images = ndtri(-np.expm1(np.log(rng.random(sets)) / size))
        smallest = np.minimum(smallest, of_patient + np.sqrt(1 - correlation) * of_images)
    counts = rng.binomial(images, ndtr(smallest))
    return np.mean(counts >= nearer_than_any(torch.zeros(images), torch.ones(sum(sizes))).unlikely_from)


# How many held-out images each patient has: many or few, as in collections of moles, and 620 of 24 patients in all.
FEW_PATIENTS = (95, 81, 69, 58, 50, 42, 36, 30, 26, 22, 19, 16, 14, 12, 10, 8, 7, 6, 5, 4, 3, 3, 2, 2)


def test_the_chance_that_stops_holds_for_held_out_images_that_are_independent():
    share = share_of_clean_sets_that_stop(FEW_PATIENTS, correlation=0.0)
    assert 0.0003 < share < 0.001 + 3 * np.sqrt(0.001 / 20_000)


# As docs/release.md says.
@pytest.mark.parametrize(("correlation", "share"), [(0.2, 0.003), (0.4, 0.014), (0.6, 0.049)])
def test_clean_sets_are_stopped_more_often_where_images_of_a_patient_are_alike(correlation, share):
    found = share_of_clean_sets_that_stop(FEW_PATIENTS, correlation)
    assert found == pytest.approx(share, abs=0.001 + 3 * np.sqrt(share / 20_000))
    assert found > 0.001 + 3 * np.sqrt(0.001 / 20_000)


def test_many_patients_with_few_images_each_keep_the_chance_near_what_is_said():
    assert share_of_clean_sets_that_stop((5,) * 94, correlation=0.13) < 0.001 + 3 * np.sqrt(0.001 / 20_000)


def test_images_as_near_as_a_held_out_one_are_not_nearer():
    assert nearer_than_any(torch.tensor([0.5, 1.0, 2.0]), torch.tensor([1.0, 3.0])).nearer_than_any_held_out == 1


def test_an_image_is_marked_beside_held_out_ones_of_its_own_class():
    gaps = torch.tensor([0.5, 0.5], dtype=torch.float64)
    fake = Images(["a", "b"], np.zeros((2, 3, 4, 4), np.uint8), np.array([0, 1]))
    of_held_out = torch.tensor([0, 1]), torch.tensor([0.4, 0.6], dtype=torch.float64)
    found = Lookalikes(fake, (gaps, torch.tensor([0, 0])), *of_held_out)
    assert [row["nearer_than_any_held_out"] for row in found.rows(CLASSES)] == [0, 1]
    assert [row["marked"] for row in found.closest_rows(fake, CLASSES, at_least=1)] == [0, 1]


def test_a_pale_image_has_thumbnails_of_deviation_one(lesions):
    pale = lesions.pixels // 32 + np.uint8(120)
    deviation = thumbnails(pale).square().mean(dim=(2, 3)).sqrt()
    assert ((deviation - 1).abs().min(deviation) < 1e-4).all()  # 0 where a colour is the same all over
    assert (deviation > 0.5).double().mean() > 0.9


@pytest.mark.parametrize("hue", [0, 120, 350])
def test_a_hue_is_turned_by_17_degrees_around_the_circle(hue):
    level = np.round(255 * np.array(colorsys.hsv_to_rgb(hue / 360, 1, 1))).astype(np.uint8)
    turned = disguised(np.tile(level[None, :, None, None], (1, 1, 8, 8)), "hue turned by 17 degrees")[0, :, 0, 0] / 255
    assert (360 * colorsys.rgb_to_hsv(*turned)[0] - hue) % 360 == pytest.approx(17, abs=3)


@pytest.mark.parametrize("corner", [(0, 0), (0, -1), (-1, 0), (-1, -1)])
def test_what_comes_in_beside_a_moved_image_has_the_mean_colour_of_all_four_corners(corner):
    pixels = np.full((1, 3, 16, 16), 40, np.uint8)
    pixels[(0, 0, *corner)] = 240
    moved = disguised(pixels, "moved by an eighth")[0]
    assert moved[:, 8, 0].tolist() == [(240 + 3 * 40) / 4, 40, 40]


def test_noise_has_the_deviation_that_its_name_says():
    grey = np.full((1, 3, 64, 64), 128, np.uint8)
    assert disguised(grey, "noise of 8 grey levels").std() == pytest.approx(8, rel=0.05)
