"""The flow of stage `promote`."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.cells import run_cells


@flow(name="promote", flow_run_name="promote")
def promote(strict: bool = False, workspace: str = ".") -> list[dict[str, Any]]:
    """Gate, ledger, registry alias.

    Args:
        strict: work done by other code does not count as done.
        workspace: folder that holds params.yaml.
    """
    return run_cells(["promote"], workspace, strict)


if __name__ == "__main__":
    promote()
