"""Artefacts: detectors see planted ones, areas are those drawn, shares and correlations are numpy's."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from skinsynth.artefacts.area import black_shares, field_of_view, lesion_mask, lesion_shares
from skinsynth.artefacts.audit import Audited, correlation, flips, mean, measure
from skinsynth.artefacts.auditor import Auditor, Inspected
from skinsynth.artefacts.detector import (
    counts_of,
    load_detector,
    load_detectors,
    prevalence_threshold,
    save_detector,
    train_detector,
)
from skinsynth.artefacts.paste import frameless, with_frames
from skinsynth.classifier.classifier import Classifier
from skinsynth.classifier.training import ClassifierConfig, Examples
from skinsynth.gan.pixels import from_pixels
from skinsynth.images.archive import Images
from skinsynth.intervals import wilson_share
from skinsynth.lesions.phantom import PhantomConfig, Rate, draw_phantom
from stages.audit_artefacts import headlines
from stages.train_detectors import check_flags

CPU = torch.device("cpu")
CONFIG = ClassifierConfig("cnn-108k", False, 0.1, 6, 3, 3e-3, 16, 180.0, True, "none", 0.5, 1, False, (1,))
NEVER = Rate(0.0, 0.0)
PHANTOM = PhantomConfig(7, 12, 3.0, 0.0, 0.6, 0.2, 96, NEVER, NEVER, NEVER, NEVER, 0.0, 0.0)
SIZE = 64
LINE = (np.arange(SIZE) + 0.5) / SIZE - 0.5


def disc(radius):
    return LINE[:, None] ** 2 + LINE**2 <= radius**2


def drawing(lesion_radius, field_radius=1.0):
    """A dark disc on light skin, black outside of the field of view."""
    light = np.where(disc(lesion_radius), 90, 200)
    return np.where(disc(field_radius), light, 5).astype(np.uint8)[None].repeat(3, axis=0)


def skins(count, rng):
    return torch.randint(120, 220, (count, 3, SIZE // 2, SIZE // 2), generator=rng, dtype=torch.uint8)


@pytest.fixture
def detector(rng):
    sides = []
    for _ in range(2):
        labels = torch.arange(60) % 2
        pixels = skins(60, rng)
        framed = torch.from_numpy(with_frames(pixels[labels == 1].numpy(), np.random.default_rng(0)))
        pixels[labels == 1] = framed
        sides.append(Examples(pixels, labels))
    return train_detector("black_frame", *sides, CONFIG, CPU)


def test_pasted_frames_are_seen_and_bare_skin_is_not(detector, rng):
    pixels = skins(40, rng)
    framed = with_frames(pixels.numpy(), np.random.default_rng(1))
    assert detector.sees(framed).double().mean() > 0.9
    assert detector.sees(pixels).double().mean() < 0.1


def test_a_detector_read_again_says_the_same(detector, tmp_path, rng):
    pixels = skins(5, rng)
    save_detector(tmp_path / "black_frame", dataclasses.replace(detector, auc=0.9))
    read = load_detectors(tmp_path, CPU)["black_frame"]
    assert (read.artefact, read.threshold, read.auc) == ("black_frame", detector.threshold, 0.9)
    assert read.probabilities(pixels).equal(detector.probabilities(pixels))


def test_a_missing_detector_is_named_with_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="no detector at .*ruler: run train_detectors"):
        load_detector(tmp_path / "ruler", CPU)


def test_an_artefact_that_is_no_flag_is_an_error_that_says_what_was_meant():
    check_flags(["hair", "ruler"])
    with pytest.raises(ValueError, match=r"'rular' is no flag of lesions.csv .*: did you mean 'ruler'\?$"):
        check_flags(["hair", "rular"])
    with pytest.raises(ValueError, match=r"'sex' is no flag .*: add it to FLAGS of skinsynth/lesions/table.py$"):
        check_flags(["sex"])


def test_no_folder_of_detectors_is_an_error_and_an_empty_one_is_none(tmp_path):
    assert load_detectors(tmp_path, CPU) == {}
    with pytest.raises(FileNotFoundError, match=r"^no folder of detectors at [^\n]*missing: run train_detectors"):
        load_detectors(tmp_path / "missing", CPU)


@pytest.mark.parametrize(
    "text", ['{"artefact": "ruler"}', "[]", "no JSON", '{"artefact": "ruler", "threshold": null, "auc": 1}']
)
def test_a_file_about_something_else_is_no_detector(tmp_path, text):
    (tmp_path / "detector.json").write_text(text)
    with pytest.raises(ValueError, match=r"detector\.json is about no detector of ours .*: train it again"):
        load_detector(tmp_path, CPU)


def test_as_many_images_are_flagged_as_have_the_artefact(rng):
    probabilities = torch.rand(50, generator=rng).double()
    for count in (1, 7, 50):
        assert int((probabilities >= prevalence_threshold(probabilities, count)).sum()) == count


def test_counts_are_of_both_kinds():
    assert counts_of(torch.tensor([0, 1, 1])) == {"with": 2, "without": 1}


@pytest.mark.parametrize("radius", [0.15, 0.25, 0.35])
def test_the_area_of_a_drawn_disc_is_measured(radius):
    assert lesion_shares(drawing(radius)[None])[0] == pytest.approx(np.pi * radius**2, rel=0.1)


def test_a_frame_is_neither_lesion_nor_field(rng):
    image = drawing(0.2, field_radius=0.5)
    np.testing.assert_array_equal(field_of_view(image), disc(0.5))
    assert not (lesion_mask(image) & ~disc(0.5)).any()
    assert lesion_shares(image[None])[0] == pytest.approx(0.2**2 / 0.5**2, rel=0.15)


def test_a_dark_lesion_in_the_middle_is_no_frame():
    assert field_of_view(np.where(disc(0.3), 5, 200).astype(np.uint8)[None].repeat(3, axis=0)).all()


def with_light_rim(image):
    """As GANs draw it: the outermost pixels are light, whatever lies behind them."""
    rimmed = np.full_like(image, 180)
    rimmed[:, 1:-1, 1:-1] = image[:, 1:-1, 1:-1]
    return rimmed


def dark_disc(row, column, radius):
    """A disc as dark as a frame on light skin; its middle in sides of the image, from the upper left."""
    inside = (LINE[:, None] + 0.5 - row) ** 2 + (LINE + 0.5 - column) ** 2 <= radius**2
    return np.where(inside, 5, 200).astype(np.uint8)[None].repeat(3, axis=0)


def test_a_frame_behind_a_light_rim_is_seen_and_the_rim_is_counted_with_it():
    plain = drawing(0.2, field_radius=0.5)
    rimmed = with_light_rim(plain)
    assert black_shares(rimmed[None])[0] == pytest.approx(black_shares(plain[None])[0], rel=0.1)
    assert not field_of_view(rimmed)[0, 0]
    assert lesion_shares(rimmed[None])[0] == pytest.approx(lesion_shares(plain[None])[0], rel=0.05)


@pytest.mark.parametrize("turns", range(4))
def test_one_black_corner_behind_a_light_rim_is_seen_wherever_it_is_and_through_noise(turns):
    noise = np.random.default_rng(turns).normal(25, 10, (SIZE, SIZE)).clip(0, 60).astype(np.uint8)
    corner = np.where(dark_disc(0.1, 0.1, 0.15) == 5, noise, 200).astype(np.uint8)
    image = np.rot90(with_light_rim(corner), turns, axes=(1, 2))
    assert 0.03 < black_shares(image[None])[0] < 0.07
    assert field_of_view(image)[16:48, 16:48].all()


@pytest.mark.parametrize("row", [0, 0.02, 0.25])
@pytest.mark.parametrize("column", [0.3, 0.5])
def test_a_dark_lesion_at_a_side_is_no_frame_with_a_light_rim_or_without(row, column):
    lesion = dark_disc(row, column, 0.25)
    assert field_of_view(lesion).all()
    assert field_of_view(with_light_rim(lesion)).all()


def test_a_dark_lesion_that_touches_the_border_beside_a_corner_is_no_frame():
    lesion = dark_disc(0.28, 0, 0.26)
    assert (lesion[0, :3, :3] == 5).any()
    assert field_of_view(lesion).all()


def test_a_black_hair_across_a_corner_is_no_frame():
    image = np.full((3, SIZE, SIZE), 200, dtype=np.uint8)
    for column in range(6):
        image[:, 5 - column, column] = 5
    assert field_of_view(image).all()


def test_an_image_of_one_colour_has_no_lesion():
    assert lesion_shares(np.full((1, 3, SIZE, SIZE), 130, dtype=np.uint8))[0] == 0
    assert lesion_shares(np.zeros((1, 3, SIZE, SIZE), dtype=np.uint8))[0] == 0


def test_larger_lesions_of_the_phantom_measure_larger():
    catalogue = draw_phantom(PHANTOM)
    pictures = list(catalogue.pictures.values())
    # Nevi and melanomas are darker than skin; keratoses may be as light as it.
    kept = [one for one in pictures if one.lesion.diagnosis != "seborrheic keratosis"]
    squares = [one()[:, 16:112].transpose(2, 0, 1) for one in kept]
    measured = lesion_shares(np.stack(squares))
    true = np.array([one.lesion.diameter_mm**2 for one in kept])
    assert np.corrcoef(np.argsort(np.argsort(measured)), np.argsort(np.argsort(true)))[0, 1] > 0.5


def test_pasted_frames_leave_the_middle_and_blacken_the_corners(rng):
    pixels = skins(6, rng).numpy()
    framed = with_frames(pixels, np.random.default_rng(0))
    assert framed[:, :, 0, 0].max() < 20
    middle = (slice(None), slice(None), slice(14, 18), slice(14, 18))
    assert np.abs(framed[middle].astype(int) - pixels[middle]).max() <= 2
    np.testing.assert_array_equal(framed, with_frames(pixels, np.random.default_rng(0)))


def test_weighted_numbers_are_those_of_repeated_images():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 30))
    counts = rng.integers(0, 3, size=(4, 30)).astype(float)
    for row, found, together in zip(counts, mean(a, counts), correlation(a, b, counts), strict=True):
        repeated = np.repeat(np.arange(30), row.astype(int))
        assert found == pytest.approx(a[repeated].mean())
        assert together == pytest.approx(np.corrcoef(a[repeated], b[repeated])[0, 1])


def test_what_does_not_vary_correlates_with_nothing():
    assert np.isnan(correlation(np.ones(5), np.arange(5.0), np.ones((1, 5)))[0])
    assert np.isnan(mean(np.ones(2), np.zeros((1, 2)))[0])


def test_traits_are_measured_in_all_images_and_in_each_class():
    labels = np.array([0, 0, 1, 1])
    hair, answers = np.array([0.0, 1.0, 1.0, 1.0]), np.array([0.1, 0.2, 0.8, 0.9])
    found = list(measure(Audited(labels, {"hair": hair}, answers, np.ones((1, 4)))))
    shares = {one.label: (one.values[0], one.images) for one in found if one.measure == "share"}
    assert shares == {None: (0.75, 4), 0: (0.5, 2), 1: (1.0, 2)}


def test_flips_are_counted_each_way():
    before, after = np.array([0.1, 0.4, 0.6, 0.9]), np.array([0.6, 0.4, 0.3, 0.9])
    found = flips(before, after, np.ones((1, 4)))
    assert (found.to_positive[0], found.to_other[0]) == (0.25, 0.25)
    assert found.change[0] == pytest.approx(0.05)


def test_each_class_is_weighted_by_the_draws_of_its_own_images():
    rng = np.random.default_rng(0)
    labels, hair, answers = np.arange(12) % 3, rng.random(12), rng.random(12)
    weights = rng.integers(1, 5, (4, 12)).astype(float)
    every = measure(Audited(labels, {"hair": hair}, answers, weights))
    found = {one.label: one.values for one in every if one.measure == "share"}
    for label in range(3):
        own = labels == label
        expected = [np.average(hair[own], weights=row[own]) for row in weights]
        np.testing.assert_allclose(found[label], expected)


def test_a_detector_flags_as_many_validation_images_as_have_the_artefact(rng):
    pixels, labels = skins(60, rng), torch.arange(60) % 2
    pixels[labels == 1] = torch.from_numpy(with_frames(pixels[labels == 1].numpy(), np.random.default_rng(0)))
    validation = Examples(skins(40, rng), (torch.arange(40) < 5).long())  # what they have is not to be seen
    found = train_detector("black_frame", Examples(pixels, labels), validation, CONFIG, CPU)
    assert int(found.sees(validation.pixels).sum()) == 5


def test_the_threshold_lies_half_way_to_the_next_image():
    probabilities = torch.tensor([0.1, 0.9, 0.5], dtype=torch.float64)
    assert [prevalence_threshold(probabilities, count) for count in (1, 2, 3)] == pytest.approx([0.7, 0.3, 0.1])


def test_an_image_at_the_threshold_itself_counts_as_present(detector, rng):
    pixels = skins(5, rng)
    least = float(detector.probabilities(pixels).min())
    assert dataclasses.replace(detector, threshold=least).sees(pixels).all()


def test_the_excess_is_above_zero_where_the_artefact_is_seen_and_has_a_gradient(detector, rng):
    pixels = skins(40, rng)
    middle = float(detector.probabilities(pixels).median()) + 1e-6
    for eye in (dataclasses.replace(detector, threshold=middle), dataclasses.replace(detector, threshold=1.0)):
        images = from_pixels(pixels).requires_grad_()
        excess = eye.excess(images)
        assert (excess > 0).tolist() == eye.sees(pixels).tolist()
        (gradient,) = torch.autograd.grad(excess.sum(), images)
        assert gradient.isfinite().all()
        assert gradient.any()


def test_a_pasted_frame_leaves_the_middle_to_the_level(rng):
    pixels = skins(6, rng).numpy()
    middle = (slice(None), slice(None), slice(14, 18), slice(14, 18))
    np.testing.assert_array_equal(with_frames(pixels, np.random.default_rng(0))[middle], pixels[middle])


def test_a_second_lesion_counts_and_a_speck_does_not():
    first, second, speck = dark_disc(0.3, 0.3, 0.15), dark_disc(0.7, 0.7, 0.08), dark_disc(0.2, 0.8, 0.02)
    light = np.minimum(np.minimum(first, second), speck).clip(90)  # dark as a lesion, not black as a frame
    mask = lesion_mask(light)
    assert mask[45, 45]
    assert not mask[13, 51]


class Judge(Classifier):
    """Takes the red of an image's first pixel, of 255, for the probability of the positive class."""

    def __init__(self):
        pass

    def probabilities(self, pixels):
        positive = torch.as_tensor(pixels)[:, 0, 0, 0].double() / 255
        return torch.stack([1 - positive, positive], dim=1)


