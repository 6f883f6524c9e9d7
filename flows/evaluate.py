"""The flow of stage `evaluate`."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.cells import run_cells
from flows.forms import Changes


@flow(name="evaluate", flow_run_name="evaluate")
def evaluate(strict: bool = False, workspace: str = ".", changes: Changes = None) -> list[dict[str, Any]]:
    """Sample and score the trained models.

    Args:
        strict: work done by other code does not count as done.
        workspace: folder that holds params.yaml.
        changes: other values than params.yaml has, for this run alone.
    """
    return run_cells(["evaluate"], workspace, strict, changes)


if __name__ == "__main__":
    evaluate()
