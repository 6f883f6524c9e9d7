"""Stage `precompute`: latents and text features of every kept clip and picture, once, for every resolution."""

from __future__ import annotations

import json
import time

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from goku_core.media.spans import COLUMNS, Span, span_of_row
from goku_core.models.folders import text_encoder, weights_digest
from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.pool import run_operator
from goku_core.precompute.encode import stores
from goku_core.precompute.report import Report
from goku_core.precompute.request import PrecomputeRequest
from goku_core.shards import write_index

OUTPUT = "data/latents"
OPERATOR = "goku_core.precompute.encode:encode_rows"
ROWS_AT_MOST = 128  # in a batch, so that a small data set still keeps all workers busy
TIMEOUT_SECONDS = 300.0
MEMORY_BYTES = 6 << 30


def run(request: PrecomputeRequest, context: Context) -> Report:
    """Writes data/latents/<resolution>/ (shards and index.parquet) and data/latents/encoders.json."""
    started = time.monotonic()
    kept = _kept_rows(context)
    spans = [span_of_row(row, context.workspace) for row in kept.to_pylist()]
    output = context.output(OUTPUT)
    output.mkdir()
    encoders = _encoders(request, context)
    with context.progress("precompute: latents", len(spans), "clips") as bar:
        result = run_operator(
            OPERATOR,
            kept,
            {
                "request": request.model_dump(mode="json"),
                "vae": str(context.input("models/vae")),
                "workspace": str(context.workspace),
                "output": str(output),
                "pictures_from_clips": all(span.is_clip for span in spans),
            },
            workers=context.cores,
            batch_rows=_rows_per_batch(request),
            timeout_seconds=TIMEOUT_SECONDS,
            memory_bytes=MEMORY_BYTES,
            on_progress=bar.advance,
        )
    failed = [f"{spans[q.row_index].clip_id}: {q.error_class}: {q.message}" for q in result.quarantined]
    report = _publish(result.table, request, context, encoders, spans, failed, time.monotonic() - started)
    context.tracker.log_metrics({f"samples_{name}": count for name, count in report.samples.items()})
    return report


def _kept_rows(context: Context) -> pa.Table:
    table = pq.read_table(context.input("data/clips.parquet"), columns=[*COLUMNS, "outcome"])
    kept = table.filter(pc.equal(table["outcome"], "kept")).sort_by("clip_id").combine_chunks()
    if kept.num_rows == 0:
        raise GokuError("data/clips.parquet keeps nothing. See the funnel in reports/curation, then loosen `curate`.")
    return kept


def _rows_per_batch(request: PrecomputeRequest) -> int:
    """Rows that fill a shard of the wanted size at the largest resolution (float16, 16 channels, stride 4x8x8)."""
    values = max(
        16 * ((r.frames - 1) // 4 + 1) * (r.height // 8) * (r.width // 8) for r in request.resolutions.values()
    )
    sample_bytes = 2 * values * request.windows_per_clip
    return max(1, min(ROWS_AT_MOST, request.shard_megabytes * 2**20 // sample_bytes))


def _encoders(request: PrecomputeRequest, context: Context) -> dict[str, str]:
    """Fingerprints of both encoders, for the index: latents of two encoders must never meet in one run."""
    try:
        text = text_encoder(request.text.model_dump())
    except FileNotFoundError as error:
        raise GokuError(str(error)) from error
    return {
        "vae": weights_digest(context.input("models/vae")),
        "text": text.fingerprint,
        "text_request": request.text.model_dump_json(),
        "resolutions": json.dumps({name: r.model_dump() for name, r in request.resolutions.items()}, sort_keys=True),
    }


def _publish(
    table: pa.Table,
    request: PrecomputeRequest,
    context: Context,
    encoders: dict[str, str],
    spans: list[Span],
    failed: list[str],
    seconds: float,
) -> Report:
    output = context.output(OUTPUT)
    samples, tokens, shards = {}, {}, {}
    for name in request.resolutions:
        chosen = table.filter(pc.equal(table["resolution"], name)).drop_columns(["resolution"])
        (output / name).mkdir(exist_ok=True)
        write_index(output / name / "index.parquet", chosen.to_pylist(), encoders)
        samples[name] = chosen.num_rows
        tokens[name] = pc.sum(chosen["tokens"]).as_py() or 0
        used = set(chosen["shard"].to_pylist())
        shards[name] = len(used)
        # A batch that was tried again row by row leaves the shard of its first try behind.
        for path in (output / name).glob("*.safetensors"):
            if path.name not in used:
                path.unlink()
    (output / "encoders.json").write_text(json.dumps(encoders, indent=2, sort_keys=True) + "\n")
    if not any(samples.values()):
        raise GokuError(
            "no kept clip or picture fits a resolution of `precompute`: every clip is shorter than its frames"
        )
    stored = sum(path.stat().st_size for path in output.rglob("*.safetensors"))
    return Report(
        latents=sum(samples.values()),
        samples=samples,
        tokens=tokens,
        shards=shards,
        bytes=stored,
        too_short=sum(not any(stores(r, span) for r in request.resolutions.values()) for span in spans),
        failed=failed,
        seconds=seconds,
        samples_per_second=sum(samples.values()) / max(seconds, 1e-9),
    )