def auditor_of(detectors):
    return Auditor(Judge(), detectors, ("benign", "malignant"), positive=1, least_auc=0.7, draws=20)


def reds(levels, labels):
    """Images of these levels of red in these classes."""
    pixels = np.zeros((len(levels), 3, 8, 8), np.uint8)
    pixels[:, 0] = np.array(levels)[:, None, None]
    return Images([f"{number}" for number in range(len(levels))], pixels, np.array(labels))


def test_what_is_known_of_an_artefact_is_told_without_a_detector_and_nothing_of_what_is_unknown():
    images = Images(["a", "b", "c", "d"], np.zeros((4, 3, 8, 8), np.uint8), np.array([0, 1, 0, 1]))
    flags = pd.DataFrame({"hair": ["1", "1", "", "0"], "ruler": [""] * 4})
    auditor = auditor_of({})
    asked = Inspected("real", images, np.arange(4), flags, {"black_frame": np.ones(4)})
    rows = auditor.trait_rows(asked, np.random.default_rng(0))
    share_of = {
        (row["source"], row["trait"]): (row["value"], row["images"])
        for row in rows
        if (row["class"], row["measure"]) == ("all", "share")
    }
    assert share_of == {("detector", "black_frame"): (1, 4), ("flag", "hair"): (pytest.approx(2 / 3), 3)}


