"""A mistake in params.yaml is told before any work, with its full key and what is allowed there."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from goku_core import config
from goku_core.config import Params, check, load_params, read_yaml
from goku_core.pipeline import line
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.versions.beside import record_file
from goku_core.pipeline.versions.sources import source_file

ROOT = Path(__file__).resolve().parents[1]
PRESETS = sorted((ROOT / "params").glob("*.yaml"))
GOOD = read_yaml(ROOT / "params.yaml")


def mistake(key: str, value: object) -> str:
    """The message for params.yaml with `key` set to `value`."""
    params = copy.deepcopy(GOOD)
    place = params
    *path, last = key.split(".")
    for part in path:
        place = place[part]
    place[last] = value
    with pytest.raises(GokuError) as caught:
        check(params, Params, "params.yaml")
    return str(caught.value)


def test_unknown_key_names_the_nearest_and_the_allowed():
    message = mistake("curate.gate.min_second", 3)
    assert message.startswith("params.yaml: curate.gate.min_second: unknown key. Did you mean curate.gate.min_seconds?")
    assert "Allowed here: min_seconds, min_side" in message
    assert "collect" in mistake("colect", {})
    assert "train.phases.joint_low.step: unknown key. Did you mean train.phases.joint_low.steps?" in mistake(
        "train.phases.joint_low.step", 3
    )


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("vae.steps", "many", "vae.steps: it should be a valid integer"),
        ("vae.steps", 1.5, "vae.steps: it should be a valid integer"),
        ("collect.source", 7, "collect.source: it should be a valid string"),
        ("precompute.resolutions.low", [1], "precompute.resolutions.low"),
        ("train.phases", [], "train.phases"),
        ("vae.height", 65, "vae.height: it should be a multiple of 16 (given: 65)"),
        ("vae.fps", 0, "vae.fps: it should be greater than 0 (given: 0)"),
        ("collect.sample.fps", 0, "collect.sample.fps: it should be greater than or equal to 1"),
        ("promote.gate.maximum_drop", "a lot", "promote.gate.maximum_drop"),
        ("train.phases.joint_low.init_from", "nothing", "is no earlier phase; allowed"),
        ("seed", -1, "seed: it should be greater than or equal to 0"),
    ],
)
def test_wrong_types_and_impossible_values(key, value, says):
    assert says in mistake(key, value)


def test_all_mistakes_at_once():
    params = copy.deepcopy(GOOD)
    params["vae"]["fps"] = 0
    params["collect"]["sourse"] = "x"
    del params["train"]["phases"]
    with pytest.raises(GokuError) as caught:
        check(params, Params, "p.yaml")
    assert len(str(caught.value).splitlines()) == 3
    assert "train.phases: missing" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("train.phases.joint_low.resolution", "'nothing' is no resolution of precompute. Allowed: low"),
        ("evaluate.video_model", "'nothing' is no phase of train. Allowed: text_semantic"),
        ("promote.image_model", "'nothing' is no phase of train"),
    ],
)
def test_names_of_other_sections(tmp_path, key, says):
    params = copy.deepcopy(GOOD)
    place = params
    *path, last = key.split(".")
    for part in path:
        place = place[part]
    place[last] = "nothing"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    with pytest.raises(GokuError, match=f"{key}: {says}"):
        load_params(tmp_path / "params.yaml")


def test_retired_key_names_the_new_one(monkeypatch):
    monkeypatch.setitem(config.RETIRED, "vae.lr", "vae.learning_rate")
    assert "vae.lr: this key has been retired; write vae.learning_rate." in mistake("vae.lr", 1e-3)


def test_keys_retired_so_far():
    assert "train.checkpoint_every: this key has been retired; write train.checkpoint.every." in mistake(
        "train.checkpoint_every", 100
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("seed: 1\nvae: {steps: [}\n", "line 2, column"),
        ("seed: 1\nvae:\n  steps: 1\n  steps: 2\n", "line 4, column 3: not valid YAML: the key 'steps' is given twice"),
        ("- a\n", "expected sections"),
        ("", "expected sections"),
        ("seed: !!python/object/apply:os.system ['true']\n", "line 1"),
    ],
)
def test_bad_files(tmp_path, text, says):
    file = tmp_path / "params.yaml"
    file.write_text(text)
    with pytest.raises(GokuError, match=says.replace("[", r"\[").replace("(", r"\(")):
        load_params(file)


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(GokuError, match="goku params use nano"):
        load_params(tmp_path / "params.yaml")


def test_numbers_are_read_as_dvc_reads_them(tmp_path):
    (tmp_path / "p.yaml").write_text("a: 1e-4\nb: -2.5E3\nc: 1e5x\n")
    assert read_yaml(tmp_path / "p.yaml") == {"a": 1e-4, "b": -2500.0, "c": "1e5x"}


def keys(value: object, prefix: str = "") -> set[str]:
    if not isinstance(value, dict) or not value:
        return {prefix}
    return {key for name, inner in value.items() for key in keys(inner, f"{prefix}.{name}" if prefix else name)}


@pytest.mark.parametrize("preset", [ROOT / "params.yaml", *PRESETS], ids=lambda p: p.name)
def test_presets_are_valid_and_list_every_key(preset):
    """What is not written cannot be found by a reader, nor watched by DVC."""
    full = load_params(preset).model_dump(mode="json", exclude_none=True)
    assert keys(full) <= keys(read_yaml(preset))


def test_params_yaml_is_the_demo():
    assert (ROOT / "params.yaml").read_text() == (ROOT / "params/nano.yaml").read_text()


def fields(model: type[BaseModel], prefix: str):
    for name, field in model.model_fields.items():
        inner = [t for t in (field.annotation, *getattr(field.annotation, "__args__", ())) if isinstance(t, type)]
        models = [t for t in inner if issubclass(t, BaseModel)]
        yield f"{prefix}.{name}", field.description, bool(models)
        for one in models:
            yield from fields(one, f"{prefix}.{name}")


def test_every_parameter_is_described():
    silent = [key for key, text, section in fields(Params, "") if not text and not section]
    assert not silent


def test_the_line_of_the_demo():
    cells = line.cells(load_params(ROOT / "params.yaml"))
    assert [c.stage for c in cells if c.stage != "train"] == [
        "collect",
        "curate",
        "vae",
        "precompute",
        "evaluate",
        "promote",
    ]
    by_name = {cell.name: cell for cell in cells}
    assert by_name["collect"].after == ()
    assert by_name["curate"].after == ("collect",)
    assert set(by_name["vae"].after) == {"curate", "collect"}
    assert "evaluate" in by_name["promote"].after
    phases = [c for c in cells if c.stage == "train"]
    assert [list(c.request.phases) for c in phases] == [[c.name.split("@")[1]] for c in phases]


def test_a_phase_is_work_of_its_own():
    """A changed phase changes its own request only; a shared key changes all."""
    params = copy.deepcopy(GOOD)
    first = next(iter(params["train"]["phases"]))
    params["train"]["phases"][first]["steps"] += 1

    def requests(value):
        cells = line.cells(check(value, Params, "p"))
        return {c.name: c.request_json() for c in cells}

    before, after = requests(GOOD), requests(params)
    assert [name for name in before if before[name] != after[name]] == [f"train@{first}"]


def test_own_folder_is_an_input():
    params = copy.deepcopy(GOOD)
    params["collect"]["source"] = "/somewhere/videos"
    assert line.cells(check(params, Params, "p"))[0].inputs == ("/somewhere/videos",)


def test_dvc_yaml_is_the_same_line(tmp_path):
    """Same cells, inputs, outputs, commands; every parameter of a cell is watched."""
    program = (
        "import json, sys\nfrom dvc.repo import Repo\n"
        "stages = Repo(sys.argv[1]).index.stages\n"
        "print(json.dumps({s.name: {'cmd': s.cmd, 'deps': [d.def_path for d in s.deps if not hasattr(d, 'params')],\n"
        "  'outs': [o.def_path for o in s.outs],\n"
        "  'params': [p for d in s.deps for p in getattr(d, 'params', [])]} for s in stages}))"
    )
    for name in ("dvc.yaml", "params.yaml", ".gitignore"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True)
    stages = yaml.safe_load(done.stdout)
    cells = line.cells(load_params(ROOT / "params.yaml"))
    assert set(stages) == {cell.name for cell in cells} | {"sources"}
    assert set(stages["sources"]["outs"]) == {source_file(name) for name in line.STAGES}
    for cell in cells:
        stage = stages[cell.name]
        assert stage["cmd"] == f"goku run {cell.name} --no-flow --driver dvc"
        assert not [i for i in cell.inputs if not any(Path(i).is_relative_to(d) for d in stage["deps"])]
        assert set(stage["deps"]) <= {*cell.inputs, "models", source_file(cell.stage)}
        assert source_file(cell.stage) in stage["deps"]
        beside = {record_file(cell.name), f"metrics/{cell.name}.json", f"plots/{cell.name}.csv"}
        assert set(stage["outs"]) == {*cell.outputs, *beside}
        # Exactly the keys that name the work, no other: what says how it is done must not make DVC ask.
        wanted = {f"{cell.stage}.{key}" for key in keys(cell.request_json())} | {"seed"}
        told = {f"{cell.stage}.{key}" for key in keys(cell.request.model_dump(mode="json"))} | {"seed"}
        watched = {key for key in told if any(f"{key}.".startswith(f"{w}.") for w in stage["params"])}
        assert watched == wanted
        assert len(stage["params"]) == len(
            {w for w in stage["params"] if any(f"{k}.".startswith(f"{w}.") for k in told)}
        )
