"""Where the bytes of shards are: files mapped into memory, or objects of a bucket read by range."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Protocol

import numpy as np

from goku_core.pipeline.errors import GokuError

AGAIN = "Run `goku run precompute` again."


class Objects(Protocol):
    """What a `storage.Bucket` offers."""

    def get(self, key: str) -> bytes | None: ...

    def read(self, key: str, start: int, length: int) -> bytes: ...


class Mapped:
    """Shards of a folder, memory-mapped: bytes are copied by whoever uses them, and by nobody else."""

    checked = False  # the page cache is trusted; `goku latents verify` reads everything

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._maps: dict[str, mmap.mmap] = {}

    def bytes_of(self, shard: str, begin: int, end: int, sample: str) -> np.ndarray:
        """uint8 view of [begin, end) of a shard. Raises GokuError where the shard is missing or too short."""
        mapped = self._maps.get(shard)
        if mapped is None:
            mapped = self._maps[shard] = self._open(shard)
        if end > len(mapped):
            raise GokuError(
                f"{self.folder / shard} is truncated: {len(mapped)} bytes, sample {sample} ends at {end}. {AGAIN}"
            )
        return np.frombuffer(mapped, np.uint8, end - begin, begin)

    def _open(self, shard: str) -> mmap.mmap:
        path = self.folder / shard
        if not path.is_file():
            raise GokuError(f"{path} is missing, but the index names it. {AGAIN}")
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                raise GokuError(f"{path} is truncated: 0 bytes. {AGAIN}")
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class Ranged:
    """Shards of a bucket: each sample is one ranged read, checked against its checksum."""

    checked = True

    def __init__(self, bucket: Objects, prefix: str) -> None:
        self.bucket, self.prefix = bucket, prefix

    def bytes_of(self, shard: str, begin: int, end: int, sample: str) -> np.ndarray:
        return np.frombuffer(self.bucket.read(self.prefix + shard, begin, end - begin), np.uint8)
