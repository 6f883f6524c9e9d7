"""The flow of stage `evaluate`."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.cells import run_cells


@flow(name="evaluate", flow_run_name="evaluate")
def evaluate(strict: bool = False, workspace: str = ".") -> list[dict[str, Any]]:
    """Sample and score the trained models.

    Args:
        strict: work done by other code does not count as done.
        workspace: folder that holds params.yaml.
    """
    return run_cells(["evaluate"], workspace, strict)


if __name__ == "__main__":
    evaluate()
