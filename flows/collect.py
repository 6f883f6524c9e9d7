"""The flow of stage `collect`."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.cells import run_cells
from flows.forms import Changes


@flow(name="collect", flow_run_name="collect")
def collect(strict: bool = False, workspace: str = ".", changes: Changes = None) -> list[dict[str, Any]]:
    """Gather raw media: a folder, a bucket, a list, a table, or the procedural sample corpus.

    Args:
        strict: work done by other code does not count as done.
        workspace: folder that holds params.yaml.
        changes: other values than params.yaml has, for this run alone.
    """
    return run_cells(["collect"], workspace, strict, changes)


if __name__ == "__main__":
    collect()
