"""What the deployments are made from, without the engine: when one of these changes, they are registered again."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from goku_core import config
from goku_core.pipeline import code, line
from goku_core.pipeline.commit import Workspace
from goku_core.pipeline.errors import GokuError

DATASET = "data/clips.parquet"  # its digest is the version of the dataset (goku dataset ls)
DIGITS = 12


def declaration(workspace: Path) -> Path:
    """prefect.yaml: the workspace's own, else that of the code."""
    places = (workspace / "prefect.yaml", code.PACKAGE_ROOT.parent / "prefect.yaml")
    for place in places:
        if place.is_file():
            return place
    raise GokuError(f"prefect.yaml is neither in {places[0].parent} nor beside the code ({places[1].parent}).")


def basis(workspace: Path) -> dict[str, Any]:
    """Cells, phases and parameters that a form may offer, the commit, the version of the dataset, and the declaration itself."""
    params = config.load_params(workspace / "params.yaml")
    cells = line.cells(params)
    with Workspace(workspace) as place:
        dataset = place.digests.tree(place.root / DATASET)
    commit = code.git(workspace) or code.git(code.PACKAGE_ROOT)
    return {
        "cells": list(dict.fromkeys(name for cell in cells for name in (cell.stage, cell.name))),
        "phases": [cell.name.partition("@")[2] for cell in cells if "@" in cell.name],
        "params": params.model_dump(mode="json"),
        "commit": commit["commit"][:DIGITS] if commit else None,
        "dataset": dataset.digest[:DIGITS] if dataset else None,
        "declaration": hashlib.sha256(declaration(workspace).read_bytes()).hexdigest(),
        "workspace": str(workspace),
    }
