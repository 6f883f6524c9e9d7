"""The body of `collect`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from goku_core.collect.gather import gather
from goku_core.collect.listing import KNOWN_TYPES, RAW_FOLDER, Medium, find_files, list_media, uri_of
from goku_core.collect.request import Request
from goku_core.collect.sample import Recipe, corpus
from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.pool import run_operator

RAW_TABLE = "data/raw.parquet"
RENDER = "goku_core.collect.render:render"
IMAGES_PER_CALL = 32
RENDER_TIMEOUT_SECONDS = 300.0  # our choice: a hundred times what the longest default video takes
PROBLEMS_SHOWN = 5

SCHEMA = pa.schema(
    [
        pa.field("media_id", pa.string(), metadata={"unit": "SHA-256 of the bytes, hex; empty where unreadable"}),
        pa.field("uri", pa.string(), metadata={"unit": "path relative to the workspace, or absolute outside it"}),
        pa.field("kind", pa.string()),
        pa.field("bytes", pa.int64()),
        pa.field("caption", pa.string()),
        pa.field(
            "captions",
            pa.list_(pa.struct([("start", pa.float64()), ("end", pa.float64()), ("text", pa.string())])),
            metadata={"unit": "seconds"},
        ),
        pa.field("outcome", pa.string()),
        pa.field("filter", pa.string()),
        pa.field("message", pa.string()),
        pa.field("source", pa.string(), metadata={"unit": "address it was downloaded from; null for a local file"}),
    ]
)


class Report(BaseModel):
    """What was found. files = kept + rejected + failed.

    filters         rows by filter or error class
    received_bytes  what came over the network in this attempt
    """

    source: str
    files: int
    kept: int
    rejected: int
    failed: int
    kinds: dict[str, int]
    filters: dict[str, int]
    captioned: int
    bytes: int
    seconds: float
    files_per_second: float
    frames_rendered: int = 0
    received_bytes: int = 0


def collect(request: Request, context: Context) -> Report:
    """Renders the sample corpus, lists a folder or downloads what a source names; writes data/raw and data/raw.parquet.

    Raises GokuError when the source is missing, cannot be read, or holds no media, and ConnectionError when too many of
    its addresses cannot be reached now.
    """
    started = time.monotonic()
    raw = context.output(RAW_FOLDER)
    raw.mkdir(parents=True, exist_ok=True)
    frames = received = 0
    if request.kind == "sample":
        frames = render_corpus(request, context, raw)
        media = _listed(find_files(raw), lambda path: f"{RAW_FOLDER}/{path.relative_to(raw).as_posix()}", context)
    elif request.kind != "folder":
        media, received = gather(request, context, raw)
        _say_sidecar_problems(media, context)
    else:
        folder = _folder(request.source, context)
        media = _listed(_files_of(folder), lambda path: uri_of(path, context.workspace), context)
        if not any(medium.kind != "unknown" for medium in media):
            raise GokuError(
                f"collect.source: {folder} holds no video or image among its {len(media)} files. "
                f"Known types: {KNOWN_TYPES}"
            )
        _say_sidecar_problems(media, context)
    pq.write_table(as_table(media), context.output(RAW_TABLE), compression="zstd")
    report = _report(request.source, media, frames, received, time.monotonic() - started)
    context.tracker.log_metrics(
        {
            "collect/files": report.files,
            "collect/kept": report.kept,
            "collect/rejected": report.rejected,
            "collect/failed": report.failed,
            "collect/bytes": report.bytes,
            "collect/received_bytes": report.received_bytes,
            "collect/files_per_second": report.files_per_second,
        }
    )
    return report


def render_corpus(request: Request, context: Context, folder: Path) -> int:
    """Writes the sample corpus into ``folder`` with one child process per core; returns the frames drawn."""
    files = corpus(request.sample, context.seed)
    settings = {"folder": str(folder), "seed": context.seed, "sample": request.sample.model_dump(mode="json")}
    frames = 0
    for kind, per_call in (("video", 1), ("image", IMAGES_PER_CALL)):
        chosen = [(name, recipe) for name, recipe in files if recipe.kind == kind]
        if not chosen:
            continue
        with context.progress(f"collect: rendering {kind}s", len(chosen), "files") as bar:
            result = run_operator(
                RENDER,
                _recipes(chosen),
                settings,
                workers=context.cores,
                batch_rows=per_call,
                timeout_seconds=RENDER_TIMEOUT_SECONDS,
                on_progress=bar.advance,
            )
        if result.quarantined:
            bad = result.quarantined[0]
            raise GokuError(
                f"collect: {len(result.quarantined)} files of the sample corpus could not be rendered into {folder}; "
                f"the first is {chosen[bad.row_index][0]}: {bad.error_class}: {bad.message}. "
                "Is the disk full, or memory short?"
            )
        frames += sum(result.table.column("frames").to_pylist())
    return frames


def as_table(media: list[Medium]) -> pa.Table:
    """Rows of raw.parquet in the order given."""
    rows = [
        {
            "media_id": medium.media_id,
            "uri": medium.uri,
            "kind": medium.kind,
            "bytes": medium.bytes,
            "caption": medium.sidecar.caption,
            "captions": [{"start": s, "end": e, "text": text} for s, e, text in medium.sidecar.captions],
            "outcome": medium.outcome,
            "filter": medium.filter,
            "message": medium.message,
            "source": medium.source,
        }
        for medium in media
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _recipes(files: list[tuple[str, Recipe]]) -> pa.Table:
    return pa.table(
        {
            "name": pa.array([name for name, _ in files], pa.string()),
            "recipe": pa.array([recipe.as_json() for _, recipe in files], pa.string()),
        }
    )


def _listed(files: list[Path], uri_of: Callable[[Path], str], context: Context) -> list[Medium]:
    with context.progress("collect: reading files", len(files), "files") as bar:
        return list_media(files, uri_of, context.cores, bar.advance)


def _folder(source: str, context: Context) -> Path:
    folder = context.input(Path(source).expanduser())
    if not folder.exists():
        raise GokuError(f"collect.source: the folder {folder} does not exist. Give a folder of videos or 'sample'")
    if not folder.is_dir():
        raise GokuError(f"collect.source: {folder} is a file. Give the folder it lies in, or 'sample'")
    return folder


def _files_of(folder: Path) -> list[Path]:
    files = find_files(folder)
    if not files:
        raise GokuError(f"collect.source: the folder {folder} is empty (hidden files do not count)")
    return files


def _say_sidecar_problems(media: list[Medium], context: Context) -> None:
    problems = [(medium.source or medium.uri, medium.sidecar.problem) for medium in media if medium.sidecar.problem]
    for uri, problem in problems[:PROBLEMS_SHOWN]:
        context.say(f"collect: {uri} goes without a caption: {problem}")
    if len(problems) > PROBLEMS_SHOWN:
        context.say(f"collect: and {len(problems) - PROBLEMS_SHOWN} more sidecars that were not understood")


def _report(source: str, media: list[Medium], frames: int, received: int, seconds: float) -> Report:
    outcomes = Counter(medium.outcome for medium in media)
    return Report(
        source=source,
        files=len(media),
        kept=outcomes["kept"],
        rejected=outcomes["rejected"],
        failed=outcomes["failed"],
        kinds=dict(sorted(Counter(medium.kind for medium in media).items())),
        filters=dict(sorted(Counter(medium.filter for medium in media if medium.filter).items())),
        captioned=sum(bool(medium.sidecar.caption or medium.sidecar.captions) for medium in media),
        bytes=sum(medium.bytes for medium in media),
        seconds=round(seconds, 3),
        files_per_second=round(len(media) / max(seconds, 1e-9), 2),
        frames_rendered=frames,
        received_bytes=received,
    )
