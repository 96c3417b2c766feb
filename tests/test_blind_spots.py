"""Ruined images of benchmarks/blind_spots.py: what each ruin keeps and what it destroys."""

import numpy as np
import pytest

from benchmarks.blind_spots import RUINS, ruined


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (12, 3, 32, 32), dtype=np.uint8)


@pytest.mark.parametrize("name", RUINS)
def test_a_ruin_gives_the_same_images_of_the_same_size_each_time(pixels, name):
    found = ruined(pixels, name)
    assert (found.shape, found.dtype) == (pixels.shape, np.uint8)
    assert np.array_equal(found, ruined(pixels, name))
    assert np.array_equal(found, pixels) == (name == "none")


@pytest.mark.parametrize("name", ["16 squares shuffled", "1,024 squares shuffled"])
def test_shuffling_moves_whole_pixels_within_their_image(pixels, name):
    def colours(images):
        return np.sort(images.reshape(len(images), 3, -1).astype(int).transpose(0, 2, 1) @ (65536, 256, 1), axis=1)

    assert np.array_equal(colours(ruined(pixels, name)), colours(pixels))


def test_colours_go_and_light_stays(pixels):
    assert np.ptp(ruined(pixels, "grey"), axis=1).max() == 0
    flat = ruined(pixels, "one colour each")
    assert np.ptp(flat, axis=(2, 3)).max() == 0
    assert np.abs(flat[:, :, 0, 0] - pixels.mean(axis=(2, 3))).max() <= 0.5
