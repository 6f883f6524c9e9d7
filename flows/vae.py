"""The flow of stage `vae`."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.cells import run_cells


@flow(name="vae", flow_run_name="vae")
def vae(strict: bool = False, workspace: str = ".") -> list[dict[str, Any]]:
    """Train the joint image-video VAE.

    Args:
        strict: work done by other code does not count as done.
        workspace: folder that holds params.yaml.
    """
    return run_cells(["vae"], workspace, strict)


if __name__ == "__main__":
    vae()
