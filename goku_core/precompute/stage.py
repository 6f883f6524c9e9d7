"""Stage `precompute`: latents and text features of every kept clip and picture, once, for every resolution."""

from __future__ import annotations

import json
import os
import shutil
import time
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from goku_core.media.spans import kept_rows, span_of_row
from goku_core.models.folders import load_vae_config, text_encoder, weights_digest
from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.pool import Devices, run_operator
from goku_core.pipeline.pool.devices import visible
from goku_core.pipeline.pool.operator import engine
from goku_core.precompute.batches import (
    BATCH_ROWS,
    Finished,
    failures,
    joined,
    key_of,
    plan,
    record_failure,
    shard_folder,
)
from goku_core.precompute.report import Report
from goku_core.precompute.request import PrecomputeRequest
from goku_core.precompute.samples import stores
from goku_core.shards import write_index

OUTPUT = "data/latents"
OPERATOR = "goku_core.precompute.encode:encode_rows"
ROWS_AT_MOST = 128  # in a batch, so that a small data set still keeps all workers busy
ROUNDS = 4  # a batch that loses a row, or its worker, is done again without it
PATCH = 2


def run(request: PrecomputeRequest, context: Context) -> Report:
    """Writes data/latents/<resolution>/ (shards and index.parquet) and data/latents/encoders.json."""
    started = time.monotonic()
    kept = kept_rows(context.input("data/clips.parquet"))
    if kept.num_rows == 0:
        raise GokuError("data/clips.parquet keeps nothing. See the funnel in reports/curation, then loosen `curate`.")
    vae = load_vae_config(context.input("models/vae"))
    _check_sizes(request, vae)
    encoders = _encoders(request, context)
    context.scratch.mkdir(parents=True, exist_ok=True)
    finished = Finished(context.scratch, encoders)
    batches, resumed = _encode(kept, request, context, finished, _rows_per_batch(request, vae))
    tables = [table for batch in batches if (table := finished.get(key_of(batch))) is not None]
    report = _publish(joined(tables), kept, request, context, encoders, resumed, time.monotonic() - started)
    context.tracker.log_metrics({f"samples_{name}": count for name, count in report.samples.items()})
    return report


def _encode(
    kept: pa.Table, request: PrecomputeRequest, context: Context, finished: Finished, rows_per_batch: int
) -> tuple[list[pa.Table], int]:
    """All batches, every one of them finished, and how many were finished before. Raises GokuError where one cannot be."""
    settings = {
        "request": request.model_dump(mode="json"),
        "vae": str(context.input("models/vae")),
        "encoders": finished.encoders,
        "workspace": str(context.workspace),
        "scratch": str(context.scratch),
        "pictures_from_clips": pc.all(pc.equal(kept["kind"], "video")).as_py(),
    }
    failed = failures(context.scratch)
    batches = plan(kept, rows_per_batch, set(failed))
    resumed = sum(finished.get(key_of(batch)) is not None for batch in batches)
    with context.progress("precompute: latents", kept.num_rows, "clips") as bar:
        bar.advance(len(failed) + sum(len(batch) for batch in batches if finished.get(key_of(batch)) is not None))
        for number in range(ROUNDS):
            waiting = [batch for batch in batches if finished.get(key_of(batch)) is None]
            if not waiting:
                return batches, resumed
            for rows in _calls(waiting):
                result = run_operator(
                    OPERATOR,
                    rows,
                    settings,
                    workers=context.cores,
                    devices=_devices(request),
                    batch_rows=rows[BATCH_ROWS][0].as_py(),
                    timeout_seconds=request.timeout_seconds,
                    memory_bytes=int(request.memory_gigabytes * (1 << 30)),
                    on_progress=bar.advance if number == 0 else None,
                )
                for one in result.quarantined:
                    if one.message.startswith("OtherEncoderError"):
                        raise GokuError(one.message.partition(": ")[2])
                    record_failure(
                        context.scratch, rows["clip_id"][one.row_index].as_py(), f"{one.error_class}: {one.message}"
                    )
            batches = plan(kept, rows_per_batch, set(failures(context.scratch)))
    if not [batch for batch in batches if finished.get(key_of(batch)) is None]:
        return batches, resumed
    raise GokuError(
        f"a batch of clips could not be encoded in {ROUNDS} rounds, though each of its clips can alone: its worker was lost "
        "every time. Raise precompute.memory_gigabytes, or lower precompute.batch_tokens or shard_megabytes."
    )


