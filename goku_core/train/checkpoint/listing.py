"""What checkpoints there are: those of the runs under way in a workspace, and those in the bucket."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from goku_core.storage import Bucket, split_url
from goku_core.train.checkpoint.folder import STATE, Checkpoint, Marker, damage, listed, read_marker
from goku_core.train.checkpoint.remote import NAME, Remote

RUN = re.compile(rf"([0-9A-Za-z_-]+)/{NAME.pattern}")


@dataclass(frozen=True)
class Entry:
    """A checkpoint of one tier.

    tier    "local" or the bucket's URL
    saved   UTC time, empty where it is not known
    wrong   why it does not count; None where its files are there in their sizes (`goku checkpoint verify` reads them)
    """

    phase: str
    step: int
    bytes: int
    saved: str
    tier: str
    wrong: str | None
    ranks: int
    fingerprint: str
    path: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def local_checkpoints(workspace: Path) -> list[Checkpoint]:
    """Of every run that is under way in a workspace; a finished phase has none left."""
    runs = sorted((workspace / ".goku" / "scratch").glob("*/checkpoints"))
    return [one for run in runs for one in listed(run)]


def local(workspace: Path) -> Iterator[Entry]:
    for one in local_checkpoints(workspace):
        marker = read_marker(one.path)
        wrong = damage(one.path, marker, only=()) if marker is None else _missing(one.path, marker)
        told = _told((one.path / STATE).read_bytes() if (one.path / STATE).is_file() else b"{}")
        yield _entry(one.step, marker, told, one.path.parts[-3], "local", one.path.as_posix(), wrong)


def remote(url: str) -> Iterator[Entry]:
    """Complete checkpoints of every run below s3://bucket/prefix. Raises GokuError where the store does not answer."""
    name, prefix = split_url(url.rstrip("/") + "/")
    bucket = Bucket(name, prefix)
    runs = sorted({match[1] for entry in bucket.list() if (match := RUN.match(entry.key))})
    for run in runs:
        tier = _of_run(url, run)
        for found in tier.complete():
            told = _told(tier.bucket.get(f"{found.key}/{STATE}") or b"{}")
            yield _entry(found.step, found.marker, told, run, url, tier.url(found), [])


def forget(url: str, fingerprint: str) -> None:
    """Deletes the checkpoints of one run below s3://bucket/prefix. Raises GokuError where the store does not answer."""
    _of_run(url, fingerprint).forget()


def _of_run(url: str, fingerprint: str) -> Remote:
    name, prefix = split_url(url.rstrip("/") + "/")
    return Remote(Bucket(name, f"{prefix}{fingerprint}/"), keep=1, keep_every=None)


def _entry(
    step: int, marker: Marker | None, told: Mapping[str, Any], run: str, tier: str, path: str, wrong: list[str]
) -> Entry:
    lineage, ranks = told.get("lineage") or {}, told.get("ranks") or {}
    return Entry(
        phase=lineage.get("phase", "?"),
        step=step,
        bytes=sum(file.bytes for file in marker.files.values()) if marker else 0,
        saved=marker.saved if marker else "",
        tier=tier,
        wrong=wrong[0] if wrong else None,
        ranks=ranks.get("count", 0),
        fingerprint=run,
        path=path,
    )


def _missing(checkpoint: Path, marker: Marker) -> list[str]:
    """Files that are not there in their size; looking costs no reading."""
    sizes = {path.name: path.stat().st_size for path in checkpoint.iterdir()}
    return [
        f"{name} is not {file.bytes} bytes long" for name, file in marker.files.items() if sizes.get(name) != file.bytes
    ]


def _told(content: bytes) -> dict[str, Any]:
    try:
        return json.loads(content)
    except ValueError:  # cut off; what is wrong with it stands in the entry
        return {}
