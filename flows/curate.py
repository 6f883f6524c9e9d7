"""The flow of stage `curate`."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.cells import run_cells
from flows.forms import Changes


@flow(name="curate", flow_run_name="curate")
def curate(strict: bool = False, workspace: str = ".", changes: Changes = None) -> list[dict[str, Any]]:
    """Gate, clip, score, filter, deduplicate and caption the raw media; validate the result.

    Args:
        strict: work done by other code does not count as done.
        workspace: folder that holds params.yaml.
        changes: other values than params.yaml has, for this run alone.
    """
    return run_cells(["curate"], workspace, strict, changes)


if __name__ == "__main__":
    curate()
