"""Where the records lie: a workspace, or the same files below an address in a bucket.

records/<stage>/<fingerprint>.json    commit records            (a workspace has these in .goku/)
lineage/<digest>.json                 lineage records           (likewise)
ledger/000001.json                    promotions and their like (a workspace has these in ledger/)
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from goku_core.pipeline.errors import GokuError

RECORDS, DOCUMENTS, LEDGER = "records", "lineage", "ledger"
READERS = 32  # requests under way at once: a bucket answers one in some 20 ms (our choice)


class Source(Protocol):
    def index_file(self) -> Path:
        """Where the index of these records is kept; it may be deleted at any time."""
        ...

    def stamps(self) -> dict[str, str]:
        """Every commit record, with what changes when it is written again."""
        ...

    def records(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]: ...

    def documents(self) -> set[str]:
        """Digests of all lineage records."""
        ...

    def document(self, digest: str) -> bytes:
        """A lineage record. Raises `GokuError` where it is missing."""
        ...

    def ledger(self) -> Path:
        """A folder in which `ledger/` lies; there may be none in it."""
        ...


class Folder:
    """A workspace on disk. Raises `GokuError` where there is none."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._goku = self.root / ".goku"
        if not self.root.is_dir():
            raise GokuError(f"{root} is no folder.")

    def index_file(self) -> Path:
        return self._goku / "lineage.sqlite"

    def stamps(self) -> dict[str, str]:
        found = {}
        records = self._goku / RECORDS
        for stage in sorted(records.iterdir()) if records.is_dir() else ():
            with os.scandir(stage) as entries:
                for entry in entries:
                    if entry.name.endswith(".json"):
                        facts = entry.stat()
                        found[f"{stage.name}/{entry.name}"] = f"{facts.st_mtime_ns}-{facts.st_size}-{facts.st_ino}"
        return found

    def records(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        for name in names:
            yield name, (self._goku / RECORDS / name).read_bytes()

    def documents(self) -> set[str]:
        folder = self._goku / DOCUMENTS
        return {file.stem for file in folder.glob("*.json")}

    def document(self, digest: str) -> bytes:
        file = self._goku / DOCUMENTS / f"{digest}.json"
        if not file.is_file():
            raise GokuError(f"{file} is missing, which a commit record names. Restore it from a copy.")
        return file.read_bytes()

    def ledger(self) -> Path:
        return self.root


class Objects:
    """The same files below s3://bucket/prefix. What was read once is kept beside the index, in `keep`."""

    def __init__(self, url: str, keep: Path) -> None:
        from goku_core.storage import Bucket, split_url

        name, prefix = split_url(url.rstrip("/"))
        self._bucket = Bucket(name, f"{prefix}/" if prefix else "", connections=READERS)
        self._keep = keep / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16]
        self._url = url

    def index_file(self) -> Path:
        return self._keep / "lineage.sqlite"

    def stamps(self) -> dict[str, str]:
        found = {
            one.key.removeprefix(f"{RECORDS}/"): one.etag
            for one in self._bucket.list(f"{RECORDS}/")
            if one.key.endswith(".json")
        }
        if not found:
            raise GokuError(f"{self._url}: no {RECORDS}/<stage>/<fingerprint>.json lies below this address.")
        return found

    def records(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        with ThreadPoolExecutor(READERS) as pool:
            yield from pool.map(lambda name: (name, self._read(f"{RECORDS}/{name}")), names)

    def documents(self) -> set[str]:
        keys = (Path(one.key) for one in self._bucket.list(f"{DOCUMENTS}/"))
        return {key.stem for key in keys if key.suffix == ".json"}

    def document(self, digest: str) -> bytes:
        return self._read(f"{DOCUMENTS}/{digest}.json")

    def ledger(self) -> Path:
        from goku_core.storage import fetch

        for entry in self._bucket.list(f"{LEDGER}/"):  # never written again: what is here already is right
            if entry.key.count("/") == 1 and not (self._keep / LEDGER / Path(entry.key).name).is_file():
                fetch(self._bucket, entry.key, self._keep / LEDGER / Path(entry.key).name)
        return self._keep

    def _read(self, key: str) -> bytes:
        content = self._bucket.get(key)
        if content is None:
            raise GokuError(f"{self._bucket.url(key)} is missing, which a record names.")
        return content


def source(workspace: Path, place: str | None) -> Source:
    """place  s3://bucket/prefix, another workspace's folder, or None: the workspace itself."""
    if place is None:
        return Folder(workspace)
    if place.startswith("s3://"):
        return Objects(place, workspace / ".goku" / "lineage-of")
    return Folder(Path(place))
