"""The stages' real entry points, one after another on a tiny study, in the order and with the paths of dvc.yaml."""

import hashlib
import importlib
import inspect
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from pipeline.without_dvc import commands
from skinsynth.artefacts.auditor import Auditor
from skinsynth.classifier.classifier import load_classifier
from skinsynth.directions.removal import load_moves
from skinsynth.features.extractor import ModelExtractor
from skinsynth.gan.family import Family
from skinsynth.images.archive import read_archive, write_archive
from skinsynth.privacy.inputs import fingerprint
from skinsynth.privacy.names import TABLES
from skinsynth.stage import load_params, run
from stages import audit_artefacts, score_authenticity, train_detectors, train_gan
from tests.tiny import ROOT, tiny_params, write_params

PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
COMMANDS = dict(commands(PIPELINE))
GANS = ("ben", "mal", "cgan", "cgan-no-color", "cgan-no-aug")
COHORTS = ("federated", "small-alone", "middle-alone", "large-alone")
SYNTHETIC_SCENARIOS = tuple(name for name in PIPELINE["stages"]["train_classifier"]["foreach"] if name != "real")
ORDER = (
    ("prepare_images", None),
    ("split_patients", None),
    ("train_classifier", "real"),
    *(("train_gan", name) for name in GANS),
    *(("train_federated", name) for name in COHORTS),
    *(("score_gan", name) for name in GANS),
    ("score_federated", None),
    ("select_gan", None),
    *(("generate_images", name) for name in ("gan", "cgan", "cgan-no-color", "selected", "doses")),
    ("score_images", "selected"),
    ("train_detectors", None),
    ("audit_artefacts", None),
    ("find_directions", None),
    ("remove_frames", None),
    ("project_images", None),
    ("augment_edges", None),
    *(("train_classifier", name) for name in SYNTHETIC_SCENARIOS),
    ("compare_classifiers", "frame-free"),
    ("compare_classifiers", "edges"),
    ("compare_classifiers", "edges-control"),
    ("compare_classifiers", "random"),
    ("measure_dose_response", None),
    ("write_tables", None),
    ("explain_classifier", None),
    ("embed_images", None),
    ("score_authenticity", None),
    ("check_release", None),
)


def command(stage: str, item: str | None) -> list[str]:
    """The flags of dvc.yaml with the item filled in."""
    return shlex.split(COMMANDS[stage if item is None else f"{stage}@{item}"])[2:]


