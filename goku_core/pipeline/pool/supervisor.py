"""One seat of the pool: owns a child, gives it batches, replaces it when it dies, finds the row that kills it."""

from __future__ import annotations

import threading

import pyarrow as pa

from goku_core.pipeline.pool.child import Child, ChildFailed
from goku_core.pipeline.pool.result import Done, Quarantined, Work


class Supervisor:
    """Works on jobs one after the other. Not shared between threads; `close` ends the child."""

    def __init__(self, work: Work, stop: threading.Event, device: str | None = None) -> None:
        self._work, self._stop, self._device = work, stop, device
        self._child: Child | None = None

    def do(self, first_row: int, batch: pa.RecordBatch) -> Done:
        """Raises GokuError when the operator cannot be loaded, and `Stopped` when the pool is taken down."""
        rows = batch.num_rows
        for _ in range(2):
            try:
                return Done(first_row, rows, [self._ask(batch)], [])
            except ChildFailed as found:
                failure = found
            # A killed child may have been somebody else's victim (an operator, the kernel short of memory): the same
            # batch once more, so that what the operator writes per batch stays what it would have been. A raised
            # exception would only be raised again, and many rows that hang would hang as long again.
            if failure.error_class == "exception" or (failure.error_class == "timeout" and rows > 1):
                break
        if rows == 1:
            return Done(first_row, rows, [], [_quarantined(first_row, failure)])
        results: list[pa.RecordBatch] = []
        quarantined: list[Quarantined] = []
        for row in range(rows):
            try:
                results.append(self._ask(batch.slice(row, 1)))
            except ChildFailed as failure:
                quarantined.append(_quarantined(first_row + row, failure))
        return Done(first_row, rows, results, quarantined)

    def close(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None

    def _ask(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if self._child is not None and not self._child.alive:
            self.close()
        work = self._work
        if self._child is None:
            self._child = Child(work.operator, work.settings, work.memory_bytes, self._stop, self._device)
        return self._child.ask(batch, work.timeout_seconds * max(1, batch.num_rows))


def _quarantined(row: int, failure: ChildFailed) -> Quarantined:
    return Quarantined(row, failure.error_class, failure.message, failure.detail)
