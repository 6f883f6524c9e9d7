"""Names of bytes and of work.

A file is named by the SHA-256 of its bytes, a folder by the digest of its sorted (relative path, SHA-256) list, a piece
of work (a cell) by the digest of stage, declared revision, resolved request, run seed and the digests of its inputs.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from goku_core.pipeline.context import available_cores
from goku_core.pipeline.files import digest_json

UNREADABLE = "unreadable"
# A file changed again within the file system's clock tick keeps its time stamp: such a young file is not remembered.
YOUNG_SECONDS = 0.02


@dataclass(frozen=True)
class Tree:
    """The content of one input or output. A single file is a tree whose only relative path is the empty string."""

    files: Mapping[str, str] = field(default_factory=dict)  # relative path (POSIX) -> SHA-256
    sizes: Mapping[str, int] = field(default_factory=dict)  # relative path -> bytes
    folder: bool = False

    @property
    def digest(self) -> str:
        if not self.folder:
            return self.files[""]
        return digest_json(sorted(self.files.items()))

    @property
    def bytes(self) -> int:
        return sum(self.sizes.values())

    def as_json(self) -> dict[str, Any]:
        return {
            "digest": self.digest,
            "folder": self.folder,
            "files": dict(self.files),
            "sizes": dict(self.sizes),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Tree:
        return cls(dict(value["files"]), dict(value["sizes"]), value["folder"])


class Digests:
    """SHA-256 of files, remembered in a SQLite file by (device, inode, size, modification time).

    The inode, not the path, is the key: renames and hard links (staging -> store -> workspace, DVC's cache) keep it,
    so every byte is hashed once. The file is a cache; deleting it costs time only.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        try:
            self._open()
        except sqlite3.DatabaseError:  # not a database any more: a cache is made anew
            path.unlink(missing_ok=True)
            self._open()

    def _open(self) -> None:
        self._database = sqlite3.connect(self._path, timeout=60, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        with self._database:
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS digests (device INTEGER, inode INTEGER, size INTEGER, mtime_ns INTEGER, "
                "sha256 TEXT, PRIMARY KEY (device, inode))"
            )

    def close(self) -> None:
        self._database.close()

    def file(self, path: Path) -> str:
        return self._files([path])[0][0]

    def files(self, paths: Iterable[Path]) -> list[tuple[str, int]]:
        """SHA-256 and size of each; those not remembered are read by several threads."""
        return self._files(paths)

    def tree(self, path: Path) -> Tree | None:
        """The content below `path`, or None where nothing is. Links to files are followed, to folders are not."""
        if path.is_file():
            ((sha256, size),) = self._files([path])
            return Tree({"": sha256}, {"": size})
        if not path.is_dir():
            return None
        members = sorted(p for p in path.rglob("*") if p.is_file())
        names = [p.relative_to(path).as_posix() for p in members]
        found = self._files(members)
        return Tree(
            {name: sha256 for name, (sha256, _) in zip(names, found, strict=True)},
            {name: size for name, (_, size) in zip(names, found, strict=True)},
            folder=True,
        )

    def _files(self, paths: Iterable[Path]) -> list[tuple[str, int]]:
        paths = list(paths)
        stats = [p.stat() for p in paths]
        found: list[str | None] = [self._remembered(s) for s in stats]
        missing = [i for i, sha256 in enumerate(found) if sha256 is None]
        if missing:
            now = time.time_ns()
            for i, sha256 in zip(missing, _sha256_all([paths[i] for i in missing]), strict=True):
                found[i] = sha256
            self._remember(
                (s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, found[i])
                for i, s in ((i, stats[i]) for i in missing)
                if found[i] != UNREADABLE and now - s.st_mtime_ns > YOUNG_SECONDS * 1e9
            )
        return [(str(sha256), s.st_size) for sha256, s in zip(found, stats, strict=True)]

    def _remembered(self, stat: Any) -> str | None:
        row = self._database.execute(
            "SELECT sha256 FROM digests WHERE device = ? AND inode = ? AND size = ? AND mtime_ns = ?",
            (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns),
        ).fetchone()
        return row[0] if row else None

    def _remember(self, rows: Iterable[tuple[Any, ...]]) -> None:
        with self._database:
            self._database.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?, ?)", rows)


def _sha256_all(paths: list[Path]) -> list[str]:
    if len(paths) < 8:
        return [_sha256(path) for path in paths]
    with ThreadPoolExecutor(min(8, available_cores())) as threads:  # hashing leaves the interpreter lock
        return list(threads.map(_sha256, paths))


def _sha256(path: Path) -> str:
    """Digest of the bytes; `UNREADABLE` for a file that may not be read (the stage then reports it as failed)."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except PermissionError:
        return UNREADABLE


def fingerprint(stage: str, revision: int, request: Mapping[str, Any], seed: int, inputs: Mapping[str, str]) -> str:
    """Name of a piece of work: 64 hexadecimal digits.

    stage     name of the stage room
    revision  raised by hand when the stage's results change for the same request
    request   resolved parameters as JSON values
    seed      the run seed
    inputs    declared input path -> digest of its content
    """
    return digest_json(
        {
            "stage": stage,
            "revision": revision,
            "request": dict(request),
            "seed": seed,
            "inputs": dict(inputs),
        }
    )
