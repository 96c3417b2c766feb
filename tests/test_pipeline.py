"""dvc.yaml is the map: it names every stage, every file that a stage imports, and nothing besides."""

import ast
import dataclasses
import importlib
import inspect
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from skinsynth.stage import load_params

ROOT = Path(__file__).parent.parent
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
# Where a stage of many items keeps their settings: a change of one of them concerns no other.
OF_ITEMS = {
    "train_classifier": "scenarios",
    "train_gan": "runs",
    "train_federated": "cohorts",
    "generate_images": "images",
}
SCRIPTS = sorted(path.stem for path in (ROOT / "stages").glob("[!_]*.py"))


def body_of(stage: dict) -> dict:
    """The stage itself, or what a foreach repeats."""
    return stage.get("do", stage)


STAGES = {name: body_of(stage) for name, stage in PIPELINE["stages"].items()}


def file_of(module: str) -> Path | None:
    """The file that holds `module`, or None where it is no module of ours."""
    path = ROOT.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def imported_files(source: Path) -> set[Path]:
    """`source` and every file of ours that it imports, straight or through others."""
    found, to_read = set(), [source]
    while to_read:
        file = to_read.pop()
        if file in found:
            continue
        found.add(file)
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom):
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            to_read += filter(None, map(file_of, names))
    return {file for file in found if file.name != "__init__.py"}


def script_of(stage: dict) -> Path:
    return ROOT / re.search(r"stages/\w+\.py", stage["cmd"]).group()


@pytest.mark.parametrize("name", STAGES)
def test_deps_are_the_imports(name):
    stage = STAGES[name]
    code = {ROOT / dep for dep in stage["deps"] if dep.startswith(("stages/", "skinsynth"))}
    imported = imported_files(script_of(stage))
    covered = {file for dep in code for file in ([dep] if dep.suffix else dep.rglob("*.py"))}
    assert imported <= covered, f"add to deps: {sorted(str(f.relative_to(ROOT)) for f in imported - covered)}"
    unused = {dep for dep in code if not any(file == dep or dep in file.parents for file in imported)}
    assert not unused, f"strike from deps: {sorted(map(str, unused))}"


def test_every_script_is_a_stage_and_every_stage_a_script():
    assert {script_of(stage).stem for stage in STAGES.values()} == set(SCRIPTS)
    assert set(STAGES) == set(SCRIPTS)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_says_what_it_does_and_depends_on_its_settings(name):
    stage = STAGES[name]
    assert stage["desc"].endswith(".")
    own, section = stage["params"][1:], f"scales.${{scale}}.{name}"
    # What a stage reports of another's settings is its dep too.
    reported = set(re.findall(r"load_value\(\"(\w+)\"", script_of(stage).read_text()))
    others = [f"scales.${{scale}}.{other}" for other in sorted(reported)]
    assert stage["params"][0] == "scale"
    needed = {*(narrowed(name, section) if name in OF_ITEMS else [section]), *others}
    assert not needed - set(own), f"add to params of {name} in dvc.yaml: {sorted(needed - set(own))}"
    assert sorted(own) == sorted(needed), f"strike from params of {name} in dvc.yaml what is not needed or there twice"


def narrowed(name: str, section: str) -> list[str]:
    """Every setting of a stage of many items, of those of all items only its own."""
    item = re.search(r"\$\{(?:key|item\.name)\}", STAGES[name]["cmd"]).group()
    settings = importlib.import_module(f"stages.{name}").SETTINGS
    keys = {field.name: f"{section}.{field.name}" for field in dataclasses.fields(settings)}
    return [f"{place}.{item}" if key == OF_ITEMS[name] else place for key, place in keys.items()]


@pytest.mark.parametrize("name", STAGES)
def test_flags_of_dvc_yaml_are_the_parameters_of_the_script(name):
    main = importlib.import_module(f"stages.{name}").main
    given = {flag.replace("-", "_") for flag in re.findall(r"--([\w-]+)", STAGES[name]["cmd"])}
    parameters = inspect.signature(main).parameters.values()
    assert {p.name for p in parameters if p.default is inspect.Parameter.empty} <= given <= {p.name for p in parameters}


@pytest.mark.parametrize("name", STAGES)
def test_every_path_of_a_command_is_a_dep_or_an_out(name):
    stage = STAGES[name]
    listed = list(stage["deps"])
    for kind in ("outs", "metrics", "plots"):
        listed += [next(iter(entry)) if isinstance(entry, dict) else entry for entry in stage.get(kind, [])]
    for path in re.findall(r"(?:data|models|metrics|stages)/[\w./{}$@-]+", stage["cmd"]):
        assert path in listed, f"{path} is in the command of {name} but neither dep nor out"


def test_what_shows_a_real_image_is_neither_cached_nor_committed():
    for stage, out in (
        ("prepare_images", "data/images.zip"),
        ("project_images", "data/projections/pairs.zip"),
        ("project_images", "data/projections/latents.safetensors"),
        ("augment_edges", "data/projections/edges.zip"),
        ("augment_edges", "data/projections/edges.csv"),
        ("score_authenticity", "metrics/score_authenticity/nearest_pairs.png"),
        ("score_authenticity", "metrics/score_authenticity/closest.csv"),
        ("explain_classifier", "metrics/explain_classifier/regions.png"),
    ):
        options = next(entry[out] for entry in STAGES[stage]["outs"] if isinstance(entry, dict) and out in entry)
        # persist keeps the ZIP where a run fails, and keeps it out of DVC's run cache.
        assert options == {"cache": False, "persist": True}
        aside = str(Path(out).with_name(f".{Path(out).name}.abc{Path(out).suffix}"))
        by_hand = f"elsewhere/{Path(out).name}"
        for path in (out, aside, by_hand):
            assert not subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT, check=False).returncode, path