def call(stage: str, item: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `python stages/<stage>.py …` does, in this process."""
    monkeypatch.setattr("sys.argv", [f"stages/{stage}.py", *command(stage, item)])
    run(importlib.import_module(f"stages.{stage}").main)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A folder in which the whole tiny study has run."""
    folder = tmp_path_factory.mktemp("study")
    for place in ("data/raw", "data/initial"):
        (folder / place).mkdir(parents=True)
    write_params(folder, tiny_params())
    for stage in PIPELINE["stages"]:
        # All at once: a checkpoint's name depends on the packages loaded by then, and here they end in one process.
        importlib.import_module(f"stages.{stage}")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage, item in ORDER:
            call(stage, item, patch)
    return folder


@pytest.fixture
def copied(study, tmp_path, monkeypatch) -> Path:
    """A copy of the study that a test may spoil, entered."""
    shutil.copytree(study, tmp_path / "study")
    monkeypatch.chdir(tmp_path / "study")
    return tmp_path / "study"


def metrics(study: Path, name: str) -> dict[str, Any]:
    return json.loads((study / "metrics" / f"{name}.json").read_text())


def fails_in_one_line(stage: str, item: str | None, monkeypatch: pytest.MonkeyPatch) -> str:
    with pytest.raises(SystemExit) as stop:
        call(stage, item, monkeypatch)
    assert "\n" not in stop.value.code
    return stop.value.code


def test_the_folder_of_authenticity_holds_the_tables_that_it_may_lose(study):
    found = {file.name for file in (study / "metrics/score_authenticity/details").iterdir()}
    assert found == {score_authenticity.HISTOGRAM, *(f"{name}.csv" for name in TABLES)}


def test_every_headline_file_has_few_named_numbers(study):
    for file in study.glob("metrics/**/*.json"):
        if "timing" not in file.parts:
            values = json.loads(file.read_text())
            assert 1 <= len(values) <= 9, file
            assert all(isinstance(value, int | float | str | bool) or value is None for value in values.values())


def test_numbers_of_features_name_their_extractor(study):
    for name in GANS[:1]:
        found = metrics(study, f"score_gan/{name}")
        assert found.pop("images") > 0
        assert len(found.pop("extractor_weights")) == 8
        assert all(key.endswith(("classifier", "classifier_percent")) for key in found)


def test_synthetic_images_are_as_many_of_each_class_as_asked(study):
    synthetic = read_archive(study / "data/synthetic/gan.zip")
    assert np.bincount(synthetic.labels).tolist() == [16, 16]
    manifest = pd.read_csv(study / "data/synthetic/gan.csv")
    assert manifest["gan"].tolist() == ["ben"] * 16 + ["mal"] * 16
    assert manifest["image_id"].tolist() == synthetic.ids


def test_no_image_is_in_two_synthetic_sets_though_one_gan_may_make_both(study):
    drawn = [read_archive(study / f"data/synthetic/{name}.zip").pixels for name in ("gan", "cgan", "selected", "doses")]
    images = [image.tobytes() for pixels in drawn for image in pixels]
    assert len(set(images)) == len(images)
    manifests = [pd.read_csv(study / f"data/synthetic/{name}.csv") for name in ("gan", "cgan", "selected", "doses")]
    assert len({int(seed) for manifest in manifests for seed in manifest["seed"]}) == len(manifests)


def test_projections_keep_the_order_of_their_images(study):
    table = pd.read_csv(study / "data/projections/distances.csv")
    pairs = read_archive(study / "data/projections/pairs.zip")
    real = read_archive(study / "data/images.zip", table["image_id"].tolist())
    shown = read_archive(study / "data/projections/pairs.zip", [f"{image_id}.real" for image_id in table["image_id"]])
    assert len(pairs.ids) == 2 * len(table)
    np.testing.assert_array_equal(shown.pixels, real.pixels)


def ids_of(table: Path, **chosen: str) -> set[str]:
    rows = pd.read_csv(table, dtype=str, keep_default_na=False)
    for column, value in chosen.items():
        rows = rows[rows[column] == value]
    return set(rows["image_id"])


def test_tables_name_images_of_the_side_that_their_stage_speaks_of(study):
    points = study / "metrics/embed_images/points.csv"
    named = {
        "train": (
            ids_of(study / "data/projections/distances.csv"),
            ids_of(study / "data/projections/edges.csv"),
            ids_of(points, panel="a", kind="real"),
        ),
        "test": (
            ids_of(study / "metrics/explain_classifier/cases.csv"),
            ids_of(points, panel="b", kind="real"),
        ),
    }
    for side, tables in named.items():
        for ids in tables:
            assert ids
            assert ids <= ids_of(study / "data/splits/main.csv", split=side)
    test = ids_of(study / "data/splits/main.csv", split="test")
    assert ids_of(study / "metrics/train_classifier/real/predictions.csv") == test
    scores = pd.read_csv(study / "metrics/train_detectors/scores.csv").dropna(subset="auc")
    lesions = pd.read_csv(study / "data/lesions.csv")
    flags = lesions[lesions["image_id"].isin(test)]
    for row in scores.itertuples():
        assert row.flagged_share == pytest.approx(flags[row.artefact].mean(), abs=1e-5)


def test_every_interval_is_over_the_patients_of_the_split(study, monkeypatch):
    """Not over images, of which a patient has several."""

    def look(_, labels, groups, *__):
        seen["measure_dose_response"] = labels, groups
        raise Stopped

    seen: dict[str, Any] = {}
    monkeypatch.chdir(study)
    monkeypatch.setattr("stages.measure_dose_response.predict_by_dose", lambda *_: [])
    monkeypatch.setattr("stages.measure_dose_response.curve_rows", look)
    with pytest.raises(Stopped):
        call("measure_dose_response", None, monkeypatch)
    places = Path("data/images.zip"), Path("data/lesions.csv"), Path("data/splits/main.csv")
    sides = pd.read_csv(places[2]).groupby("split")
    test, train = (sides.get_group(side) for side in ("test", "train"))
    assert test["group"].nunique() < len(test)
    assert seen["measure_dose_response"][1].tolist() == test["group"].tolist()
    predictions = pd.read_csv("metrics/train_classifier/real/predictions.csv")
    assert predictions["group"].tolist() == test["group"].tolist()
    _, detected = train_detectors.read_sides(*places)["test"].flagged("hair")
    assert detected.tolist() == test["group"].tolist()
    judge = load_classifier(Path("models/classifier/real"), torch.device("cpu"))
    auditor = Auditor(judge, {}, ("benign", "malignant"), positive=1, least_auc=0.5, draws=2)
    assert audit_artefacts.real_side("train", *places, auditor).groups.tolist() == train["group"].tolist()


def test_at_the_end_only_the_states_of_whole_trainings_are_left_of_checkpoints(study):
    left = {file.parent.relative_to(study / ".checkpoints") for file in (study / ".checkpoints").rglob("*.*")}
    trainings = [(folder.parts[:-1], folder.name.rpartition("-")[0]) for folder in left]
    trained = [(stage, item) for stage, item in ORDER if stage in ("train_gan", "train_federated")]
    assert sorted(trainings) == sorted(((stage, "finished"), item) for stage, item in trained)


def test_a_gan_that_is_to_see_more_images_goes_on_where_it_ended(copied, monkeypatch, capsys):
    params = yaml.safe_load((copied / "params.yaml").read_text())
    params["scales"]["phantom"]["train_gan"]["schedule"]["images"] += 32
    write_params(copied, params)
    before = pd.read_csv(copied / "metrics/train_gan/mal/losses.csv")
    call("train_gan", "mal", monkeypatch)
    printed = capsys.readouterr().err
    assert " 128/160 " in printed
    assert " 0/160 " not in printed, "training began again from the start"
    after = pd.read_csv(copied / "metrics/train_gan/mal/losses.csv")
    assert after["images"].tolist() == [32, 64, 96, 128, 160]
    pd.testing.assert_frame_equal(after[:4], before)
    assert json.loads((copied / "models/gan/mal/cost.json").read_text())["images_seen"] == 160


def test_a_stage_run_again_writes_the_same_bytes(copied, monkeypatch):
    for stage, item, out in (
        ("prepare_images", None, "data/images.zip"),
        ("train_gan", "mal", "models/gan/mal/generator.safetensors"),
        ("generate_images", "gan", "data/synthetic/gan.zip"),
        ("project_images", None, "data/projections/latents.safetensors"),
    ):
        before = (copied / out).read_bytes()
        (copied / out).unlink()
        call(stage, item, monkeypatch)
        assert (copied / out).read_bytes() == before, out


def test_a_dry_run_says_the_plan_and_writes_nothing(copied, monkeypatch, capsys):
    shutil.rmtree(copied / "models/gan/cgan")
    monkeypatch.setattr("sys.argv", ["stages/train_gan.py", *command("train_gan", "cgan"), "--dry-run"])
    run(importlib.import_module("stages.train_gan").main)
    plan = json.loads(capsys.readouterr().out)
    assert plan["run"]["conditional"]
    assert plan["trainer"]["generator"]["class_count"] == 2
    assert not (copied / "models/gan/cgan").exists()


def test_a_table_with_a_missing_column_leaves_the_earlier_images(copied, monkeypatch):
    before = (copied / "data/images.zip").read_bytes()
    params = tiny_params()
    params["scales"]["phantom"]["prepare_images"]["source"] = "table"
    write_params(copied, params)
    (copied / "data/raw/hospital").mkdir()
    (copied / "data/raw/hospital/lesions.csv").write_text("path,patient,label\na.jpg,p,benign\n")
    message = fails_in_one_line("prepare_images", None, monkeypatch)
    assert "patient_id" in message
    assert "did you mean 'patient'" in message
    assert (copied / "data/images.zip").read_bytes() == before


def test_a_missing_data_folder_says_where_it_was_looked_for(copied, monkeypatch):
    params = tiny_params()
    params["scales"]["phantom"]["prepare_images"]["source"] = "isic"
    write_params(copied, params)
    assert "data/raw/isic" in fails_in_one_line("prepare_images", None, monkeypatch)


def test_a_truncated_jpeg_stops_by_name_and_is_skipped_on_request(copied, monkeypatch, capsys):
    hospital = copied / "data/raw/hospital"
    hospital.mkdir()
    real = read_archive(copied / "data/images.zip")
    from PIL import Image

    rows = ["path,patient_id,label"]
    for number in range(60):
        name = f"{number:02d}.jpg"
        Image.fromarray(real.pixels[number].transpose(1, 2, 0)).resize((64, 64)).save(hospital / name)
        rows.append(f"{name},p{number // 2},{('benign', 'malignant')[number % 2]}")
    (hospital / "lesions.csv").write_text("\n".join(rows) + "\n")
    (hospital / "07.jpg").write_bytes((hospital / "07.jpg").read_bytes()[:400])
    params = tiny_params()
    section = params["scales"]["phantom"]["prepare_images"]
    section["source"] = "table"
    write_params(copied, params)
    before = (copied / "data/lesions.csv").read_bytes()
    assert "07.jpg" in fails_in_one_line("prepare_images", None, monkeypatch)
    assert (copied / "data/lesions.csv").read_bytes() == before
    section["on_bad_image"] = "skip"
    write_params(copied, params)
    call("prepare_images", None, monkeypatch)
    assert metrics(copied, "prepare_images")["bad_images"] == 1
    assert "07.jpg" in capsys.readouterr().out


@pytest.fixture
def small_disk(copied):
    """A file system of 128 kB under data/small; needs the right to mount one."""
    place = copied / "data/small"
    place.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", place], capture_output=True, check=False
    ).returncode:
        pytest.skip("no right to mount a small file system")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_is_named_and_leaves_nothing_half_written(small_disk, monkeypatch):
    flags = [flag.replace("data/images.zip", "data/small/images.zip") for flag in command("prepare_images", None)]
    monkeypatch.setattr("sys.argv", ["stages/prepare_images.py", *flags])
    with pytest.raises(SystemExit) as stop:
        run(importlib.import_module("stages.prepare_images").main)
    assert "the disk is full" in stop.value.code
    assert "\n" not in stop.value.code
    assert not list(small_disk.iterdir())


