"""Forms of the deployments: what a page or a caller may fill in, so that a bad value is refused before a run starts."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.flows import Flow
from prefect.utilities.callables import parameter_schema

from goku_core import changes as library
from goku_core import config, forms
from goku_core.pipeline.errors import GokuError
from goku_core.tune.request import TuneRequest

STUDY = "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"  # it becomes the name of a folder
Changes = dict[str, Any] | None


def entry(path: str) -> Flow[..., Any]:
    """The flow at an entry point of prefect.yaml: ``flows.line.line``."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def inside(workspace: str) -> Path:
    """The run's folder. A deployment pins its own, and a parameter leads nowhere else: raises `GokuError`."""
    place = Path(workspace).resolve()
    if _deployment() and not place.is_relative_to(Path.cwd()):
        raise GokuError(f"workspace {workspace}: outside of {Path.cwd()}, which this deployment is for.")
    return place


def differing(changes: Changes, place: Path) -> dict[str, Any]:
    """Of what a form was sent with: what is other than in params.yaml. Raises `GokuError` for bad keys and values."""
    if not changes:
        return {}
    params = config.load_params(place / "params.yaml")
    if deployment := _deployment():
        with get_client(sync_client=True) as client:
            fields = client.read_deployment(deployment).parameter_openapi_schema["properties"]
        library.refuse_stale(changes, forms.shown(fields.get("changes", {})), params)
    return library.difference(params, library.changed(params, changes))


def form(flow: Flow[..., Any], basis: Mapping[str, Any]) -> dict[str, Any]:
    """JSON schema of a flow's parameters. `basis` has the cells, the phases and the values of params.yaml.

    Flat, for pages cannot set null: what is optional is left away. The workspace is no question, nor is any other key.
    """
    schema = parameter_schema(flow).model_dump()
    fields = schema["properties"]
    fields.pop("workspace")
    for name, field in fields.items():
        kinds = field.pop("anyOf", [])
        field |= next((kind for kind in kinds if kind.get("type") != "null"), {})
        if field.get("default", 0) is None:
            del field["default"]
        if name in basis:  # cells, phases
            field |= {"items": {"type": "string", "enum": list(basis[name])}, "uniqueItems": True}
        if name == "trials":
            field |= {k: v for k, v in TuneRequest.model_json_schema()["properties"][name].items() if k == "minimum"}
        if flow.name == "tune" and name == "name":
            field["pattern"] = STUDY
    if "changes" in fields:
        keys = forms.MOST_ASKED if flow.name == "line" else [f"{flow.name}.*"]
        asked, rules = forms.changes_form(config.Params.model_validate(basis["params"]), keys)
        fields["changes"] |= asked
        schema |= {"allOf": [{"properties": {"changes": rule}} for rule in rules]} if rules else {}
    return schema | {"additionalProperties": False}


def _deployment() -> Any:
    context = FlowRunContext.get()
    return context.flow_run.deployment_id if context and context.flow_run else None
