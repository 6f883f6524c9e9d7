"""Which versions there are. Nothing is written for them: a version is what a commit record of `curate` names.

Its name is the start of the SHA-256 of its table: equal data have equal names, whoever made them and wherever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from goku_core.pipeline.commit import Record, Workspace
from goku_core.pipeline.errors import GokuError

STAGE, TABLE, TRANSCODED = "curate", "data/clips.parquet", "data/transcoded"
DIGITS = 12
LEAST = 4  # digits by which a version may be named


@dataclass(frozen=True)
class Version:
    """One published table.

    id       first `DIGITS` digits of the table's SHA-256
    file     where its bytes are; None where they are gone from the store
    current  whether it is the one in the workspace
    """

    id: str
    record: Record
    file: Path | None
    current: bool

    @property
    def finished(self) -> str:
        return self.record.value["finished"]

    @property
    def request(self) -> Mapping[str, Any]:
        return self.record.value["request"]

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Raises `GokuError` where its bytes are gone."""
        if self.file is None:
            raise GokuError(
                f"version {self.id} is on record, but its table is gone from .goku/store. Set params.yaml as it was "
                f"(`goku lineage {self.record.fingerprint[:12]} --json` names the request) and run `goku run curate`."
            )
        return pq.read_table(self.file, columns=list(columns) if columns else None)

    def as_json(self) -> dict[str, Any]:
        report = self.record.report
        return {
            "version": self.id,
            "finished": self.finished,
            "current": self.current,
            "stored": self.file is not None,
            "sources": report.get("sources"),
            "rows": report.get("clips"),
            "kept": report.get("kept"),
            "rejected": sum(report.get("rejected", {}).values()),
            "failed": sum(report.get("failed", {}).values()),
            "fingerprint": self.record.fingerprint,
            "revision": self.record.value["revision"],
            "table": self.record.output_digests()[TABLE],
        }


def versions(workspace: Path) -> list[Version]:
    """Newest first. Two records with equal tables are one version, that of the newer record."""
    found: dict[str, Version] = {}
    with Workspace(workspace) as place:
        here = place.digests.tree(place.root / TABLE)
        for record in place.records():
            if record.stage != STAGE or TABLE not in record.outputs:
                continue
            digest = record.outputs[TABLE].digest
            current = here is not None and here.digest == digest
            stored = place.store.place(digest) if place.store.holds(digest) else None
            found.pop(digest, None)
            file = stored or (place.root / TABLE if current else None)
            found[digest] = Version(digest[:DIGITS], record, file, current)
    return list(reversed(found.values()))


def version(workspace: Path, name: str = "current") -> Version:
    """By the start of its id, or `current` (the one in the workspace), `latest`, `latest~1` (the one before), ...

    Raises `GokuError` naming what there is.
    """
    found = versions(workspace)
    if not found:
        raise GokuError("no version of the dataset has been published here: run `goku run collect curate` first.")
    ids = ", ".join(one.id for one in found[:8])
    if name == "current":
        here = next((one for one in found if one.current), None)
        if here is None:
            raise GokuError(f"{TABLE} is no published version (or is not there). Versions: {ids}, or `latest`.")
        return here
    if name == "latest" or name.startswith("latest~"):
        back = name.removeprefix("latest").removeprefix("~") or "0"
        if not back.isdigit() or int(back) >= len(found):
            raise GokuError(f"there is no version {name!r}: {len(found)} are on record ({ids}).")
        return found[int(back)]
    fitting = [one for one in found if len(name) >= LEAST and one.id.startswith(name[:DIGITS].lower())]
    if len(fitting) != 1:
        what = "several versions begin with" if fitting else "there is no version"
        raise GokuError(f"{what} {name!r}. Versions, newest first: {ids}; or `current`, `latest`, `latest~1`.")
    return fitting[0]
