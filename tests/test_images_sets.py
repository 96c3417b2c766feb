"""Image sets brought from elsewhere: all layouts give the same images, and what is wrong is said in a line."""

import io
import json
import os
import re
import tracemalloc
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skinsynth.images.archive import IMAGE_ID, read_archive, write_archive
from skinsynth.images.decode import decode
from skinsynth.images.sets import MAX_BYTES, left_aside, read_image_set

CLASSES = ("benign", "malignant")
DIRECTORY = b"PK\x01\x02"  # begins an entry of the directory at the end of a ZIP
FLAGS, METHOD, SIZE = 8, 10, 24  # bytes from there


def picture(seed: int, width: int = 40, height: int = 30) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height))


def encoded(seed: int, kind: str = "png", **options) -> bytes:
    buffer = io.BytesIO()
    picture(seed).save(buffer, kind, **options)
    return buffer.getvalue()


def zipped(path: Path, content_of: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in content_of.items():
            archive.writestr(name, content)
    return path


def unpacked(path: Path, content_of: Mapping[str, bytes]) -> Path:
    for name, content in content_of.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def listing(labels: object) -> bytes:
    return json.dumps({"labels": labels}).encode()


def with_field(path: Path, offset: int, value: int, width: int) -> Path:
    """The ZIP, a field changed in what its directory says of the first entry."""
    content = bytearray(path.read_bytes())
    start = content.index(DIRECTORY) + offset
    content[start : start + width] = value.to_bytes(width, "little")
    path.write_bytes(content)
    return path


def refusal(path: Path, classes: tuple[str, ...] = CLASSES) -> str:
    with pytest.raises(ValueError, match=path.name) as caught:
        read_image_set(path, classes, 8)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def vendor() -> dict[str, bytes]:
    """Three images of two classes, one in a folder below its class."""
    return {
        "malignant/1.jpg": encoded(1, "jpeg"),
        "benign/b.PNG": encoded(2),
        "benign/first batch/a.webp": encoded(3, "webp", lossless=True),
    }


@pytest.fixture
def own(tmp_path) -> Path:
    """An archive as the pipeline writes it; its ids and its file names sort differently."""
    pixels = np.stack([np.asarray(picture(seed, 20, 20)).transpose(2, 0, 1) for seed in range(3)])
    write_archive(tmp_path / "own.zip", ["a", "a-b", "c"], pixels, [1, 0, 1])
    return tmp_path / "own.zip"


def test_a_zip_with_and_without_a_top_folder_and_a_folder_give_the_same_set(tmp_path, vendor):
    flat = read_image_set(zipped(tmp_path / "flat.zip", vendor), CLASSES, 16)
    below = {f"vendor/{name}": content for name, content in vendor.items()}
    for path in (
        zipped(tmp_path / "top.zip", below),
        unpacked(tmp_path / "a", vendor),
        unpacked(tmp_path / "b", below),
    ):
        found = read_image_set(path, CLASSES, 16)
        assert found.ids == flat.ids == ["benign-b", "benign-first_batch-a", "malignant-1"]
        assert found.labels.tolist() == flat.labels.tolist() == [0, 0, 1]
        assert (found.pixels == flat.pixels).all()


def test_pixels_are_those_that_real_images_get(tmp_path, vendor):
    folder = unpacked(
        tmp_path / "set", {**vendor, "benign/turned.tif": encoded(4, "tiff"), "benign/x.bmp": encoded(5, "bmp")}
    )
    found = read_image_set(folder, CLASSES, 16)
    names = ["benign/b.PNG", "benign/first batch/a.webp", "benign/turned.tif", "benign/x.bmp", "malignant/1.jpg"]
    expected = [decode("key", folder / name, 16).pixels.transpose(2, 0, 1) for name in names]
    assert (found.pixels == np.stack(expected)).all()


def test_our_own_archive_is_what_read_archive_gives(own):
    expected, found = read_archive(own), read_image_set(own, CLASSES, 20)
    assert found.ids == expected.ids
    assert (found.pixels == expected.pixels).all()
    assert (found.labels == expected.labels).all()


def test_our_own_archive_is_resized_as_real_images_are(tmp_path, own):
    found = read_image_set(own, CLASSES, 8)
    with zipfile.ZipFile(own) as archive:
        (tmp_path / "c.png").write_bytes(archive.read("c.png"))
    assert found.pixels.shape == (3, 3, 8, 8)
    assert (found.pixels[2].transpose(1, 2, 0) == decode("key", tmp_path / "c.png", 8).pixels).all()


def test_stylegan_archives_may_have_folders(tmp_path):
    labels = [["00000/img1.png", 1], ["00000/img0.png", 0]]
    content_of = {"00000/img0.png": encoded(0), "00000/img1.png": encoded(1), "dataset.json": listing(labels)}
    packed = read_image_set(zipped(tmp_path / "stylegan.zip", content_of), CLASSES, 8)
    assert packed.ids == ["00000-img0", "00000-img1"]
    assert packed.labels.tolist() == [0, 1]
    assert (packed.pixels == read_image_set(unpacked(tmp_path / "set", content_of), CLASSES, 8).pixels).all()


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (None, "labels are null.*folders called after the classes"),
        ({"a.png": 0}, "labels are dict"),
        ([["a.png", 2]], "label of 'a.png' is 2.*0 to 1"),
        ([["a.png", -1]], "is -1"),
        ([["b.png", 0]], "'b.png', which is not there"),
        ([["a.png", 0], ["a.png", 1]], "'a.png' twice"),
        ([["a.png", [0, 1]]], "the number of a class"),
        (["a.png"], "the number of a class"),
        ([], "holds no image"),
    ],
)
def test_labels_that_say_no_class_are_refused(tmp_path, labels, said):
    path = zipped(tmp_path / "set.zip", {"a.png": encoded(0), "dataset.json": listing(labels)})
    assert re.search(said, refusal(path))


