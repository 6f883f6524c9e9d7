"""What an operator's run returns, and the pieces of work it is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from goku_core.pipeline.pool.devices import Devices


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
class Work:
    """What an engine must know of a run, besides the rows."""

    operator: str
    settings: dict[str, Any]
    timeout_seconds: float
    memory_bytes: int
    devices: Devices | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """Rows for one call of the operator: ``rows`` of them from ``first_row`` of the input table on."""

    first_row: int
    rows: int

    def batch(self, table: pa.Table) -> pa.RecordBatch:
        return one_batch(table.slice(self.first_row, self.rows))


@dataclass
class Done:
    """A job's outcome: the operator's answers in the order of the rows, and the rows that failed alone."""

    first_row: int
    rows: int
    results: list[pa.RecordBatch]
    quarantined: list[Quarantined]


def one_batch(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
