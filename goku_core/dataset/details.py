"""Everything that is known of one clip, source or sample."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from goku_core.dataset.difference import PAYLOAD
from goku_core.dataset.versions import Version
from goku_core.pipeline.errors import GokuError

RAW_TABLE = "data/raw.parquet"
INDEXES = "data/latents/*/index.parquet"
LEAST = 6  # digits by which a source may be named
MOST = 200  # rows: more is no detail
Row = dict[str, Any]


def details(workspace: Path, version: Version, name: str) -> dict[str, Any]:
    """Rows of clips.parquet, of raw.parquet and of the latents' indexes that ``name`` means, and where they came from.

    name: a clip id, the start of a source's id (6 digits at least), a file name or path, or a sample id.
    Raises `GokuError` where it means nothing, or sources that differ.
    """
    table = version.table()
    table = table.select([column for column in table.column_names if column not in PAYLOAD])
    rows = _meant(table, _clip_of_sample(workspace, name) or name)
    sources = sorted({row["media_id"] for row in rows})
    record = version.record
    return {
        "version": version.id,
        "clips": rows,
        "sources": _filtered(workspace / RAW_TABLE, "media_id", sources),
        "samples": _samples(workspace, [row["clip_id"] for row in rows]),
        "lineage": {
            "fingerprint": record.fingerprint,
            "finished": version.finished,
            "revision": record.value["revision"],
            "git": record.value["git"],
            "inputs": {path: one["digest"] for path, one in record.value["inputs"].items()},
        },
    }


def write_frames(workspace: Path, rows: list[Row], folder: Path, count: int) -> list[Path]:
    """PNGs of ``count`` frames of each clip, evenly spread, full size; one of a picture. None of a file that failed.

    Raises `MediaError` where the file is damaged, `GokuError` where it is gone.
    """
    from goku_core.media.encode import write_image

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for row in rows:
        if row["outcome"] == "failed":
            continue
        source = workspace / row["uri"]
        if not source.is_file():
            raise GokuError(f"{row['uri']} is not there: the sources of {row['clip_id']} have been moved or deleted.")
        for number, image in enumerate(_images(row, source, count)):
            path = folder / f"{row['clip_id'].replace(':', '_')}_{number}.png"
            write_image(path, image)
            written.append(path)
    return written


def _images(row: Row, source: Path, count: int) -> Any:
    from goku_core.media import decode

    if row["kind"] == "image":
        yield decode.read_image(source)
        return
    start, end = row["start_pts"], row["end_pts"]
    if end <= start:  # a source that never became clips
        end = start + int((row["seconds"] or 0.0) * Fraction(row["time_base_den"], row["time_base_num"]))
    aims = [start + (end - start) * (2 * k + 1) // (2 * count) for k in range(count)]
    last = None
    for frame in decode.frames(source, start, max(end, start + 1)):
        while aims and frame.pts > aims[0]:
            yield (last or frame).rgb()
            aims.pop(0)
        last = frame
    if last is not None:
        for _ in aims:
            yield last.rgb()


def _meant(table: pa.Table, name: str) -> list[Row]:
    exact = table.filter(pc.equal(table["clip_id"], name))
    if exact.num_rows:
        return exact.to_pylist()
    found = table.slice(0, 0)
    if len(name) >= LEAST:
        found = table.filter(pc.starts_with(table["media_id"], name.lower()))
        if not found.num_rows:
            found = table.filter(
                pc.or_(pc.equal(table["uri"], name), pc.ends_with(table["uri"], f"/{Path(name).name}"))
            )
    sources = pc.unique(found["media_id"]).to_pylist()
    if len(sources) == 1:
        return found.slice(0, MOST).to_pylist()
    if sources:
        raise GokuError(
            f"{name!r} means {len(sources)} sources: {', '.join(one[:16] for one in sources[:5])}. Give more."
        )
    raise GokuError(
        f"nothing in this version is named {name!r}: give a clip id, a sample id, the start of a source's id "
        f"({LEAST} digits at least) or a file name."
    )


def _clip_of_sample(workspace: Path, name: str) -> str | None:
    for index in sorted(workspace.glob(INDEXES)):
        found = _filtered(index, "sample_id", [name])
        if found:
            return str(found[0]["clip_id"])
    return None


def _samples(workspace: Path, clips: list[str]) -> list[Row]:
    found = []
    for index in sorted(workspace.glob(INDEXES)):
        for row in _filtered(index, "clip_id", clips):
            found.append({"resolution": index.parent.name} | row)
    return found


def _filtered(file: Path, column: str, values: list[str]) -> list[Row]:
    if not file.is_file():
        return []
    return pq.read_table(file, filters=pc.is_in(pc.field(column), pa.array(values, pa.string()))).to_pylist()
