"""Great Expectations on the finished table: what everybody downstream may rely on, checked before it is published.

An ephemeral context: no project folder, no telemetry. The result is stripped of run ids and times,
so that equal tables give equal files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from goku_core.curate.checks.drift import Distance
from goku_core.curate.checks.library import great_expectations
from goku_core.curate.models.request import COLUMNS
from goku_core.curate.request import Request
from goku_core.curate.table import OUTCOMES
from goku_core.pipeline.errors import GokuError

MOST_IDS = 5  # offending clips named per expectation
MOST_LINES = 12  # of the message
PAYLOAD = ["signature"]  # bytes that no expectation is about


def validate(
    table: pa.Table,
    request: Request,
    path: Path,
    sources: int | None = None,
    steps: Sequence[Mapping[str, Any]] = (),
    drift: Sequence[Distance] = (),
) -> None:
    """Checks the table, the steps that led to it and its distance from the version before; writes the result (JSON).

    sources  how many media the table must speak of
    steps    those of `checks.conservation.Conservation`
    drift    those of `checks.drift.distances`. Written only where they are too large: a published file must not depend on
             what was published before it
    Raises `GokuError` naming the offending clips.
    """
    context = _context()
    results = _run(context, table.drop_columns(PAYLOAD), _expectations(request, sources), "clips", "clip_id")
    if steps:
        results += _with_ids(
            _run(context, _steps(steps), _of_steps(), "steps", "step"), {s["step"]: s["ids"] for s in steps}
        )
    if drift:
        known = {one.column: list(one.clips) for one in drift}
        found = _with_ids(_run(context, _distances(drift), _of_drift(request), "drift", "column"), known)
        results += [result for result in found if not result["success"]]
    failed = [result for result in results if not result["success"]]
    summary = {"success": not failed, "expectations": len(results), "failed": len(failed), "results": results}
    summary |= {"steps": [dict(step) for step in steps]}
    path.write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    if failed:
        raise GokuError(_told(failed, len(results), drift))


def _told(failed: list[dict[str, Any]], expectations: int, drift: Sequence[Distance]) -> str:
    ordered = sorted(failed, key=lambda result: not result["clips"])
    lines = [f"clips.parquet fails {len(failed)} of {expectations} expectations. {_line(ordered[0])}"]
    lines += [_line(result) for result in ordered[1:MOST_LINES]]
    if any(result["batch"] == "drift" for result in failed):
        grown = {
            one.column: f"{one.column} lies {one.distance:.2f} from the version before (most in: {one.grown})"
            for one in drift
        }
        lines += [grown[name] for result in failed if result["batch"] == "drift" for name in result["where"]]
        lines.append(
            "Is that meant? Then set GOKU_ACCEPT_DRIFT=1 for this run, or raise curate.drift.max_distance. "
            "`goku dataset diff` compares published versions."
        )
    return "\n".join([*lines, "Nothing was published."])


def _line(result: Mapping[str, Any]) -> str:
    where = f"; clips: {', '.join(result['clips'])}" if result["clips"] else ""
    place = "" if result["batch"] == "clips" else f" ({result['batch']}: {', '.join(result['where'])})"
    return f"{result['expectation']} on {result['arguments']}{place}: {result['unexpected']} rows{where}."


def _steps(steps: Sequence[Mapping[str, Any]]) -> pa.Table:
    rows = [{name: step[name] for name in step if name != "ids"} for step in steps]
    return pa.Table.from_pylist([row | {"accounted": row["kept"] + row["rejected"] + row["failed"]} for row in rows])


def _of_steps() -> list[Any]:
    import great_expectations.expectations as gxe

    none = {"min_value": 0, "max_value": 0}
    zero = [gxe.ExpectColumnValuesToBeBetween(column=column, **none) for column in ("lost", "strange", "twice")]
    return [*zero, gxe.ExpectColumnPairValuesToBeEqual(column_A="rows", column_B="accounted")]


def _distances(drift: Sequence[Distance]) -> pa.Table:
    return pa.Table.from_pylist([{name: asdict(one)[name] for name in ("column", "distance")} for one in drift])


def _of_drift(request: Request) -> list[Any]:
    import great_expectations.expectations as gxe

    return [gxe.ExpectColumnValuesToBeBetween(column="distance", max_value=request.drift.max_distance)]


def _with_ids(results: list[dict[str, Any]], ids: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    """Where the rows of a batch are steps or columns: the clips behind those that were not as expected."""
    return [
        result | {"clips": [clip for name in result["where"] for clip in ids[name]][:MOST_IDS]} for result in results
    ]


def _expectations(request: Request, sources: int | None) -> list[Any]:
    import great_expectations.expectations as gxe

    expectations: list[Any] = [
        gxe.ExpectColumnValuesToNotBeNull(column=column)
        for column in ("clip_id", "media_id", "uri", "kind", "outcome", "caption", "text", "start_pts", "end_pts")
    ]
    expectations += [
        gxe.ExpectColumnValuesToBeUnique(column="clip_id"),
        gxe.ExpectColumnValuesToBeInSet(column="outcome", value_set=list(OUTCOMES)),
        gxe.ExpectColumnValuesToBeInSet(
            column="caption_source", value_set=["sidecar", "keyframes", "clip", "merge", "none"]
        ),
        gxe.ExpectColumnValuesToBeBetween(column="label_score", min_value=0, max_value=1),
        gxe.ExpectColumnValuesToBeBetween(column="repeats", min_value=0),
        gxe.ExpectColumnValuesToMatchRegex(column="media_id", regex="^[0-9a-f]{64}$"),
        gxe.ExpectColumnValuesToMatchRegex(column="phash", regex="^[0-9a-f]{16}$"),
        gxe.ExpectColumnValuesToBeBetween(column="ocr_coverage", min_value=0, max_value=1),
        gxe.ExpectColumnValuesToBeBetween(column="exposure", min_value=0, max_value=1),
        gxe.ExpectColumnValuesToBeBetween(column="quality_heuristic", min_value=0, max_value=10),
        gxe.ExpectColumnValuesToBeBetween(column="sharpness", min_value=0),
        gxe.ExpectColumnValuesToBeBetween(column="motion", min_value=0),
        *(gxe.ExpectColumnValuesToBeBetween(column=name, min_value=0, max_value=1) for name in ("nsfw", "watermark")),
    ]
    if sources is not None:
        count = {"min_value": sources, "max_value": sources}
        expectations.append(gxe.ExpectColumnUniqueValueCountToBeBetween(column="media_id", **count))
    return expectations + _of_kept(request)


def _of_kept(request: Request) -> list[Any]:
    """Kept rows have no verdict against them and meet their tier's demands; the others have their reason."""
    import great_expectations.expectations as gxe

    kept = {"row_condition": 'outcome == "kept"', "condition_parser": "pandas"}
    gone = {"row_condition": 'outcome != "kept"', "condition_parser": "pandas"}
    expectations: list[Any] = []
    for column in ("filter", "message"):
        expectations.append(gxe.ExpectColumnValuesToBeNull(column=column, **kept))
        expectations.append(gxe.ExpectColumnValuesToNotBeNull(column=column, **gone))
    expectations.append(gxe.ExpectColumnValuesToBeNull(column="tier", **gone))
    expectations.append(gxe.ExpectColumnValuesToBeInSet(column="tier", value_set=sorted(request.tiers), **kept))
    expectations.append(gxe.ExpectColumnValuesToBeBetween(column="repeats", min_value=1, **kept))
    for column in ("phash", "width", "height", "time_base_den"):
        expectations.append(gxe.ExpectColumnValuesToNotBeNull(column=column, **kept))
    least = request.quality_heuristic_min
    expectations.append(gxe.ExpectColumnValuesToBeBetween(column="quality_heuristic", min_value=least, **kept))
    expectations.append(gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="end_pts", column_B="start_pts", **kept))
    for name, most in (("nsfw", request.nsfw_max), ("watermark", request.watermark_max)):
        expectations.append(gxe.ExpectColumnValuesToBeBetween(column=name, max_value=most, **kept))
    for scorer in request.models.on:
        condition = kept if scorer != "raft" else kept | {"row_condition": 'outcome == "kept" and kind == "video"'}
        expectations.append(gxe.ExpectColumnValuesToNotBeNull(column=COLUMNS[scorer], **condition))
    judged = "motion_raft" if "raft" in request.models.on else "motion"
    for name, tier in sorted(request.tiers.items()):
        every = {"row_condition": f'tier == "{name}"', "condition_parser": "pandas"}
        video = {"row_condition": f'tier == "{name}" and kind == "video"', "condition_parser": "pandas"}
        motion = {"min_value": tier.motion_min, "max_value": tier.motion_max}
        expectations += [
            gxe.ExpectColumnValuesToBeBetween(column="ocr_coverage", max_value=tier.ocr_max, **every),
            gxe.ExpectColumnValuesToBeBetween(column="aesthetic", min_value=tier.aesthetic_min, **every),
            gxe.ExpectColumnValuesToBeBetween(column=judged, **motion, **video),
            gxe.ExpectColumnValuesToNotBeNull(column=judged, **video),
        ]
    return expectations


