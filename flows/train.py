"""The flow of stage `train`: one cell per phase of the curriculum."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.cells import run_cells
from flows.forms import Changes


@flow(name="train", flow_run_name="train")
def train(
    phases: list[str] | None = None, strict: bool = False, workspace: str = ".", changes: Changes = None
) -> list[dict[str, Any]]:
    """Train the phases of the curriculum, each from the model of the phase that it continues.

    Args:
        phases: names of phases; none: all.
        strict: work done by other code does not count as done.
        workspace: folder that holds params.yaml.
        changes: other values than params.yaml has, for this run alone.
    """
    return run_cells([f"train@{phase}" for phase in phases or []] or ["train"], workspace, strict, changes)


if __name__ == "__main__":
    train()
