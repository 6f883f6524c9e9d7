"""The flow of stage `promote`."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.answers import answered
from flows.approval import decide
from flows.cells import run_cells
from flows.forms import inside


@flow(name="promote", flow_run_name="promote")
def promote(strict: bool = False, workspace: str = ".") -> list[dict[str, Any]]:
    """Gate, ledger, registry alias. Where the gate names approvers, the run is put aside until one of them answers.

    Args:
        strict: work done by other code does not count as done.
        workspace: folder that holds params.yaml.
    """
    if answered(inside(workspace)):
        return []
    outcomes = run_cells(["promote"], workspace, strict)
    decide(inside(workspace))
    return outcomes


if __name__ == "__main__":
    promote()
