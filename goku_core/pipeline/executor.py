"""Runs one cell, or finds that its work has been done: the single answer every driver gets.

fingerprint -> lock -> record there and outputs right?  already-done
                    -> record there, objects in store?  restored
                    -> body -> store -> record -> check-out   ran

A record does not count where its cell says that it was overtaken (`Cell.overtaken`).
"""

from __future__ import annotations

import datetime
import importlib
import os
import socket
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from goku_core.costs import machine
from goku_core.pipeline import code
from goku_core.pipeline.commit import Record, Workspace, remove
from goku_core.pipeline.context import Context, SilentTracker, Tracker
from goku_core.pipeline.errors import GokuError, StageFailed
from goku_core.pipeline.failures import classify
from goku_core.pipeline.files import append_json_line, lock, read_json_lines
from goku_core.pipeline.fingerprint import Tree, fingerprint
from goku_core.pipeline.identity import arrangement
from goku_core.pipeline.line import Cell
from goku_core.pipeline.progress import console
from goku_core.pipeline.versions import beside

Driver = Literal["prefect", "dvc", "direct"]
Status = Literal["ran", "already-done", "restored"]


@dataclass(frozen=True)
class Outcome:
    cell: str
    status: Status
    fingerprint: str
    record: Record

    def as_json(self) -> dict[str, Any]:
        return {
            "cell": self.cell,
            "status": self.status,
            "fingerprint": self.fingerprint,
            "outputs": self.record.output_digests(),
            "seconds": self.record.seconds,
        }


class RunTracker(Tracker, Protocol):
    """A tracker with an end; `finish` returns the id of the tracking run, or None where there is none."""

    def finish(self, status: Literal["FINISHED", "FAILED"]) -> str | None: ...


class OpenTracker(Protocol):
    def __call__(self, workspace: Path, cell: Cell, fingerprint: str, attempt: int, driver: str) -> RunTracker: ...


class _Untracked(SilentTracker):
    def finish(self, status: Literal["FINISHED", "FAILED"]) -> str | None:
        return None


def _untracked(workspace: Path, cell: Cell, fingerprint: str, attempt: int, driver: str) -> RunTracker:
    return _Untracked()


def execute(
    cell: Cell,
    workspace: Path,
    driver: Driver = "direct",
    *,
    driver_run: str | None = None,
    open_tracker: OpenTracker = _untracked,
    strict: bool = False,
    changes: Mapping[str, Any] | None = None,
) -> Outcome:
    """Bring the outputs of `cell` into `workspace`, doing its work only if nobody has done it.

    driver, driver_run  who asked (and its own id for the run), for the record
    open_tracker        makes the tracker of an attempt; without it metrics are dropped
    strict              a record made by other code does not count
    changes             what `cell` has from this run alone, for the record: key -> [in params.yaml, in this run]
    Raises `GokuError` (inputs missing) before any work and `StageFailed` when the body fails.
    """
    with Workspace(workspace) as place:
        place.sweep()
        inputs = input_trees(cell, place)
        name = _fingerprint(cell, inputs)
        with lock(
            place.lock_file(name),
            owner=f"process {os.getpid()} ({driver})",
            waiting=lambda owner: _say(cell, f"is being worked on by {owner or 'another process'}; waiting for it"),
        ):
            if done := _find(cell, place, name, strict):
                return done
            record = _run(cell, place, name, inputs, driver, driver_run, open_tracker, dict(changes or {}))
            return Outcome(cell.name, "ran", name, record)


def find_done(cell: Cell, workspace: Path, strict: bool = False) -> Outcome | None:
    """The outcome if the work has been done (its outputs are checked out if need be), None if it must run.

    For drivers that start a process per cell and need none for finished work.
    """
    with Workspace(workspace) as place:
        name = _fingerprint(cell, input_trees(cell, place))
        with lock(place.lock_file(name), owner=f"process {os.getpid()}"):
            return _find(cell, place, name, strict)


def input_trees(cell: Cell, place: Workspace) -> dict[str, Tree]:
    """Content of the declared inputs; a missing one is an error that names the cell to run first."""
    trees = {}
    for path in cell.inputs:
        tree = cell.content(path, place)
        if tree is None:
            first = f"Run `goku run {' '.join(cell.after)}` first" if cell.after else "Check the path in params.yaml"
            raise GokuError(f"{cell.name}: its input {path} is not there. {first} (`goku plan` shows the order).")
        trees[path] = tree
    return trees | weights_trees(cell, place)


def weights_trees(cell: Cell, place: Workspace) -> dict[str, Tree]:
    """Content of the weights that the request names and that are here; a name of a hub is no folder and says all itself.

    Hidden files are left out: download tools keep their notes there. Digests are remembered, so that only new bytes are read.
    """
    trees = {}
    for path in cell.weights:
        if (tree := place.digests.tree(place.root / path)) is not None:
            shown = [name for name in tree.files if not any(part.startswith(".") for part in name.split("/"))]
            trees[path] = Tree({n: tree.files[n] for n in shown}, {n: tree.sizes[n] for n in shown}, tree.folder)
    return trees


def _fingerprint(cell: Cell, inputs: Mapping[str, Tree]) -> str:
    digests = {path: tree.digest for path, tree in inputs.items()}
    return fingerprint(cell.stage, cell.revision, cell.request_json(), cell.seed, digests)


