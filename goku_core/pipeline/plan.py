"""What would run, what is done, and why: asked of records and inputs, without doing any work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from goku_core.pipeline import code
from goku_core.pipeline.commit import Record, Workspace
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.executor import weights_trees
from goku_core.pipeline.fingerprint import fingerprint
from goku_core.pipeline.line import Cell

MISSING = object()
SHOWN = 80


@dataclass(frozen=True)
class Entry:
    """Fate of one cell.

    state        ``done``; ``restore`` (done, but the workspace's outputs are missing or differ); ``run``; ``after``
                 (an input is made by a cell that runs first, so whether there is work shows then)
    why          what differs from the last record, or what is waited for
    notes        facts that change nothing: code changed since
    fingerprint  None while the inputs are not known
    seconds      what the last record of this cell took
    """

    cell: str
    state: Literal["done", "restore", "run", "after"]
    why: tuple[str, ...]
    notes: tuple[str, ...]
    fingerprint: str | None
    seconds: float | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def plan(line: Sequence[Cell], workspace: Path, strict: bool = False) -> list[Entry]:
    """One entry per cell, in order. With `strict`, a record made by other code does not count."""
    with Workspace(workspace) as place:
        carried = {record.cell: record for record in place.carried().values()}
        last = carried | {record.cell: record for record in place.records()}  # oldest first: the newest stays
        known: dict[str, str] = {}  # output path -> digest it has, or will have once checked out
        undecided: dict[str, str] = {}  # output path -> the cell that must run first
        entries = []
        for cell in line:
            entry, outputs = _entry(cell, place, last.get(cell.name), known, undecided, strict)
            entries.append(entry)
            if outputs is None:
                undecided |= dict.fromkeys(cell.outputs, cell.name)
            else:
                known |= outputs
        return entries


def _entry(
    cell: Cell,
    place: Workspace,
    last: Record | None,
    known: Mapping[str, str],
    undecided: Mapping[str, str],
    strict: bool,
) -> tuple[Entry, dict[str, str] | None]:
    """The cell's entry and the digests of its outputs (None while they are not known)."""
    seconds = last.seconds if last else None
    waits = dict.fromkeys(undecided[path] for path in cell.inputs if path in undecided)
    if waits:
        why = [f"after {', '.join(waits)}", *_differences(cell, last, {})]
        return Entry(cell.name, "after", tuple(why), (), None, seconds), None
    inputs, absent = {}, []
    for path in cell.inputs:
        digest = known.get(path)
        try:
            if digest is None and (tree := cell.content(path, place)) is not None:
                digest = tree.digest
        except GokuError as error:  # a bucket that cannot be asked now: the other cells have their answer all the same
            absent.append(f"input {path}: {error}")
            continue
        if digest is None:
            absent.append(f"input {path} is not there")
        else:
            inputs[path] = digest
    inputs |= {path: tree.digest for path, tree in weights_trees(cell, place).items()}
    if absent:
        return Entry(cell.name, "run", tuple(absent), (), None, seconds), None
    name = fingerprint(cell.stage, cell.revision, cell.request_json(), cell.seed, inputs)
    record = place.record(cell.stage, name, cell.outputs)
    if record is None:
        why = _differences(cell, last, inputs) or ["never done"]
        return Entry(cell.name, "run", tuple(why), (), name, seconds), None
    files = code.changed(record.value["code"], code.modules(cell.module))
    notes = (f"code changed since: {_list(files)}",) if files else ()
    if strict and files:
        return Entry(cell.name, "run", notes, (), name, record.seconds), None
    if overtaken := cell.overtaken(record.report, place.root):
        return Entry(cell.name, "run", (overtaken,), notes, name, record.seconds), None
    if place.holds_outputs(record):
        return Entry(cell.name, "done", (), notes, name, record.seconds), record.output_digests()
    if place.can_restore(record):
        why = ("done earlier; the workspace's outputs are missing or differ",)
        return Entry(cell.name, "restore", why, notes, name, record.seconds), record.output_digests()
    why = ("done earlier, but its outputs are damaged or gone",)
    return Entry(cell.name, "run", why, notes, name, record.seconds), None


def _differences(cell: Cell, last: Record | None, inputs: Mapping[str, str]) -> list[str]:
    """What differs between this cell now and its newest record: parameters, seed, revision, inputs."""
    if last is None:
        return []
    before = last.value
    found = []
    if before["revision"] != cell.revision:
        found.append(f"revision of {cell.stage}: {before['revision']} -> {cell.revision}")
    if before["seed"] != cell.seed:
        found.append(f"seed: {before['seed']} -> {cell.seed}")
    old, new = flat(before["request"], cell.stage), flat(cell.request_json(), cell.stage)
    for key in sorted(old.keys() | new.keys()):
        was, now = old.get(key, MISSING), new.get(key, MISSING)
        if was is MISSING:
            found.append(f"{key}: added ({_short(now)})")
        elif now is MISSING:
            found.append(f"{key}: gone (was {_short(was)})")
        elif was != now:
            found.append(f"{key}: {_short(was)} -> {_short(now)}")
    old_inputs = before["inputs"]
    for path, digest in inputs.items():
        if path not in old_inputs:
            found.append(f"input {path}: added")
        elif old_inputs[path]["digest"] != digest:
            found.append(f"input {path}: changed")
    return found


def flat(value: Any, prefix: str) -> dict[str, Any]:
    """Nested mappings -> dotted keys. Lists are values."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    flattened: dict[str, Any] = {}
    for key, inner in value.items():
        flattened |= flat(inner, f"{prefix}.{key}")
    return flattened


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _list(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
