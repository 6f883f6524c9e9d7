"""A folder in which a phase is trained with changed parameters: the same pipeline, and none of the workspace's own results touched.

The folder shares the workspace's `.goku`, so work that was done anywhere is found by its fingerprint, and what is done here is
found later. Whatever the changes leave as it is, is linked; what they change, and what comes after it, is made here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goku_core.pipeline import line
from goku_core.pipeline.commit import remove
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.executor import OpenTracker, Outcome, execute
from goku_core.pipeline.line import Cell
from goku_core.tune.change import changed

if TYPE_CHECKING:
    from goku_core.config import Params

SHARED = ("data", "models", "reports")  # folders that hold outputs of several cells


@dataclass(frozen=True)
class Work:
    """What must be done for one set of changes.

    target  the cell of the phase
    before  cells that it needs and that the changes touch, in order
    given   what these read and the workspace has
    other   is it other work than the line's own?
    """

    target: Cell
    before: list[Cell]
    given: list[str]
    other: bool


def work(base: Params, changes: Mapping[str, Any], phase: str, seed: int | None = None) -> Work:
    """seed: of the phase's own draws, where it is not the run seed. Raises `GokuError` for changes of the raw media."""
    own, plain = line.cells(changed(base, changes)), {cell.name: cell for cell in line.cells(base)}
    by_name = {cell.name: cell for cell in own}
    target = by_name[f"train@{phase}"]
    needed = _ancestors(target, by_name)
    touched: set[str] = set()
    for cell in own:
        before = plain.get(cell.name)
        other = before is None or before.request_json() != cell.request_json()
        if cell.name in {*needed, target.name} and (other or touched.intersection(cell.after)):
            touched.add(cell.name)
    again = [by_name[name] for name in needed if name in touched]
    if any(cell.stage == "collect" for cell in again):
        raise GokuError("the raw media cannot be searched: collect stays as it is.")
    made = {path for cell in again for path in cell.outputs}
    reads = dict.fromkeys(path for cell in (*again, target) for path in cell.inputs)
    given = [path for path in reads if path not in made]
    return Work(target if seed is None else replace(target, seed=seed), again, given, target.name in touched)


def _ancestors(cell: Cell, by_name: Mapping[str, Cell]) -> list[str]:
    """Names of all cells that `cell` needs, in the order of the line."""
    found: set[str] = set()
    waiting = list(cell.after)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += by_name[name].after
    return [name for name in by_name if name in found]


def do(asked: Work, workspace: Path, place: Path, open_tracker: OpenTracker | None = None) -> Outcome:
    """Trains the phase in `place`; its outputs lie there until `clear(place)`. Raises what `execute` raises."""
    clear(place)
    outputs = [path for cell in (*asked.before, asked.target) for path in cell.outputs]
    _link(workspace, place, asked.given, outputs)
    trackers = {} if open_tracker is None else {"open_tracker": open_tracker}
    for cell in asked.before:
        execute(cell, place)
    return execute(asked.target, place, **trackers)


def clear(place: Path) -> None:
    """Links are removed, what they lead to is not."""
    if place.is_dir():
        remove(place)


def _link(workspace: Path, place: Path, given: Iterable[str], outputs: Iterable[str]) -> None:
    for folder in SHARED:
        (place / folder).mkdir(parents=True)
    (workspace / ".goku").mkdir(exist_ok=True)
    for entry in workspace.iterdir():  # own media, weights: whatever a request names relative to the workspace
        if entry.name not in SHARED:
            (place / entry.name).symlink_to(entry.resolve())
    for path in given:
        source, target = workspace / path, place / path
        if not source.exists():
            raise GokuError(
                f"{path} is not there. Run `goku run` up to the phase first (`goku plan` shows what is missing)."
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source.resolve())
    for path in outputs:
        (place / path).parent.mkdir(parents=True, exist_ok=True)
