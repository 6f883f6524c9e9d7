"""Writes shards and the index. A shard is a safetensors file named by the SHA-256 of its bytes: writing it twice is the
same file, and a file that is not its name is damaged.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save

from goku_core.pipeline.files import sync_folder

TENSORS = ("latent", "text")


def index_schema() -> pa.Schema:
    """One row per sample. Offsets count from the start of the shard file, in bytes; values are little-endian float16.

    start_pts, end_pts   the clip's span, ticks of the source's time base; the sample begins `first_seconds` into it
    checksum             CRC-32 of the bytes of latent and text: names the damaged sample of a damaged shard
    height, width        px that were encoded
    repeats              how often an epoch shows the sample (balancing); 1 where nobody said otherwise
    Scores and labels are those of clips.parquet, null where curation did not make them.
    """
    place = [
        field
        for name in TENSORS
        for field in (
            pa.field(f"{name}_offset", pa.int64()),
            pa.field(f"{name}_bytes", pa.int64()),
            pa.field(f"{name}_shape", pa.list_(pa.int32())),
        )
    ]
    return pa.schema(
        [
            pa.field("sample_id", pa.string()),
            pa.field("clip_id", pa.string()),
            pa.field("media_id", pa.string()),
            pa.field("kind", pa.string()),
            pa.field("start_pts", pa.int64()),
            pa.field("end_pts", pa.int64()),
            pa.field("first_seconds", pa.float64()),
            pa.field("shard", pa.string()),
            *place,
            pa.field("checksum", pa.int64()),
            pa.field("tokens", pa.int32()),
            pa.field("height", pa.int32()),
            pa.field("width", pa.int32()),
            pa.field("text", pa.string()),
            pa.field("motion", pa.float32()),
            pa.field("quality_heuristic", pa.float32()),
            pa.field("aesthetic", pa.float32()),
            pa.field("primary", pa.string()),
            pa.field("label", pa.string()),
            pa.field("label_score", pa.float32()),
            pa.field("repeats", pa.int32()),
        ]
    )


class ShardWriter:
    """Collects samples of one shard; `close` writes the file and returns the index rows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._tensors: dict[str, np.ndarray] = {}
        self._rows: list[dict[str, Any]] = []

    def add(self, row: Mapping[str, Any], latent: np.ndarray, text: np.ndarray) -> None:
        """latent (C, T, H, W) and text (M, width), stored as float16; `row` holds the other columns of the index."""
        key, checksum = f"{len(self._rows):06d}", 0
        for name, tensor in (("latent", latent), ("text", text)):
            stored = np.ascontiguousarray(tensor, dtype=np.float16)
            checksum = zlib.crc32(stored, checksum)
            self._tensors[f"{key}.{name}"] = stored
        self._rows.append({**row, "checksum": checksum})

    def close(self) -> list[dict[str, Any]]:
        """Writes the shard (nothing when empty) and returns its index rows; both survive a power cut from then on."""
        if not self._rows:
            return []
        payload = save(self._tensors)
        name = f"{hashlib.sha256(payload).hexdigest()}.safetensors"
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".{name}.{os.getpid()}"
        with temporary.open("wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.folder / name)
        sync_folder(self.folder)
        places = header_places(payload)
        for position, row in enumerate(self._rows):
            row["shard"] = name
            for tensor in TENSORS:
                begin, end, shape = places[f"{position:06d}.{tensor}"]
                row[f"{tensor}_offset"] = begin
                row[f"{tensor}_bytes"] = end - begin
                row[f"{tensor}_shape"] = shape
        return self._rows


def header_places(payload: Any) -> dict[str, tuple[int, int, list[int]]]:
    """Begin and end in bytes from the start of the file, and shape, of every tensor of a safetensors file.

    Raises ValueError where the header is no header.
    """
    header_bytes = int.from_bytes(bytes(payload[:8]), "little")
    header = json.loads(bytes(payload[8 : 8 + header_bytes]))
    start = 8 + header_bytes
    return {
        name: (start + entry["data_offsets"][0], start + entry["data_offsets"][1], entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__"
    }


def index_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Index rows as a table of `index_schema`; what a row does not say is null, and `repeats` is 1."""
    return pa.Table.from_pylist([{"repeats": 1, **row} for row in rows], schema=index_schema())


def write_index(path: Path, rows: Iterable[Mapping[str, Any]] | pa.Table, metadata: Mapping[str, str]) -> None:
    """The index of one published version, sorted by sample id. `metadata` names the encoders."""
    table = rows if isinstance(rows, pa.Table) else index_table(rows)
    # One chunk: the same row groups whatever pieces the table was joined from.
    ordered = table.select(index_schema().names).sort_by("sample_id").combine_chunks()
    described = index_schema().with_metadata({k.encode(): v.encode() for k, v in sorted(metadata.items())})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(ordered.cast(described), path)
