"""What the deployments are made from, without the engine: when one of these changes, they are registered again."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from goku_core import config
from goku_core.pipeline import code, line
from goku_core.pipeline.commit import Workspace
from goku_core.pipeline.errors import GokuError

DATASET = "data/clips.parquet"  # its digest is the version of the dataset (goku dataset ls)
DIGITS = 12
LINEAGE = "GOKU_LINEAGE"  # for a place without git: an image


def declaration(workspace: Path) -> Path:
    """prefect.yaml: the workspace's own, else that of the code."""
    places = (workspace / "prefect.yaml", code.PACKAGE_ROOT.parent / "prefect.yaml")
    for place in places:
        if place.is_file():
            return place
    raise GokuError(f"prefect.yaml is neither in {places[0].parent} nor beside the code ({places[1].parent}).")


def lineage_name(workspace: Path) -> str:
    """What a training belongs to: repository, branch and place in it; outside of git the folder. GOKU_LINEAGE overrules it.

    Two clones of one branch have one name, two branches have two: what may train at the same time has different names.
    """
    if named := os.environ.get(LINEAGE):
        return named
    root = code.git_says(workspace, "rev-parse", "--path-format=absolute", "--git-common-dir")
    branch = code.git_says(workspace, "rev-parse", "--abbrev-ref", "HEAD")
    if root is None or branch is None:
        return f"{workspace.name}-{_digest(str(workspace.resolve()))}"
    if branch == "HEAD":  # no branch: the commit itself
        branch = (code.git_says(workspace, "rev-parse", "HEAD") or branch)[:DIGITS]
    origin = code.git_says(workspace, "config", "--get", "remote.origin.url")
    place = code.git_says(workspace, "rev-parse", "--show-prefix")
    return f"{branch.replace('/', '-')}-{_digest(f'{_without_login(origin or root)} {branch} {place}')}"


def _without_login(url: str) -> str:
    """Two people reach one repository with two names and passwords."""
    scheme, found, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if found else url


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


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
