"""The supervised pool: an operator runs over a table in child processes that we own.

An operator is a function ``(pyarrow.RecordBatch, settings: dict) -> pyarrow.RecordBatch``, named
"package.module:function". It may return any number of rows per input row, and must answer an empty batch with an empty
batch of its schema. It knows no engine; rows carry ids, places and spans, never pixels.

Why our own pool: no engine contains a decoder's segmentation fault, a hang or a memory bomb. Here each is contained:
the child is killed and replaced, its batch is tried again row by row, and a row that fails alone is quarantined while
all others go on. Messages to children are JSON and Arrow, never pickle.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.pool_child import Child, ChildFailed

GIGABYTE = 1 << 30


@dataclass(frozen=True)
class Quarantined:
    """An input row for which the operator failed alone.

    row_index    position in the input table
    error_class  "crash", "timeout", "memory" or "exception"
    message      the same in every run, fit for tables
    detail       the last lines of the child's standard error; may hold addresses and times, for people only
    """

    row_index: int
    error_class: str
    message: str
    detail: str = field(default="", compare=False)


@dataclass(frozen=True)
class PoolResult:
    """``table``: what the operator returned, in the order of the input rows; ``quarantined`` in that order too."""

    table: pa.Table
    quarantined: list[Quarantined]


@dataclass(frozen=True)
class _Job:
    first_row: int
    batch: pa.RecordBatch


@dataclass
class _Done:
    first_row: int
    rows: int
    results: list[pa.RecordBatch]
    quarantined: list[Quarantined]


def run_operator(
    operator: str,
    table: pa.Table,
    settings: dict[str, Any],
    *,
    workers: int,
    batch_rows: int = 1,
    timeout_seconds: float = 300.0,
    memory_bytes: int = 4 * GIGABYTE,
    on_progress: Callable[[int], None] | None = None,
) -> PoolResult:
    """Runs ``operator`` over ``table`` and returns all its rows in input order, whatever the number of workers.

    workers          child processes; no more are started than there are batches
    batch_rows       rows given to one call of the operator
    timeout_seconds  per row: a batch of n rows may take n times as long
    memory_bytes     resident memory a child may reach before it is killed
    on_progress      called in this thread with the number of rows that have been finished since the last call

    Raises GokuError when the operator cannot be loaded or does not answer with a record batch of one schema.
    """
    jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
    starts = range(0, table.num_rows, batch_rows)
    for start in starts:
        jobs.put(_Job(start, _one_batch(table.slice(start, batch_rows))))
    finished: queue.SimpleQueue[_Done | BaseException] = queue.SimpleQueue()
    stop = threading.Event()
    supervisors = [
        _Supervisor(operator, settings, timeout_seconds, memory_bytes, jobs, finished, stop)
        for _ in range(min(max(1, workers), len(starts)))
    ]
    for supervisor in supervisors:
        supervisor.start()
    done: dict[int, _Done] = {}
    try:
        while len(done) < len(starts):
            answer = finished.get()
            if isinstance(answer, BaseException):
                raise answer
            done[answer.first_row] = answer
            if on_progress is not None:
                on_progress(answer.rows)
    finally:
        # On an error or an interrupt the children are killed at once, whatever they are doing.
        stop.set()
        for supervisor in supervisors:
            supervisor.join()
    parts = [batch for start in starts for batch in done[start].results]
    if not parts:
        parts = [_answer_to_nothing(operator, table, settings, timeout_seconds, memory_bytes)]
    return PoolResult(_joined(operator, parts), [q for start in starts for q in done[start].quarantined])


class _Supervisor(threading.Thread):
    """Owns one child at a time: feeds it, watches it, replaces it."""

    def __init__(
        self,
        operator: str,
        settings: dict[str, Any],
        timeout_seconds: float,
        memory_bytes: int,
        jobs: queue.SimpleQueue[_Job],
        finished: queue.SimpleQueue[_Done | BaseException],
        stop: threading.Event,
    ) -> None:
        super().__init__(daemon=True, name="pool-supervisor")
        self.operator, self.settings = operator, settings
        self.timeout_seconds, self.memory_bytes = timeout_seconds, memory_bytes
        self.jobs, self.finished, self.stop = jobs, finished, stop
        self.child: Child | None = None

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                try:
                    job = self.jobs.get_nowait()
                except queue.Empty:
                    return
                self.finished.put(self._work(job))
        except BaseException as error:  # handed to the caller's thread, which raises it
            if not self.stop.is_set():
                self.finished.put(error)
        finally:
            if self.child is not None:
                self.child.close()

    def _work(self, job: _Job) -> _Done:
        rows = job.batch.num_rows
        try:
            return _Done(job.first_row, rows, [self._ask(job.batch)], [])
        except ChildFailed as failure:
            if rows == 1 and failure.error_class == "exception":
                # An exception leaves the child whole and would only be raised again.
                return _Done(job.first_row, rows, [], [_quarantined(job.first_row, failure)])
        results: list[pa.RecordBatch] = []
        quarantined: list[Quarantined] = []
        for row in range(rows):
            try:
                results.append(self._ask(job.batch.slice(row, 1)))
            except ChildFailed as failure:
                quarantined.append(_quarantined(job.first_row + row, failure))
        return _Done(job.first_row, rows, results, quarantined)

    def _ask(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if self.child is not None and not self.child.alive:
            self.child.close()
            self.child = None
        if self.child is None:
            self.child = Child(self.operator, self.settings, self.memory_bytes, self.stop)
        return self.child.ask(batch, self.timeout_seconds * max(1, batch.num_rows))


def _quarantined(row: int, failure: ChildFailed) -> Quarantined:
    return Quarantined(row, failure.error_class, failure.message, failure.detail)


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def _answer_to_nothing(
    operator: str, table: pa.Table, settings: dict[str, Any], timeout_seconds: float, memory_bytes: int
) -> pa.RecordBatch:
    """The schema of the operator's answer, where no row has shown it."""
    child = Child(operator, settings, memory_bytes, threading.Event())
    try:
        return child.ask(_one_batch(table.slice(0, 0)), timeout_seconds)
    except ChildFailed as failure:
        raise GokuError(
            f"operator {operator} cannot answer an empty batch: {failure.message}. "
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
