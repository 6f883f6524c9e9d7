"""What the form of a stage offers: the keys of params.yaml, drawn and checked by the server as the models would."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.utilities.schema_tools.validation import validate
from served_workspace import ROOT

from flows.forms import entry, form
from goku_core import config, forms
from goku_core.changes import changed, difference

PRESETS = sorted((ROOT / "params").glob("*.yaml"))
STAGES = ("collect", "curate", "vae", "precompute", "train", "evaluate")


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
