"""params.yaml as text: written with every key explained, and changed in place so that comments stay."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel

from goku_core.pipeline.errors import GokuError

WIDTH = 118


def annotated(value: BaseModel) -> str:
    """YAML of a request with each field's description as its comment. What presets are written with."""
    return "\n".join(_lines(value, 0, explain=True)) + "\n"


def with_value(text: str, key: str, value: Any) -> str:
    """The text with another value at a dotted key. Raises `GokuError` where the key is not written, or holds a section."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    for part in key.split("."):
        inner = _inner(node)
        if part not in inner:
            raise GokuError(
                f"{key} is not written in the file, so there is nothing to change. Write it, or see: goku params fill"
            )
        node = inner[part]
    if isinstance(node, yaml.MappingNode) or (isinstance(node, yaml.SequenceNode) and not node.flow_style):
        raise GokuError(f"{key} holds several lines; only single values and [lists] can be changed in place.")
    start, end = node.start_mark.index, node.end_mark.index
    space = " " if start == end and text[start - 1] == ":" else ""  # a key without a value: null
    return f"{text[:start]}{space}{_scalar(value)}{text[end:]}"


def with_missing(text: str, value: BaseModel) -> tuple[str, list[str]]:
    """The text with every key of `value` that it does not write, behind the key that comes before it; and those keys.

    value  the text as checked parameters, defaults filled in
    """
    text = _without_empty_braces(text, value)
    added: list[str] = []
    while True:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        found = next(_missing(root, value, ()), None)
        if found is None:
            return text, added
        place, line, new = found
        lines = text.split("\n")
        text = "\n".join([*lines[: line + 1], *new, *lines[line + 1 :]])
        added.append(".".join(place))


def _without_empty_braces(text: str, value: BaseModel) -> str:
    """A section written as {} as one without a value: lines can be put below it."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    for place in sorted(_empty_braces(root, value), key=lambda place: -place.start):
        text = text[: place.start].rstrip(" ") + text[place.stop :]
    return text


def _empty_braces(node: yaml.Node, value: BaseModel | dict[str, Any]) -> Iterator[slice]:
    for key, held in _items(value):
        inner = _inner(node).get(key)
        if inner is None or not (isinstance(held, BaseModel) or (isinstance(held, dict) and held)):
            continue
        if isinstance(inner, yaml.MappingNode) and inner.flow_style and not inner.value:
            yield slice(inner.start_mark.index, inner.end_mark.index)
        yield from _empty_braces(inner, held)


def _missing(
    node: yaml.Node, value: BaseModel | dict[str, Any], place: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], int, list[str]]]:
    """Key, line behind which it belongs, and its lines, for each key that is not written."""
    inner, items = _inner(node), _items(value)
    if isinstance(node, yaml.MappingNode) and node.flow_style:
        if any(key not in inner for key, _ in items):
            raise GokuError(f"{'.'.join(place)} is written in braces: write it in lines, then keys can be added.")
        return
    # In front of the first key of the section.
    last = node.start_mark.line - (1 if isinstance(node, yaml.MappingNode) else 0)
    for number, (key, held) in enumerate(items):
        here = (*place, key)
        if key not in inner:
            lines = list(_entry(value, key, held, len(place), explain=True, number=0))
            yield here, last, ["", *lines] if not place and number else lines
            return
        if isinstance(held, BaseModel) or (isinstance(held, dict) and held):
            yield from _missing(inner[key], held, here)
        last = _last_line(inner[key])


def _inner(node: yaml.Node) -> dict[str, yaml.Node]:
    return {str(key.value): value for key, value in node.value} if isinstance(node, yaml.MappingNode) else {}


def _last_line(node: yaml.Node) -> int:
    """The line on which the content of a node ends; the node's own mark lies behind comments and blank lines."""
    if isinstance(node, yaml.MappingNode) and node.value and not node.flow_style:
        return _last_line(node.value[-1][1])
    if isinstance(node, yaml.SequenceNode) and node.value and not node.flow_style:
        return _last_line(node.value[-1])
    return node.end_mark.line


def _items(value: BaseModel | dict[str, Any]) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return list(value.items())
    return [(key, getattr(value, key)) for key in type(value).model_fields]


def _lines(value: BaseModel | dict[str, Any], depth: int, explain: bool) -> Iterator[str]:
    for number, (key, inner) in enumerate(_items(value)):
        if not depth and number:
            yield ""
        yield from _entry(value, key, inner, depth, explain, number)


def _entry(
    owner: BaseModel | dict[str, Any], key: str, inner: Any, depth: int, explain: bool, number: int
) -> Iterator[str]:
    """Lines of one key."""
    indent = "  " * depth
    field = None if isinstance(owner, dict) else type(owner).model_fields[key]
    comment = f"# {field.description}" if explain and field and field.description else ""
    if isinstance(inner, BaseModel) or (isinstance(inner, dict) and inner):
        if comment:
            yield from _wrapped(comment, indent)
        yield f"{indent}{key}:"
        # Of several entries of one kind (phases, resolutions) the first one explains the keys.
        yield from _lines(inner, depth + 1, explain and (not isinstance(owner, dict) or number == 0))
        return
    line = f"{indent}{key}: {_scalar(inner)}"
    if comment and len(line) + len(comment) + 2 <= WIDTH:
        yield f"{line}  {comment}"
        return
    yield from _wrapped(comment, indent)
    yield line


def _wrapped(comment: str, indent: str) -> list[str]:
    return textwrap.wrap(comment, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}# ")


def _scalar(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_scalar(inner) for inner in value)}]"
    return json.dumps(value, ensure_ascii=False) if not _is_plain(value) else value


def _is_plain(value: Any) -> bool:
    """A text that YAML reads as the same text without quotes."""
    return isinstance(value, str) and yaml.safe_load(f"- {value}") == [value]