@pytest.mark.parametrize("content", [b"no JSON", b"\xff\xfe\x00", b"{}", b"[1]", b"[" * 100_000])
def test_a_listing_of_another_form_is_refused(tmp_path, content):
    assert "takes the form" in refusal(zipped(tmp_path / "set.zip", {"a.png": encoded(0), "dataset.json": content}))


def test_the_order_is_that_of_the_classes_then_of_the_names(tmp_path, vendor):
    found = read_image_set(zipped(tmp_path / "set.zip", vendor), ("malignant", "nevus", "benign"), 8)
    assert found.ids == ["malignant-1", "benign-b", "benign-first_batch-a"]
    assert found.labels.tolist() == [0, 2, 2]


def test_case_does_not_matter_unless_classes_differ_by_it(tmp_path):
    path = zipped(tmp_path / "set.zip", {"BENIGN/1.png": encoded(0), "Benign/1.png": encoded(1)})
    assert read_image_set(path, CLASSES, 8).labels.tolist() == [0, 0]
    assert read_image_set(path, ("Benign", "BENIGN"), 8).ids == ["Benign-1", "BENIGN-1"]


def test_ids_are_safe_and_unique_whatever_the_names(tmp_path):
    names = [
        "benign/1.png",
        "benign/1.jpg",
        "benign/1-2.png",
        "benign/é.png",
        "benign/è.png",
        "benign/x/y.png",
        "benign/x-y.png",
        "benign\\windows.png",
        "malignant/a\nb.png",
    ]
    found = read_image_set(zipped(tmp_path / "set.zip", dict.fromkeys(names, encoded(0))), CLASSES, 8)
    assert len(set(found.ids)) == len(found.ids) == len(names)
    assert all(IMAGE_ID.fullmatch(image_id) and image_id[0] != "." for image_id in found.ids)
    assert "benign-windows" in found.ids
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set.zip"]


