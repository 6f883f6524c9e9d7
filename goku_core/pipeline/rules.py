"""What one key of a request says of another, in the words of JSON schema: for forms, and for whoever reads the schema.

The model's own validator decides. A rule stands beside it and repeats it for those who cannot run Python: Prefect's server and its
pages. tests/pipeline/test_rules.py holds the two against each other.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

# For `Field(json_schema_extra=...)`. A list of hosts or folders; and texts that name what params.yaml itself declares.
PLACE: dict[str, Any] = {"place": True}
PHASE: dict[str, Any] = {"names": "phase"}
RESOLUTION: dict[str, Any] = {"names": "resolution"}

Fields = Mapping[str, Mapping[str, Any]]  # name of a field -> JSON schema of its value


@dataclass(frozen=True)
class Rule:
    """Where every field of `when` is as said there, those of `then` must be as said there; an empty `when` is always met."""

    when: Fields
    then: Fields

    def schema(self, defaults: Mapping[str, Any]) -> dict[str, Any]:
        """The rule as JSON schema. A field that is left away counts as its default."""
        then = _fields(self.then, defaults)
        return {"if": _fields(self.when, defaults), "then": then} if self.when else then


class Rules:
    """For `ConfigDict(json_schema_extra=Rules(...))`: the model's JSON schema says them."""

    def __init__(self, *rules: Rule) -> None:
        self.rules = rules

    def __call__(self, schema: dict[str, Any], model: type[BaseModel]) -> None:
        fields = model.model_fields.items()
        defaults = {name: field.get_default(call_default_factory=True) for name, field in fields}
        schema["allOf"] = [rule.schema(defaults) for rule in self.rules]


def named_by(field: FieldInfo) -> str | None:
    """What a text names of params.yaml itself: ``phase`` or ``resolution``."""
    extra = field.json_schema_extra
    return str(extra["names"]) if isinstance(extra, dict) and "names" in extra else None


def says_where(field: FieldInfo) -> bool:
    """May its value lead somewhere (a folder, a URL, weights, a variable)? Then only params.yaml says it.

    Every text counts, unless it comes from a list, has a pattern, or names what params.yaml declares: so a new key cannot be
    forgotten.
    """
    extra = field.json_schema_extra
    if isinstance(extra, dict) and extra.get("place"):
        return True
    union = typing.get_origin(field.annotation) in (typing.Union, types.UnionType)
    kinds = typing.get_args(field.annotation) if union else (field.annotation,)
    patterned = any(getattr(one, "pattern", None) for one in field.metadata)
    return str in kinds and not patterned and named_by(field) is None


def rules_of(model: type[BaseModel]) -> tuple[Rule, ...]:
    stated = model.model_config.get("json_schema_extra")
    return stated.rules if isinstance(stated, Rules) else ()


def meets(value: Any, schema: Mapping[str, Any]) -> bool:
    """Is `value` as the JSON schema says? Tuples count as arrays."""
    from jsonschema import Draft202012Validator

    return Draft202012Validator(schema).is_valid(list(value) if isinstance(value, tuple) else value)


def _fields(fields: Fields, defaults: Mapping[str, Any]) -> dict[str, Any]:
    said = {name: dict(schema) for name, schema in fields.items()}
    needed = [name for name, schema in said.items() if not meets(defaults.get(name), schema)]
    return {"properties": said} | ({"required": needed} if needed else {})
