"""Kept clips as WebDataset shards: tar files in which the files of a sample stand together under one name.

A sample has a clip (``.mp4``) or a picture (its own file; PNG where the format is unusual), ``.json`` with what is known of
it and ``.txt`` with the text to train on. Shards are functions of the version alone: same bytes on every machine that has
the same codec library. A shard appears under its name when it is whole, so that a killed export goes on where it was; the
file index.json is written last and names every shard with its SHA-256.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from goku_core.dataset.cutting import cut
from goku_core.dataset.difference import PAYLOAD
from goku_core.dataset.versions import Version
from goku_core.media.probe import MediaError
from goku_core.pipeline.commit import remove
from goku_core.pipeline.context import available_cores
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.files import canonical_json, digest_json, lock, write_json
from goku_core.pipeline.names import require_plain

PLAN, INDEX = "plan.json", "index.json"
# Formats of pictures that readers of WebDataset know by their ending.
SUFFIXES = {"jpeg": "jpg", "png": "png", "webp": "webp"}
UNSAID = {
    "uri",
    "outcome",
    "filter",
    "score",
    "threshold",
    "message",
    *PAYLOAD,
}  # of no meaning outside of the workspace
Row = dict[str, Any]


@dataclass(frozen=True)
class Export:
    """What was written: shards in all, shards of this call, samples, and how clips were cut in this call."""

    folder: Path
    shards: int
    written: int
    samples: int
    cut: dict[str, int]


def export(
    workspace: Path,
    version: Version,
    folder: Path,
    per_shard: int = 256,
    progress: Callable[[int], None] = lambda n: None,
) -> Export:
    """Writes what is missing of the version's shards into ``folder``.

    progress: told the number of samples after each shard. Raises `GokuError` where the folder holds another export, or a
    source is gone or damaged.
    """
    table = version.table()
    rows = table.filter(pc.equal(table["outcome"], "kept")).sort_by("clip_id").to_pylist()
    if not rows:
        raise GokuError(f"version {version.id} keeps nothing: there is nothing to export.")
    require_plain(map(key, rows), f"version {version.id}")  # they become members of archives that others unpack
    parts = [rows[low : low + per_shard] for low in range(0, len(rows), per_shard)]
    how: Counter[str] = Counter()
    written = 0
    with lock(workspace / ".goku/locks" / f"export-{digest_json(str(folder.resolve()))[:16]}.lock"):
        _settle(folder, {"version": version.id, "samples": len(rows), "per_shard": per_shard})
        for number, part in enumerate(parts):
            shard = folder / shard_name(number)
            if not shard.is_file():
                how.update(_write_shard(shard, part, workspace))
                written += 1
            progress(len(part))
    listed = [
        {"name": shard_name(number), "samples": len(part), "sha256": _sha256(folder / shard_name(number))}
        for number, part in enumerate(parts)
    ]
    write_json(folder / INDEX, {"version": version.id, "samples": len(rows), "shards": listed})
    return Export(folder, len(parts), written, len(rows), dict(sorted(how.items())))


def shard_name(number: int) -> str:
    return f"clips-{number:06d}.tar"


def key(row: Row) -> str:
    """The name that a sample's files share. No dot: readers cut at the first one."""
    return f"{row['media_id']}_{row['start_pts']}_{row['end_pts']}"


def _settle(folder: Path, plan: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / PLAN
    if not file.is_file():
        if any(folder.iterdir()):
            raise GokuError(f"{folder} is not empty and no export was begun there: name a new folder.")
        write_json(file, plan)
        return
    there = json.loads(file.read_text(encoding="utf-8"))
    if there != plan:
        asked = f"asked for {canonical_json(plan)}"
        raise GokuError(f"{folder} holds another export ({canonical_json(there)}, {asked}): name a new folder.")


def _write_shard(shard: Path, rows: list[Row], workspace: Path) -> list[str]:
    """Samples are cut by several threads (codecs leave the interpreter lock) and stand in the order of their ids."""
    partial = shard.with_name(f".{shard.name}.partial")
    scratch = shard.parent / ".cut"
    remove(scratch)  # what a kill left
    scratch.mkdir()
    how = []
    with ThreadPoolExecutor(available_cores()) as threads, tarfile.open(partial, "w", format=tarfile.GNU_FORMAT) as tar:
        media = threads.map(lambda row: _medium(row, workspace, scratch), rows)
        for row, (suffix, data, done) in zip(rows, media, strict=True):
            for ending, payload in _files(row, suffix, data):
                tar.addfile(_header(f"{key(row)}.{ending}", len(payload)), io.BytesIO(payload))
            how.append(done)
    remove(scratch)
    partial.replace(shard)
    return how


def _files(row: Row, suffix: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    facts = {name: value for name, value in row.items() if name not in UNSAID}
    yield "json", (canonical_json(facts) + "\n").encode()
    yield suffix, data
    yield "txt", row["text"].encode()


def _medium(row: Row, workspace: Path, scratch: Path) -> tuple[str, bytes, str]:
    """(ending, bytes, how they were made) of a clip or picture."""
    source = workspace / row["uri"]
    if not source.is_file():
        raise GokuError(
            f"{row['uri']} is not there, so {row['clip_id']} cannot be exported. Put the file back and go on."
        )
    try:
        if row["kind"] == "image":
            return _picture(row, source, scratch)
        target = scratch / f"{key(row)}.mp4"
        how = cut(source, row["start_pts"], row["end_pts"], target)
    except MediaError as error:
        raise GokuError(f"{row['uri']} is damaged since it was curated ({error.message}): {row['clip_id']}") from error
    data = target.read_bytes()
    target.unlink()
    return "mp4", data, how


def _picture(row: Row, source: Path, scratch: Path) -> tuple[str, bytes, str]:
    if suffix := SUFFIXES.get(row["codec"]):
        return suffix, source.read_bytes(), "copied"
    from goku_core.media.decode import read_image
    from goku_core.media.encode import write_image

    target = scratch / f"{key(row)}.png"
    write_image(target, read_image(source))
    data = target.read_bytes()
    target.unlink()
    return "png", data, "encoded"


def _header(name: str, size: int) -> tarfile.TarInfo:
    """No times, owners or rights of this machine."""
    header = tarfile.TarInfo(name)
    header.size, header.mode = size, 0o644
    return header


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
