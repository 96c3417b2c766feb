"""Duplicates: equal files, near copies and listed pairs make groups, other images do not."""

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from skinsynth.images.decode import decode
from skinsynth.images.duplicates import DuplicateConfig, duplicate_groups, find_duplicates, near_pairs, perceptual_hash

CONFIG = DuplicateConfig(max_distance=40)


@pytest.fixture
def hashes() -> np.ndarray:
    return np.random.default_rng(0).random((1200, 256)) < 0.5


def test_near_pairs_are_those_of_the_definition(hashes):
    hashes = hashes[:60]
    hashes[40] = hashes[7]
    hashes[50] = hashes[9] ^ (np.arange(256) < 40)
    hashes[51] = hashes[9] ^ (np.arange(256) < 41)
    distance = (hashes[:, None] != hashes[None]).sum(axis=2)
    expected = np.argwhere(np.triu(distance <= 40, 1))
    assert near_pairs(hashes, 40).tolist() == expected.tolist()
    assert [7, 40] in expected.tolist()
    assert [9, 50] in expected.tolist()
    assert [9, 51] not in expected.tolist()


def test_pairs_are_found_across_the_blocks_of_the_search(hashes):
    hashes[1100] = hashes[3]
    hashes[600] = hashes[599]
    assert near_pairs(hashes, 40).tolist() == [[3, 1100], [599, 600]]


def test_chains_of_pairs_are_one_group_named_after_its_smallest_id():
    groups = duplicate_groups(["d", "b", "c", "a", "e"], [("d", "b"), ("c", "d")])
    assert groups == ["b", "b", "b", "", ""]
    assert duplicate_groups(["a", "b"], []) == ["", ""]


def test_equal_files_close_hashes_and_listed_pairs_are_tied(hashes):
    hashes = hashes[:7]
    hashes[1] = hashes[0]
    hashes[3] = hashes[2] ^ (np.arange(256) < 10)
    ids = list("abcdefg")
    found = find_duplicates(ids, ["0", "0", "2", "3", "4", "5", "6"], hashes, [("e", "f"), ("g", "elsewhere")], CONFIG)
    assert found.groups == ["a", "a", "c", "c", "e", "e", ""]
    assert (found.exact_pairs, found.near_pairs) == (1, 1)


def test_the_official_list_groups_its_425_pairs(isic):
    from skinsynth.lesions.isic import IsicConfig, read_isic

    catalogue = read_isic(IsicConfig(str(isic)))
    assert len(catalogue.listed_pairs) == 425
    group_of = dict(
        zip(
            catalogue.table["image_id"],
            duplicate_groups(list(catalogue.table["image_id"]), catalogue.listed_pairs),
            strict=True,
        )
    )
    assert all(group_of[first] == group_of[second] != "" for first, second in catalogue.listed_pairs)
    listed = {image_id for pair in catalogue.listed_pairs for image_id in pair}
    assert {image_id for image_id, group in group_of.items() if group} == listed


def exported(image: Image.Image, change: str) -> Image.Image:
    if change == "smaller":
        return image.resize((image.width * 6 // 10, image.height * 6 // 10), Image.Resampling.BICUBIC)
    if change == "compressed":
        buffer = io.BytesIO()
        image.save(buffer, "jpeg", quality=40)
        return Image.open(buffer).convert("RGB")
    return ImageEnhance.Brightness(image).enhance(0.85)


@pytest.mark.parametrize("change", ["smaller", "compressed", "darker"])
def test_near_copies_of_real_images_are_found_and_other_images_are_not(isic, change):
    paths = sorted((isic / "ISIC_2019_Training_Input").glob("*.jpg"))[:40]
    originals = [Image.open(path).convert("RGB") for path in paths]
    images = [*originals, *(exported(image, change) for image in originals)]
    decoded = [decode("key", lambda image=image: np.asarray(image), 32) for image in images]
    hashes = np.array([found.hash for found in decoded])
    assert near_pairs(hashes[:40], CONFIG.max_distance).tolist() == []
    assert near_pairs(hashes, CONFIG.max_distance).tolist() == [[number, number + 40] for number in range(40)]


def test_an_image_has_nearly_one_hash_at_every_size(isic):
    path = min((isic / "full_size").glob("*.jpg"))
    small, large = (decode("key", path, size) for size in (32, 256))
    assert (small.hash != large.hash).sum() <= CONFIG.max_distance / 2
    assert (perceptual_hash(small.pixels) == small.hash).all()
