"""What a flow shows of a big map: a task run per partition, progress, the funnel and pictures; and that it stays small."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_goku
import tiny_line
from tiny_line import new_workspace

CORE = Path(__file__).resolve().parents[2] / "goku_core"


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    from goku_core import config, tracking
    from goku_core.pipeline import executor, line, process

    monkeypatch.setattr(line, "cells", tiny_line.cells)
    monkeypatch.setattr(config, "load_params", tiny_line.load_params)
    monkeypatch.setattr(tracking, "opener", lambda settings: executor._untracked)
    monkeypatch.setattr(process, "COMMAND", [sys.executable, tiny_goku.__file__])


def runs_of_last_flow() -> tuple[dict[str, str], list[float]]:
    """Task runs of the newest flow run (name -> state), and the values of its progress artifacts."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, FlowRunFilter
    from prefect.client.schemas.sorting import FlowRunSort

    async def ask() -> tuple[dict[str, str], list[float]]:
        async with get_client() as client:
            (run,) = await client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)
            only = FlowRunFilter.model_validate({"id": {"any_": [run.id]}})
            tasks = await client.read_task_runs(flow_run_filter=only)
            shown = await client.read_artifacts(
                artifact_filter=ArtifactFilter.model_validate({"type": {"any_": ["progress"]}}), flow_run_filter=only
            )
            return {task.name: task.state_name for task in tasks}, [float(artifact.data) for artifact in shown]

    return asyncio.run(ask())


def test_a_task_run_per_partition_and_the_progress(tiny: None, tmp_path: Path, prefect_server: None) -> None:
    from flows.line import line

    workspace = new_workspace(tmp_path / "w", map_rows=9)
    assert [o["status"] for o in line(["split"], False, str(workspace))] == ["ran"]
    runs, progress = runs_of_last_flow()
    expected = {"split", *(f"split: behave {number}/5" for number in range(1, 6))}
    assert runs == dict.fromkeys(expected, "Completed")
    assert progress == [100.0]

    assert [o["status"] for o in line(["split"], False, str(workspace))] == ["already-done"]
    assert runs_of_last_flow()[0] == {"split": "Completed"}


def events(partitions: int, kept: set[int], until: int) -> list[dict[str, Any]]:
    """As `run_operator` tells them, two at a time; those behind ``until`` are begun and never finished."""
    told: list[dict[str, Any]] = [{"event": "plan", "map": "m", "partitions": partitions, "rows": partitions}]
    told += [{"event": "kept", "map": "m", "partition": number} for number in sorted(kept)]
    for number in sorted(set(range(partitions)) - kept):
        told.append({"event": "begun", "map": "m", "partition": number})
        if number < until:
            told.append({"event": "finished", "map": "m", "partition": number, "rows": 1, "quarantined": 0})
    return told


@pytest.mark.parametrize(
    ("partitions", "kept", "until", "states"),
    [
        (500, set(), 500, {"Completed": 16}),  # the largest map there is
        (500, set(range(250)), 500, {"Completed": 8}),
        (3, set(), 2, {"Completed": 2, "Failed": 1}),  # the process was killed over the third
    ],
)
def test_task_runs_stay_few_and_none_is_left_hanging(
    prefect_server: None, partitions: int, kept: set[int], until: int, states: dict[str, int]
) -> None:
    from prefect import flow

    from flows.partitions import Watch

    @flow
    def watched() -> None:
        watch = Watch("cell")
        for event in events(partitions, kept, until):
            watch(event)
        watch.close()

    watched(return_state=True)
    runs, _ = runs_of_last_flow()
    found = list(runs.values())
    assert {state: found.count(state) for state in found} == states


def test_the_whole_line_stays_below_200_task_runs(prefect_server: None) -> None:
    """Whatever the size of the data: a cell with ever more maps of ever more partitions has no more than its share.

    So the bound is a count of cells: one task run each, and those of partitions in the stages that have big maps.
    """
    from prefect import flow

    from flows.partitions import MOST_OF_CELL, Watch
    from goku_core import config
    from goku_core.pipeline import line

    @flow
    def watched() -> None:
        watch = Watch("cell")
        for number in range(5):
            for event in events(500, set(), 500):
                watch(event | {"map": f"m{number}"})
        watch.close()

    watched()
    runs, progress = runs_of_last_flow()
    assert list(runs.values()) == ["Completed"] * MOST_OF_CELL
    assert progress == [100.0] * 5, "what has no task run of its own still counts for the progress"

    maps = {file.relative_to(CORE).parts[0] for file in CORE.rglob("*.py") if "run_operator(" in file.read_text()}
    for preset in sorted((CORE.parent / "params").glob("*.yaml")):
        cells = line.cells(config.load_params(preset))
        most = len(cells) + MOST_OF_CELL * sum(cell.stage in maps for cell in cells)
        assert len(maps & {cell.stage for cell in cells}) == 4 and most < 200, f"{preset.stem}: {most}"


def test_the_funnel_and_its_frames(tmp_path: Path) -> None:
    """From what curation itself writes: every way out is a row, each with a frame where there is one."""
    import numpy as np

    from flows.pictures import frames, funnel
    from goku_core.curate import Request
    from goku_core.curate.summary import write_summary
    from goku_core.curate.table import EMPTY
    from goku_core.media.encode import write_image

    def row(name: str, outcome: str, reason: str | None) -> dict[str, Any]:
        return {
            **EMPTY,
            **{"clip_id": name, "media_id": name, "uri": f"{name}.jpg", "kind": "image", "outcome": outcome},
            **{"filter": reason, "message": reason and f"too | {reason}", "seconds": 0.0, "tier": "480p"},
        }

    rows = [row("a", "kept", None), row("b", "rejected", "side"), row("c", "rejected", "side"), row("d", "failed", "x")]
    shown = [{**one, "file": f"examples/{one['clip_id']}.jpg"} for one in rows[:3]]
    (tmp_path / "examples").mkdir()
    for one in shown:
        write_image(tmp_path / one["file"], np.zeros((8, 8, 3), np.uint8), 80)
    write_summary(rows, 4, Request(), shown, tmp_path / "funnel.json")
    summary = json.loads((tmp_path / "funnel.json").read_text())

    table = funnel(summary)
    assert [(line["step"], line["rows"]) for line in table] == [("candidates", 4), ("side", 2), ("x", 1), ("kept", 1)]
    assert table[0]["rows"] == sum(line["rows"] for line in table[1:])

    lines = frames(summary, tmp_path).splitlines()[2:]
    assert len(lines) == 2, "one frame of what was kept, one of what the filter took out"
    assert lines[1].endswith("| rejected side | too / side |")
    inside = lines[0].split("base64,")[1].split(")")[0]
    assert base64.b64decode(inside) == (tmp_path / "examples/a.jpg").read_bytes()
