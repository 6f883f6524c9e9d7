"""What a piece of work is, as against how it is done.

A field of a request marked `HOW` (how many ranks share the work, how often it is saved) does not change the result. It stays out
of the fingerprint, so that work begun with one value is found, and continued, with another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

HOW: dict[str, Any] = {"identity": False}  # for `Field(json_schema_extra=HOW)`


def identity(request: BaseModel) -> dict[str, Any]:
    """The request as JSON values, without the fields that say how."""
    return _identity(request, request.model_dump(mode="json"))


def arrangement(request: BaseModel) -> dict[str, Any]:
    """The fields that say how, by dotted key."""
    return dict(_arrangement(request, request.model_dump(mode="json"), ""))


def says_how(field: FieldInfo) -> bool:
    extra = field.json_schema_extra
    return isinstance(extra, dict) and extra.get("identity") is False


def _identity(value: Any, dumped: Any) -> Any:
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        kept = [name for name in fields if not says_how(fields[name])]
        return {name: _identity(getattr(value, name), dumped[name]) for name in kept}
    if isinstance(value, Mapping):
        return {key: _identity(inner, dumped[key]) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_identity(inner, told) for inner, told in zip(value, dumped, strict=True)]
    return dumped


def _arrangement(value: Any, dumped: Any, prefix: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            key = f"{prefix}{name}"
            if says_how(field):
                found.append((key, dumped[name]))
            else:
                found += _arrangement(getattr(value, name), dumped[name], f"{key}.")
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            found += _arrangement(inner, dumped[name], f"{prefix}{name}.")
    return found
