"""The flow of stage `vae`."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.cells import run_cells
from flows.forms import Changes


@flow(name="vae", flow_run_name="vae")
def vae(strict: bool = False, workspace: str = ".", changes: Changes = None) -> list[dict[str, Any]]:
    """Train the joint image-video VAE.

    Args:
        strict: work done by other code does not count as done.
        workspace: folder that holds params.yaml.
        changes: other values than params.yaml has, for this run alone.
    """
    return run_cells(["vae"], workspace, strict, changes)


if __name__ == "__main__":
    vae()
