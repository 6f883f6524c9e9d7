"""What a form may ask, as JSON schema: keys of params.yaml with the values of this workspace, ranges, units and rules.

Flat where it can be, without unions: Prefect's pages cannot set null, so that what is optional is left away, and then is as
params.yaml says. `position` keeps the order of params.yaml. Rules between keys stand at the root (`allOf`): the pages draw objects
by their properties and would take an `allOf` further in for another kind of field.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from goku_core.pipeline.rules import meets, named_by, rules_of, says_where

if TYPE_CHECKING:
    from goku_core.config import Params

# What is most asked for, in a form of the whole line; the deployment of a stage offers every key of its section.
MOST_ASKED = (
    "seed", "collect.sample.videos", "collect.sample.images", "vae.steps", "vae.learning_rate",
    "train.phases.*.steps", "train.phases.*.learning_rate", "train.phases.*.tokens", "train.sampling.steps",
    "train.sampling.guidance", "train.optimizer", "train.ema_decay", "train.text_dropout", "train.parallel.nodes",
    "train.parallel.ranks_per_node", "train.parallel.precision", "train.validation.share",
    "evaluate.prompts_per_task", "evaluate.images_per_prompt", "evaluate.video.prompts",
)  # fmt: skip
KEPT = (
    "type", "enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength",
    "pattern", "items", "prefixItems", "minItems", "maxItems", "uniqueItems",
)  # fmt: skip
BOUNDS = (("minimum", "at least {}"), ("exclusiveMinimum", "above {}"), ("maximum", "at most {}"),
          ("exclusiveMaximum", "below {}"), ("multipleOf", "a multiple of {}"))  # fmt: skip


def changes_form(params: Params, keys: Sequence[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Schema of the changes that a form offers, and the rules between them, for the `allOf` of an object that holds them.

    keys  patterns of dotted keys: ``train.*``
    """
    found = _Form(params, keys)
    schema = found.section(params, "") or {"type": "object", "properties": {}, "additionalProperties": False}
    return schema, found.rules


def shown(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The values that a form shows unasked, nested as its keys are."""
    values = {}
    for name, field in schema.get("properties", {}).items():
        if "properties" in field:
            values[name] = shown(field)
        elif "default" in field:
            values[name] = field["default"]
    return values


class _Form:
    def __init__(self, params: Params, keys: Sequence[str]) -> None:
        self._keys = keys
        self._choices = dict(_choices(params))
        self.rules: list[dict[str, Any]] = []

    def section(self, value: BaseModel, prefix: str) -> dict[str, Any] | None:
        """A section's schema; None where it offers nothing."""
        model = type(value)
        own, taken = model.model_json_schema()["properties"], value.model_dump(mode="json")
        fields = {}
        for name, field in model.model_fields.items():
            held, key = getattr(value, name), f"{prefix}{name}"
            if isinstance(held, BaseModel):
                asked = self.section(held, f"{key}.")
            elif isinstance(held, Mapping) and held and all(isinstance(one, BaseModel) for one in held.values()):
                asked = _object((one, self._entry(entry, f"{key}.{one}.")) for one, entry in held.items())
            elif says_where(field) or not self._wanted(key):
                continue
            else:
                asked = _leaf(own[name], taken[name], self._choices.get(key) if named_by(field) else None)
            if asked is not None:
                fields[name] = {"title": name} | asked
                about = field.description or (_about(held) if isinstance(held, BaseModel) else "")
                fields[name] |= {"description": _described(about, asked)} if about else {}
        self._state(value, taken, fields, prefix)
        return _object(fields.items())

    def _entry(self, value: BaseModel, prefix: str) -> dict[str, Any] | None:
        """A phase, a resolution, a tier."""
        schema = self.section(value, prefix)
        return schema and {"description": _about(value)} | schema

    def _wanted(self, key: str) -> bool:
        return any(fnmatch.fnmatchcase(key, pattern) for pattern in self._keys)

    def _state(self, value: BaseModel, taken: Mapping[str, Any], fields: dict[str, Any], prefix: str) -> None:
        """The rules of a section, about the fields that the form has; all others stay as params.yaml says."""
        for rule in rules_of(type(value)):
            when = {name: schema for name, schema in rule.when.items() if name in fields}
            if not all(meets(taken[name], schema) for name, schema in rule.when.items() if name not in fields):
                continue
            if all(meets(taken[name], schema) for name, schema in rule.then.items() if name not in fields):
                then = {name: schema for name, schema in rule.then.items() if name in fields}
                if then:
                    self.rules.append(_at(prefix, type(rule)(when, then).schema(taken)))
                continue
            for name, schema in when.items():  # what it then needs cannot be given here: `kind` has no such choice
                fields[name]["enum"] = [one for one in fields[name]["enum"] if not meets(one, schema)]
                if len(fields[name]["enum"]) < 2:
                    del fields[name]


def _choices(params: Params) -> Iterator[tuple[str, list[str]]]:
    """Names that params.yaml declares, where a key takes one of them."""
    phases = list(params.train.phases)
    for number, phase in enumerate(phases):
        yield f"train.phases.{phase}.init_from", ["vae", *phases[:number]]
        yield f"train.phases.{phase}.resolution", list(params.precompute.resolutions)
    for key in ("image_model", "video_model", "image_to_video_model"):
        yield f"evaluate.{key}", phases


def _leaf(field: Mapping[str, Any], value: Any, choices: list[str] | None) -> dict[str, Any] | None:
    """A key's schema without its null, with this workspace's value. None for what no field of a page can hold."""
    kinds = [kind for kind in field.get("anyOf", [field]) if kind.get("type") != "null"]
    if len(kinds) != 1 or kinds[0].get("type") not in ("boolean", "integer", "number", "string", "array"):
        return None
    asked = {name: kinds[0][name] for name in KEPT if name in kinds[0]}
    if choices is not None:
        asked["enum"] = choices
    if len(asked.get("enum", [0, 1])) < 2 or "const" in kinds[0]:
        return None  # nothing to choose
    return asked if value is None else asked | {"default": value}


def _object(fields: Iterable[tuple[str, dict[str, Any] | None]]) -> dict[str, Any] | None:
    """An object of fields in their order; those that are None are left out."""
    there = [(name, field) for name, field in fields if field is not None]
    properties = {
        name: {"title": name} | field | {"position": position} for position, (name, field) in enumerate(there)
    }
    return {"type": "object", "properties": properties, "additionalProperties": False} if properties else None


def _about(section: BaseModel) -> str:
    return (type(section).__doc__ or "").partition("\n")[0]


def _described(text: str, field: Mapping[str, Any]) -> str:
    """What a page does not show by itself: the bounds."""
    said = [words.format(f"{field[name]:g}") for name, words in BOUNDS if name in field]
    return f"{text} ({', '.join(said)})" if said else text


def _at(prefix: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A schema of the object at a place, said of what holds it."""
    for name in reversed(prefix.split(".")[:-1]):
        schema = {"properties": {name: schema}}
    return schema
