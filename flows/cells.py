"""A Prefect task is a cell of the line. It asks whether the work is done, and else starts the process that does it.

That process is what `dvc repro` starts too: both are drivers of one command. Prefect caches nothing here.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext

from flows.forms import Changes, differing, inside
from flows.goodput import show_goodput
from flows.limits import place_to_train
from flows.partitions import Watch
from flows.pictures import show
from flows.retries import MOST, PAUSES, may_be_repeated
from goku_core import config
from goku_core.pipeline import line
from goku_core.pipeline.errors import StageFailed
from goku_core.pipeline.executor import find_done
from goku_core.pipeline.process import execute_in_child
from goku_core.pipeline.versions.turns import shared, waits_for


def run_cells(names: list[str], workspace: str, strict: bool, changes: Changes = None) -> list[dict[str, Any]]:
    """Run cells (none named: the whole line) in order; the first that fails ends the flow. For use in a flow."""
    place = inside(workspace)
    changes = differing(changes, place)  # what is wrong with them is said before any work starts
    cells = line.select(line.cells(config.load_params(place / "params.yaml", changes)), names)
    outcomes: list[dict[str, Any]] = []
    with shared(place, waits_for("flow")):
        try:
            for cell in cells:
                outcomes.append(run_cell(cell.name, str(place), strict, changes))
        except StageFailed as error:
            error.before = outcomes
            raise
    rows = [
        {key: o[key] for key in ("cell", "status")}
        | {"seconds": round(o["seconds"], 1), "fingerprint": o["fingerprint"][:12]}
        for o in outcomes
    ]
    create_table_artifact(rows, key="cells", description="What each cell of the line did, and under which fingerprint.")
    return outcomes


@task(
    task_run_name="{name}",
    cache_policy=NO_CACHE,
    retries=MOST,
    retry_delay_seconds=PAUSES,
    retry_condition_fn=may_be_repeated,
)
def run_cell(name: str, workspace: str, strict: bool, changes: Changes = None) -> dict[str, Any]:
    """One cell. Raises `GokuError` for what a user must mend, `StageFailed` where the body failed."""
    place = Path(workspace).resolve()
    (cell,) = line.select(line.cells(config.load_params(place / "params.yaml", changes)), [name])
    if outcome := find_done(cell, place, strict):
        facts = outcome.as_json()
    else:
        with place_to_train(cell.stage, place), closing(Watch(name)) as watch:
            facts = execute_in_child(name, place, "prefect", _flow_run(), strict, watch, changes)
        show(name, place)
        show_goodput(cell, place, facts["fingerprint"])
    get_run_logger().info("%s: %s (%s)", name, facts["status"], facts["fingerprint"][:12])
    return facts


def _flow_run() -> str:
    context = FlowRunContext.get()
    return str(context.flow_run.id) if context and context.flow_run else ""
