"""Reads samples by their place in the index: memory-mapped from a folder, or by ranges from a bucket."""

from __future__ import annotations

import io
import json
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.names import require_plain
from goku_core.shards.encoders import refuse_other_encoders
from goku_core.shards.places import AGAIN, Mapped, Objects, Place, Ranged
from goku_core.shards.writer import TENSORS, index_schema

ENCODERS_FILE = "encoders.json"


class ShardReader:
    """Random access to one resolution's latents: `data/latents/<resolution>`.

    index      columns of the index as numpy arrays, one entry per sample
    metadata   what the index says of its encoders
    """

    def __init__(self, folder: Path, shards: Place | None = None) -> None:
        """`shards`: where the bytes are, if not memory-mapped from the folder itself.

        Raises GokuError where there is no index, or where it was made with other encoders than the data set it lies in.
        """
        index = folder / "index.parquet"
        if not index.is_file():
            raise GokuError(f"{index} is not there. Run `goku run precompute` first.")
        self._take(pq.read_table(index), shards or Mapped(folder), str(folder))
        beside = folder.parent / ENCODERS_FILE
        if beside.is_file():
            refuse_other_encoders(self.metadata, json.loads(beside.read_text()), str(index), str(beside))

    @classmethod
    def from_bucket(cls, bucket: Objects, prefix: str = "") -> ShardReader:
        """The same from objects below `prefix` ("data/latents/low/"): the index as a whole, samples by range."""
        content = bucket.get(f"{prefix}index.parquet")
        if content is None:
            raise GokuError(f"the bucket has no {prefix}index.parquet. Upload data/latents/<resolution> there first.")
        reader = cls.__new__(cls)
        reader._take(pq.read_table(io.BytesIO(content)), Ranged(bucket, prefix), f"{prefix}index.parquet")
        beside = bucket.get(f"{prefix.rstrip('/').rpartition('/')[0]}/{ENCODERS_FILE}".lstrip("/"))
        if beside is not None:
            refuse_other_encoders(reader.metadata, json.loads(beside), prefix, ENCODERS_FILE)
        return reader

    def _take(self, table: pa.Table, shards: Place, where: str) -> None:
        if missing := [name for name in index_schema().names if name not in table.column_names]:
            raise GokuError(f"{where}: the index has no column {missing[0]}: an earlier release wrote it. {AGAIN}")
        require_plain(table["shard"].unique().to_pylist(), where)  # files of this folder, whoever wrote the index
        self.where, self._shards = where, shards
        self.metadata = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
        self.index = {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}

    def __len__(self) -> int:
        return len(self.index["sample_id"])

    def latent(self, row: int) -> np.ndarray:
        """float32 (C, T, H, W)."""
        return _float32(self.stored_latent(row))

    def text(self, row: int) -> np.ndarray:
        """float32 (M, width)."""
        return _float32(self._stored(row, ("text",))[0])

    def sample(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """float32 latent and text; from a bucket by one request."""
        latent, text = self._stored(row, TENSORS)
        return _float32(latent), _float32(text)

    def stored_latent(self, row: int) -> np.ndarray:
        """float16 (C, T, H, W) as it is stored; from a folder a read-only view of the page cache, without any copy."""
        return self._stored(row, ("latent",))[0]

    def _stored(self, row: int, wanted: tuple[str, ...]) -> list[np.ndarray]:
        shard, sample = self.index["shard"][row], self.index["sample_id"][row]
        asked = TENSORS if self._shards.checked else wanted  # the checksum is that of both
        begins = {name: int(self.index[f"{name}_offset"][row]) for name in asked}
        ends = {name: at + int(self.index[f"{name}_bytes"][row]) for name, at in begins.items()}
        start = min(begins.values())  # they lie side by side
        content = self._shards.bytes_of(shard, start, max(ends.values()), sample)
        parts = {name: content[begins[name] - start : ends[name] - start] for name in asked}
        if self._shards.checked:
            found = zlib.crc32(parts["text"], zlib.crc32(parts["latent"]))
            if found != int(self.index["checksum"][row]):
                raise GokuError(
                    f"{self.where}: sample {sample} of shard {shard} arrived damaged. Read it again; if it stays so, "
                    "upload data/latents again."
                )
        return [parts[name].view("<f2").reshape(self.index[f"{name}_shape"][row].tolist()) for name in wanted]


def _float32(values: np.ndarray) -> np.ndarray:
    """torch converts half precision five times as fast as numpy (measured)."""
    import torch

    return torch.from_numpy(values.copy()).float().numpy()
