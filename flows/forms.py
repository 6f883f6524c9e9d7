"""Forms of the deployments: what a page or a caller may fill in, so that a bad value is refused before a run starts."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect.context import FlowRunContext
from prefect.flows import Flow
from prefect.utilities.callables import parameter_schema

from goku_core.pipeline.errors import GokuError
from goku_core.tune.request import TuneRequest

STUDY = "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"  # it becomes the name of a folder


def entry(path: str) -> Flow[..., Any]:
    """The flow at an entry point of prefect.yaml: ``flows.line.line``."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def inside(workspace: str) -> Path:
    """The run's folder. A deployment pins its own, and a parameter leads nowhere else: raises `GokuError`."""
    place, context = Path(workspace).resolve(), FlowRunContext.get()
    deployed = bool(context and context.flow_run and context.flow_run.deployment_id)
    if deployed and not place.is_relative_to(Path.cwd()):
        raise GokuError(f"workspace {workspace}: outside of {Path.cwd()}, which this deployment is for.")
    return place


def form(flow: Flow[..., Any], basis: Mapping[str, Any]) -> dict[str, Any]:
    """JSON schema of a flow's parameters. `basis` has the cells and phases of params.yaml.

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
            field |= {k: v for k, v in _stage_field(TuneRequest, name).items() if k in ("minimum", "maximum")}
        if flow.name == "tune" and name == "name":
            field["pattern"] = STUDY
    return schema | {"additionalProperties": False}


def _stage_field(model: type[Any], name: str) -> dict[str, Any]:
    """What the model of a stage's section of params.yaml says of one of its keys."""
    return model.model_json_schema()["properties"][name]