def test_too_few_patients_are_an_error_before_the_old_split_is_touched(copied, monkeypatch):
    before = (copied / "data/splits/main.csv").read_bytes()
    table = pd.read_csv(copied / "data/lesions.csv", dtype=str, keep_default_na=False)
    malignant = table["label"] == "1"
    table.loc[malignant, ["patient_id", "lesion_id", "duplicate_group"]] = ["P", "L", ""]
    table.to_csv(copied / "data/lesions.csv", index=False)
    assert "malignant" in fails_in_one_line("split_patients", None, monkeypatch)
    assert (copied / "data/splits/main.csv").read_bytes() == before


def test_a_misspelt_class_of_the_settings_gets_a_suggestion(copied, monkeypatch):
    params = tiny_params()
    params["scales"]["phantom"]["generate_images"]["images"]["cgan"] = {"benign": 4, "malignnat": 4}
    write_params(copied, params)
    assert "did you mean 'malignnat'" in fails_in_one_line("generate_images", "cgan", monkeypatch)


@pytest.mark.parametrize("stage", ["find_directions", "explain_classifier", "embed_images"])
def test_a_positive_class_that_is_none_is_told_before_anything_is_read(tmp_path, monkeypatch, stage):
    params = tiny_params()
    params["scales"]["phantom"][stage]["positive"] = "malignnat"
    write_params(tmp_path, params)
    monkeypatch.chdir(tmp_path)
    assert "`positive` names one of the classes benign, malignant" in fails_in_one_line(stage, None, monkeypatch)


@pytest.mark.parametrize("stage", ["project_images", "augment_edges"])
def test_a_class_that_the_selected_gan_does_not_make_is_told_before_the_projection(copied, monkeypatch, stage):
    shutil.rmtree(copied / "models/gan/selected")
    shutil.copytree(copied / "models/gan/ben", copied / "models/gan/selected/ben")
    monkeypatch.setattr(f"stages.{stage}.build_loss", lambda *_: pytest.fail("it went on"))
    assert "no GAN of ben makes label 1" in fails_in_one_line(stage, None, monkeypatch)


def test_asking_for_more_synthetic_images_than_there_are_names_both_counts(copied, monkeypatch):
    params = tiny_params()
    params["scales"]["phantom"]["train_classifier"]["scenarios"]["aug-cgan"]["synthetic"] = {"malignant": 17}
    write_params(copied, params)
    message = fails_in_one_line("train_classifier", "aug-cgan", monkeypatch)
    assert "16" in message
    assert "17" in message


def test_an_arm_of_an_unknown_column_is_told_before_training(copied, monkeypatch):
    params = tiny_params()
    params["scales"]["phantom"]["train_classifier"]["arms"] = {"no-frame": {"black_fram": "0"}}
    write_params(copied, params)
    monkeypatch.setattr("stages.train_classifier.train_classifiers", lambda *_: pytest.fail("it trained"))
    assert "black_fram" in fails_in_one_line("train_classifier", "real", monkeypatch)


def vendor(folder: Path) -> Path:
    """JPEGs of 40 px in a folder for each class, as somebody else would send them."""
    images = read_archive(folder / "data/synthetic/cgan.zip")
    for image_id, pixels, label in zip(images.ids, images.pixels, images.labels, strict=True):
        file = folder / "vendor" / ("Benign", "malignant")[label] / f"{image_id}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.transpose(1, 2, 0)).resize((40, 40)).save(file, quality=95)
    return folder / "vendor"


def without(flag: str, flags: list[str]) -> list[str]:
    """The flags but for one with its value."""
    place = flags.index(flag)
    return flags[:place] + flags[place + 2 :]


