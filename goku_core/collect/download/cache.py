"""What has been downloaded so far: whole files and pieces of files, kept until they are wanted again.

It outlives the attempt and the parameters: a killed download goes on after a restart, also where the number of threads
has been changed meanwhile. Everything in it may be deleted at any time, which costs time only.

    known.sqlite     one row per address: which version of the file the pieces belong to
    pieces/NAME      the first bytes of an unfinished file; NAME is the digest of its address
    whole/AA/SHA256  finished files by content; data/raw and the store hold links to them, not copies
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from goku_core.pipeline.files import lock


@dataclass(frozen=True)
class Known:
    """What is known of an address from before.

    etag, modified  validators as the server gave them; empty where it gave none
    total           bytes of the whole file, None where the server did not say
    sha256          of the whole file, empty while it is unfinished
    work            fingerprint of the piece of work that finished it
    """

    etag: str = ""
    modified: str = ""
    total: int | None = None
    sha256: str = ""
    work: str = ""

    @property
    def if_range(self) -> str:
        """The validator that a range may be asked with; a weak ETag names a meaning, not bytes, so it may not be one."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


class Cache:
    """Downloads of a workspace. One process at a time (`opened`), any number of its threads."""

    def __init__(self, folder: Path) -> None:
        self._pieces, self._whole = folder / "pieces", folder / "whole"
        for place in (self._pieces, self._whole):
            place.mkdir(parents=True, exist_ok=True)
        self._guard = threading.Lock()
        file = folder / "known.sqlite"
        try:
            self._open(file)
        except sqlite3.DatabaseError:  # not a database any more: a cache is made anew
            file.unlink(missing_ok=True)
            self._open(file)

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, waiting: Callable[[str], None] | None = None) -> Iterator[Cache]:
        """Waits for another process that downloads into the same folder; `waiting` is then called once."""
        with lock(folder / "lock", owner=f"process {os.getpid()}", waiting=waiting):
            cache = cls(folder)
            try:
                yield cache
            finally:
                cache._database.close()

    def known(self, name: str) -> Known:
        with self._guard:
            row = self._database.execute(
                "SELECT etag, modified, total, sha256, work FROM known WHERE name = ?", (name,)
            ).fetchone()
        return Known(*row) if row else Known()

    def note(self, name: str, known: Known) -> None:
        with self._guard, self._database:
            self._database.execute(
                "INSERT OR REPLACE INTO known VALUES (?, ?, ?, ?, ?, ?)",
                (name, known.etag, known.modified, known.total, known.sha256, known.work),
            )

    def piece(self, name: str) -> Path:
        return self._pieces / name

    def whole(self, sha256: str) -> Path:
        return self._whole / sha256[:2] / sha256

    def keep(self, name: str, sha256: str) -> Path:
        """The piece has become a whole file."""
        place = self.whole(sha256)
        place.parent.mkdir(exist_ok=True)
        self.piece(name).replace(place)
        return place

    def forget(self, name: str) -> None:
        """Nothing of this address is wanted any more: its pieces are no beginning of a good file."""
        self.piece(name).unlink(missing_ok=True)
        with self._guard, self._database:
            self._database.execute("DELETE FROM known WHERE name = ?", (name,))

    def _open(self, file: Path) -> None:
        self._database = sqlite3.connect(file, timeout=60, check_same_thread=False)
        # A kill loses nothing of what was noted, a power cut the last moments: then a file is fetched again.
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        with self._database:
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS known (name TEXT PRIMARY KEY, etag TEXT, modified TEXT, total INTEGER, "
                "sha256 TEXT, work TEXT)"
            )


def name_of(address: str) -> str:
    """File name of an address: nothing of what it says can lead out of the folder, or onto another address's file."""
    return hashlib.sha256(address.encode("utf-8", "surrogatepass")).hexdigest()
