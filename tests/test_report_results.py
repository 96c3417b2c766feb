"""Benchmarks that publish: results come home whole, and none stand beside settings that they were not made with."""

import json

import pandas as pd
import pytest
import yaml
from PIL import Image

from benchmarks import answers, beside, full_counts, longer_training, results

OLD = {"tables.md": "old tables", "obsolete.csv": "of an earlier study", "score_federated-curves.png": "old curves"}
OF_OTHERS = {"federated_wall_time.png": "drawn elsewhere", "run.json": "how long", "federation-run.json": "as well"}


def contents(folder):
    return {file.name: file.read_text() for file in folder.iterdir()}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder of results from before."""
    monkeypatch.setattr(results, "HOME", tmp_path / "docs")
    folder = tmp_path / "docs/real"
    folder.mkdir(parents=True)
    for name, text in (OLD | OF_OTHERS).items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A finished run whose files tell their own paths; what is computed from them is told in a word."""
    for word in ("tables", "federation"):
        monkeypatch.setattr(results, word, lambda *_, word=word: f"new {word}")
    monkeypatch.setattr(results, "fidelity_of_each", lambda _: results.pd.DataFrame({"value": [1.0]}))
    folder = tmp_path / "run"
    for name in (*results.PICTURES, *results.FILES, *results.FEDERATION_PICTURES, *results.FEDERATION_FILES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "metrics/timing").mkdir()
    (folder / "metrics/timing/score_gan.json").write_text("{}")
    (folder / "metrics/select_gan.json").write_text('{"fid": 1}')
    scales = {"real": {"prepare_images": {"source": "isic"}}}
    (folder / "params.yaml").write_text(yaml.safe_dump({"scale": "real", "scales": scales}))
    stages = {"score_gan": {"matrix": {"name": ["new"]}}, "compare_classifiers": {"foreach": {"first": {}, "more": {}}}}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (folder / "metrics/train_gan/new").mkdir(parents=True)
    (folder / "metrics/train_gan/new/samples.png").write_text("samples of the new GAN")
    return folder


def test_results_replace_the_old_ones_and_keep_what_other_commands_wrote(home, run):
    assert results.bring_home(run) == home
    found = contents(home)
    assert OF_OTHERS.items() <= found.items()
    assert found["tables.md"] == "new tables"
    assert found["score_federated-curves.png"] == "metrics/score_federated/curves.png"
    assert json.loads(found["metrics.json"]) == {"select_gan": {"fid": 1}}
    assert found["train_gan-new-samples.png"] == "samples of the new GAN"
    assert "obsolete.csv" not in found
    assert not [name for name in found if name.startswith("explain_classifier")]


@pytest.mark.parametrize("bring", [results.bring_home, results.bring_federation])
def test_a_run_that_lacks_a_file_leaves_the_old_results(home, run, bring):
    (run / results.FEDERATION_FILES[-1]).unlink()
    with pytest.raises(FileNotFoundError):
        bring(run)
    assert contents(home) == OLD | OF_OTHERS
    assert list(home.parent.iterdir()) == [home]


def test_a_federation_alone_leaves_the_rest(home, run):
    results.bring_federation(run)
    found = contents(home)
    assert found["federation.md"] == "new federation"
    assert found["score_federated-curves.png"] == "metrics/score_federated/curves.png"
    assert (OF_OTHERS | {"tables.md": "old tables"}).items() <= found.items()


@pytest.fixture
def count_of(tmp_path, monkeypatch):
    """How often a stage has begun in `folder`, after another call with these settings; it fails where they say so."""
    monkeypatch.setattr(beside, "ROOT", tmp_path)
    script = "import pathlib, sys\nwith open('begun', 'a') as file: file.write('.')\n"
    script += "sys.exit('fail' in pathlib.Path('params.yaml').read_text())\n"
    (tmp_path / "stage.py").write_text(script)
    folder = tmp_path / "folder"
    folder.mkdir()

    def count(settings, command="python stage.py"):
        (folder / "params.yaml").write_text(settings)
        (tmp_path / "dvc.yaml").write_text(json.dumps({"stages": {"train": {"cmd": command}}}))
        beside.run_stage(folder, "train", settings)
        return len((folder / "begun").read_text())

    return count


