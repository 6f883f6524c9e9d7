"""Shards that are finished stay finished: rows are divided into batches once, and each batch is committed by itself.

A batch is written as shards (named by content) and then, atomically, a Parquet file of its index rows. All of it lies in scratch,
which outlives a killed attempt: the next one takes the batches that are there, whole and of the same encoders, and does the others.
The division depends on the rows alone, so the shards of a broken run are those of an unbroken one, byte for byte.

A row that fails is taken out of its batch, and the batch is done again without it: what is published does not depend on whether
a worker was lost for a bad clip or for no reason.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from goku_core.pipeline.files import append_json_line, read_json_lines, sync_folder
from goku_core.shards import index_schema, index_table

BATCH, BATCH_ROWS = "shard_batch", "shard_batch_rows"


def plan(kept: pa.Table, rows_per_batch: int, failed: set[str]) -> list[pa.Table]:
    """Rows in batches, each with its key and length in columns of their own; without the clips that have failed."""
    batches = []
    for number, start in enumerate(range(0, kept.num_rows, rows_per_batch)):
        rows = kept.slice(start, rows_per_batch)
        ids = rows["clip_id"].to_pylist()
        if failed:
            rows = rows.filter(pa.array([clip_id not in failed for clip_id in ids]))
            ids = rows["clip_id"].to_pylist()
        if not ids:
            continue
        key = f"{number:06d}-{hashlib.sha256(chr(10).join(ids).encode()).hexdigest()[:16]}"
        rows = rows.append_column(BATCH, pa.array([key] * len(ids)))
        batches.append(rows.append_column(BATCH_ROWS, pa.array([len(ids)] * len(ids))))
    return batches


def key_of(batch: pa.Table) -> str:
    return batch[BATCH][0].as_py()


def shard_folder(scratch: Path, resolution: str) -> Path:
    return scratch / "shards" / resolution


def commit(scratch: Path, key: str, rows: list[dict[str, Any]], encoders: Mapping[str, str]) -> None:
    """Written last: with it the batch is done. `rows` are index rows with their resolution; their shards are on disk."""
    table = index_table(rows).append_column("resolution", pa.array([row["resolution"] for row in rows], pa.string()))
    target = scratch / "batches" / f"{key}.parquet"
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    described = table.replace_schema_metadata({k.encode(): v.encode() for k, v in sorted(encoders.items())})
    with temporary.open("wb") as file:
        pq.write_table(described, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(target)
    sync_folder(target.parent)


class Finished:
    """Batches that are done: looked up once each, because whether their shards are whole is read off every byte."""

    def __init__(self, scratch: Path, encoders: Mapping[str, str]) -> None:
        self.scratch, self.encoders = scratch, dict(encoders)
        self._tables: dict[str, pa.Table] = {}

    def get(self, key: str) -> pa.Table | None:
        """Index rows of a batch, without metadata; None where it has to be done: absent, damaged, or of another encoder."""
        if key not in self._tables and (table := self._read(key)) is not None:
            self._tables[key] = table
        return self._tables.get(key)

    def _read(self, key: str) -> pa.Table | None:
        file = self.scratch / "batches" / f"{key}.parquet"
        if not file.is_file():
            return None
        table = pq.read_table(file)
        made_by = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
        if made_by != self.encoders:
            return None
        shards = {(row["resolution"], row["shard"]) for row in table.select(["resolution", "shard"]).to_pylist()}
        if not all(_is_its_name(shard_folder(self.scratch, resolution) / shard) for resolution, shard in shards):
            return None
        return table.replace_schema_metadata(None)


def joined(tables: list[pa.Table]) -> pa.Table:
    """Index rows of all batches, with the column `resolution`."""
    empty = index_schema().append(pa.field("resolution", pa.string())).empty_table()
    return pa.concat_tables([empty, *tables])


def failures(scratch: Path) -> dict[str, str]:
    """Clips that failed in this or an earlier attempt: clip id -> error class and message."""
    return {line["clip_id"]: line["why"] for line in read_json_lines(scratch / "failed.jsonl")}


def record_failure(scratch: Path, clip_id: str, why: str) -> None:
    append_json_line(scratch / "failed.jsonl", {"clip_id": clip_id, "why": why})


def _is_its_name(shard: Path) -> bool:
    if not shard.is_file():
        return False
    with shard.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == shard.stem
