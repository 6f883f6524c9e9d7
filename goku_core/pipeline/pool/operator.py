"""`run_operator`: the one door to the big maps, whatever the engine."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa

from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.events import tell
from goku_core.pipeline.pool import local
from goku_core.pipeline.pool.child import Child, ChildFailed
from goku_core.pipeline.pool.devices import Devices
from goku_core.pipeline.pool.partitions import Kept, cut
from goku_core.pipeline.pool.result import Done, Job, PoolResult, Work, one_batch

GIGABYTE = 1 << 30
ENGINE = "GOKU_ENGINE"
ENGINES = ("local", "ray")
INSTALL = "uv pip install -c constraints.txt -e '.[cluster]'"


def engine() -> str:
    """Where operators run: "local" (the default) or "ray". No parameter, because the results are the same.

    Raises GokuError where the environment names an engine that is unknown or not installed.
    """
    name = os.environ.get(ENGINE) or "local"
    if name not in ENGINES:
        raise GokuError(f"{ENGINE}={name}: there is no such engine. Known: {', '.join(ENGINES)}")
    if name == "ray" and not find_spec("ray"):
        raise GokuError(f"the engine `ray` needs the extra `cluster`. Install it: {INSTALL}")
    return name


def choose_engine(name: str) -> None:
    """For this process and those it starts. Raises GokuError where the engine is unknown or not installed."""
    os.environ[ENGINE] = name
    engine()


def run_operator(
    operator: str,
    table: pa.Table,
    settings: dict[str, Any],
    *,
    workers: int,
    batch_rows: int = 1,
    timeout_seconds: float = 300.0,
    memory_bytes: int = 4 * GIGABYTE,
    devices: Devices | None = None,
    keep: Path | None = None,
    name: str = "",
    on_progress: Callable[[int], None] | None = None,
) -> PoolResult:
    """Runs ``operator`` over ``table`` and returns all its rows in input order, whatever the engine and its size.

    workers          child processes on this machine; no more are started than there are batches. With devices their
                     number decides, on a cluster its processors do
    batch_rows       rows given to one call of the operator
    timeout_seconds  per row: a batch of n rows may take n times as long
    memory_bytes     resident memory a child may reach before it is killed
    devices          accelerators for the children; None: they see what this process sees
    keep             folder in which finished partitions outlive this attempt (below `Context.scratch`): an unfinished
                     run that is repeated goes on. Files that the operator writes must outlive it too
    name             what a driver calls this map when it shows it; none given: the name of the operator's function
    on_progress      called in this thread with the number of rows that have been finished since the last call

    Raises GokuError when the operator cannot be loaded or does not answer with a record batch of one schema.
    """
    work = Work(operator, settings, timeout_seconds, memory_bytes, devices)
    jobs = [Job(start, min(batch_rows, table.num_rows - start)) for start in range(0, table.num_rows, batch_rows)]
    kept = Kept(keep, work, batch_rows) if keep else None
    shown = name or operator.rpartition(":")[2]
    found = _in_order(_partitions(table, jobs, work, workers, keep or Path.cwd(), kept, shown, on_progress or _nothing))
    parts = [batch for done in found for batch in done.results]
    if not parts:
        parts = [_answer_to_nothing(table, work)]
    return PoolResult(_joined(operator, parts), [bad for done in found for bad in done.quarantined])


def _engine(
    table: pa.Table, jobs: Sequence[Job], work: Work, workers: int, shared: Path, report: Callable[[int], None]
) -> Iterator[Done]:
    if not jobs:
        return
    if engine() == "ray":
        from goku_core.pipeline.pool import cluster

        outcomes = cluster.run(table, jobs, work, shared)
    else:
        outcomes = local.run(table, jobs, work, workers)
    with closing(outcomes):
        for done in outcomes:
            report(done.rows)
            yield done


def _partitions(
    table: pa.Table,
    jobs: Sequence[Job],
    work: Work,
    workers: int,
    shared: Path,
    kept: Kept | None,
    name: str,
    report: Callable[[int], None],
) -> Iterator[Done]:
    """Outcomes of whole partitions; those that an earlier attempt finished are read, not repeated."""
    if not jobs:
        return
    partitions = cut(jobs)
    tell("plan", map=name, partitions=len(partitions), rows=table.num_rows)
    left: dict[int, Sequence[Job]] = {}
    files: dict[int, Path] = {}
    for number, members in enumerate(partitions):
        if kept is not None:
            first, rows = members[0].first_row, sum(job.rows for job in members)
            files[number] = kept.file(one_batch(table.slice(first, rows)))
            if (done := kept.read(files[number], first, rows)) is not None:
                tell("kept", map=name, partition=number)
                report(done.rows)
                yield done
                continue
        left[number] = members
    waiting = [job for members in left.values() for job in members]
    home = {job.first_row: number for number, members in left.items() for job in members}
    # Jobs are taken in order: with n seats, the job n places behind the finished ones is being worked on.
    seats = len(local.seats(work, workers))
    begun: set[int] = set()
    finished: dict[int, list[Done]] = {number: [] for number in left}

    def begin(until: int) -> None:
        for job in waiting[max(0, until - seats) : until]:
            if (number := home[job.first_row]) not in begun:
                begun.add(number)
                tell("begun", map=name, partition=number)

    begin(seats)
    with closing(_engine(table, waiting, work, workers, shared, report)) as outcomes:
        for count, done in enumerate(outcomes, 1):
            begin(seats + count)
            number = home[done.first_row]
            finished[number].append(done)
            if len(finished[number]) < len(left[number]):
                continue
            whole = _whole(finished.pop(number))
            if kept is not None:
                kept.write(files[number], whole)
            tell("finished", map=name, partition=number, rows=whole.rows, quarantined=len(whole.quarantined))
            yield whole


def _whole(parts: list[Done]) -> Done:
    parts.sort(key=lambda done: done.first_row)
    return Done(
        parts[0].first_row,
        sum(done.rows for done in parts),
        [batch for done in parts for batch in done.results],
        [bad for done in parts for bad in done.quarantined],
    )


def _in_order(outcomes: Iterator[Done]) -> list[Done]:
    with closing(outcomes):  # on an error or an interrupt the engine's children end now, not at some later time
        return sorted(outcomes, key=lambda done: done.first_row)


def _nothing(rows: int) -> None:
    """Nobody looks at the progress."""


def _answer_to_nothing(table: pa.Table, work: Work) -> pa.RecordBatch:
    """The schema of the operator's answer, where no row has shown it."""
    child = Child(work.operator, work.settings, work.memory_bytes, threading.Event())
    try:
        return child.ask(one_batch(table.slice(0, 0)), work.timeout_seconds)
    except ChildFailed as failure:
        raise GokuError(
            f"operator {work.operator} cannot answer an empty batch: {failure.message}. "
            "It must return an empty batch of its schema"
        ) from failure
    finally:
        child.close()


def _joined(operator: str, parts: list[pa.RecordBatch]) -> pa.Table:
    schema = parts[0].schema
    for part in parts:
        if not part.schema.equals(schema):
            raise GokuError(
                f"operator {operator} answers with different schemas: {schema.names} and {part.schema.names}; "
                "build its batches with one explicit schema"
            )
    # One chunk: the same bytes in memory and on disk, whatever the batches were.
    return pa.Table.from_batches(parts).combine_chunks()
