"""Parameters changed for one run: `goku run --changes FILE.json`, and what a form of a deployment was filled in with.

They count for that run as if params.yaml said so, and are checked by the same models. What leads somewhere (folders, URLs, weights,
hosts, names of variables), the promotion with its gate, and the tracking, are said by params.yaml alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.plan import flat
from goku_core.pipeline.rules import says_where

if TYPE_CHECKING:
    from goku_core.config import Params

FIXED = ("promote", "tune", "tracking", "plan")  # sections that no run changes


def read_changes(file: Path) -> dict[str, Any]:
    """Changes from a JSON file. Raises `GokuError` where it is none."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"), parse_constant=_no_number)
    except (OSError, ValueError) as error:
        raise GokuError(f"--changes {file}: {error}. It must be a JSON file with keys of params.yaml.") from error
    if not isinstance(found, dict):
        raise GokuError(f'--changes {file}: must hold an object, such as {{"train": {{"muon_ratio": 3}}}}.')
    return found


def changed(params: Params, changes: Mapping[str, Any]) -> Params:
    """`params` with `changes` (nested, keys of params.yaml), checked as params.yaml is; lists are replaced as a whole.

    Raises `GokuError` for unknown keys, for those that only params.yaml may say, and for values that it may not have.
    """
    from goku_core import config

    if refused := list(_refused(params, changes, "")):
        raise GokuError("\n".join(f"changes: {line}" for line in refused))
    return config.checked(_merged(params.model_dump(mode="json"), changes), "changes")


def difference(before: Params, after: Params) -> dict[str, Any]:
    """What makes `after` of `before`: nested, with nothing in it that is the same."""
    return _difference(before.model_dump(mode="json"), after.model_dump(mode="json"))


def of_cell(before: Params, after: Params, cell: str) -> dict[str, Any]:
    """What differs and may concern a cell: dotted key -> [value in params.yaml, value in this run]."""
    stage, _, phase = cell.partition("@")
    was, now = flat(before.model_dump(mode="json"), ""), flat(after.model_dump(mode="json"), "")
    found = {key.lstrip("."): [was.get(key), value] for key, value in now.items() if was.get(key) != value}
    others = f"{stage}.phases."
    return {
        key: both
        for key, both in found.items()
        if key == "seed"
        or (key.startswith(f"{stage}.") and (not key.startswith(others) or key.startswith(f"{others}{phase}.")))
    }


def refuse_stale(changes: Mapping[str, Any], shown: Mapping[str, Any], params: Params) -> None:
    """Raise `GokuError` where a form was sent with values that params.yaml had when the form was made, and has no longer.

    shown  what the form showed unasked, nested. Whether a person wanted that value, or left it alone, cannot be told.
    """
    now = flat(params.model_dump(mode="json"), "")
    sent, unasked = flat(changes, ""), flat(shown, "")
    old = [key for key, value in sent.items() if key in unasked and value == unasked[key] != now.get(key)]
    if old:
        one = f"{old[0].lstrip('.')} was {unasked[old[0]]!r} and is {now.get(old[0])!r} now"
        more = f" (and {len(old) - 1} more)" if len(old) > 1 else ""
        raise GokuError(
            f"The form is older than params.yaml: {one}{more}. Run `goku up`, which renews the forms, and ask again."
        )


def _refused(value: BaseModel, changes: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, new in changes.items():
        key, field = f"{prefix}{name}", type(value).model_fields.get(name)
        if field is None:
            continue  # the check says so, and which key is meant
        held = getattr(value, name)
        if key in FIXED:
            yield f"{key}: cannot be changed for one run; write it into params.yaml."
        elif says_where(field):
            yield f"{key}: says where something is, or what it is called; only params.yaml may say that."
        elif isinstance(held, BaseModel) and isinstance(new, Mapping):
            yield from _refused(held, new, f"{key}.")
        elif isinstance(held, Mapping) and any(isinstance(one, BaseModel) for one in held.values()):
            yield from _refused_entries(held, new, key)


def _refused_entries(held: Mapping[str, Any], new: Any, key: str) -> Iterator[str]:
    """Of phases, resolutions, tiers: none can be added."""
    for name, entry in new.items() if isinstance(new, Mapping) else ():
        if name not in held:
            yield f"{key}.{name}: params.yaml has none of that name. Allowed here: {', '.join(held)}."
        elif isinstance(entry, Mapping):
            yield from _refused(held[name], entry, f"{key}.{name}.")


def _merged(value: Any, changes: Any) -> Any:
    if not (isinstance(value, Mapping) and isinstance(changes, Mapping)):
        return changes
    return {**value, **{key: _merged(value.get(key), new) for key, new in changes.items()}}


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for key, new in after.items():
        old = before.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            if inner := _difference(old, new):
                found[key] = inner
        elif old != new:
            found[key] = new
    return found


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number")
