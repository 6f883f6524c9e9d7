"""What a deployment lets through, and what it is made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from prefect.context import FlowRunContext
from prefect.utilities.schema_tools.validation import validate
from served_workspace import ROOT, small_workspace

from flows.deployments import QUEUES
from flows.forms import entry, form, inside
from goku_core import config, forms
from goku_core.changes import changed, difference
from goku_core.pipeline.errors import GokuError
from goku_core.services.registration import basis

PRESETS = sorted((ROOT / "params").glob("*.yaml"))
STAGES = ("collect", "curate", "vae", "precompute", "train", "evaluate")
DECLARED = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]


@pytest.mark.parametrize("path", ["/etc", "..", "elsewhere/../..", "link"])
def test_a_deployed_run_stays_in_its_folder(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "w"
    place.mkdir()
    (place / "link").symlink_to(tmp_path)
    monkeypatch.chdir(place)
    assert inside(path) == Path(path).resolve(), "in a shell of one's own every folder may be named"
    with FlowRunContext.model_construct(flow_run=SimpleNamespace(deployment_id="one")):
        assert inside(".") == place
        with pytest.raises(GokuError, match="which this deployment is for"):
            inside(path)


@pytest.mark.parametrize("declared", DECLARED, ids=lambda one: one["entrypoint"])
def test_forms_ask_what_the_flow_takes(declared: dict, tmp_path: Path) -> None:
    flow = entry(declared["entrypoint"])
    assert declared["entrypoint"] == f"{flow.fn.__module__}.{flow.name}"
    assert declared["work_pool"]["work_queue_name"] in {"default", *QUEUES}
    facts = basis(small_workspace(tmp_path / "w"))
    asked = form(flow, facts)["properties"]
    assert set(asked) == set(flow.fn.__annotations__) - {"return", "workspace"}
    for name, field in asked.items():
        assert field["description"] and field["type"] in ("array", "boolean", "string", "integer", "object"), name
        assert field.get("default", "") is not None, "a form cannot give null back"


def test_the_basis_changes_with_what_the_forms_and_tags_say(tmp_path: Path) -> None:
    place = small_workspace(tmp_path / "w")
    before = basis(place)
    assert json.loads(json.dumps(before)) == before, "else the forms would be registered anew by every `goku up`"
    assert before["dataset"] is None and before["cells"][0] == "collect" and "train@joint_low" in before["cells"]
    (place / "data").mkdir()
    (place / "data/clips.parquet").write_bytes(b"a table")
    assert basis(place)["dataset"] == hashlib.sha256(b"a table").hexdigest()[:12]
    text = (place / "params.yaml").read_text()
    (place / "params.yaml").write_text(text.replace("finetune_i2v", "first_picture"))
    assert basis(place)["phases"] == [*before["phases"][:-1], "first_picture"]
    (place / "prefect.yaml").write_text((ROOT / "prefect.yaml").read_text() + "# another\n")
    assert basis(place)["declaration"] != before["declaration"]


def asked(preset: Path, name: str) -> tuple[dict[str, Any], config.Params]:
    """The schema of a deployment's form, as the server keeps it, for a workspace with a preset."""
    params = config.load_params(preset)
    phases = list(params.train.phases)
    facts = {"cells": ["collect"], "phases": phases, "params": params.model_dump(mode="json")}
    return form(entry(f"flows.{name}.{name}"), facts), params


def leaves(schema: dict[str, Any], place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, field in schema["properties"].items():
        if "properties" in field:
            yield from leaves(field, f"{place}{name}.")
        else:
            yield f"{place}{name}", field


@pytest.mark.parametrize("name", [*STAGES, "line"])
@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.stem)
def test_a_form_sent_as_it_is_changes_nothing(preset: Path, name: str) -> None:
    """What a page sends when nothing was touched passes the server's check, and is no other work."""
    schema, params = asked(preset, name)
    sent = forms.shown(schema["properties"]["changes"])
    assert sent
    validate({"strict": False, "changes": sent}, schema, raise_on_error=True)
    assert difference(params, changed(params, sent)) == {}


def test_fields_stand_in_the_order_of_params_yaml_with_its_values_units_and_bounds() -> None:
    schema, _ = asked(ROOT / "params.yaml", "train")
    text = yaml.safe_load((ROOT / "params.yaml").read_text())["train"]
    field = schema["properties"]["changes"]["properties"]["train"]
    order = [name for name, one in sorted(field["properties"].items(), key=lambda item: item[1]["position"])]
    assert order == [name for name in text if name in order] and len(order) > 12
    rate = field["properties"]["phases"]["properties"]["joint_low"]["properties"]["learning_rate"]
    assert (rate["type"], rate["default"], rate["exclusiveMinimum"]) == ("number", 0.003, 0)
    assert rate["title"] == "learning_rate" and rate["description"] == "peak learning rate (above 0)"
    hang = field["properties"]["faults"]["properties"]["hang_floor_seconds"]
    assert ", s " in hang["description"]
    law = field["properties"]["transport"]["properties"]["law"]
    assert law["enum"] == ["uniform", "logit-normal", "mode"]
    resolution = field["properties"]["phases"]["properties"]["joint_mid"]["properties"]["resolution"]
    assert resolution["enum"] == ["low", "mid", "high"] and resolution["default"] == "mid"


