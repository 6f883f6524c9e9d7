"""The funnel: every raw file through survey, tiers, deduplication and captions, into clips.parquet and the report.

in = kept + rejected + failed, at every step: a file or clip is never lost, and each has its reason in words.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, Field

from goku_core.curate import duplicates, proxies, tiers
from goku_core.curate.captions import step as captions
from goku_core.curate.gallery import write_gallery
from goku_core.curate.gate import Verdict
from goku_core.curate.models import step as models
from goku_core.curate.page import write_page
from goku_core.curate.request import Request
from goku_core.curate.summary import write_summary
from goku_core.curate.survey import rejected
from goku_core.curate.table import EMPTY, SCHEMA, clip_id
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
OPERATOR = "goku_core.curate.survey:survey"
BATCH_ROWS = 2  # small, because files differ a hundredfold in cost


class Report(BaseModel):
    """What curation did, in numbers."""

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
    models.check(request, context)
    captions.check(request, context)
    taxonomy.check(request, context)
    folder = context.output(REPORT)
    folder.mkdir(parents=True, exist_ok=True)
    sampled = context.scratch / PROXIES  # frames that the survey left for scorers, captioners and classifiers
    rows = _survey(raw, request, context)
    survey_seconds = time.monotonic() - started
    models.score(rows, request, context, sampled)
    _judge(rows, request)
    captions.caption(rows, raw, request, context, sampled)
    taxonomy.label(rows, request, context, sampled)
    rows = balance(rows, request)
    _conserve(raw, rows)
    schema = models.described(SCHEMA, request, context)
    table = pa.Table.from_pylist([{name: row[name] for name in SCHEMA.names} for row in rows], schema=schema)
    validate(table, request, folder / "validation.json", raw.num_rows)
    pq.write_table(table, context.output(CLIP_TABLE), compression="zstd")

    def locate(uri: str) -> Path:
        return context.staging / uri if uri.startswith(f"{TRANSCODED}/") else context.input(uri)

    examples = write_gallery(rows, folder, request, locate)
    write_summary(rows, raw.num_rows, request, examples, folder / "funnel.json")
    write_page(rows, request, examples, folder / "funnel.json", context.output(PAGE))
    report = _report(rows, raw.num_rows, survey_seconds, time.monotonic() - started)
    numbers = {"sources": report.sources, "clips": report.clips, "kept": report.kept}
    context.tracker.log_metrics({f"curate/{name}": float(value) for name, value in numbers.items()})
    context.say(
        f"curate: {report.sources} files, {report.clips} candidates: {report.kept} kept "
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
    }
    with context.progress("curate: decode and score", raw.num_rows, "files") as bar:
        result = run_operator(
            OPERATOR,
            sent,
            settings,
            workers=context.cores,
            batch_rows=BATCH_ROWS,
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


def _judge(rows: list[dict[str, Any]], request: Request) -> None:
    for index, row in enumerate(rows):
        if row["outcome"] == "kept":
            tier = tiers.assign(row, request)
            rows[index] = rejected(row, tier) if isinstance(tier, Verdict) else row | {"tier": tier}
    for duplicate in duplicates.find(rows, request.dedup):
        rows[duplicate.row] = rejected(rows[duplicate.row], duplicate.verdict)


def _conserve(raw: pa.Table, rows: list[dict[str, Any]]) -> None:
    """Every source has a row, and no row comes from nowhere."""
    given, found = set(raw["media_id"].to_pylist()), {row["media_id"] for row in rows}
    if lost := sorted(given - found):
        raise GokuError(f"curate lost {len(lost)} of {len(given)} files, the first is {lost[0]}; run it again")
    if strange := sorted(found - given):
        raise GokuError(f"curate has rows of {len(strange)} media that were never collected, the first is {strange[0]}")


def _report(rows: list[dict[str, Any]], sources: int, survey_seconds: float, seconds: float) -> Report:
    kept = [row for row in rows if row["outcome"] == "kept"]
    videos = [row for row in kept if row["kind"] == "video"]
    return Report(
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