def test_what_git_has_is_nothing_that_it_is_told_to_leave_alone():
    command = ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.stdout == ""


@pytest.mark.parametrize("scale", PARAMS["scales"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_settings_of_every_scale_are_whole(scale, name, tmp_path):
    module = importlib.import_module(f"stages.{name}")
    path = tmp_path / "params.yaml"
    # Only its own section: all of them take a quarter of a second to write and to read.
    path.write_text(yaml.safe_dump({"scale": scale, "scales": {scale: {name: PARAMS["scales"][scale][name]}}}))
    load_params(name, module.SETTINGS, path)


@pytest.mark.parametrize("scale", PARAMS["scales"])
def test_a_scale_has_a_section_for_every_stage_and_no_other(scale):
    assert set(PARAMS["scales"][scale]) == set(SCRIPTS)


@pytest.mark.parametrize("scale", PARAMS["scales"])
@pytest.mark.parametrize("name", OF_ITEMS)
def test_every_item_of_a_stage_has_its_settings_at_every_scale(scale, name):
    """DVC would say what is missing when that stage's turn has come, of a large study after days."""
    stage, key = PIPELINE["stages"][name], OF_ITEMS[name]
    items = set(stage["foreach"] if "foreach" in stage else stage["matrix"]["name"])
    settings = set(PARAMS["scales"][scale][name][key])
    assert not items - settings, f"add to scales.{scale}.{name}.{key} in params.yaml: {sorted(items - settings)}"
    assert not settings - items, f"add to {name} in dvc.yaml: {sorted(settings - items)}"


@pytest.mark.parametrize("scale", PARAMS["scales"])
def test_every_member_of_a_candidate_is_given_to_select_gan(scale):
    members = {gan for gans in PARAMS["scales"][scale]["select_gan"]["candidates"].values() for gan in gans}
    missing = sorted(members - {dep.removeprefix("models/gan/") for dep in STAGES["select_gan"]["deps"]})
    assert not missing, f"add to --gans and deps of select_gan in dvc.yaml: {missing}"


def test_the_study_s_settings_are_the_paper_s():
    paper = PARAMS["scales"]["isic256"]
    assert paper["prepare_images"]["size"] == 256
    classifier = paper["train_classifier"]["classifier"]
    assert (classifier["network"], classifier["learning_rate"]) == ("efficientnet_b2", 5.0e-4)
    assert (classifier["epochs"], classifier["patience"]) == (20, 3)
    assert sum(paper["train_classifier"]["scenarios"]["synth-cgan"]["synthetic"].values()) == 55_000
    assert paper["train_classifier"]["scenarios"]["aug-cgan"]["synthetic"] == {"malignant": 22_000}
    assert paper["project_images"]["images"] == 12_000


@pytest.mark.parametrize("scale", PARAMS["scales"])
def test_the_federation_is_compared_with_a_gan_of_the_same_settings(scale):
    """score_federated takes cgan for what all images at one place would have given."""
    alone, together = PARAMS["scales"][scale]["train_gan"], PARAMS["scales"][scale]["train_federated"]
    for key in ("trainer", "preset", "start_from", "scored_images", "extractor"):
        assert together[key] == alone[key], key
    assert together["gan"] == alone["runs"]["cgan"]
    assert alone["processes"] == 1
    a_round = together["federation"]["steps_per_round"] * together["trainer"]["batch_size"]
    assert abs(together["federation"]["rounds"] * a_round - alone["schedule"]["images"]) <= a_round


@pytest.mark.parametrize("scale", PARAMS["scales"])
def test_the_federation_s_cohorts_are_trained_scored_and_of_the_split(scale):
    cohorts = PARAMS["scales"][scale]["train_federated"]["cohorts"]
    assert list(cohorts) == STAGES["train_federated"]["matrix"]["name"]
    scored = [dep for dep in STAGES["score_federated"]["deps"] if "federated/" in dep and not dep.endswith(".py")]
    assert scored == [*(f"models/federated/{n}" for n in cohorts), *(f"metrics/train_federated/{n}" for n in cohorts)]
    hospitals = list(PARAMS["scales"][scale]["split_patients"]["hospitals"])
    assert cohorts == {"federated": hospitals, **{f"{name}-alone": [name] for name in hospitals}}


def test_code_never_unpickles_and_names_no_absolute_path():
    for file in [*(ROOT / "skinsynth").rglob("*.py"), *(ROOT / "stages").glob("*.py")]:
        text = file.read_text()
        assert not re.search(r"^\s*(import|from) (pickle|joblib|dill)\b|torch\.load\(|allow_pickle=True", text, re.M), (
            file
        )
        assert not re.search(r"[\"'](/work|/home|/root|/data)/", text), file
