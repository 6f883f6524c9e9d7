"""The step of the funnel that scores with weights: from rows to rows, through the operator in supervised workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from goku_core.curate.models.calibration import calibrate
from goku_core.curate.models.operator import SENT
from goku_core.curate.models.request import COLUMNS, Models
from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.pool import run_operator
from goku_core.scorers import weights
from goku_core.scorers.devices import accelerators

if TYPE_CHECKING:
    from goku_core.curate.request import Request

OPERATOR = "goku_core.curate.models.operator:score"
CALIBRATION = "reports/curation/motion_calibration.json"
SENT_SCHEMA = pa.schema([(name, pa.int64() if "_p" in name or "base" in name else pa.string()) for name in SENT])


def check(request: Request, context: Context) -> None:
    """Loads what is named, once, before hours are spent on decoding.

    Raises `GokuError` where weights are missing or are not what their scorer needs: said once, not once per clip.
    """
    if not request.models.on:
        return
    settings, limits = _settings(request, context, Path()), _limits(request)
    try:
        run_operator(OPERATOR, SENT_SCHEMA.empty_table(), settings, workers=1, **limits)
    except GokuError as error:
        reason = str(getattr(error.__cause__, "message", error)).removeprefix("GokuError: ")
        raise GokuError(f"curate.models: {reason}") from error


def score(rows: list[dict[str, Any]], request: Request, context: Context, proxies: Path) -> None:
    """Fills in the columns of the scorers that are on, in place, for every row that nothing has rejected yet.

    rows: those of the survey. proxies: folder of the sampled frames. A row whose scoring fails becomes ``failed`` with
    its error class.
    """
    models = request.models
    if not models.on:
        return
    chosen = [row for row in rows if row["outcome"] == "kept"]
    settings = _settings(request, context, proxies)
    # Pictures have one frame, clips several; batches of each kind fill a pass of the networks.
    with context.progress(f"curate: {', '.join(models.on)}", len(chosen), "clips") as bar:
        for kind, frames in (("video", models.frames), ("image", 1)):
            part = [row for row in chosen if row["kind"] == kind]
            if not part:
                continue
            table = pa.Table.from_pylist([{name: row[name] for name in SENT} for row in part], schema=SENT_SCHEMA)
            result = run_operator(
                OPERATOR,
                table,
                settings,
                workers=context.cores,
                keep=context.scratch / "scores" / kind,
                batch_rows=max(1, models.batch // frames),
                on_progress=bar.advance,
                **_limits(request),
            )
            _enter(part, result.table, models)
            for failure in result.quarantined:
                _failed(part[failure.row_index], failure.error_class, failure.message)
    if models.raft.weights:
        report = calibrate(rows, request)
        context.output(CALIBRATION).write_text(json.dumps(report, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _settings(request: Request, context: Context, proxies: Path) -> dict[str, Any]:
    """What the operator is told. Raises GokuError where weights are missing."""
    models = request.models
    places = {name: str(place) for name, place in _places(models, context).items()}
    return {"models": models.model_dump(mode="json"), "places": places, "proxies": str(proxies)}


def _limits(request: Request) -> dict[str, Any]:
    """Of a worker, and its device. Raises GokuError where a GPU is demanded and not there."""
    return {
        "timeout_seconds": request.timeout_seconds,
        "memory_bytes": int(request.models.memory_gigabytes * (1 << 30)),
        "devices": accelerators(request.models.device, request.models.share, "curate.models.device"),
    }


def described(schema: pa.Schema, request: Request, context: Context) -> pa.Schema:
    """The table's schema with the model, its weights' digest and its licence in the metadata of the columns that are on."""
    models = request.models
    for name, place in _places(models, context).items():
        index = schema.get_field_index(COLUMNS[name])
        told = {"model": place.name, "weights_sha256": weights.digest(place), "licence": weights.licence(place)}
        if name == "aesthetic":
            body = context.input(models.clip.weights)
            told |= {"embedding": body.name, "embedding_sha256": weights.digest(body)}
        field = schema.field(index)
        schema = schema.set(index, field.with_metadata({**(field.metadata or {}), **told}))
    return schema


def _places(models: Models, context: Context) -> dict[str, Path]:
    return {
        name: weights.locate(name, context.input(getattr(models, name).weights), f"curate.models.{name}.weights")
        for name in models.on
    }


def _enter(part: list[dict[str, Any]], answers: pa.Table, models: Models) -> None:
    """Scores into their rows. A number that is none is a failure, never a score."""
    scalars = answers.drop_columns(["clip_embedding"]).to_pylist()
    embeddings = [_array(value) for value in answers["clip_embedding"]]
    by_id = {answer["clip_id"]: answer | {"clip_embedding": e} for answer, e in zip(scalars, embeddings, strict=True)}
    columns = [COLUMNS[name] for name in models.on]
    for row in part:
        answer = by_id.get(row["clip_id"])
        if answer is None:  # quarantined
            continue
        if answer["error_class"]:
            _failed(row, answer["error_class"], answer["message"])
            continue
        values = {column: answer[column] for column in columns}
        # None is no number to be wrong: a picture has no motion.
        if wrong := [c for c, value in values.items() if value is not None and not np.isfinite(value).all()]:
            _failed(row, "not-finite", f"{wrong[0]} is not a finite number")
            continue
        row |= values


def _array(value: pa.ListScalar) -> np.ndarray | None:
    """float32 (d,): as a list of Python's numbers an embedding would take ten times the memory."""
    return None if value.values is None else value.values.to_numpy()


def _failed(row: dict[str, Any], error_class: str, message: str) -> None:
    row |= {"outcome": "failed", "tier": None, "filter": error_class, "message": message}