def _find(cell: Cell, place: Workspace, name: str, strict: bool) -> Outcome | None:
    record = place.record(cell.stage, name, cell.outputs)
    if record is None:
        return None
    if strict and code.changed(record.value["code"], code.modules(cell.module)):
        _say(cell, "is done, but its code has changed since and --strict was given")
        return None
    if why := cell.overtaken(record.report, place.root):
        _say(cell, f"was done, and is asked again: {why}")
        return None
    if place.holds_outputs(record):
        status, told = "already-done", "already done"
    elif place.can_restore(record):
        place.restore(record)
        status, told = "restored", "restored from the store"
    else:
        _say(cell, "has a record, but its outputs are damaged or gone from the store too: doing the work again")
        return None
    place.adopt(record)
    beside.write(place.root, record.value)
    _say(cell, f"{told} ({name[:12]}, took {record.seconds:.0f} s)")
    return Outcome(cell.name, status, name, record)


def _run(
    cell: Cell,
    place: Workspace,
    name: str,
    inputs: Mapping[str, Tree],
    driver: Driver,
    driver_run: str | None,
    open_tracker: OpenTracker,
    changes: dict[str, Any],
) -> Record:
    attempt = 1 + sum(a["event"] == "started" and a["fingerprint"] == name for a in read_json_lines(place.attempts))
    started = _now()
    _attempt(place, cell, name, driver, "started", attempt=attempt, run=driver_run)
    _say(cell, f"runs ({name[:12]}{f', attempt {attempt}' if attempt > 1 else ''})")
    remove(place.staging(name))
    place.staging(name).mkdir(parents=True)
    place.scratch(name).mkdir(parents=True, exist_ok=True)
    tracker = open_tracker(place.root, cell, name, attempt, driver)
    context = Context(
        place.root, place.staging(name), place.scratch(name), fingerprint=name, seed=cell.seed, tracker=tracker
    )
    clock = time.monotonic()
    try:
        report = importlib.import_module(cell.module).run(cell.request, context)
        outputs = _staged_outputs(cell, place, name)
        _refuse_changed_inputs(cell, place, inputs)
        for path, tree in outputs.items():
            place.store.put(place.staging(name) / path, tree)
        seconds = time.monotonic() - clock
        tracker.log_metrics({"seconds": seconds})
        run = tracker.finish("FINISHED")
    except BaseException as error:
        tracker.finish("FAILED")
        _attempt(place, cell, name, driver, "failed", error=type(error).__name__, kind=classify(error),
                 message=str(error), trace=traceback.format_exc(limit=-12))  # fmt: skip
        if not isinstance(error, Exception):
            raise
        raise _failed(cell, error) from error
    facts = {
        "cell": cell.name,
        "stage": cell.stage,
        "revision": cell.revision,
        "fingerprint": name,
        "seed": cell.seed,
        "request": cell.request_json(),
        "arrangement": arrangement(cell.request),
        "changes": changes,
        "inputs": {path: {"digest": tree.digest, "bytes": tree.bytes} for path, tree in inputs.items()},
        "git": code.git(place.root),
        "code": code.modules(cell.module),
        "pins": code.pins(),
        "driver": driver,
        "driver_run": driver_run,
        "mlflow_run": run,
        "started": started,
        "finished": _now(),
    }
    lineage = place.write_lineage(facts | {"outputs": {path: tree.digest for path, tree in outputs.items()}})
    record = place.write_record(
        facts
        | {
            "outputs": {path: tree.as_json() for path, tree in outputs.items()},
            "report": report.model_dump(mode="json"),
            "seconds": seconds,
            "attempt": attempt,
            "host": socket.gethostname(),
            "machine": machine.facts(),
            "lineage": lineage,
        }
    )
    place.check_out(name, outputs)
    remove(place.scratch(name))
    beside.write(place.root, record.value)
    _attempt(place, cell, name, driver, "finished", attempt=attempt)
    _say(cell, f"done in {seconds:.1f} s ({name[:12]})")
    return record


def _staged_outputs(cell: Cell, place: Workspace, name: str) -> dict[str, Tree]:
    """What the body wrote; exactly the declared outputs must be there."""
    staging = place.staging(name)
    outputs = {}
    for path in cell.outputs:
        tree = place.digests.tree(staging / path)
        if tree is None:
            raise RuntimeError(f"the stage did not write its declared output {path}")
        outputs[path] = tree
    for file in staging.rglob("*"):
        relative = file.relative_to(staging)
        if file.is_file() and not any(relative.is_relative_to(path) for path in cell.outputs):
            raise RuntimeError(f"the stage wrote {relative.as_posix()}, which it does not declare as an output")
    return outputs


def _refuse_changed_inputs(cell: Cell, place: Workspace, before: Mapping[str, Tree]) -> None:
    weights = {path: tree for path, tree in before.items() if path in cell.weights}
    if weights_trees(cell, place) != weights:
        raise RuntimeError("pretrained weights changed while it ran, so the result names no defined input")
    before = {path: tree for path, tree in before.items() if path not in weights}
    for path, tree in before.items():
        now = cell.content(path, place)
        if now is None or now.digest != tree.digest:
            raise RuntimeError(f"its input {path} changed while it ran, so the result names no defined input")


def _failed(cell: Cell, error: Exception) -> StageFailed:
    if isinstance(error, GokuError):
        return StageFailed(f"{cell.name}: {error}", retriable=False, kind=error.kind)
    return StageFailed(
        f"{cell.name} failed: {type(error).__name__}: {error}\n"
        f"Where: the traceback is the last line of .goku/attempts.jsonl.\n"
        f"What to do: mend the cause, then run the same command again; finished parts are not repeated.",
        retriable=True,
        kind=classify(error),
    )


def _attempt(place: Workspace, cell: Cell, name: str, driver: str, event: str, **facts: object) -> None:
    line = {"time": _now(), "event": event, "cell": cell.name, "fingerprint": name, "driver": driver,
            "pid": os.getpid(), **facts}  # fmt: skip
    append_json_line(place.attempts, line)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")


def _say(cell: Cell, message: str) -> None:
    console().print(f"{cell.name}: {message}", soft_wrap=True, markup=False)
