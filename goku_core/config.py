"""params.yaml: the only source of parameters, read strictly and checked as a whole before any work."""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from goku_core.collect import Request as CollectRequest
from goku_core.costs import PlanRequest
from goku_core.curate import Request as CurateRequest
from goku_core.evaluate import Request as EvaluateRequest
from goku_core.pipeline.errors import GokuError
from goku_core.precompute import Request as PrecomputeRequest
from goku_core.promote import Request as PromoteRequest
from goku_core.tracking import PASSWORD
from goku_core.tracking import Request as TrackingRequest
from goku_core.train import Request as TrainRequest
from goku_core.tune.request import TuneRequest
from goku_core.vae import Request as VaeRequest

# Keys that a release has dropped, with what to write instead.
RETIRED: dict[str, str] = {"train.checkpoint_every": "train.checkpoint.every"}


Section = TypeVar("Section", bound=BaseModel)


class Params(BaseModel):
    """The whole of params.yaml: one section per stage."""

    # what is wrong is said by `load_params`, not by a traceback that repeats it (an address may hold a password)
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    seed: int = Field(default=0, ge=0, description="run seed; every random draw is a function of it")
    collect: CollectRequest
    curate: CurateRequest
    vae: VaeRequest
    precompute: PrecomputeRequest
    train: TrainRequest
    evaluate: EvaluateRequest
    promote: PromoteRequest
    tune: TuneRequest = Field(default_factory=TuneRequest)
    plan: PlanRequest = Field(default_factory=PlanRequest)
    tracking: TrackingRequest = Field(default_factory=TrackingRequest)


def load_params(path: str | Path = "params.yaml", changes: Mapping[str, Any] | None = None) -> Params:
    """Read and check a parameter file. Raises `GokuError` naming every bad key and what is allowed there.

    changes  for one run (nested, keys of params.yaml): as if the file said so, see `goku_core.changes`
    """
    params = checked(read_yaml(Path(path)), str(path))
    if not changes:
        return params
    from goku_core.changes import changed

    return changed(params, changes)


def checked(value: Any, where: str) -> Params:
    """Parameters from what a file holds. Raises `GokuError` naming every bad key."""
    params = check(value, Params, where)
    if wrong := list(_between_sections(params)):
        raise GokuError("\n".join(f"{where}: {line}" for line in wrong))
    return params


def _between_sections(params: Params) -> Iterator[str]:
    """What one section says of another: names of resolutions and of phases."""
    phases, resolutions = list(params.train.phases), list(params.precompute.resolutions)
    if params.tune.phase is not None and params.tune.phase not in phases:
        yield f"tune.phase: {params.tune.phase!r} is no phase of train. Allowed: {', '.join(phases)}."
    for name, phase in params.train.phases.items():
        if phase.resolution not in resolutions:
            yield (
                f"train.phases.{name}.resolution: {phase.resolution!r} is no resolution of precompute. "
                f"Allowed: {', '.join(resolutions)}."
            )
    for section in ("evaluate", "promote"):
        for key in ("image_model", "video_model", "image_to_video_model"):
            model = getattr(getattr(params, section), key)
            if model is not None and model not in phases:
                yield f"{section}.{key}: {model!r} is no phase of train. Allowed: {', '.join(phases)}."


def read_yaml(path: Path) -> Any:
    """YAML with safe types only; a key given twice is an error (YAML readers keep the last one in silence)."""
    if not path.is_file():
        raise GokuError(f"{path} is not there. Run in a folder that holds params.yaml, or `goku params use nano`.")
    loader = _Loader(path.read_text(encoding="utf-8"))
    try:
        return loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
        raise GokuError(f"{where}: not valid YAML: {error.problem or error.context}.") from error
    finally:
        loader.dispose()


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Safe loader that refuses duplicate keys and reads 1e-4 as a number (YAML 1.2, as DVC reads the same file)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def check(value: Any, model: type[Section], where: str) -> Section:
    """`value` as a `model`; all mistakes in one `GokuError`, each with its full key."""
    if not isinstance(value, Mapping):
        raise GokuError(f"{where}: expected sections ({', '.join(model.model_fields)}), found {_kind(value)}.")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        lines = [_explain(one, model) for one in error.errors(include_url=False)]
        raise GokuError("\n".join(f"{where}: {line}" for line in dict.fromkeys(lines))) from error


def _explain(error: ErrorDetails, model: type[BaseModel]) -> str:
    place = [part for part in error["loc"] if not _is_union_branch(part)]
    key = _key(place)
    allowed = _keys_at(model, place[:-1])
    if error["type"] == "extra_forbidden":
        if new := RETIRED.get(key):
            return f"{key}: this key has been retired; write {new}."
        near = difflib.get_close_matches(str(place[-1]), allowed, n=1, cutoff=0.5)
        hint = f" Did you mean {_key([*place[:-1], near[0]])}?" if near else ""
        return f"{key}: unknown key.{hint} Allowed here: {', '.join(allowed)}."
    if error["type"] == "missing":
        return f"{key}: missing. It has no default and must be given."
    message = error["msg"].removeprefix("Value error, ").replace("Input should", "it should", 1)
    given = "" if isinstance(error["input"], Mapping | list) else f" (given: {error['input']!r})"
    given = PASSWORD.sub("://***@", given)
    description = _description(model, place)
    return f"{key}: {message}{given}.{f' It is: {description}.' if description else ''}"


def _is_union_branch(part: int | str) -> bool:
    """pydantic puts the tried member of a union into the location: ``literal['interval']``, ``function-after[...]``."""
    return isinstance(part, str) and ("[" in part or part in {"int", "float", "str", "bool", "constrained-str"})


def _key(place: Sequence[int | str]) -> str:
    key = ""
    for part in place:
        key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else str(part)
    return key or "(whole file)"


def _model_at(annotation: Any, place: Sequence[int | str]) -> type[BaseModel] | None:
    """The model whose keys stand at `place` below `annotation`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not place:
            return annotation
        field = annotation.model_fields.get(str(place[0]))
        return _model_at(field.annotation, place[1:]) if field else None
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        found = (_model_at(argument, place) for argument in arguments)
        return next((model for model in found if model), None)
    if typing.get_origin(annotation) in (dict, list, tuple) and place:
        return _model_at(arguments[-1], place[1:])
    return None


def _keys_at(model: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    found = _model_at(model, place)
    return list(found.model_fields) if found else []


def _description(model: type[BaseModel], place: Sequence[int | str]) -> str | None:
    owner = _model_at(model, place[:-1]) if place else None
    field = owner.model_fields.get(str(place[-1])) if owner else None
    return field.description if field else None


def _kind(value: object) -> str:
    return {type(None): "nothing", list: "a list", str: "a text"}.get(type(value), type(value).__name__)
