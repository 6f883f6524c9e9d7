"""A workspace of pictures and clips in three shapes whose latents have been published; tests that change it copy it first."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from shapes_workspace import make_workspace, precompute


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace, place = make_workspace(tmp_path_factory.mktemp("shapes") / "w"), tmp_path_factory.mktemp("place")
    report = precompute(workspace, place)
    assert report.failed == [] and report.samples == {"low": 5, "high": 5}
    shutil.copytree(place / "out/data/latents", workspace / "data/latents")
    return workspace
