"""Writes shards and the index. A shard is a safetensors file named by the SHA-256 of its bytes: writing it twice is the
same file, and a file that is not its name is damaged.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save

TENSORS = ("latent", "text")


def index_schema() -> pa.Schema:
    """One row per sample. Offsets count from the start of the shard file, in bytes; values are little-endian float16."""
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
            pa.field("kind", pa.string()),
            pa.field("first_seconds", pa.float64()),
            pa.field("shard", pa.string()),
            *place,
            pa.field("tokens", pa.int32()),
            pa.field("text", pa.string()),
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
        key = f"{len(self._rows):06d}"
        for name, tensor in (("latent", latent), ("text", text)):
            self._tensors[f"{key}.{name}"] = np.ascontiguousarray(tensor, dtype=np.float16)
        self._rows.append(dict(row))

    def close(self) -> list[dict[str, Any]]:
        """Writes the shard (nothing when empty) and returns its index rows."""
        if not self._rows:
            return []
        payload = save(self._tensors)
        name = f"{hashlib.sha256(payload).hexdigest()}.safetensors"
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".{name}.{os.getpid()}"
        temporary.write_bytes(payload)
        temporary.replace(self.folder / name)
        header_bytes = int.from_bytes(payload[:8], "little")
        header = json.loads(payload[8 : 8 + header_bytes])
        for position, row in enumerate(self._rows):
            row["shard"] = name
            for tensor in TENSORS:
                entry = header[f"{position:06d}.{tensor}"]
                begin, end = entry["data_offsets"]
                row[f"{tensor}_offset"] = 8 + header_bytes + begin
                row[f"{tensor}_bytes"] = end - begin
                row[f"{tensor}_shape"] = entry["shape"]
        return self._rows


def write_index(path: Path, rows: Iterable[Mapping[str, Any]], metadata: Mapping[str, str]) -> None:
    """The index of one published version, sorted by sample id. `metadata` names the encoders."""
    ordered = sorted(rows, key=lambda row: row["sample_id"])
    schema = index_schema().with_metadata({k.encode(): v.encode() for k, v in sorted(metadata.items())})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([dict(r) for r in ordered], schema=schema), path)