@pytest.mark.parametrize("name", ["../../benign/1.png", "/benign/1.png", "benign/../malignant/1.png", "..\\1.png"])
def test_entries_that_lead_out_of_the_set_are_refused(tmp_path, name):
    content_of = {"benign/0.png": encoded(0), name: encoded(1)}
    assert "leads out of the set" in refusal(zipped(tmp_path / "set.zip", content_of))


def test_of_two_entries_of_one_name_none_hides_the_other(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in range(2):
            archive.writestr("benign/1.png", encoded(seed))
    assert "two entries called 'benign/1.png'" in refusal(tmp_path / "set.zip")


def test_listed_names_give_safe_ids_too(tmp_path):
    names = ["..png", ".hidden.png", "a b.png"]
    content_of = {**dict.fromkeys(names, encoded(0)), "dataset.json": listing([[name, 0] for name in names])}
    found = read_image_set(zipped(tmp_path / "set.zip", content_of), CLASSES, 8)
    assert all(IMAGE_ID.fullmatch(image_id) and image_id[0] != "." for image_id in found.ids)


def test_what_lies_beside_images_is_ignored(tmp_path, vendor):
    clutter = [
        "__MACOSX/vendor/benign/._1.png",
        "vendor/.DS_Store",
        "vendor/benign/._1.png",
        "vendor/benign/Thumbs.db",
        "vendor/benign/labels.json",
        "LICENCE.txt",
        "README",
        "vendor/table.csv",
    ]
    content_of = {f"vendor/{name}": content for name, content in vendor.items()} | dict.fromkeys(clutter, b"no image")
    assert len(read_image_set(zipped(tmp_path / "set.zip", content_of), CLASSES, 8).ids) == 3
    assert len(read_image_set(unpacked(tmp_path / "set", content_of), CLASSES, 8).ids) == 3
    assert left_aside(tmp_path / "set.zip") == left_aside(tmp_path / "set") == sorted(clutter)


@pytest.mark.parametrize("name", ["patients.zip", "real.npy", "benign/.1.png", ".cache/1.png", "benign/weights.pkl"])
def test_what_is_neither_image_nor_text_is_not_left_out_in_silence(tmp_path, name):
    content_of = {"benign/1.png": encoded(0), name: encoded(1)}
    for path in (zipped(tmp_path / "set.zip", content_of), unpacked(tmp_path / "set", content_of)):
        assert "1 files are hidden or of a format that is not read" in (said := refusal(path))
        assert name in said


def test_a_text_is_one_by_its_content(tmp_path):
    for content in (encoded(0), "Grüße".encode("latin-1"), b"a\0b"):
        path = zipped(tmp_path / "set.zip", {"benign/1.png": encoded(0), "benign/about.txt": content})
        assert "'benign/about.txt' is no text" in refusal(path)


def test_an_image_holds_what_is_seen_of_it_and_no_more(tmp_path):
    frames = [picture(seed) for seed in range(3)]
    transparent = picture(0).convert("RGBA")
    transparent.putpixel((0, 0), (9, 9, 9, 254))
    buffers = {kind: io.BytesIO() for kind in ("frames.png", "pages.tiff", "frames.webp", "clear.png")}
    frames[0].save(buffers["frames.png"], "png", save_all=True, append_images=frames[1:])
    frames[0].save(buffers["pages.tiff"], "tiff", save_all=True, append_images=frames[1:])
    frames[0].save(buffers["frames.webp"], "webp", save_all=True, append_images=frames[1:])
    transparent.save(buffers["clear.png"], "png")
    for name, buffer in buffers.items():
        said = refusal(zipped(tmp_path / "set.zip", {f"benign/{name}": buffer.getvalue()}))
        assert ("transparent in places" if name == "clear.png" else "it holds 3 images") in said
    opaque = io.BytesIO()
    picture(0).convert("RGBA").save(opaque, "png")
    found = read_image_set(zipped(tmp_path / "set.zip", {"benign/1.png": opaque.getvalue()}), CLASSES, 8)
    plain = read_image_set(zipped(tmp_path / "plain.zip", {"benign/1.png": encoded(0)}), CLASSES, 8)
    assert (found.pixels == plain.pixels).all()


def test_links_within_a_folder_lead_to_files_alone(tmp_path, vendor):
    folder = unpacked(tmp_path / "set", vendor)
    (folder / "benign/linked.png").symlink_to(folder / "benign/b.PNG")
    assert len(read_image_set(folder, CLASSES, 8).ids) == 4
    (folder / "benign/again").symlink_to(folder / "benign")
    assert "is a link to a folder" in refusal(folder)
    (folder / "benign/again").unlink()
    (folder / "benign/broken.png").symlink_to(tmp_path / "nowhere.png")
    assert "is no file" in refusal(folder)


def test_a_class_folder_may_be_a_link(tmp_path, vendor):
    elsewhere = unpacked(tmp_path / "elsewhere", vendor)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "benign").symlink_to(elsewhere / "benign")
    assert read_image_set(tmp_path / "set", CLASSES, 8).ids == ["benign-b", "benign-first_batch-a"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["bening/1.png", "malignant/1.png"], "'bening' is no class of benign, malignant: did you mean 'benign'"),
        (["vendor/Malignent/1.png"], "did you mean 'malignant'"),
        (["benign/1.png", "spots/1.png"], "'spots' is no class of benign, malignant: rename it"),
        (["1.png", "benign/1.png"], "'1.png' lies in no folder of a class: put it in one called benign or malignant"),
        (["1.png"], "'1.png' lies in no folder"),
        (
            ["flat/1.png", "flat/2.png"],
            "'1.png' lies in no folder of a class: put it in one called benign or malignant",
        ),
        (["bening/1.png"], "did you mean 'benign'"),
        (["vendor/1.png", "vendor/benign/1.png"], "'1.png' lies in no folder"),
        (["benign/._1.png", "benign/Thumbs.db"], "holds no image"),
        ([], "holds no image"),
    ],
)
def test_images_without_a_class_are_refused(tmp_path, names, said):
    content_of = dict.fromkeys(names, encoded(0))
    assert said in refusal(zipped(tmp_path / "set.zip", content_of))
    (tmp_path / "set").mkdir()
    assert said in refusal(unpacked(tmp_path / "set", content_of))


