"""Records where a whole team can ask them: copied below an address in a bucket, those that others put there included."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from goku_core.lineage.sources import DOCUMENTS, LEDGER, READERS, RECORDS
from goku_core.pipeline.errors import GokuError


def publish(workspace: Path, url: str) -> int:
    """Copy lineage records, commit records and the ledger to s3://bucket/prefix; returns how many were new there.

    Lineage records go first, so that every commit record there names one that is there. Work that was done again replaces
    its commit record. Raises `GokuError` where the ledger there is another one.
    """
    from goku_core.storage import Bucket, split_url

    name, prefix = split_url(url.rstrip("/"))
    bucket = Bucket(name, f"{prefix}/" if prefix else "", connections=READERS)
    goku = workspace / ".goku"
    entries = {f"{LEDGER}/{file.name}": file for file in (workspace / LEDGER).glob("[0-9]*.json")}
    entries |= {f"{LEDGER}/gates/{file.name}": file for file in (workspace / LEDGER / "gates").glob("*.json")}
    for key, file in sorted(entries.items()):
        there = bucket.get(key)
        if there is not None and there != file.read_bytes():
            raise GokuError(
                f"{bucket.url(key)} is an entry of another ledger than {file}. One address holds the records of one "
                f"workspace and its clones: publish under another prefix."
            )
    documents = {f"{DOCUMENTS}/{file.name}": file for file in (goku / DOCUMENTS).glob("*.json")}
    records = {f"{RECORDS}/{file.parent.name}/{file.name}": file for file in (goku / RECORDS).glob("*/*.json")}
    new = 0
    for part in (documents, records, entries):
        there = {one.key: one.bytes for one in bucket.list(f"{next(iter(part)).partition('/')[0]}/")} if part else {}

        def write(key: str, part: dict[str, Path] = part, there: dict[str, int] = there) -> bool:
            if key not in there:
                return bucket.put_if_absent(key, part[key].read_bytes())
            if not key.startswith(f"{RECORDS}/") or bucket.get(key) == part[key].read_bytes():
                return False
            bucket.put(part[key], key)
            return True

        with ThreadPoolExecutor(READERS) as pool:
            new += sum(pool.map(write, sorted(part)))
    return new
