"""The funnel: every raw file through survey, tiers, deduplication and captions, into clips.parquet and the report.

in = kept + rejected + failed, at every step: a file or clip is never lost, and each has its reason in words.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, Field

from goku_core.curate import proxies
from goku_core.curate.captions import step as captions
from goku_core.curate.checks import drift, library
from goku_core.curate.checks.conservation import Conservation
from goku_core.curate.checks.page import write_validation_page
from goku_core.curate.decide import decide
from goku_core.curate.gallery import write_gallery
from goku_core.curate.models import step as models
from goku_core.curate.page import write_page
from goku_core.curate.request import Request
from goku_core.curate.summary import write_summary
from goku_core.curate.table import EMPTY, SCHEMA, clip_id, table_of
from goku_core.curate.taxonomy import step as taxonomy
from goku_core.curate.taxonomy.balance import balance
from goku_core.curate.validation import validate
from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.files import link
from goku_core.pipeline.pool import run_operator

RAW_TABLE, CLIP_TABLE, TRANSCODED, REPORT = (
    "data/raw.parquet",
    "data/clips.parquet",
    "data/transcoded",
    "reports/curation",
)
PAGE = "reports/curation.html"
PROXIES = "proxies"  # below scratch: sampled frames for models and captioners
STILLS = "stills"  # below scratch: a picture of each clip for the gallery
OPERATOR = "goku_core.curate.survey:survey"
FEW_FILES = 64  # up to so many are handed out one by one: two long films shall not wait for one core
BATCH_ROWS = 2  # of more; small, because files differ a hundredfold in cost
VERSION_DIGITS = 12
ACCEPT_DRIFT = (
    "GOKU_ACCEPT_DRIFT"  # not a parameter: it changes no output, and must not make finished work count as undone
)


class Report(BaseModel):
    """What curation did, in numbers."""

    version: str = Field(description="name of the published table: the start of its SHA-256")
    sources: int = Field(description="raw files that were surveyed")
    clips: int = Field(
        description="rows of clips.parquet: candidate clips, pictures, and files that never became clips"
    )
    kept: int
    kept_videos: int
    kept_images: int
    kept_video_seconds: float
    rejected: dict[str, int] = Field(description="rows by filter")
    failed: dict[str, int] = Field(description="rows by error class")
    survey_seconds: float = Field(description="wall time of the pass over all files, s")
    seconds: float = Field(description="wall time, s")


def curate(request: Request, context: Context) -> Report:
    """Runs the whole stage. Raises `GokuError` where nothing was collected or the result fails its validation."""
    started = time.monotonic()
    raw = _collected(context.input(RAW_TABLE))
    library.import_ahead()
    models.check(request, context)
    captions.check(request, context)
    taxonomy.check(request, context)
    folder = context.output(REPORT)
    folder.mkdir(parents=True, exist_ok=True)
    sampled = context.scratch / PROXIES  # frames that the survey left for scorers, captioners and classifiers
    rows = _survey(raw, request, context)
    survey_seconds = time.monotonic() - started
    conservation = Conservation(raw["media_id"].to_pylist())
    conservation.note("survey", rows)
    models.score(rows, request, context, sampled)
    # As the table stores them: else a score that lies on a threshold could be decided otherwise by whoever reads it there.
    rows = decide(table_of(rows).to_pylist(), request)
    conservation.note("decide", rows)
    captions.caption(rows, raw, request, context, sampled)
    taxonomy.label(rows, request, context, sampled)
    conservation.note("caption", rows)
    rows = balance(rows, request)
    conservation.note("balance", rows)
    table = table_of(rows, models.described(SCHEMA, request, context))
    moved = _drift(table, request, context)
    validate(table, request, folder / "validation.json", raw.num_rows, conservation.steps, moved)
    write_validation_page(folder / "validation.json", folder / "validation.html")
    pq.write_table(table, context.output(CLIP_TABLE), compression="zstd")
    version = hashlib.sha256(context.output(CLIP_TABLE).read_bytes()).hexdigest()[:VERSION_DIGITS]

    def locate(uri: str) -> Path:
        return context.staging / uri if uri.startswith(f"{TRANSCODED}/") else context.input(uri)

    examples = write_gallery(rows, folder, request, locate, context.scratch / STILLS, context.cores)
    write_summary(rows, raw.num_rows, request, examples, folder / "funnel.json")
    write_page(rows, request, examples, folder / "funnel.json", context.output(PAGE))
    report = _report(version, rows, raw.num_rows, survey_seconds, time.monotonic() - started)
    numbers = {"sources": report.sources, "clips": report.clips, "kept": report.kept}
    context.tracker.log_metrics({f"curate/{name}": float(value) for name, value in numbers.items()})
    context.say(
        f"curate: version {version}: {report.sources} files, {report.clips} candidates: {report.kept} kept "
        f"({report.kept_videos} clips, {report.kept_images} pictures), {sum(report.rejected.values())} rejected, "
        f"{sum(report.failed.values())} failed"
    )
    return report


def _collected(path: Path) -> pa.Table:
    """Raw rows that may be curated; what `collect` refused stays in its own table."""
    if not path.is_file():
        raise GokuError(f"{path} is not there: run `goku run collect` first")
    table = pq.read_table(path)
    table = table.filter(pc.equal(table["outcome"], "kept"))
    if table.num_rows == 0:
        raise GokuError(f"{path} holds no usable file: look at its columns filter and message, or at collect.source")
    copies = [name for name, count in Counter(table["media_id"].to_pylist()).items() if count > 1]
    if copies:
        raise GokuError(f"{path}: medium {copies[0]} is marked kept more than once: run `goku run collect` again")
    return table


def _survey(raw: pa.Table, request: Request, context: Context) -> list[dict[str, Any]]:
    """One pass over all files, in worker processes. Rows come in the order of raw.parquet, then by time."""
    # Videos first, long ones before short ones: no core idles at the end behind one long file.
    order = pc.sort_indices(raw, sort_keys=[("kind", "descending"), ("bytes", "descending"), ("media_id", "ascending")])
    sent = raw.take(order).select(["media_id", "uri", "kind"])
    copies = context.scratch / "transcoded"  # finished partitions speak of them: they outlive the attempt as well
    settings = {
        "request": request.model_dump(mode="json"),
        "workspace": str(context.workspace),
        "transcoded": str(copies),
        "proxies": str(context.scratch / PROXIES) if proxies.wanted(request) else None,
        "stills": str(context.scratch / STILLS) if request.previews.frames else None,
    }
    with context.progress("curate: decode and score", raw.num_rows, "files") as bar:
        result = run_operator(
            OPERATOR,
            sent,
            settings,
            workers=context.cores,
            batch_rows=1 if raw.num_rows <= FEW_FILES else BATCH_ROWS,
            timeout_seconds=request.timeout_seconds,
            memory_bytes=int(request.memory_gigabytes * (1 << 30)),
            keep=context.scratch / "survey",
            on_progress=bar.advance,
        )
    rows = result.table.to_pylist()
    _publish_copies(rows, copies, context.output(TRANSCODED))
    for failure in result.quarantined:
        source = sent.slice(failure.row_index, 1).to_pylist()[0]
        name = clip_id(source["media_id"], 0, 0)
        reason = {"outcome": "failed", "filter": failure.error_class, "message": failure.message}
        rows.append(EMPTY | source | {"clip_id": name} | reason)
    place = {media_id: index for index, media_id in enumerate(raw["media_id"].to_pylist())}
    return sorted(rows, key=lambda row: (place[row["media_id"]], row["start_pts"]))


def _publish_copies(rows: list[dict[str, Any]], copies: Path, output: Path) -> None:
    """The transcodes that rows name, and no leavings of a child that died over one."""
    output.mkdir(parents=True, exist_ok=True)
    for name in sorted({Path(row["uri"]).name for row in rows if row["uri"].startswith(f"{TRANSCODED}/")}):
        link(copies / name, output / name)


def _drift(table: pa.Table, request: Request, context: Context) -> list[drift.Distance]:
    """Distance from the version before; nothing where there is none, or where this one is accepted as it is."""
    if os.environ.get(ACCEPT_DRIFT) or request.drift.max_distance >= 1:
        return []
    media = set(pc.unique(table["media_id"]).to_pylist())
    before = drift.previous(context.workspace, context.fingerprint, media, request.drift.min_rows)
    if before is None or pc.sum(pc.equal(table["outcome"], "kept")).as_py() < request.drift.min_rows:
        return []
    found = drift.distances(before[1], table)
    context.tracker.log_metrics({f"curate/drift/{one.column}": one.distance for one in found})
    return found


def _report(version: str, rows: list[dict[str, Any]], sources: int, survey_seconds: float, seconds: float) -> Report:
    kept = [row for row in rows if row["outcome"] == "kept"]
    videos = [row for row in kept if row["kind"] == "video"]
    return Report(
        version=version,
        sources=sources,
        clips=len(rows),
        kept=len(kept),
        kept_videos=len(videos),
        kept_images=len(kept) - len(videos),
        kept_video_seconds=round(sum(row["seconds"] for row in videos), 3),
        rejected=dict(sorted(Counter(row["filter"] for row in rows if row["outcome"] == "rejected").items())),
        failed=dict(sorted(Counter(row["filter"] for row in rows if row["outcome"] == "failed").items())),
        survey_seconds=round(survey_seconds, 2),
        seconds=round(seconds, 2),
    )
