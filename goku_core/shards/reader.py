"""Reads samples by their place in the index: memory-mapped, no copy before the conversion to float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from goku_core.pipeline.errors import GokuError


class ShardReader:
    """Random access to one resolution's latents: `data/latents/<resolution>`."""

    def __init__(self, folder: Path) -> None:
        index = folder / "index.parquet"
        if not index.is_file():
            raise GokuError(f"{index} is not there. Run `goku run precompute` first.")
        self.folder = folder
        table = pq.read_table(index)
        self.metadata = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
        self.index = {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}
        self._maps: dict[str, np.memmap] = {}

    def __len__(self) -> int:
        return len(self.index["sample_id"])

    def latent(self, row: int) -> np.ndarray:
        """float32 (C, T, H, W)."""
        return self._read(row, "latent")

    def text(self, row: int) -> np.ndarray:
        """float32 (M, width)."""
        return self._read(row, "text")

    def _read(self, row: int, tensor: str) -> np.ndarray:
        shard = self.index["shard"][row]
        if shard not in self._maps:
            self._maps[shard] = self._open(shard)
        begin = int(self.index[f"{tensor}_offset"][row])
        end = begin + int(self.index[f"{tensor}_bytes"][row])
        if end > len(self._maps[shard]):
            raise GokuError(
                f"{self.folder / shard} is truncated: {len(self._maps[shard])} bytes, sample "
                f"{self.index['sample_id'][row]} ends at {end}. Run `goku run precompute` again."
            )
        values = np.frombuffer(self._maps[shard][begin:end], dtype="<f2")
        return values.reshape(self.index[f"{tensor}_shape"][row].tolist()).astype(np.float32)

    def _open(self, shard: str) -> np.memmap:
        path = self.folder / shard
        if not path.is_file():
            raise GokuError(f"{path} is missing, but the index names it. Run `goku run precompute` again.")
        return np.memmap(path, dtype=np.uint8, mode="r")
