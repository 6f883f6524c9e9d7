"""The flow and `dvc repro` are two drivers of the same work: neither repeats what the other did."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import tiny_goku
import tiny_line
import yaml
from tiny_line import bodies, new_workspace, set_params

from goku_core.pipeline.errors import GokuError, StageFailed

GOKU = f"{sys.executable} {tiny_goku.__file__}"
DVC = Path(sys.executable).with_name("dvc")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tiny(monkeypatch):
    """The tiny line here, and in the processes that the flow starts."""
    from goku_core import config, tracking
    from goku_core.pipeline import executor, line, process

    monkeypatch.setattr(line, "cells", tiny_line.cells)
    monkeypatch.setattr(config, "load_params", tiny_line.load_params)
    monkeypatch.setattr(tracking, "opener", lambda settings: executor._untracked)
    monkeypatch.setattr(process, "COMMAND", [sys.executable, tiny_goku.__file__])


@pytest.fixture
def workspace(tmp_path):
    """The tiny line as a git and DVC work tree with the settings of this repository."""
    workspace = new_workspace(tmp_path / "w")
    (workspace / ".dvc").mkdir()
    for name in (".dvc/config", ".dvcignore", ".gitignore"):
        (workspace / name).write_text((ROOT / name).read_text())
    stages = {}
    for cell in tiny_line.cells(tiny_line.Params()):
        stage, _, phase = cell.name.partition("@")
        stages[cell.name.replace("@", "-")] = {
            "cmd": f"{GOKU} run {cell.name} --no-flow --driver dvc",
            "deps": list(cell.inputs),
            "outs": list(cell.outputs),
            "params": [f"phases.{phase}" if phase else stage, "seed", "steps"],
        }
    (workspace / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    subprocess.run(["git", "init", "-q", str(workspace)], check=True)
    return workspace


def repro(workspace):
    done = subprocess.run([DVC, "repro"], cwd=workspace, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def run_flow(workspace, *cells, strict=False):
    from flows.line import line

    return {o["cell"]: o["status"] for o in line(list(cells), strict, str(workspace))}


def test_flow_then_repro_then_flow(tiny, workspace, prefect_server):
    assert set(run_flow(workspace).values()) == {"ran"}
    assert len(bodies(workspace)) == 5
    repro(workspace)
    assert len(bodies(workspace)) == 5, "dvc repro repeated what the flow had done"
    assert set(run_flow(workspace).values()) == {"already-done"}

    set_params(workspace, phases={"one": "c", "two": "changed"})
    repro(workspace)
    assert bodies(workspace)[5:] == ["models/two.txt", "reports/end.txt"]
    assert set(run_flow(workspace).values()) == {"already-done"}

    set_params(workspace)
    repro(workspace)  # the old parameters: everything comes back from the store
    assert len(bodies(workspace)) == 7


def test_records_name_the_driver(tiny, workspace, prefect_server):
    from goku_core.pipeline.commit import Workspace

    run_flow(workspace, "split")
    with Workspace(workspace) as place:
        (record,) = place.records()
    assert record.value["driver"] == "prefect"
    assert len(record.value["driver_run"]) == 36


def test_a_flow_of_one_stage(tiny, workspace, prefect_server, monkeypatch):
    from flows.train import train

    run_flow(workspace, "split", "join")
    assert [o["cell"] for o in train(["one"], False, str(workspace))] == ["train@one"]
    assert [o["status"] for o in train(None, False, str(workspace))] == ["already-done", "ran"]


def test_a_user_error_is_not_repeated_a_failed_body_is(tiny, workspace, prefect_server, monkeypatch):
    with pytest.raises(GokuError, match=r"its input models/two\.txt is not there"):
        run_flow(workspace, "close")  # its input is not there
    from flows import cells

    monkeypatch.setenv("TINY_FAIL", "data/parts")
    monkeypatch.setattr(cells, "run_cell", cells.run_cell.with_options(retries=1, retry_delay_seconds=0))
    with pytest.raises(StageFailed, match="the disk is on fire"):
        run_flow(workspace, "split")
    assert bodies(workspace) == ["data/parts"] * 2


def test_repro_alone_runs_each_body_once(workspace):
    repro(workspace)
    assert len(bodies(workspace)) == 5
    assert "didn't change" in repro(workspace)
    (workspace / "dvc.lock").unlink()
    repro(workspace)
    assert len(bodies(workspace)) == 5


def test_dvc_shares_bytes_with_the_store(workspace):
    """No second copy on disk, and no second hashing: DVC's cache, the store and the workspace are one inode."""
    repro(workspace)
    assert (workspace / "models/two.txt").stat().st_nlink >= 3
