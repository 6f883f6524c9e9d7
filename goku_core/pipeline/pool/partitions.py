"""Partitions of a run: what is finished is kept, so that a killed driver does not do it again.

The cut depends on the table and the batch size alone, never on the workers. A partition is kept as one Arrow file named
by the digest of (operator, settings, batch size, rows). It appears whole or not at all, and begins with the digest of its
content: that finds what a power cut left of it, without waiting for the disk after each.

A partition with rows that failed is not kept. Within one attempt they are quarantined; but what failed may have been the
disk or the memory, and the next attempt asks anew.

What names a partition is, as for a whole stage, not the code: an operator whose results change needs a higher revision
of its stage (`pipeline.line.REVISIONS`), which gives the stage another scratch folder.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from goku_core.pipeline.files import canonical_json
from goku_core.pipeline.pool.messages import as_bytes
from goku_core.pipeline.pool.result import Done, Job, Work

DIGEST_BYTES = 32
MOST = 512  # our choice: a kill loses little of the largest table, and the smallest costs few files


def cut(jobs: Sequence[Job]) -> list[Sequence[Job]]:
    """Neighbouring jobs together, in at most `MOST` partitions of equal numbers of jobs (the last may have fewer)."""
    size = max(1, -(-len(jobs) // MOST))
    return [jobs[start : start + size] for start in range(0, len(jobs), size)]


class Kept:
    """Finished partitions of one run, in a folder that outlives the attempt."""

    def __init__(self, folder: Path, work: Work, batch_rows: int) -> None:
        self._folder = folder
        self._named = canonical_json({"operator": work.operator, "settings": work.settings, "batch": batch_rows})
        folder.mkdir(parents=True, exist_ok=True)

    def file(self, rows: pa.RecordBatch) -> Path:
        digest = hashlib.sha256(self._named.encode())
        # Taken, not sliced: a slice still carries something of the rows around it.
        digest.update(as_bytes(rows.take(pa.array(range(rows.num_rows)))))
        return self._folder / f"{digest.hexdigest()}.part"

    def read(self, file: Path, first_row: int, rows: int) -> Done | None:
        """The outcome of the partition of ``rows`` rows from ``first_row`` on; None where it is not kept, or damaged."""
        if not file.is_file():
            return None
        content = file.read_bytes()
        if hashlib.sha256(content[DIGEST_BYTES:]).digest() != content[:DIGEST_BYTES]:
            return None
        with pa.ipc.open_file(content[DIGEST_BYTES:]) as reader:
            results = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        return Done(first_row, rows, results, [])

    def write(self, file: Path, done: Done) -> None:
        """Keeps a partition, unless a row of it failed."""
        if done.quarantined:
            return
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, done.results[0].schema) as writer:
            for batch in done.results:
                writer.write_batch(batch)
        content = sink.getvalue()
        temporary = file.with_name(f".{file.stem}.{os.getpid()}.tmp")
        temporary.write_bytes(hashlib.sha256(content).digest() + content)
        temporary.replace(file)
