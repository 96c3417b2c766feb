"""Strips: rows and columns have names, every image stands where it belongs, and the same input gives the same bytes."""

import numpy as np
import pytest
import torch
from PIL import Image

from skinsynth.classifier.classifier import Architecture, Classifier
from skinsynth.classifier.networks import build_network
from skinsynth.directions.removal import Latents, Move
from skinsynth.directions.strips import Strip, draw_strips
from skinsynth.gan.discriminator import Discriminator, DiscriminatorConfig
from skinsynth.gan.family import Cost, Family
from skinsynth.gan.generator import Generator, GeneratorConfig
from skinsynth.gan.model import Gan
from stages import find_directions, remove_frames

COLUMNS = ("-1 SD", "0 (itself)", "+1 SD")


def strips(labels, size=16):
    colours = np.arange(len(labels) * len(COLUMNS), dtype=np.uint8)[:, None, None, None] + np.uint8(100)
    cells = np.broadcast_to(colours, (len(colours), 3, size, size)).reshape(len(labels), len(COLUMNS), 3, size, size)
    return [Strip(label, row) for label, row in zip(labels, cells, strict=True)]


def drawn(path, columns=COLUMNS, labels=("SeFa 1, benign", "PCA 1, benign"), title="title"):
    draw_strips(path, title, columns, strips(labels))
    return np.asarray(Image.open(path)).astype(int)


def test_every_image_stands_in_its_row_and_column(tmp_path):
    picture = drawn(tmp_path / "strips.png")
    middles = picture[-96::64, -160::64][:, :, 0]
    np.testing.assert_array_equal(middles, 100 + np.arange(6).reshape(2, 3))


@pytest.mark.parametrize(
    "change", [{"labels": ("SeFa 1, benign", "PCA 1, malign")}, {"columns": ("-2 SD", "0", "+2 SD")}]
)
def test_other_names_of_rows_and_columns_give_another_picture(tmp_path, change):
    picture, other = drawn(tmp_path / "one.png"), drawn(tmp_path / "other.png", **change)
    assert picture.shape != other.shape or (picture != other).any()


def test_a_label_stands_beside_its_own_row(tmp_path):
    picture = drawn(tmp_path / "strips.png", labels=("SeFa 1", "   "))
    dark_rows = np.flatnonzero((picture[:, : -3 * 64] < 128).any(axis=(1, 2)))
    of_labels = dark_rows[dark_rows >= picture.shape[0] - 2 * 64]
    assert len(of_labels)
    assert of_labels.max() < picture.shape[0] - 64


def test_the_same_strips_give_the_same_bytes(tmp_path):
    for name in ("one.png", "other.png"):
        drawn(tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()


def test_strips_without_an_image_for_each_column_are_refused(tmp_path):
    with pytest.raises(ValueError, match="an image for each of 2 columns, but these have \\[3\\]"):
        drawn(tmp_path / "strips.png", columns=("a", "b"))


@pytest.fixture
def family(rng):
    generator = Generator(GeneratorConfig(32, 3, 6, 6, 2, 2, 32, 4, None, 0, "float16", False), rng)
    sizes = DiscriminatorConfig(32, 3, 2, 2, 32, 4, "orig", 1, 0, None, 0, "float16", False)
    gan = Gan(generator.requires_grad_(False), Discriminator(sizes, rng), [0, 1])
    return Family({"cgan": gan}, {"cgan": Cost(0, 0)})


@pytest.fixture
def rows(monkeypatch):
    """What the stages give to be drawn."""
    found = []

    def note(path, title, columns, strips):
        found.extend(strip.label for strip in strips)
        draw_strips(path, title, columns, strips)

    for stage in (find_directions, remove_frames):
        monkeypatch.setattr(stage, "draw_strips", note)
    return found


def test_every_direction_of_both_methods_has_a_row_for_each_class(family, rows, tmp_path, monkeypatch):
    settings = find_directions.Settings(("benign", "malignant"), "malignant", None, 2, 4, (-1.0, 0.0, 1.0), 16, 1.0, 1)
    judge = Classifier(build_network("cnn-108k", 2, False, 0.0), Architecture("cnn-108k", 2, 0.0))
    monkeypatch.setattr(find_directions, "load_params", lambda *_: settings)
    monkeypatch.setattr(find_directions, "load_family", lambda *_: family)
    monkeypatch.setattr(find_directions, "load_classifier", lambda *_: judge)
    find_directions.main(*(tmp_path / name for name in ("gan", "judge", "found", "strips.png", "effects", "metrics")))
    of_class = ["SeFa 1", "SeFa 2", "PCA 1", "PCA 2"]
    assert rows == [f"{label}, {name}" for name in ("benign", "malignant") for label in of_class]
    assert (tmp_path / "strips.png").is_file()


def test_a_strip_of_removal_names_gan_method_step_and_layers(family, rows, tmp_path, rng):
    w = torch.randn(3, 6, generator=rng)
    before = Latents(w, torch.zeros(3, dtype=torch.int64), torch.zeros(3, 3, 32, 32, dtype=torch.uint8), torch.zeros(3))
    best = {"pca": Move("pca", 4, (0, 1), -2.0, w[0]), "hyperplane": Move("hyperplane", 1, None, 3.0, w[1])}
    chosen = {"cgan": remove_frames.Chosen(best["pca"], [], {}, before, before.pixels, best)}
    remove_frames.show_strips(tmp_path / "strips.png", family.members, chosen)
    assert rows[::3] == ["cgan: PCA 4\n-2 SD, layers 0 to 1", "cgan: hyperplane\n+3 SD, all layers"]
    assert len(rows) == 6