def call_with(stage: str, flags: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", [f"stages/{stage}.py", *flags])
    run(importlib.import_module(f"stages.{stage}").main)


def test_a_set_from_elsewhere_is_judged_by_every_stage_and_needs_no_generator(copied, monkeypatch):
    place = str(vendor(copied))
    shutil.rmtree(copied / "models/gan/selected")
    flags = {
        "score_images": command("score_images", "selected"),
        "score_authenticity": without("--gan", without("--pairs", command("score_authenticity", None))),
        "train_classifier": command("train_classifier", "synth-cgan"),
        "measure_dose_response": command("measure_dose_response", None),
    }
    before = {stage: (copied / given[given.index("--metrics") + 1]).read_text() for stage, given in flags.items()}
    settings = tiny_params()
    settings["scales"]["phantom"]["measure_dose_response"]["doses"]["synthetic_shares"] = [0.1]
    settings["scales"]["phantom"]["measure_dose_response"]["headlines"] = ["0.1x_synthetic"]
    write_params(copied, settings)
    for stage, given in flags.items():
        given[given.index("--synthetic") + 1] = place
        call_with(stage, given, monkeypatch)
        found = copied / given[given.index("--metrics") + 1]
        assert found.read_text() != before[stage], stage
    assert "projection_median_cosine" not in metrics(copied, "score_authenticity")


def test_a_set_of_one_class_is_mapped_beside_test_images_of_that_class_alone(copied, monkeypatch):
    place = vendor(copied)
    shutil.rmtree(place / "Benign")
    given = without("--pairs", command("embed_images", None))
    given[given.index("--synthetic") + 1] = str(place)
    call_with("embed_images", given, monkeypatch)
    points = pd.read_csv(copied / "metrics/embed_images/points.csv")
    assert set(points["class"]) == {"malignant"}
    assert points.groupby("kind").size().nunique() == 1


def test_candidates_are_ranked_by_halves_of_patients(copied, monkeypatch):
    stage, seen = importlib.import_module("stages.select_gan"), []
    judge = stage.score_by_class
    monkeypatch.setattr(stage, "score_by_class", lambda sides, *more: seen.append(sides.real) or judge(sides, *more))
    call("select_gan", None, monkeypatch)
    group_of = pd.read_csv(copied / "data/splits/main.csv", dtype=str).set_index("image_id")["group"]
    assert all(real.patients is not None for real in seen)
    assert 1 < len(seen[0].patients.unique()) <= group_of.nunique()


def test_copies_in_a_set_from_elsewhere_are_counted_and_named_and_none_is_left_out(copied, monkeypatch):
    place = vendor(copied)
    sides = pd.read_csv(copied / "data/splits/main.csv", dtype=str)
    train = sides[(sides["split"] == "train") & (sides["label"] == "1")]["image_id"].tolist()[:3]
    stolen = read_archive(copied / "data/images.zip", train)
    for number, pixels in enumerate(stolen.pixels):
        Image.fromarray(pixels.transpose(1, 2, 0)).save(place / "malignant" / f"stolen{number}.png")
    first = next((place / "malignant").glob("*.jpg"))
    (place / "malignant" / "again.jpg").write_bytes(first.read_bytes())
    given = without("--gan", without("--pairs", command("score_authenticity", None)))
    given[given.index("--synthetic") + 1] = str(place)
    call_with("score_authenticity", given, monkeypatch)
    (pixels,) = pd.read_csv(copied / "metrics/score_authenticity/details/pixels.csv").to_dict("records")
    count = len(list(place.rglob("*.*")))
    assert pixels == {"images": count, "repeated": 1, "identical_to_training": 3, "identical_to_held_out": 0}
    copies = pd.read_csv(copied / "metrics/score_authenticity/details/copies.csv")
    assert (copies.groupby("features_of")["images"].sum() == count).all()
    malignant = copies[copies["class"] == "malignant"]
    assert (malignant["nearer_than_any_held_out"] >= 3).all()
    assert (malignant["chance_of_as_many"] < 0.2).all()
    closest = pd.read_csv(copied / "metrics/score_authenticity/closest.csv")
    closest = closest[(closest["features_of"] == "pixels") & (closest["among"] == "training")]
    named = (
        closest[closest["class"] == "malignant"].head(3).set_index("synthetic_image")["nearest_real_image"].to_dict()
    )
    assert named == {f"malignant-stolen{number}": image_id for number, image_id in enumerate(train)}
    counted = copies[copies["features_of"] == "pixels"].set_index("class")["nearer_than_any_held_out"]
    marked = closest.groupby("class")["marked"].sum()
    assert marked.reindex(counted.index, fill_value=0).to_dict() == counted.to_dict()
    assert metrics(copied, "score_authenticity")["nearer_than_any_held_out"] >= 3
    call("check_release", None, monkeypatch)
    page = (copied / "metrics/check_release/release.md").read_text()
    assert "answers stop it.**" in page
    assert f"| **stops** | Does an image equal a real one in every pixel? | of {count} images 3 a training image" in (
        " ".join(page.split())
    )
    assert "| file | vendor |" in " ".join(page.split())
    assert "Attacks by who has the discriminator: none was given" in page
    assert "## Attacks by who has the discriminator" not in page
    assert not any(image_id in page for image_id in train)


def test_copies_under_another_class_and_of_held_out_patients_are_found(copied, monkeypatch):
    sides = pd.read_csv(copied / "data/splits/main.csv", dtype=str)
    train = sides[(sides["split"] == "train") & (sides["label"] == "1")]["image_id"].tolist()[:6]
    held_out = sides[sides["split"] == "test"]["image_id"].tolist()[:6]
    (copied / "vendor/benign").mkdir(parents=True)
    for name, ids in (("train", train), ("held", held_out)):
        for number, pixels in enumerate(read_archive(copied / "data/images.zip", ids).pixels):
            mirrored = Image.fromarray(pixels.transpose(1, 2, 0)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            mirrored.save(copied / f"vendor/benign/{name}{number}.png")
    given = without("--gan", without("--pairs", command("score_authenticity", None)))
    given[given.index("--synthetic") + 1] = str(copied / "vendor")
    call_with("score_authenticity", given, monkeypatch)
    closest = pd.read_csv(copied / "metrics/score_authenticity/closest.csv")
    closest = closest[(closest["features_of"] == "pixels") & (closest["marked"] == 1)]
    named = closest.set_index(["among", "synthetic_image"])["nearest_real_image"].to_dict()
    expected = {("training", f"benign-train{number}"): image_id for number, image_id in enumerate(train)}
    expected |= {("held-out", f"benign-held{number}"): image_id for number, image_id in enumerate(held_out)}
    assert expected.items() <= named.items()
    found = pd.read_csv(copied / "metrics/score_authenticity/details/copies_of_held_out.csv")
    assert found["nearer_than_any_training"].tolist() == [len(closest[closest["among"] == "held-out"])]


def test_a_release_page_has_every_answer_and_none_says_private(study):
    page = (study / "metrics/check_release/release.md").read_text()
    found = metrics(study, "check_release")
    assert found["answers"] == 18
    assert hashlib.sha256((study / "data/splits/main.csv").read_bytes()).hexdigest() in page
    assert "no other answer reads them: aug-selected." in page
    assert sum(found.values()) == 2 * found["answers"]
    assert "CC0 1.0" in page
    assert hashlib.sha256((study / "data/synthetic/selected.zip").read_bytes()).hexdigest() in page
    assert page.count("private") == page.count("none can show that it is private")
    assert "safe" not in page


def test_the_fingerprint_of_a_folder_is_that_of_its_linked_folders_too(tmp_path):
    for name in ("set", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "elsewhere/1.png").write_bytes(b"one")
    (tmp_path / "set/benign").symlink_to(tmp_path / "elsewhere")
    before = fingerprint(tmp_path / "set")
    (tmp_path / "elsewhere/1.png").write_bytes(b"another")
    assert fingerprint(tmp_path / "set") != before


def test_the_fingerprint_of_a_folder_is_that_of_what_sha256sum_prints(tmp_path):
    for name, content in (("b/2.png", b"two"), ("a/1.png", b"one")):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(content)
    printed = "".join(
        f"{hashlib.sha256(content).hexdigest()}  ./{name}\n"
        for name, content in (("a/1.png", b"one"), ("b/2.png", b"two"))
    )
    assert fingerprint(tmp_path) == hashlib.sha256(printed.encode()).hexdigest()


def test_a_release_of_a_set_that_nobody_judged_says_what_to_run(copied, monkeypatch):
    (copied / "metrics/score_authenticity/details/attacks.csv").unlink()
    line = fails_in_one_line("check_release", None, monkeypatch)
    assert "no metrics/score_authenticity/details/attacks.csv: run score_authenticity, or dvc pull" in line


def test_a_release_by_another_split_than_the_set_was_judged_by_is_refused(copied, monkeypatch):
    split = copied / "data/splits/main.csv"
    sides = pd.read_csv(split, dtype=str)
    sides.iloc[::-1].to_csv(split, index=False)
    line = fails_in_one_line("check_release", None, monkeypatch)
    assert "main.csv is not the file that this set was judged by (sha256 of the split: " in line


def test_a_set_of_one_class_is_told_beside_real_images_of_that_class(copied, monkeypatch):
    place = vendor(copied)
    shutil.rmtree(place / "Benign")
    given = without("--gan", without("--pairs", command("score_authenticity", None)))
    given[given.index("--synthetic") + 1] = str(place)
    call_with("score_authenticity", given, monkeypatch)
    call("check_release", None, monkeypatch)
    page = (copied / "metrics/check_release/release.md").read_text()
    sides = pd.read_csv(copied / "data/splits/main.csv", dtype=str)
    count = ((sides["split"] == "train") & (sides["label"] == "1")).sum()
    assert f"phantom ({count})" in page
    assert f"of {count} training images (with duplicates)" in page


def test_a_set_too_small_to_be_judged_is_refused(copied, monkeypatch):
    for file in sorted((vendor(copied) / "malignant").iterdir())[4:]:
        file.unlink()
    given = without("--gan", without("--pairs", command("score_authenticity", None)))
    given[given.index("--synthetic") + 1] = str(copied / "vendor")
    with pytest.raises(SystemExit, match="vendor has 4 images of malignant, which say nothing about copying"):
        call_with("score_authenticity", given, monkeypatch)


def test_a_class_without_held_out_images_is_refused_by_name(copied, monkeypatch):
    split = copied / "data/splits/main.csv"
    sides = pd.read_csv(split, dtype=str)
    sides.loc[sides["label"] == "1", "split"] = "train"
    sides.to_csv(split, index=False)
    with pytest.raises(SystemExit, match=r"main\.csv has no held-out image of malignant, of which there are synthetic"):
        call_with("score_authenticity", command("score_authenticity", None), monkeypatch)


def test_a_set_from_elsewhere_is_ranked_beside_the_gans_and_never_selected(copied, monkeypatch):
    real = read_archive(copied / "data/images.zip")
    write_archive(copied / "cgan-no-aug.zip", real.ids, real.pixels, real.labels.tolist())
    winner = metrics(copied, "select_gan")["selected"]
    call_with("select_gan", [*command("select_gan", None), "--sets", "cgan-no-aug.zip"], monkeypatch)
    ranking = pd.read_csv(copied / "metrics/select_gan/ranking.csv")
    assert ranking["candidate"].iloc[0] == "brought: cgan-no-aug"
    assert set(ranking.loc[ranking["class"] == "all", "compared_count"]) == {24}
    assert metrics(copied, "select_gan")["selected"] == winner
    few = [place for label in (0, 1) for place in np.flatnonzero(real.labels == label)[: 5 + 20 * label]]
    write_archive(
        copied / "few.zip",
        [real.ids[n] for n in sorted(few)],
        real.pixels[sorted(few)],
        real.labels[sorted(few)].tolist(),
    )
    with pytest.raises(SystemExit, match="few.zip: candidates are ranked on 12 images of each class, but it has 5"):
        call_with("select_gan", [*command("select_gan", None), "--sets", "few.zip"], monkeypatch)


def test_features_of_the_same_images_are_computed_once(copied, monkeypatch):
    kept = set((copied / ".cache/features").iterdir())
    monkeypatch.setattr(ModelExtractor, "__call__", lambda *_: pytest.fail("features that are kept are computed again"))
    call("score_gan", "ben", monkeypatch)
    assert set((copied / ".cache/features").iterdir()) == kept


class Stopped(Exception):  # noqa: N818 - it is no error
    """Ends a stage once it has done what a test looks at."""


def image_counts(pixels: np.ndarray | torch.Tensor) -> Counter[bytes]:
    return Counter(np.asarray(image).tobytes() for image in pixels)


@pytest.mark.parametrize(
    ("stage", "item", "trainer"),
    [
        ("train_classifier", "real", "skinsynth.classifier.training"),
        ("measure_dose_response", None, "skinsynth.quality.dose_response"),
        ("train_detectors", None, "skinsynth.artefacts.detector"),
    ],
)
def test_classifiers_learn_from_training_patients_and_stop_on_all_validation_images(
    study, monkeypatch, stage, item, trainer
):
    def look(train, validation, *_):
        seen.update(train=image_counts(train.pixels), validation=image_counts(validation.pixels))
        raise Stopped

    seen: dict[str, Counter[bytes]] = {}
    monkeypatch.chdir(study)
    monkeypatch.setattr(f"{trainer}.train_classifier", look)
    with pytest.raises(Stopped):
        call(stage, item, monkeypatch)
    split = pd.read_csv(study / "data/splits/main.csv", dtype=str)
    sides = {side: rows["image_id"].tolist() for side, rows in split.groupby("split")}
    real = {side: image_counts(read_archive(study / "data/images.zip", ids).pixels) for side, ids in sides.items()}
    assert not set(real["validation"]) & set(real["train"] | real["test"]), "the sides cannot be told apart by pixels"
    assert seen["validation"] == real["validation"]
    assert seen["train"]
    assert set(seen["train"]) <= set(real["train"])


def test_gans_are_scored_and_selected_untruncated_and_on_images_of_different_seeds(copied, monkeypatch):
    def look(_, labels, batch_size, rng, truncation_psi):
        seeds.append(rng.initial_seed())
        truncations.add(truncation_psi)
        if stage == "score_gan":
            raise Stopped
        return torch.zeros(len(labels), 3, 32, 32, dtype=torch.uint8)

    def stop(*_):
        raise Stopped

    seeds: list[int] = []
    truncations: set[float] = set()
    params = tiny_params()
    params["scales"]["phantom"]["select_gan"]["seed"] = params["scales"]["phantom"]["score_gan"]["seed"]
    write_params(copied, params)
    monkeypatch.setattr(Family, "sample", look)
    for unused in ("Judge.scores", "Candidate"):
        monkeypatch.setattr(f"stages.select_gan.{unused}", lambda *_: None)
    monkeypatch.setattr("stages.select_gan.rank", stop)
    for stage, item in (*(("score_gan", name) for name in GANS), ("select_gan", None)):
        with pytest.raises(Stopped):
            call(stage, item, monkeypatch)
    assert truncations == {1.0}
    assert len(set(seeds)) == len(seeds) == len(GANS) + len(params["scales"]["phantom"]["select_gan"]["candidates"])


@pytest.mark.parametrize(
    ("stage", "item", "draw"),
    [
        ("generate_images", "cgan", "skinsynth.gan.family.Family.sample"),
        ("augment_edges", None, "skinsynth.gan.family.Family.sample"),
        ("find_directions", None, "stages.find_directions.sample_w"),
    ],
)
def test_images_are_drawn_with_the_truncation_of_the_settings(copied, monkeypatch, stage, item, draw):
    def look(*arguments):
        assert arguments[-1] == 0.6
        raise Stopped

    params = tiny_params()
    params["scales"]["phantom"][stage]["truncation_psi"] = 0.6
    write_params(copied, params)
    monkeypatch.setattr(draw, look)
    with pytest.raises(Stopped):
        call(stage, item, monkeypatch)


def test_all_models_of_a_federation_are_judged_by_images_of_the_same_latents(copied, monkeypatch):
    def look(_, labels, batch_size, rng, truncation_psi):
        seeds.append((rng.initial_seed(), rng.get_state().numpy().tobytes()))
        return torch.zeros(len(labels), 3, 32, 32, dtype=torch.uint8)

    def stop(*_):
        raise Stopped

    seeds: list[tuple[int, bytes]] = []
    monkeypatch.setattr(Family, "sample", look)
    monkeypatch.setattr("stages.score_federated.cohorts.judge_models", stop)
    with pytest.raises(Stopped):
        call("score_federated", None, monkeypatch)
    assert len(seeds) == 1 + len(COHORTS)
    assert len(set(seeds)) == 1


def test_tables_are_replaced_together_or_not_at_all(copied, monkeypatch):
    tables = copied / "metrics/write_tables/tables"
    before = {file.name: file.read_bytes() for file in tables.iterdir()}
    (copied / "metrics/train_gan/ben/losses.csv").write_text("augment_p\n0.9\n")  # would change Table 1
    intervals = copied / "metrics/train_classifier/real/intervals.csv"
    rows = pd.read_csv(intervals)
    rows.assign(test_images=rows["test_images"] + 1).to_csv(intervals, index=False)  # ends Table 2
    assert "all scenarios are tested on the same images" in fails_in_one_line("write_tables", None, monkeypatch)
    assert {file.name: file.read_bytes() for file in tables.iterdir()} == before


def test_the_majority_class_is_that_of_training_images(copied, monkeypatch):
    split = copied / "data/splits/main.csv"
    sides = pd.read_csv(split, dtype=str)
    sides.loc[sides["split"] == "train", "label"] = "1"
    sides.to_csv(split, index=False)
    call("write_tables", None, monkeypatch)
    table = pd.read_csv(copied / "metrics/write_tables/tables/table2.csv")
    majority = table[(table["scenario"] == "majority") & (table["arm"] == "all")].set_index("metric")["value"]
    malignant = (sides.loc[sides["split"] == "test", "label"] == "1").mean()
    assert malignant < 0.5
    assert majority["accuracy"] == pytest.approx(malignant, abs=1e-4)


def test_tables_hold_every_row_and_the_paper_s_values(study):
    first, second = (pd.read_csv(study / f"metrics/write_tables/tables/table{number}.csv") for number in (1, 2))
    assert set(first["gan"]) == set(GANS)
    named = {f"{kind}-{gan}" for kind in ("synth", "aug") for gan in ("gan", "cgan", "cgan-no-color")}
    others = {
        "synth-selected",
        "aug-selected",
        "synth-with-frames",
        "synth-frame-free",
        "aug-edges",
        "aug-edges-control",
    }
    assert set(second["scenario"]) == {"real", *named, *others, "majority"}
    assert {"auc_difference", "auc", "calibration_error"} <= set(second["metric"])
    assert set(second["arm"]) == {"all", "no-frame"}
    for number in (1, 2):
        for kind, said in (("md", ("97.8", "0.978")), ("tex", ("\\toprule",))):
            text = (study / f"metrics/write_tables/tables/table{number}.{kind}").read_text()
            assert number == 1 or any(one in text for one in said)


def test_a_set_from_elsewhere_gets_a_row_in_table_1_without_a_training(copied, monkeypatch):
    flags = command("write_tables", None)
    flags.insert(flags.index("--trainings"), "metrics/score_images/selected")
    call_with("write_tables", flags, monkeypatch)
    first = pd.read_csv(copied / "metrics/write_tables/tables/table1.csv")
    assert set(first["gan"]) == {*GANS, "selected"}
    assert first.loc[first["gan"] == "selected", "value"].notna().any()
    lines = (copied / "metrics/write_tables/tables/table1.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| selected ")]
    assert rows[1][-1] == "not measured"  # Table 1b ends with the augmentation's strength


def test_membership_attacks_are_three_and_have_intervals(study):
    attacks = pd.read_csv(study / "metrics/score_authenticity/details/attacks.csv")
    selected = metrics(study, "select_gan")["selected"]
    names = {"gan": ("ben", "mal")}.get(selected, (selected,))
    asked = {f"discriminator of {name}" for name in names}
    assert set(attacks["attack"]) == {"reconstruction", "density_ratio", "random guess", *asked}
    assert set(attacks["features_of"]) == {"aug-selected", "real", "pixels", "none"}
    assert set(attacks.loc[attacks["saw_the_set"] == 1, "features_of"]) == {"aug-selected"}
    assert set(attacks["metric"]) == {"auc", "tpr_at_1_percent_fpr"}
    assert (attacks["low"] <= attacks["value"]).all()


def test_novelty_of_all_classes_is_that_of_images_in_trainings_shares(study):
    table = pd.read_csv(study / "metrics/score_authenticity/details/authenticity.csv")
    table = table[(table["of"] == "generated") & (table["metric"] == "authenticity") & (table["features_of"] == "real")]
    counts = table.set_index("class")[["images", "train_images"]]
    classes = counts.drop("all")
    shares = classes["train_images"] / classes["train_images"].sum()
    assert shares.max() > 0.6
    assert counts.loc["all", "images"] == pytest.approx((classes["images"] / shares).min(), abs=2)
    headlines = metrics(study, "score_authenticity")
    attacks = pd.read_csv(study / "metrics/score_authenticity/details/attacks.csv")
    told = attacks[(attacks["metric"] == "auc") & (attacks["attack"] != "random guess") & (attacks["saw_the_set"] == 0)]
    assert headlines["strongest_attack_auc"] == pytest.approx(told["value"].max(), abs=1e-3)


def test_a_federation_counts_its_rounds_images_and_incidents(study):
    found = {name: metrics(study, f"train_federated/{name}") for name in COHORTS}
    alone = COHORTS[1:]
    assert {name: one["hospitals"] for name, one in found.items()} == {"federated": 3, **dict.fromkeys(alone, 1)}
    assert {name: one["images"] for name, one in found.items()} == {"federated": 192, **dict.fromkeys(alone, 64)}
    assert all(one["incidents"] == 0 for one in found.values())


def test_a_federation_is_judged_beside_all_images_at_one_place_and_hospitals_alone(study):
    tables = study / "metrics/score_federated"
    models, curves, reach = (pd.read_csv(tables / f"{name}.csv") for name in ("models", "curves", "reach"))
    assert set(models["model"]) == {"central", *COHORTS, "held-out real"}
    assert set(curves["model"]) == {"central", *COHORTS}
    assert set(reach["target_of"]) == {"central", "federated"}
    facts = models[models["metric"] == "fid"].drop_duplicates("model").set_index("model")
    assert facts.loc["federated", ["images_per_trainer", "images_in_all"]].tolist() == [64, 192]
    assert facts.loc["central", "training_images"] == facts.loc["federated", "training_images"]
    assert facts.loc["central", "training_images"] == sum(facts.loc[name, "training_images"] for name in COHORTS[1:])
    first = curves[curves["images_in_all"] == 0]
    assert first["fid_classifier"].nunique() == 1, "all begin with the same weights"
    gains = pd.read_csv(tables / "gains.csv")
    assert gains["alone"].drop_duplicates().tolist() == ["small-alone", "middle-alone", "large-alone"]
    assert ((gains["low"] <= gains["value"]) & (gains["value"] <= gains["high"])).all()
    assert "generated images, not over trainings" in (tables / "verdict.md").read_text()
    with Image.open(tables / "curves.png") as picture:
        assert picture.size[0] > 800


def test_a_cohort_without_its_model_is_named(copied, monkeypatch):
    flags = [flag for flag in command("score_federated", None) if flag != "models/federated/large-alone"]
    with pytest.raises(SystemExit, match="no key 'large-alone'"):
        call_with("score_federated", flags, monkeypatch)


def test_planted_sets_are_judged_beside_the_generated_one_in_both_features(study):
    planted = pd.read_csv(study / "metrics/score_authenticity/details/planted.csv")
    assert planted.groupby("features_of")["set"].nunique().to_dict() == {"aug-selected": 7, "real": 7}


def test_one_unknown_flag_leaves_those_of_the_other_images(copied, monkeypatch):
    def flagged():
        traits = pd.read_csv(copied / "metrics/audit_artefacts/traits.csv")
        own = traits[(traits["set"] == "real test") & (traits["source"] == "flag") & (traits["measure"] == "share")]
        return own[own["class"] == "all"].set_index("trait")["images"].to_dict()

    before = flagged()
    assert before
    lesions = pd.read_csv(copied / "data/lesions.csv", dtype=str, keep_default_na=False)
    sides = pd.read_csv(copied / "data/splits/main.csv", dtype=str)
    one = sides.loc[sides["split"] == "test", "image_id"].iloc[0]
    lesions.loc[lesions["image_id"] == one, list(before)] = ""
    lesions.to_csv(copied / "data/lesions.csv", index=False)
    call_with("audit_artefacts", command("audit_artefacts", None), monkeypatch)
    assert flagged() == {trait: images - 1 for trait, images in before.items()}


def test_artefacts_are_measured_in_every_set_and_class(study):
    traits = pd.read_csv(study / "metrics/audit_artefacts/traits.csv")
    assert set(traits["set"]) == {"real train", "real test", *(f"synthetic {n}" for n in ("selected", "gan", "cgan"))}
    shares = traits[traits["measure"] == "share"]
    assert shares["value"].between(0, 1).all()
    known = shares[(shares["set"] == "real train") & (shares["source"] == "flag") & (shares["class"] == "all")]
    lesions = pd.read_csv(study / "data/lesions.csv").merge(pd.read_csv(study / "data/splits/main.csv"), on="image_id")
    train = lesions[lesions["split"] == "train"]
    for trait, value in zip(known["trait"], known["value"], strict=True):
        assert value == pytest.approx(train[trait].mean(), abs=1e-5)


def test_the_chosen_moves_are_kept_to_be_applied_again(study):
    moves = load_moves(study / "models/frame-moves.safetensors")
    assert set(moves) <= {"ben", "mal"}
    measured = pd.read_csv(study / "metrics/remove_frames/measured.csv")
    told = measured.dropna(subset="method") if "method" in measured else measured[:0].assign(method="")
    assert {name: move.method for name, move in moves.items()} == dict(zip(told["gan"], told["method"], strict=True))


def test_frame_free_images_differ_only_where_a_frame_was_seen(study):
    sets = [read_archive(study / f"data/synthetic/{name}.zip") for name in ("with-frames", "frame-free")]
    assert sets[0].ids == sets[1].ids
    changed = (sets[0].pixels != sets[1].pixels).any(axis=(1, 2, 3)).mean()
    assert changed <= metrics(study, "remove_frames")["moved_share_of_drawn_images"]


def test_a_source_that_knows_no_artefacts_still_ends(copied, monkeypatch):
    lesions = pd.read_csv(copied / "data/lesions.csv", dtype=str, keep_default_na=False)
    lesions[["hair", "black_frame", "ruler", "other_artefact"]] = ""
    lesions.to_csv(copied / "data/lesions.csv", index=False)
    for stage in ("train_detectors", "audit_artefacts", "remove_frames"):
        call(stage, None, monkeypatch)
    assert set(pd.read_csv(copied / "metrics/train_detectors/scores.csv")["note"]) == {"too few"}
    unknown = metrics(copied, "remove_frames")
    assert unknown["moved_share_of_drawn_images"] == 0
    assert unknown["artefact_share"] is unknown["artefact_share_of_frame_free_images"] is None
    assert set(pd.read_csv(copied / "metrics/remove_frames/measured.csv")["note"]) == {"no detector"}
    traits = pd.read_csv(copied / "metrics/audit_artefacts/traits.csv")
    assert set(traits["trait"]) == {"black_corners", "lesion_area"}
    assert set(traits["source"]) == {"rule"}


def test_edges_and_their_control_have_the_same_counts(study):
    around, control = (
        read_archive(study / f"data/{name}.zip") for name in ("projections/edges", "synthetic/edges-control")
    )
    assert around.labels.tolist() == control.labels.tolist()
    assert (around.pixels != control.pixels).any()


def test_a_comparison_is_signed_the_way_it_says(study):
    table = pd.read_csv(study / "metrics/compare_classifiers/edges/comparison.csv")
    known = table.dropna(subset="difference")
    assert (known["difference"] - (known["first"] - known["second"])).abs().max() < 1e-4


def test_doses_are_a_table_and_a_picture(study):
    curve = pd.read_csv(study / "metrics/measure_dose_response/curve.csv")
    assert curve[["patient_share", "synthetic_share"]].drop_duplicates().shape == (4, 2)
    with Image.open(study / "metrics/measure_dose_response/curve.png") as picture:
        assert picture.size[0] > 800
    assert set(metrics(study, "measure_dose_response")) == {"auc_100_percent_of_patients", "auc_0.25x_synthetic"}


def test_flags_of_the_stages_are_paths_or_names():
    for stage in PIPELINE["stages"]:
        for parameter in inspect.signature(importlib.import_module(f"stages.{stage}").main).parameters.values():
            kind = get_args(parameter.annotation)[0]
            optional = get_args(kind) if get_origin(kind) is UnionType else (kind, NoneType)
            assert optional[1] is NoneType
            assert optional[0] in (Path, str, bool) or get_origin(optional[0]) is list


def test_a_preset_stands_in_the_place_of_the_trainer_s_numbers(copied, monkeypatch):
    params = tiny_params()
    section = params["scales"]["phantom"]["train_gan"]
    section["preset"] = {"name": "stylegan2", "x_flip": True, "seed": 1}
    write_params(copied, params)
    assert "exactly one of preset and trainer" in fails_in_one_line("train_gan", "cgan", monkeypatch)
    section["trainer"] = None
    write_params(copied, params)
    config = train_gan.shared_config(load_params("train_gan", train_gan.Settings), (100, 3, 64, 64))
    assert (config.r1_gamma, config.ema_half_life_images, config.generator.resolution) == (10, 10_000, 64)


@pytest.mark.parametrize(
    ("name", "frozen", "message"),
    [(None, 1, "that is null"), ("../elsewhere", 0, "does not"), ("missing.pkl", 0, "put it there")],
)
def test_weights_to_start_from_lie_in_their_folder(tmp_path, name, frozen, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train_gan.initial_weights(tmp_path, name, frozen, None)


@pytest.mark.slow
def test_two_processes_train_what_one_does(copied):
    """`processes: 2` starts torchrun by itself; losses differ by the order of sums only."""
    alone = pd.read_csv(copied / "metrics/train_gan/cgan/losses.csv")
    params = tiny_params()
    params["scales"]["phantom"]["train_gan"]["processes"] = 2
    write_params(copied, params)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    flags = command("train_gan", "cgan")
    subprocess.run([sys.executable, ROOT / "stages/train_gan.py", *flags], env=environment, check=True)
    together = pd.read_csv(copied / "metrics/train_gan/cgan/losses.csv")
    pd.testing.assert_frame_equal(together, alone, rtol=1e-2)
    assert json.loads((copied / "metrics/train_gan/cgan.json").read_text())["images"] == alone["images"].iloc[-1]