@pytest.mark.parametrize("name", ["benign/2.gif", "vendor/Malignant/deep/3.jfif", "benign/no suffix"])
def test_pictures_of_a_kind_that_is_not_read_are_named_and_not_left_out_in_silence(tmp_path, name):
    top = "vendor/" if name.startswith("vendor") else ""
    content_of = {f"{top}benign/1.png": encoded(0), f"{top}malignant/1.png": encoded(0), name: b"GIF89a"}
    said = refusal(zipped(tmp_path / "set.zip", content_of))
    assert "1 files are hidden or of a format that is not read" in said
    assert name in said


def test_files_that_a_list_of_labels_leaves_out_are_named(tmp_path):
    content_of = {"1.png": encoded(0), "2.png": encoded(1), "about.txt": b"", "dataset.json": listing([["1.png", 0]])}
    assert "dataset.json does not list 1 of its files, such as '2.png'" in refusal(
        zipped(tmp_path / "s.zip", content_of)
    )


def test_images_that_are_enlarged_are_counted_in_one_line_with_the_smallest(tmp_path, capsys):
    sizes = {"benign/a.png": (40, 6), "malignant/b.jpg": (7, 50), "benign/c.png": (8, 8), "malignant/d.png": (60, 30)}
    for name, (width, height) in sizes.items():
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        picture(1).resize((width, height)).save(tmp_path / "set" / name)
    read_image_set(tmp_path / "set", CLASSES, 8)
    said = f"{tmp_path / 'set'}: 2 of 4 images are enlarged to 8 px, from 6 px on\n"
    assert capsys.readouterr().out == said
    read_image_set(tmp_path / "set", CLASSES, 6)
    assert capsys.readouterr().out == ""