def test_a_share_of_a_class_rests_on_the_patients_of_that_class():
    """Where all images have a trait, the draws are alike, and each patient counts once."""
    groups = np.array([1, 1, 2, 2, 3, 4, 5, 6])
    asked = Inspected("real", reds([9] * 8, [1] * 4 + [0] * 4), groups, pd.DataFrame(), {"black_frame": np.ones(8)})
    rows = auditor_of({}).trait_rows(asked, np.random.default_rng(0))
    low = {row["class"]: row["low"] for row in rows if row["measure"] == "share"}
    assert low == {"all": wilson_share(6, 6).low, "benign": wilson_share(4, 4).low, "malignant": wilson_share(2, 2).low}


def test_flips_are_drawn_by_patient():
    """Of one patient no draw differs from the sample; as many patients as images differ from draw to draw."""
    bare = reds([10, 20, 30, 40, 50, 60], [0, 1] * 3)
    pasted = reds([200, 20, 30, 190, 50, 80], [0, 1] * 3).pixels
    reach = []
    for groups in (np.zeros(6, np.int64), np.arange(6)):
        rows = auditor_of({}).flip_rows(bare, pasted, groups, np.random.default_rng(0))
        (row,) = (row for row in rows if (row["class"], row["what"]) == ("all", "change"))
        assert row["value"] == pytest.approx((190 + 150 + 20) / 6 / 255)
        reach.append(row["high"] - row["low"])
    assert reach[0] == pytest.approx(0, abs=1e-12)
    assert reach[1] > 0.1