def _devices(request: PrecomputeRequest) -> Devices | None:
    """Accelerators for the workers; None: the CPU. Raises GokuError where cuda is wanted and not there."""
    if request.device == "cpu":
        return None
    # On a cluster the nodes have them, and this process need not.
    if request.device == "cuda" and engine() == "local" and not visible():
        raise GokuError("precompute.device: cuda, but there is no CUDA device here. Set it to auto or cpu.")
    return Devices(share=request.workers_per_device)


def _calls(batches: list[pa.Table]) -> list[pa.Table]:
    """Batches joined so that the pool's slices of equal length are the batches: those of one length, and behind them one that is
    shorter, as the last batch of a data set is. So a run starts its workers once."""
    waiting = sorted(batches, key=len, reverse=True)  # stable: batches of one length stay in order
    calls = []
    while waiting:
        same = [batch for batch in waiting if len(batch) == len(waiting[0])]
        members, waiting = [*same, *waiting[len(same) : len(same) + 1]], waiting[len(same) + 1 :]
        calls.append(pa.concat_tables(members).combine_chunks())
    return calls


def _check_sizes(request: PrecomputeRequest, vae: Any) -> None:
    """Raises GokuError where a resolution does not divide into tokens of this VAE's latents."""
    unit = max(16, PATCH * vae.stride[1])
    for name, at in request.resolutions.items():
        if at.aspect == "fixed" and (at.height % unit or at.width % unit):
            raise GokuError(
                f"precompute.resolutions.{name}: {at.height}x{at.width} must be multiples of {unit}: the VAE has a "
                f"stride of {vae.stride[1]}, a token is {PATCH}x{PATCH} latent cells."
            )
        try:
            vae.latent_shape(at.frames, unit, unit)
        except ValueError as error:
            raise GokuError(f"precompute.resolutions.{name}: {error}") from error


def _rows_per_batch(request: PrecomputeRequest, vae: Any) -> int:
    """Rows that fill a shard of the wanted size at the largest resolution, in float16."""
    time_stride, row_stride, column_stride = vae.stride
    values = max(
        vae.latent_channels
        * ((r.frames - 1) // time_stride + 1)
        * (r.height // row_stride)
        * (r.width // column_stride)
        for r in request.resolutions.values()
    )
    sample_bytes = 2 * values * request.windows_per_clip
    return max(1, min(ROWS_AT_MOST, request.shard_megabytes * 2**20 // sample_bytes))


def _encoders(request: PrecomputeRequest, context: Context) -> dict[str, str]:
    """Fingerprints of both encoders, for the index: latents of two encoders must never meet in one run."""
    try:
        text = text_encoder(request.text.model_dump(), folder=context.workspace)
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
    kept: pa.Table,
    request: PrecomputeRequest,
    context: Context,
    encoders: dict[str, str],
    resumed: int,
    seconds: float,
) -> Report:
    failed = [f"{clip_id}: {why}" for clip_id, why in sorted(failures(context.scratch).items())]
    if table.num_rows == 0:
        raise GokuError(
            f"no clip could be encoded; the first failure: {failed[0]}"
            if failed
            else "no kept clip or picture fits a resolution of `precompute`: every clip is shorter than its frames"
        )
    output = context.output(OUTPUT)
    output.mkdir()
    samples, tokens, shards = {}, {}, {}
    for name in request.resolutions:
        chosen = table.filter(pc.equal(table["resolution"], name))
        used = sorted(set(chosen["shard"].to_pylist()))
        write_index(output / name / "index.parquet", chosen, encoders)
        for shard in used:
            _link(shard_folder(context.scratch, name) / shard, output / name / shard)
        samples[name], tokens[name], shards[name] = len(chosen), pc.sum(chosen["tokens"]).as_py() or 0, len(used)
    (output / "encoders.json").write_text(json.dumps(encoders, indent=2, sort_keys=True) + "\n")
    spans = [span_of_row(row, context.workspace) for row in kept.to_pylist()]
    return Report(
        latents=sum(samples.values()),
        samples=samples,
        tokens=tokens,
        shards=shards,
        bytes=sum(path.stat().st_size for path in output.rglob("*.safetensors")),
        too_short=sum(not any(stores(r, span) for r in request.resolutions.values()) for span in spans),
        failed=failed,
        resumed_batches=resumed,
        seconds=seconds,
        samples_per_second=sum(samples.values()) / max(seconds, 1e-9),
    )


def _link(source: Any, target: Any) -> None:
    """The finished shard stays in scratch too: a kill before the commit record must not cost it."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)