def test_a_class_may_have_no_image(tmp_path):
    path = zipped(tmp_path / "set.zip", {"malignant/1.png": encoded(0)})
    assert read_image_set(path, CLASSES, 8).labels.tolist() == [1]


def test_many_images_keep_their_order(tmp_path):
    content_of = {f"benign/{number:03}.png": encoded(number) for number in range(50)}
    found = read_image_set(zipped(tmp_path / "set.zip", content_of), CLASSES, 8)
    alone = read_image_set(zipped(tmp_path / "one.zip", {"benign/033.png": encoded(33)}), CLASSES, 8)
    assert found.ids == [f"benign-{number:03}" for number in range(50)]
    assert (found.pixels[33] == alone.pixels[0]).all()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (encoded(0, "jpeg")[:300], "benign/1.png"),
        (b"", "not an image"),
        (b"hello", "not an image"),
        (encoded(0, "gif"), "not an image"),
        (encoded(0, "eps"), "not an image"),
    ],
)
def test_bad_images_are_named(tmp_path, content, said):
    content_of = {"benign/0.png": encoded(0), "benign/1.png": content}
    for path in (zipped(tmp_path / "set.zip", content_of), unpacked(tmp_path / "set", content_of)):
        message = refusal(path)
        assert said in message
        assert "'benign/1.png'" in message


def test_too_many_pixels_are_refused_and_warnings_are_as_before(tmp_path):
    bomb = io.BytesIO()
    Image.new("1", (12000, 10000)).save(bomb, "png")
    before = list(warnings.filters)
    assert "'benign/bomb.png': more than" in refusal(zipped(tmp_path / "set.zip", {"benign/bomb.png": bomb.getvalue()}))
    assert warnings.filters == before


def test_an_entry_that_declares_too_many_bytes_is_refused(tmp_path):
    path = with_field(zipped(tmp_path / "set.zip", {"benign/1.png": encoded(0)}), SIZE, MAX_BYTES + 1, 4)
    assert "'benign/1.png' has 268,435,457 bytes" in refusal(path)


def test_a_file_of_too_many_bytes_is_refused(tmp_path):
    folder = unpacked(tmp_path / "set", {"benign/1.png": b""})
    os.truncate(folder / "benign/1.png", MAX_BYTES + 1)  # takes no space on the disk
    assert "1.png has 268,435,457 bytes" in refusal(folder)


def test_an_entry_that_holds_more_than_it_declares_is_refused_before_it_is_inflated(tmp_path):
    path = with_field(zipped(tmp_path / "set.zip", {"benign/1.png": bytes(50_000_000)}), SIZE, 1000, 4)
    tracemalloc.start()
    message = refusal(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "'benign/1.png' is damaged" in message
    assert peak < 5_000_000


def test_encrypted_entries_are_refused(tmp_path):
    path = with_field(zipped(tmp_path / "set.zip", {"benign/1.png": encoded(0)}), FLAGS, 1, 2)
    assert "'benign/1.png' is encrypted: pack the set without a password" in refusal(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 9])
def test_methods_that_inflate_without_a_bound_are_refused(tmp_path, method):
    path = with_field(zipped(tmp_path / "set.zip", {"benign/1.png": encoded(0)}), METHOD, method, 2)
    assert f"'benign/1.png' is packed by method {method}" in refusal(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damaged_entries_are_named(tmp_path, method):
    path = zipped(tmp_path / "set.zip", {"benign/1.png": encoded(0)}, method)
    content = bytearray(path.read_bytes())
    content[60:90] = bytes(30)
    path.write_bytes(content)
    assert "'benign/1.png' is damaged" in refusal(path)


def test_what_is_no_set_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no image set at .*none\.zip"):
        read_image_set(tmp_path / "none.zip", CLASSES, 8)
    (tmp_path / "text.zip").write_text("hello")
    assert "text.zip is no image set" in refusal(tmp_path / "text.zip")