@pytest.mark.parametrize("name", [*STAGES, "line"])
@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.stem)
def test_pages_can_draw_every_field(preset: Path, name: str) -> None:
    """No unions and no references, nothing that only null could empty; every field says what it is."""
    schema, _ = asked(preset, name)
    for key, field in leaves(schema["properties"]["changes"]):
        assert field["type"] in ("boolean", "integer", "number", "string", "array"), key
        assert not {"anyOf", "oneOf", "allOf", "$ref"} & set(field), key
        assert field["title"] == key.rpartition(".")[2] and field["description"], key
        assert field.get("default", "") is not None, key
        assert field["type"] != "string" or field.get("enum") or field.get("pattern"), f"{key}: any text goes"


def test_what_leads_somewhere_is_in_no_form() -> None:
    offered = {key for stage in STAGES for key, _ in leaves(asked(ROOT / "params.yaml", stage)[0])}
    assert {"changes.train.optimizer", "changes.curate.gate.min_fps", "changes.evaluate.image_model"} <= offered
    words = ("source", "weights", "url", "templates", "file", "remote", "key_variable", "allow_hosts", "model_path")
    assert {key for key in offered if key.rpartition(".")[2] in words} == {"changes.train.validation.weights"}
    assert not [key for key in offered if {"promote", "tracking", "tune"} & set(key.split(".")[:2])]


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("train", {"train": {"transport": {"law": "mode", "scale": 3}}}, "3 is greater than the maximum of 1.75"),
        ("train", {"train": {"transport": {"scale": 0}}}, "0 is less than or equal to the minimum of 0"),
        ("train", {"train": {"model": {"name": "custom"}}}, "'depth' is a required property"),
        ("train", {"train": {"model": {"depth": 3}}}, "3 is not of type 'null'"),
        ("train", {"train": {"phases": {"joint_low": {"images": 0, "clips": 0}}}}, "0 is less than or equal"),
        ("train", {"train": {"phases": {"finetune_i2v": {"clips": 0}}}}, "0 is less than or equal"),
        ("train", {"train": {"phases": {"joint_low": {"init_from": "joint_high"}}}}, "is not one of"),
        ("train", {"train": {"sampling": {"guidance_interval": [0.5, 2]}}}, "greater than the maximum of 1"),
        ("vae", {"vae": {"batch_images": 0, "batch_clips": 0}}, "0 is less than the minimum of 1"),
        ("vae", {"vae": {"kind": "cogvideox"}}, "'kind' was unexpected"),
        ("collect", {"collect": {"sample": {"shot_seconds": [0.1, 3]}}}, "0.1 is less than the minimum of 0.5"),
        ("curate", {"curate": {"refine": {"kind": "dinov2"}}}, "'dinov2' is not one of ['embedded', 'none']"),
        ("evaluate", {"evaluate": {"image_model": "nobody"}}, "'nobody' is not one of"),
        ("evaluate", {"train": {"optimizer": "adamw"}}, "'train' was unexpected"),
    ],
)
def test_rules_between_keys_count_with_the_values_of_the_workspace(
    name: str, changes: dict[str, Any], says: str
) -> None:
    """Also where a caller sends one of the two alone: the other is as params.yaml says."""
    schema, _ = asked(ROOT / "params.yaml", name)
    told = validate({"changes": changes}, schema)
    assert any(says in error.message for error in told), [error.message for error in told]


def test_a_key_left_away_counts_as_params_yaml_says(tmp_path: Path) -> None:
    """In a workspace whose law is `mode`, a scale of 0 alone is right, and one of 2 is not."""
    text = (ROOT / "params.yaml").read_text().replace("law: logit-normal", "law: mode")
    (tmp_path / "params.yaml").write_text(text)
    schema, _ = asked(tmp_path / "params.yaml", "train")
    assert not validate({"changes": {"train": {"transport": {"scale": 0}}}}, schema)
    assert validate({"changes": {"train": {"transport": {"scale": 2}}}}, schema)
    assert not validate({"changes": {"train": {"transport": {"scale": 2, "law": "uniform"}}}}, schema)
