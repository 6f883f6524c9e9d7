"""kill -9 anywhere in a stage, then the same command: same digests, one tracking run, nothing half-done in sight."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_line import bodies, new_workspace, set_params

from goku_core.pipeline.commit import Workspace

TINY = Path(__file__).resolve().parents[1] / "workspaces"


def goku(workspace, *arguments, **environment):
    return subprocess.run(
        [sys.executable, TINY / "tiny_goku.py", *arguments],
        cwd=workspace,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def start(workspace, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, TINY / "tiny_goku.py", *arguments],
        cwd=workspace,
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(workspace, **environment):
    done = goku(workspace, "run", "split", "join", "--no-flow", "--json", **environment)
    assert done.returncode == 0, done.stderr
    return {o["cell"]: o for o in json.loads(done.stdout)}


def wait_for(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """Digests of a run that nobody disturbed."""
    outcomes = run(new_workspace(tmp_path_factory.mktemp("unbroken") / "w", steps=3))
    return {name: (o["fingerprint"], o["outputs"]) for name, o in outcomes.items()}


# Boundaries in the order in which a commit passes them, and how often the body is begun in all.
BOUNDARIES = [
    pytest.param("before-work", 1, marks=pytest.mark.platform),
    ("mid-work", 2),
    ("before-store", 2),
    pytest.param("before-mlflow-end", 2, marks=pytest.mark.platform),
    pytest.param("before-lineage", 2, marks=pytest.mark.platform),
    ("before-record", 2),
    # Once the record is there the work is done, whatever happens to the workspace.
    ("before-check-out", 1),
    ("between-outputs", 1),
    pytest.param("before-clearing-scratch", 1, marks=pytest.mark.platform),
    ("before-beside", 1),
]


@pytest.mark.parametrize(("point", "bodies_of_join"), BOUNDARIES)
def test_killed_at_a_boundary(tmp_path, unbroken, point, bodies_of_join):
    workspace = new_workspace(tmp_path / "w", steps=3)
    killed = goku(workspace, "run", "split", "join", "--no-flow", TINY_KILL=f"{point}:data/joined.txt")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = run(workspace)
    assert {name: (o["fingerprint"], o["outputs"]) for name, o in again.items()} == unbroken
    assert bodies(workspace).count("data/joined.txt") == bodies_of_join
    assert not list((workspace / ".goku/staging").glob("*"))
    assert (workspace / "records/join.json").is_file()
    with Workspace(workspace) as place:  # what a third call would ask, without a third process
        assert all(place.holds_outputs(record) for record in place.records())


@pytest.mark.platform
@pytest.mark.parametrize("point", ["before-work", "before-mlflow-end", "before-record"])
def test_killed_at_a_boundary_leaves_one_mlflow_run(tmp_path, point):
    """Where MLflow has begun, waits for the end, or has been told the end, and no record says so (mid-work: below)."""
    workspace = new_workspace(tmp_path / "w", steps=3)
    run(workspace)  # split needs no server's run
    set_params(workspace, steps=3, join="tracked")
    killed = goku(workspace, "run", "join", "--no-flow", TINY_KILL=f"{point}:data/joined.txt", TINY_TRACKED="1")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = goku(workspace, "run", "join", "--no-flow", "--json", TINY_TRACKED="1")
    assert done.returncode == 0, done.stderr
    (outcome,) = json.loads(done.stdout)

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{workspace}/mlflow.db")
    (tracked,) = client.search_runs([client.get_experiment_by_name("goku").experiment_id])
    assert tracked.info.status == "FINISHED"
    assert tracked.data.tags["goku.fingerprint"] == outcome["fingerprint"]
    assert tracked.data.tags["goku.attempts"] == "2"
    assert [m.step for m in client.get_metric_history(tracked.info.run_id, "loss")] == [1, 2, 3]


def test_killed_between_moving_the_old_output_away_and_the_new_one_in(tmp_path, unbroken):
    workspace = new_workspace(tmp_path / "w", join="older", steps=3)
    run(workspace)
    new_workspace(workspace, steps=3)
    killed = goku(workspace, "run", "join", "--no-flow", TINY_KILL="between-renames:data/joined.txt")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (workspace / "data/joined.txt").exists()
    assert {name: (o["fingerprint"], o["outputs"]) for name, o in run(workspace).items()} == unbroken
    assert not (workspace / ".goku/aside").exists()


def test_killed_in_the_body_goes_on_where_it_was_with_one_mlflow_run(tmp_path):
    workspace = new_workspace(tmp_path / "w", steps=40, step_seconds=0.05)
    process = start(workspace, "run", "split", "--no-flow", TINY_TRACKED="1")
    kept = (workspace / ".goku/scratch").glob
    wait_for(lambda: any(len(file.read_text().split()) >= 10 for file in kept("*/steps.txt")))
    process.kill()
    process.communicate()
    (record,) = json.loads(goku(workspace, "plan", "split", "--json").stdout)["cells"]
    assert record["state"] == "run"
    done = goku(workspace, "run", "split", "--no-flow", TINY_TRACKED="1")
    assert done.returncode == 0, done.stderr
    assert "attempt 2" in done.stderr

    (found,) = (workspace / ".goku/records").glob("*/*.json")
    value = json.loads(found.read_text())
    assert value["report"]["steps_done"] <= 30, "the second attempt began anew"
    assert not list((workspace / ".goku/scratch").glob("*"))

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{workspace}/mlflow.db")
    experiment = client.get_experiment_by_name("goku")
    (tracked,) = client.search_runs([experiment.experiment_id])
    assert tracked.info.run_id == value["mlflow_run"]
    assert tracked.info.status == "FINISHED"
    assert tracked.data.tags["goku.fingerprint"] == value["fingerprint"]
    assert tracked.data.tags["goku.attempts"] == "2"
    assert tracked.data.params["text"] == "a"
    assert [m.step for m in client.get_metric_history(tracked.info.run_id, "loss")] == list(range(1, 41))
    assert [a.path for a in client.list_artifacts(tracked.info.run_id)] == ["0.txt", "1.txt", "2.txt", "3.txt", "4.txt"]


def test_two_drivers_at_once(tmp_path):
    workspace = new_workspace(tmp_path / "w", steps=10, step_seconds=0.1)
    first = start(workspace, "run", "split", "--no-flow")
    wait_for(lambda: bodies(workspace) == ["data/parts"])
    second = goku(workspace, "run", "split", "--no-flow", "--driver", "dvc")
    assert first.wait() == second.returncode == 0
    assert "being worked on by process" in second.stderr
    assert "already done" in second.stderr
    assert bodies(workspace) == ["data/parts"]


def test_a_killed_process_does_not_keep_its_lock_through_its_children(tmp_path):
    """POSIX locks end with the process that took them, also where a forked child lives on."""
    program = (
        "import os, sys, time\nfrom pathlib import Path\nfrom goku_core.pipeline.files import lock\n"
        "with lock(Path(sys.argv[1])):\n"
        "    if os.fork() == 0: time.sleep(20); os._exit(0)\n"
        "    print('held', flush=True); os.kill(os.getpid(), 9)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, tmp_path / "lock"], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout.readline() == "held\n"
    process.wait()
    from goku_core.pipeline.files import lock_if_free

    with lock_if_free(tmp_path / "lock") as free:
        assert free
    os.killpg(process.pid, signal.SIGKILL)