def test_a_stage_is_skipped_only_with_the_same_command_and_settings(count_of):
    assert count_of("images: 1") == 1
    assert count_of("images: 1") == 1
    assert count_of("images: 2") == 2
    assert count_of("images: 2", "python stage.py --other") == 3
    assert count_of("images: 1") == 4


def test_a_stage_that_failed_with_other_settings_is_not_skipped_with_the_old_ones(count_of):
    assert count_of("images: 1") == 1
    with pytest.raises(beside.subprocess.CalledProcessError):
        count_of("fail: 1")
    assert count_of("images: 1") == 3


def test_an_answer_without_a_number_says_so():
    found = {
        f"{name}_{end}": 0.0123 for name in ("auc", "hard_right_probability") for end in ("difference", "low", "high")
    }
    for missing in ({}, dict.fromkeys((name for name in found if name.startswith("hard")), None)):
        answer = answers.edges({"compare_classifiers/edges-control": {**found, "hard_cases": 3, **missing}})
        assert answer.startswith("Against as many random images: AUC +0.012 (+0.012 to +0.012)")
        assert answer.endswith("unknown (unknown to unknown)" if missing else "+0.012 (+0.012 to +0.012)")


def interval_rows(**columns):
    return [{"value": 0.7, "low": 0.6, "high": 0.8, **columns}]


def test_each_length_of_a_training_has_its_rows_and_real_images_theirs(tmp_path):
    for seed, images in ((1, 10), (1, 20), (2, 10), (2, 20)):
        kept = tmp_path / longer_training.kept_name(seed, images)
        kept.mkdir()
        fid = {"class": "all", "metric": "fid", "compared": "generated", "extractor": "classifier"}
        others = [fid | {"compared": "held-out real"}, fid | {"class": "benign"}, fid | {"metric": "recall"}]
        others += [fid | {"extractor": "classifier_levels", "reference": "train"}]
        asked = [fid | {"reference": reference} for reference in ("train", "held-out real")]
        table = [row for columns in (*asked, *others) for row in interval_rows(**columns)]
        pd.DataFrame(table).to_csv(kept / "fidelity.csv", index=False)
        table = [row for arm in ("all", "no-frame") for row in interval_rows(arm=arm, metric="auc")]
        pd.DataFrame([*table, *interval_rows(arm="all", metric="f1")]).to_csv(kept / "classifier.csv", index=False)
    real = tmp_path / "metrics/train_classifier/real/intervals.csv"
    real.parent.mkdir(parents=True)
    real.write_text((kept / "classifier.csv").read_text())
    rows = [row for seed in (1, 2) for images in (10, 20) for row in longer_training.rows_of(tmp_path, seed, images)]
    names = ["fid to train", "fid to held-out real", "auc, all", "auc, no-frame"]
    assert [row["metric"] for row in rows] == 4 * names
    assert [(row["gan_seed"], row["images"]) for row in rows[::4]] == [(1, 10), (1, 20), (2, 10), (2, 20)]
    assert {row["of"] for row in rows} == {"classifier", "synth-cgan"}
    rows += longer_training.real_rows(tmp_path)
    assert [row["metric"] for row in rows[16:]] == names[2:]
    longer_training.draw(tmp_path / "curve.png", pd.DataFrame(rows))
    with Image.open(tmp_path / "curve.png") as figure:
        assert figure.width > 1000


def test_the_study_s_counts_are_those_of_its_own_scale_and_the_networks_the_phantom_s():
    scales = yaml.safe_load((beside.ROOT / "params.yaml").read_text())["scales"]
    study, phantom = scales["isic256"], scales["phantom"]
    settings = full_counts.full_counts()
    assert settings["generate_images"]["images"] == study["generate_images"]["images"]
    assert settings["score_gan"]["images"] == 50_000
    assert settings["train_gan"]["trainer"] == phantom["train_gan"]["trainer"]
    assert settings["train_classifier"]["classifier"]["network"] == phantom["train_classifier"]["classifier"]["network"]
