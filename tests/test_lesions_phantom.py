"""The drawn lesions: the same from their seed, true to their table, told apart but not perfectly."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from skinsynth.images.decode import Decoding, decode
from skinsynth.images.duplicates import DuplicateConfig, find_duplicates
from skinsynth.lesions.phantom import PhantomConfig, Rate, draw_phantom
from skinsynth.lesions.phantom_lesion import KERATOSIS, MEAN_SIGNS, MELANOMA, NEVUS, Lesion, grow_lesion

CONFIG = PhantomConfig(
    seed=3,
    patients=40,
    lesions_per_patient=5.0,
    second_images=0.15,
    nevus_share=0.55,
    keratosis_share=0.2,
    height=48,
    hair=Rate(benign=0.5, malignant=0.35),
    black_frame=Rate(benign=0.05, malignant=0.4),
    ruler=Rate(benign=0.15, malignant=0.25),
    bubbles=Rate(benign=0.05, malignant=0.2),
    exact_copies=0.03,
    near_copies=0.03,
)


@pytest.fixture(scope="module")
def phantom():
    return draw_phantom(CONFIG)


def test_the_same_seed_draws_the_same_bytes_in_any_order(phantom):
    again = draw_phantom(CONFIG)
    assert again.table.equals(phantom.table)
    ids = list(phantom.pictures)[:12]
    forwards = [phantom.pictures[image_id]().tobytes() for image_id in ids]
    backwards = [again.pictures[image_id]().tobytes() for image_id in reversed(ids)][::-1]
    assert forwards == backwards


def test_other_processes_draw_the_same_bytes(phantom):
    tasks = list(phantom.pictures.items())[:6]
    here, there = (list(Decoding(tasks, 32, workers, "stop")) for workers in (1, 2))
    assert [found.sha256 for found in here] == [found.sha256 for found in there]
    assert (here[0].width, here[0].height) == (64, 48)
    assert pickle.loads(pickle.dumps(tasks[0][1])) == tasks[0][1]


def test_another_seed_draws_other_patients(phantom):
    other = draw_phantom(replace(CONFIG, seed=4))
    first = "PH_0000001"
    assert (other.pictures[first]() != phantom.pictures[first]()).any()


def test_more_patients_leave_the_first_ones_as_they_are(phantom):
    more = draw_phantom(replace(CONFIG, patients=50, exact_copies=0.0, near_copies=0.0))
    fewer = draw_phantom(replace(CONFIG, exact_copies=0.0, near_copies=0.0))
    assert more.table[: len(fewer.table)].equals(fewer.table)
    assert list(more.pictures.values())[: len(fewer.table)] == list(fewer.pictures.values())


def test_patients_have_few_lesions_or_many_and_lesions_have_one_patient(phantom):
    table = phantom.table[phantom.table["patient_id"] != ""]
    assert table["patient_id"].nunique() == CONFIG.patients
    assert (table.groupby("lesion_id")["patient_id"].nunique() == 1).all()
    lesions = table.groupby("patient_id")["lesion_id"].nunique()
    assert lesions.min() == 1
    assert lesions.max() <= 20
    assert lesions.median() < lesions.mean()
    assert table.groupby("lesion_id").size().max() >= 2


def test_diagnoses_come_in_the_shares_asked_for():
    table = draw_phantom(replace(CONFIG, patients=400)).table.drop_duplicates("lesion_id")
    shares = table["diagnosis"].value_counts(normalize=True)
    for diagnosis, share in {NEVUS: 0.55, KERATOSIS: 0.2, MELANOMA: 0.25}.items():
        assert shares[diagnosis] == pytest.approx(share, abs=0.03)


def test_the_best_reader_of_the_four_signs_errs():
    """Area under the ROC curve of the likelihood ratio, by pairs."""
    draws = np.random.default_rng(0)
    shares = np.array([0.55, 0.2, 0.25])
    means = np.array([MEAN_SIGNS[name] for name in (NEVUS, KERATOSIS, MELANOMA)])
    diagnosis = draws.choice(3, 4000, p=shares)
    signs = means[diagnosis] + draws.normal(size=(4000, 4))
    density = shares * np.exp(-0.5 * ((signs[:, None] - means) ** 2).sum(axis=2))
    score = density[:, 2] / density.sum(axis=1)
    area = (score[diagnosis == 2][:, None] > score[diagnosis != 2]).mean()
    assert 0.85 < area < 0.93


def test_a_larger_sign_of_diameter_grows_a_larger_lesion():
    areas = [(grow_lesion(Lesion(NEVUS, 0.0, 0.0, 0.0, size, (1,)), 8.0)[0] > 0.15).sum() for size in (-1.0, 0.0, 1.0)]
    assert areas == sorted(areas)


@pytest.mark.parametrize("diagnosis", [NEVUS, KERATOSIS, MELANOMA])
@pytest.mark.parametrize("sign", [-4.0, 4.0])
def test_extreme_signs_still_draw(diagnosis, sign):
    layers = grow_lesion(Lesion(diagnosis, sign, sign, sign, sign, (2,)), 6.0)
    assert np.isfinite(layers).all()
    assert layers[0].max() > 0.1


def square(picture) -> np.ndarray:
    """Grey values of the middle square, 0 to 255."""
    return decode("key", picture, 48).pixels.mean(axis=2)


def test_a_black_frame_is_dark_in_the_corners_and_nothing_else_is(phantom):
    framed = [replace(picture, black_frame=True) for picture in list(phantom.pictures.values())[:20]]
    corners = np.array([[square(p)[y, x] for y in (0, -1) for x in (0, -1)] for p in framed])
    assert (corners < 25).all()
    bare = [replace(picture, black_frame=False, hair=False, ruler=False) for picture in framed]
    corners = np.array([[square(p)[y, x] for y in (0, -1) for x in (0, -1)] for p in bare])
    assert np.median(corners) > 80


@pytest.mark.parametrize("artefact", ["hair", "ruler", "bubbles"])
def test_an_artefact_shows_where_its_flag_is_set(phantom, artefact):
    """Light and noise are drawn after the artefact, so the means over images are compared."""
    clean = [replace(p, hair=False, ruler=False, bubbles=False) for p in list(phantom.pictures.values())[:12]]
    contrast = [np.abs(np.diff(square(picture))).mean() for picture in clean]
    touched = [np.abs(np.diff(square(replace(picture, **{artefact: True})))).mean() for picture in clean]
    assert np.mean(touched) > 1.02 * np.mean(contrast)


def test_the_table_tells_what_is_in_the_picture(phantom):
    for row in phantom.table.itertuples():
        picture = phantom.pictures[row.image_id]
        assert (row.hair, row.black_frame) == (str(int(picture.hair)), str(int(picture.black_frame)))
        assert (row.ruler, row.other_artefact) == (str(int(picture.ruler)), str(int(picture.bubbles)))
        assert row.diagnosis == picture.lesion.diagnosis


def test_malignant_lesions_have_more_frames():
    table = draw_phantom(replace(CONFIG, patients=200)).table
    frames = table.groupby("malignancy")["black_frame"].apply(lambda flag: (flag == "1").mean())
    assert frames["malignant"] > 3 * frames["benign"]


def test_copies_are_found_and_other_drawings_are_not_taken_for_copies(phantom):
    decoded = list(Decoding(list(phantom.pictures.items()), 32, 1, "stop"))
    ids = [found.key for found in decoded]
    hashes = np.array([found.hash for found in decoded])
    found = find_duplicates(ids, [one.sha256 for one in decoded], hashes, [], DuplicateConfig(max_distance=40))
    originals = round(len(ids) / 1.06)
    copies = round(0.03 * originals)
    assert found.exact_pairs == copies
    assert found.near_pairs == copies
    assert sum(group != "" for group in found.groups) == 4 * copies


def test_views_of_one_lesion_are_no_copies(phantom):
    table = phantom.table[phantom.table["lesion_id"].duplicated(keep=False) & (phantom.table["lesion_id"] != "")]
    lesion = table["lesion_id"].iloc[0]
    first, second = (
        phantom.pictures[image_id]() for image_id in table.loc[table["lesion_id"] == lesion, "image_id"][:2]
    )
    assert (first != second).mean() > 0.5


@pytest.mark.parametrize(
    "wrong", [{"nevus_share": 0.9, "keratosis_share": 0.2}, {"patients": 0}, {"lesions_per_patient": 50.0}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="phantom"):
        draw_phantom(replace(CONFIG, **wrong))
