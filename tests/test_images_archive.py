"""Archives and grids: bytes, layout, errors."""

import json
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from skinsynth.images.archive import ArchiveWriter, Images, decode_png, encode_png, read_archive, write_archive
from skinsynth.images.grid import image_grid, save_grid

IDS = ["PH_1", "PH_2", "train-benign-3"]


@pytest.fixture
def pixels(rng):
    return torch.randint(0, 256, (3, 3, 16, 16), generator=rng, dtype=torch.uint8).numpy()


def test_a_png_gives_back_its_pixels(pixels):
    image = np.ascontiguousarray(pixels[0].transpose(1, 2, 0))
    assert (decode_png(encode_png(image)) == image).all()


def test_an_archive_gives_back_what_it_took_in_the_order_asked_for(tmp_path, pixels):
    path = tmp_path / "images.zip"
    write_archive(path, IDS, pixels, [0, 1, 0])
    every = read_archive(path)
    assert every.ids == IDS
    assert (every.pixels == pixels).all()
    assert every.labels.tolist() == [0, 1, 0]
    some = read_archive(path, [IDS[2], IDS[0]])
    assert (some.pixels == pixels[[2, 0]]).all()
    assert read_archive(path, []).ids == []


def test_some_of_the_images_keep_the_order_of_their_places(pixels):
    some = Images(IDS, pixels, np.array([0, 1, 2])).at(np.array([2, 0]))
    assert some.ids == [IDS[2], IDS[0]]
    assert (some.pixels == pixels[[2, 0]]).all()
    assert some.labels.tolist() == [2, 0]
    assert Images(IDS, pixels, np.array([0, 1, 2])).at(np.array([], dtype=np.int64)).ids == []


def test_equal_images_make_equal_bytes_from_arrays_and_tensors(tmp_path, pixels):
    first, second, third = (tmp_path / name for name in ("a.zip", "b.zip", "c.zip"))
    write_archive(first, IDS, pixels, [0, 1, 0])
    write_archive(second, IDS, torch.from_numpy(pixels), [0, 1, 0])
    with ArchiveWriter(third) as archive:
        for image_id, image, label in zip(IDS, pixels, [0, 1, 0], strict=True):
            archive.add(image_id, encode_png(image.transpose(1, 2, 0)), label)
    assert first.read_bytes() == second.read_bytes() == third.read_bytes()


def test_the_layout_is_that_of_stylegan_tools(tmp_path, pixels):
    path = tmp_path / "images.zip"
    write_archive(path, IDS, pixels, [0, 1, 0])
    with zipfile.ZipFile(path) as archive:
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert archive.namelist() == [*[f"{image_id}.png" for image_id in IDS], "dataset.json"]
        labels = json.loads(archive.read("dataset.json"))["labels"]
        assert labels == [[f"{image_id}.png", label] for image_id, label in zip(IDS, [0, 1, 0], strict=True)]
        with archive.open("PH_1.png") as file, Image.open(file) as image:
            assert (image.mode, image.size) == ("RGB", (16, 16))


def test_an_archive_that_fails_leaves_the_earlier_one_and_nothing_else(tmp_path, pixels):
    path = tmp_path / "images.zip"
    write_archive(path, IDS, pixels, [0, 1, 0])
    before = path.read_bytes()
    with pytest.raises(RuntimeError), ArchiveWriter(path) as archive:
        archive.add("PH_1", b"", 0)
        raise RuntimeError("power cut")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["images.zip"]


@pytest.mark.parametrize("image_id", ["PH_1", "AA", "../PH_2", "a b", ""])
def test_ids_come_sorted_once_and_safe(tmp_path, pixels, image_id):
    with pytest.raises(ValueError, match="id"), ArchiveWriter(tmp_path / "images.zip") as archive:
        archive.add("PH_1", encode_png(pixels[0].transpose(1, 2, 0)), 0)
        archive.add(image_id, b"", 0)


def test_what_is_no_archive_of_ours_is_named(tmp_path, pixels):
    with pytest.raises(FileNotFoundError, match=r"nothing\.zip"):
        read_archive(tmp_path / "nothing.zip")
    text = tmp_path / "text.zip"
    text.write_text("hello")
    with pytest.raises(ValueError, match=r"text\.zip is no image archive"):
        read_archive(text)
    foreign = tmp_path / "foreign.zip"
    with zipfile.ZipFile(foreign, "w") as archive:
        archive.writestr("dataset.json", "not JSON")
    with pytest.raises(ValueError, match=r"foreign\.zip is no image archive"):
        read_archive(foreign)
    whole = tmp_path / "images.zip"
    write_archive(whole, IDS, pixels, [0, 1, 0])
    with pytest.raises(ValueError, match="PH_9"):
        read_archive(whole, ["PH_1", "PH_9"])


def test_images_of_two_sizes_make_no_archive(tmp_path, pixels):
    path = tmp_path / "images.zip"
    with ArchiveWriter(path) as archive:
        archive.add("a", encode_png(pixels[0].transpose(1, 2, 0)), 0)
        archive.add("b", encode_png(pixels[1, :, :8, :8].transpose(1, 2, 0)), 0)
    with pytest.raises(ValueError, match="one square size"):
        read_archive(path)
    with pytest.raises(ValueError, match="square"):
        write_archive(path, IDS, pixels[:, :, :8], [0, 0, 0])


def test_a_grid_shows_its_images_row_by_row(tmp_path, pixels):
    grid = np.asarray(image_grid(pixels, columns=2, scale=2))
    assert grid.shape == (64, 64, 3)
    assert (grid[:32:2, 32::2] == pixels[1].transpose(1, 2, 0)).all()
    assert (grid[32::2, :32:2] == pixels[2].transpose(1, 2, 0)).all()
    assert (grid[32:, 32:] == 255).all()
    save_grid(tmp_path / "grid.png", pixels, columns=2, scale=2)
    with Image.open(tmp_path / "grid.png") as saved:
        assert (np.asarray(saved) == grid).all()
    with pytest.raises(ValueError, match="grid"):
        image_grid(pixels[:0], columns=2)


@pytest.mark.parametrize(("width", "shown"), [(16, 64), (24, 48), (64, 64), (80, 80)])
def test_a_saved_grid_enlarges_small_images(tmp_path, width, shown):
    save_grid(tmp_path / "grid.png", np.zeros((3, 3, width, width), dtype=np.uint8), columns=3)
    with Image.open(tmp_path / "grid.png") as saved:
        assert saved.size == (3 * shown, shown)
