"""Decoding: what comes out of files of every kind, and what is said of bad ones."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skinsynth.images.decode import BadImage, Decoding, decode

ORIENTATION = 0x0112


@pytest.fixture
def photograph() -> Image.Image:
    """A smooth picture whose corners differ: red grows to the right, green downwards."""
    down, across = np.mgrid[:90, :120] / 120
    return Image.fromarray((255 * np.stack([across, down, 0.3 + 0 * down], axis=2)).astype(np.uint8))


def pixels_of(path: Path, size: int = 24) -> np.ndarray:
    return decode("key", path, size).pixels.astype(float)


def saved(image: Image.Image, path: Path, **options) -> Path:
    image.save(path, **options)
    return path


def test_the_middle_square_is_taken(tmp_path, photograph):
    found = decode("key", saved(photograph, tmp_path / "a.png"), 30)
    middle = photograph.crop((15, 0, 105, 90)).resize((30, 30), Image.Resampling.LANCZOS)
    assert np.abs(found.pixels.astype(float) - np.asarray(middle, dtype=float)).mean() < 1
    assert (found.key, found.width, found.height) == ("key", 120, 90)
    assert len(found.sha256) == 64
    assert found.hash.shape == (256,)
    assert not hasattr(found.facts, "pixels")
    assert found.facts.sha256 == found.sha256


def test_small_images_grow_to_the_size(tmp_path, photograph):
    assert pixels_of(saved(photograph.resize((12, 9)), tmp_path / "a.png"), 32).shape == (32, 32, 3)


@pytest.mark.parametrize("size", [32, 128, 256])
def test_reduced_decoding_agrees_with_full_decoding(isic, size):
    path = min((isic / "full_size").glob("*.jpg"))
    with Image.open(path) as image:
        width, height = image.size
        side = min(width, height)
        box = ((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)
        full = np.asarray(image.resize((size, size), Image.Resampling.LANCZOS, box=box), dtype=float)
    found = decode("key", path, size)
    assert np.abs(found.pixels - full).mean() < 1.5
    assert (found.width, found.height) == (width, height)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_stand_upright_whatever_their_exif_says(tmp_path, photograph, orientation):
    """The file holds the pixels turned away from upright, as a camera writes them."""
    away = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    turned = photograph.transpose(away[orientation]) if orientation > 1 else photograph
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    upright = pixels_of(saved(photograph, tmp_path / "upright.png"))
    for suffix in ("jpg", "tif", "png"):
        path = saved(turned, tmp_path / f"turned.{suffix}", exif=exif)
        assert np.abs(pixels_of(path) - upright).mean() < 2, suffix
        found = decode("key", path, 24)
        assert (found.width, found.height) == (120, 90)


@pytest.mark.parametrize("mode", ["CMYK", "L", "P", "1", "LA", "YCbCr", "RGBA"])
def test_every_mode_becomes_rgb(tmp_path, photograph, mode):
    grey = photograph.convert("L")
    source = {"CMYK": photograph, "YCbCr": photograph, "RGBA": photograph, "P": photograph}.get(mode, grey)
    path = saved(source.convert(mode), tmp_path / ("a.jpg" if mode in ("CMYK", "YCbCr") else "a.png"))
    expected = pixels_of(saved(source.convert("RGB"), tmp_path / "rgb.png"))
    assert np.abs(pixels_of(path) - expected).mean() < (40 if mode == "1" else 12 if mode == "P" else 4)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_become_eight_over_the_full_range(tmp_path, suffix):
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
    found = pixels_of(saved(Image.fromarray(ramp), tmp_path / f"a.{suffix}"), 64)
    assert np.abs(found[..., 0] - ramp / 257).max() < 1.5
    dim = pixels_of(saved(Image.fromarray(ramp // 16), tmp_path / f"b.{suffix}"), 64)
    assert dim.max() <= 16


def test_32_bits_a_pixel_are_refused_in_words(tmp_path):
    path = saved(Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)), tmp_path / "float.tif")
    with pytest.raises(BadImage, match=r"float\.tif.*8 or 16 bits"):
        decode("key", path, 8)


def test_what_is_transparent_is_white(tmp_path, photograph):
    see_through = photograph.convert("RGBA")
    see_through.putalpha(0)
    assert (pixels_of(saved(see_through, tmp_path / "a.png")) == 255).all()


@pytest.mark.parametrize("cut", [0, 10, 0.5])
def test_truncated_files_are_named(tmp_path, photograph, cut):
    whole = io.BytesIO()
    photograph.resize((800, 600)).save(whole, "jpeg")
    path = tmp_path / "cut.jpg"
    path.write_bytes(whole.getvalue()[: int(cut * len(whole.getvalue())) if isinstance(cut, float) else cut])
    with pytest.raises(BadImage, match=r"cut\.jpg"):
        decode("key", path, 24)


def test_other_files_and_missing_ones_are_named(tmp_path):
    (tmp_path / "notes.jpg").write_text("not an image")
    with pytest.raises(BadImage, match=r"notes\.jpg: not an image"):
        decode("key", tmp_path / "notes.jpg", 24)
    with pytest.raises(BadImage, match=r"none\.jpg: no such file"):
        decode("key", tmp_path / "none.jpg", 24)


def test_a_bomb_is_refused_and_a_large_dermoscopic_image_is_not(tmp_path):
    bomb = saved(Image.new("1", (20000, 10000)), tmp_path / "bomb.png")
    with pytest.raises(BadImage, match=r"bomb\.png: more than"):
        decode("key", bomb, 8)
    large = saved(Image.new("L", (6000, 4000), 128), tmp_path / "large.jpg")
    assert decode("key", large, 8).width == 6000


@pytest.fixture
def mixed(tmp_path, photograph) -> list[tuple[str, Path]]:
    """Six good files and two bad ones between them."""
    tasks = []
    for number in range(8):
        path = tmp_path / f"{number}.jpg"
        if number in (2, 5):
            path.write_bytes(b"\xff\xd8 nothing more")
        else:
            saved(photograph, path, quality=90 - number)
        tasks.append((f"image-{number}", path))
    return tasks


@pytest.mark.parametrize("workers", [1, 2])
def test_skipping_leaves_out_bad_images_and_keeps_the_order(mixed, workers):
    decoding = Decoding(mixed, 16, workers, "skip")
    assert [found.key for found in decoding] == [f"image-{number}" for number in (0, 1, 3, 4, 6, 7)]
    assert len(decoding.bad) == 2
    assert "2.jpg" in decoding.bad[0]


def test_stopping_names_and_counts_all_bad_images_in_one_line(mixed):
    with pytest.raises(BadImage, match=r"2 of 8 images.*2\.jpg.*5\.jpg") as caught:
        list(Decoding(mixed, 16, 1, "stop"))
    assert "\n" not in str(caught.value)


def test_nothing_readable_is_an_error_under_skip_too(mixed):
    with pytest.raises(BadImage, match="none of 2"):
        list(Decoding([mixed[2], mixed[5]], 16, 1, "skip"))


def test_an_unknown_policy_is_refused(mixed):
    with pytest.raises(ValueError, match="stop, skip"):
        Decoding(mixed, 16, 1, "ignore")