@pytest.mark.parametrize(("auc", "note"), [(0.69, "weak detector"), (0.7, "")])
def test_a_detector_below_the_asked_auc_is_called_weak_in_its_own_rows(detector, auc, note):
    asked = Inspected("real", reds([9] * 4, [0, 1] * 2), np.arange(4), pd.DataFrame({"black_frame": ["1"] * 4}), {})
    asked = asked._replace(seen={"black_frame": np.ones(4), "lesion_area": np.full(4, 0.2)})
    auditor = auditor_of({"black_frame": dataclasses.replace(detector, auc=auc)})
    rows = auditor.trait_rows(asked, np.random.default_rng(0))
    notes = {(row["source"], row["trait"]): row["note"] for row in rows}
    assert notes == {("detector", "black_frame"): note, ("rule", "lesion_area"): "", ("flag", "black_frame"): ""}


def test_frames_are_pasted_on_what_is_known_to_have_none_and_else_on_what_is_seen_to_have_none():
    flags, seen = np.array(["1", "0", "", "", "0"]), np.array([0.0, 1.0, 0.0, 1.0, 0.0])
    assert frameless(flags, seen).tolist() == [1, 2, 4]
    with pytest.raises(ValueError, match="every test image has a black frame"):
        frameless(np.array(["1", ""]), np.array([0.0, 1.0]))


def test_headlines_are_of_test_images_and_of_the_first_synthetic_set_and_not_of_weak_detectors():
    about = {"class": "malignant", "trait": "black_frame", "source": "detector", "measure": "share", "note": ""}
    rows = [
        {**about, "set": name, "value": value}
        for name, value in (
            ("real train", 0.1),
            ("real test", 0.2),
            ("synthetic first", 0.3),
            ("synthetic second", 0.4),
        )
    ]
    rows += [
        {**rows[1], "source": "flag", "value": 0.5},
        {**rows[1], "class": "all", "value": 0.6},
        {**rows[1], "measure": "correlation", "value": 0.7},
    ]
    changes = [{"class": "all", "what": "change", "value": 0.01, "images": 9}]
    found = headlines(rows, changes, SimpleNamespace(positive="malignant"))
    assert (found["real_malignant_black_frame"], found["synthetic_malignant_black_frame"]) == (0.2, 0.3)
    weak = headlines([{**row, "note": "weak detector"} for row in rows], changes, SimpleNamespace(positive="malignant"))
    assert weak["real_malignant_black_frame"] is None
