"""What a form lets through: no command, no import path, no address, no name of a place (schemas of all deployments)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from served_workspace import ROOT, small_workspace

from flows.forms import entry, form
from goku_core.services.registration import basis

DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
TRICKS = [
    "$(id)", "`id`", "; rm -rf /", "| sh", "os.system", "goku_core.cli:main", "flows.line.line", "../../etc", "/etc/passwd",
    "file:///etc/passwd", "http://169.254.169.254/latest", "s3://other/bucket", "{{ prefect.blocks.secret.x }}", "--help",
    "a\nb", "%(x)s", "${HOME}", "<script>",
]  # fmt: skip
# Text that people write and nobody reads as anything else: shown, embedded by a text encoder, or (freeze) compared with the
# names of weights that there are.
FREE = {"prompts", "images", "clips", "because", "reason", "caption", "freeze"}
SAID = {"type", "anyOf", "allOf", "oneOf", "enum", "const"}
Leaf = tuple[tuple[str, ...], dict[str, Any]]
TOLD = ("enum", "const", "pattern", "format")


def leaves(
    schema: dict[str, Any], whole: dict[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every place of a form that takes a text."""
    if "$ref" in schema:
        inner: Any = whole
        for part in schema["$ref"].removeprefix("#/").split("/"):
            inner = inner[part]
        schema = inner | {key: value for key, value in schema.items() if key != "$ref"}
    kinds = schema.get("type", [])
    if "string" in ([kinds] if isinstance(kinds, str) else kinds) or not (
        set(schema) & {"type", "anyOf", "allOf", "oneOf", "enum", "const"}
    ):
        yield path, schema
    for kind in ("anyOf", "oneOf", "allOf"):
        for inner in schema.get(kind, []):
            if kind != "allOf" or "$ref" in inner:
                yield from leaves(inner, whole, path)
    for name, inner in schema.get("properties", {}).items():
        yield from leaves(inner, whole, (*path, name))
    if isinstance(items := schema.get("items"), dict):
        yield from leaves(items, whole, (*path, "*"))
    if isinstance(more := schema.get("additionalProperties"), dict):
        yield from leaves(more, whole, (*path, "*"))


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return basis(small_workspace(tmp_path_factory.mktemp("forms") / "w"))


@pytest.mark.parametrize("declared", DEPLOYMENTS, ids=lambda one: one["entrypoint"])
def test_a_form_takes_no_free_text(declared: dict[str, Any], facts: dict[str, Any]) -> None:
    schema = form(entry(declared["entrypoint"]), facts)
    assert schema["additionalProperties"] is False
    assert not {"workspace", "command", "entrypoint", "module", "path", "env"} & set(schema["properties"])
    for path, leaf in leaves({"type": "object", "properties": schema["properties"]}, schema):
        if FREE & set(path):
            continue
        assert set(leaf) & set(TOLD), f"{'.'.join(path)}: takes any text"
        check = Draft202012Validator(leaf | {"$defs": schema.get("definitions", {})})
        passed = [trick for trick in TRICKS if check.is_valid(trick)]
        assert passed == [], f"{'.'.join(path)}: {passed}"


@pytest.mark.parametrize("declared", DEPLOYMENTS, ids=lambda one: one["entrypoint"])
def test_the_server_refuses_what_the_form_does_not_admit(declared: dict[str, Any], facts: dict[str, Any]) -> None:
    """With the very function that Prefect's server calls before it creates a run."""
    from prefect.utilities.schema_tools import validate

    schema = form(entry(declared["entrypoint"]), facts)
    for name, field in schema["properties"].items():
        for trick in TRICKS:
            value = [trick] if field.get("type") == "array" else trick
            assert validate({name: value}, schema), f"{name}={trick}"
    for unknown in ("workspace", "command", "__class__", "env", "job_variables"):
        assert validate({unknown: "x"}, schema), unknown
    assert not validate({}, schema)


@pytest.mark.parametrize("trick", TRICKS)
def test_the_flow_asks_again(trick: str, tmp_path: Path) -> None:
    """A caller may reach a flow without a form: names of cells are looked up, and nothing is made of them."""
    from flows.cells import run_cells
    from goku_core.pipeline.errors import GokuError

    place = small_workspace(tmp_path / "w")
    with pytest.raises(GokuError):
        run_cells([trick], str(place), False)
    assert sorted(path.name for path in place.iterdir()) == ["params.yaml"]
