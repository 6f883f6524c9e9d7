"""The flow of stage `precompute`."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.cells import run_cells
from flows.forms import Changes


@flow(name="precompute", flow_run_name="precompute")
def precompute(strict: bool = False, workspace: str = ".", changes: Changes = None) -> list[dict[str, Any]]:
    """Latents and text embeddings into shards, per resolution.

    Args:
        strict: work done by other code does not count as done.
        workspace: folder that holds params.yaml.
        changes: other values than params.yaml has, for this run alone.
    """
    return run_cells(["precompute"], workspace, strict, changes)


if __name__ == "__main__":
    precompute()
