"""Another version of an engine, or of any package, repeats no work: versions are recorded and are no part of a fingerprint."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from driven_line import ROOT, driven, goku, repro
from tiny_line import bodies

ENGINES = {"prefect": "3.99.1", "mlflow": "3.99.0", "dvc": "3.99.0", "torch": "2.99.0"}


@pytest.fixture
def upgraded(tmp_path):
    """A folder for the head of Python's path in which the engines are of other versions."""
    place = tmp_path / "shadow-packages"
    for name, version in ENGINES.items():
        (place / f"{name}-{version}.dist-info").mkdir(parents=True)
        (place / f"{name}-{version}.dist-info/METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
    return os.pathsep.join([str(place), os.environ.get("PYTHONPATH", str(ROOT))])


@pytest.mark.platform
def test_nothing_runs_again_after_an_upgrade(tmp_path, upgraded, monkeypatch):
    workspace = driven(tmp_path / "w")
    repro(workspace)
    assert len(bodies(workspace)) == 5
    told = (
        "import importlib.metadata as m; from goku_core.pipeline import code; print(m.version('prefect'), code.pins())"
    )
    versions = [
        subprocess.run([sys.executable, "-c", told], env=os.environ | env, capture_output=True, text=True, check=True)
        for env in ({}, {"PYTHONPATH": upgraded})
    ]
    before, after = (done.stdout.split() for done in versions)
    assert after[0] == ENGINES["prefect"] != before[0]
    assert after[1] != before[1], "the records could not even tell that packages differ"
    monkeypatch.setenv("PYTHONPATH", upgraded)
    plan = json.loads(goku(workspace, "plan", "--strict", "--json").stdout)
    assert {entry["state"] for entry in plan["cells"]} == {"done"}
    assert {o["status"] for o in json.loads(goku(workspace, "run", "--no-flow", "--json").stdout)} == {"already-done"}
    (workspace / "dvc.lock").unlink()
    repro(workspace)
    assert len(bodies(workspace)) == 5


@pytest.mark.platform
def test_nothing_runs_again_under_another_prefect(tmp_path):
    """A real one: the patch release before the one installed here, ahead of it on the path, drives the same workspace."""
    place = tmp_path / "other-packages"
    installer = shutil.which("uv") or "uv"
    if shutil.which(installer) is None:
        pytest.skip("uv is not here to install another Prefect")
    got = subprocess.run(
        [installer, "pip", "install", "-q", "--no-deps", "--target", str(place), "prefect==3.8.7"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if got.returncode:
        pytest.skip(f"no other Prefect could be had: {got.stderr.strip()[-200:]}")
    workspace = driven(tmp_path / "w")
    repro(workspace)
    program = (
        "import sys; sys.path.insert(0, 'TESTS')\n"
        "import tiny_goku; tiny_goku.install()\n"
        "import prefect; from flows.line import line\n"
        "print(prefect.__version__, [o['status'] for o in line([], True, '.')])"
    ).replace("TESTS", str(ROOT / "tests/workspaces"))
    path = os.pathsep.join([str(place), str(ROOT)])
    environment = os.environ | {
        "PYTHONPATH": path, "PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180", "PREFECT_LOGGING_LEVEL": "ERROR",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=workspace, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[-2] == f"3.8.7 {['already-done'] * 5}"
    assert len(bodies(workspace)) == 5