def _context() -> Any:
    context = great_expectations().get_context(mode="ephemeral")
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context


def _run(context: Any, table: pa.Table, expectations: list[Any], name: str, index: str) -> list[dict[str, Any]]:
    """Results of one batch. index: the column that names a row."""
    import great_expectations as gx

    # All at once: an expectation that is added to a suite saves the whole suite.
    suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=expectations))
    asset = context.data_sources.add_pandas(name).add_dataframe_asset(name)
    batch = asset.add_batch_definition_whole_dataframe("all")
    definition = gx.ValidationDefinition(data=batch, suite=suite, name=name)
    form = {"result_format": "COMPLETE", "unexpected_index_column_names": [index]}
    outcome = context.validation_definitions.add(definition).run(
        batch_parameters={"dataframe": table.to_pandas()}, result_format=form
    )
    # The order of results is not that of the suite, and ids and times differ from run to run.
    found = [_plain(result, index) | {"batch": name} for result in outcome.to_json_dict()["results"]]
    return sorted(found, key=json.dumps)


def _plain(result: dict[str, Any], index: str) -> dict[str, Any]:
    config, found = result["expectation_config"], result["result"]
    arguments = {k: v for k, v in config["kwargs"].items() if k not in ("batch_id", "condition_parser")}
    if isinstance(condition := arguments.get("row_condition"), dict):
        arguments["row_condition"] = condition.get("pass_through_filter", condition)
    rows = found.get("unexpected_index_list") or []
    problem = result["exception_info"].get("exception_message")
    names = sorted({str(row[index]) for row in rows if isinstance(row, dict)})[:MOST_IDS]
    return {
        "expectation": config["type"],
        "arguments": arguments,
        "success": bool(result["success"]),
        "unexpected": int(found.get("unexpected_count") or 0),
        "where": names,
        "clips": names,
    } | ({"error": str(problem)} if problem else {})
