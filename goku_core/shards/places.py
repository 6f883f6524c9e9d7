"""Where the bytes of shards are: files mapped into memory, or objects of a bucket read by range."""

from __future__ import annotations

import mmap
import os
import threading
from collections import OrderedDict
from io import FileIO
from pathlib import Path
from typing import Protocol

import numpy as np

from goku_core.pipeline.errors import GokuError

AGAIN = "Run `goku run precompute` again."


class Objects(Protocol):
    """What a `storage.Bucket` offers."""

    def get(self, key: str) -> bytes | None: ...

    def read(self, key: str, start: int, length: int) -> bytes: ...


class Place(Protocol):
    """checked: samples of it are compared with their checksum as they are read."""

    checked: bool

    def bytes_of(self, shard: str, begin: int, end: int, sample: str) -> np.ndarray:
        """uint8 [begin, end) of a shard. Raises GokuError where the shard is missing or too short."""


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


class Files:
    """Shards of a folder, read by position: damage to a disk or a file cut while in use is an error, where a mapped page would
    end the process.

    checked  each sample against its checksum
    """

    OPEN = 256  # files held open, the longest unused is closed; a limit of 1024 per process is common

    def __init__(self, folder: Path, checked: bool = True) -> None:
        self.folder, self.checked = folder, checked
        self._files: OrderedDict[str, FileIO] = OrderedDict()
        self._lock = threading.Lock()

    def bytes_of(self, shard: str, begin: int, end: int, sample: str) -> np.ndarray:
        content = np.empty(end - begin, np.uint8)
        try:
            file = self._file(shard)
            read = _read_into(file.fileno(), content, begin)
        except FileNotFoundError:
            raise GokuError(f"{self.folder / shard} is missing, but the index names it. {AGAIN}") from None
        except OSError as error:
            raise GokuError(f"{self.folder / shard}: sample {sample} cannot be read: {error.strerror}.") from error
        if read < len(content):
            raise GokuError(
                f"{self.folder / shard} is truncated: {begin + read} bytes, sample {sample} ends at {end}. {AGAIN}"
            )
        return content

    def _file(self, shard: str) -> FileIO:
        with self._lock:
            file = self._files.pop(shard, None) or FileIO(self.folder / shard)
            self._files[shard] = file
            if len(self._files) > self.OPEN:
                self._files.popitem(last=False)  # closed once nobody reads from it
            return file


def _read_into(descriptor: int, content: np.ndarray, begin: int) -> int:
    """Bytes read into `content` from `begin` on: fewer than asked for where the file ends."""
    done = 0
    while done < len(content):
        got = os.preadv(descriptor, [memoryview(content)[done:]], begin + done)
        if got == 0:
            break
        done += got
    return done


class Ranged:
    """Shards of a bucket: each sample is one ranged read, checked against its checksum."""

    checked = True

    def __init__(self, bucket: Objects, prefix: str) -> None:
        self.bucket, self.prefix = bucket, prefix

    def bytes_of(self, shard: str, begin: int, end: int, sample: str) -> np.ndarray:
        return np.frombuffer(self.bucket.read(self.prefix + shard, begin, end - begin), np.uint8)
