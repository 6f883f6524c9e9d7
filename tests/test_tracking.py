"""Tracking never costs a result: what MLflow could not take is kept and copied later, once."""

from __future__ import annotations

import pytest

from goku_core import tracking
from goku_core.tracking import MlflowTracker, flatten, resolve_uri


def track(workspace, fingerprint, uri, steps, status="FINISHED"):
    settings = tracking.Request(uri=uri, experiment="test")
    tracker = MlflowTracker(workspace, fingerprint, "vae", {"steps": 3, "deep": {"list": [1, 2]}}, settings, {"a": "b"})
    for step in steps:
        tracker.log_metrics({"loss": 1.0 / (step + 1)}, step)
    return tracker.finish(status)


def test_what_mlflow_could_not_take_is_copied_at_the_next_chance(tmp_path, capsys):
    assert track(tmp_path, "first", "sqlite:////proc/nowhere/mlflow.db", range(3)) is None
    assert "Nothing is lost" in capsys.readouterr().err
    # A second attempt of the same work repeats step 2, and another piece of work runs, with MLflow in order.
    second = track(tmp_path, "second", "sqlite:///mlflow.db", [0])
    assert second == tracking.run_id(tmp_path, "second")
    assert tracking.run_id(tmp_path, "first"), "the spool of the first was not copied"
    resumed = track(tmp_path, "first", "sqlite:///mlflow.db", [2, 3])
    assert resumed == tracking.run_id(tmp_path, "first")

    from mlflow import MlflowClient

    client = MlflowClient(resolve_uri("sqlite:///mlflow.db", tmp_path))
    runs = client.search_runs([client.get_experiment_by_name("test").experiment_id])
    assert {run.data.tags["goku.fingerprint"]: run.info.status for run in runs} == {
        "first": "FINISHED",
        "second": "FINISHED",
    }
    history = client.get_metric_history(resumed, "loss")
    assert [m.step for m in history] == [0, 1, 2, 3]
    assert client.get_run(resumed).data.params == {"steps": "3", "deep.list": "[1, 2]"}


def test_a_run_continued_with_another_param_is_taken_and_says_so(tmp_path, capsys):
    """MLflow refuses to change a param; every later attempt in the folder would be refused with it."""
    settings = tracking.Request(uri="sqlite:///mlflow.db", experiment="test")
    for steps in (150, 100):
        tracker = MlflowTracker(tmp_path, "study", "ablation", {"steps": steps, "seeds": 2}, settings, {})
        run = tracker.finish("FINISHED")
    assert run == tracking.run_id(tmp_path, "study") and "Tracking:" not in capsys.readouterr().err

    from mlflow import MlflowClient

    found = MlflowClient(resolve_uri("sqlite:///mlflow.db", tmp_path)).get_run(run).data
    assert found.params == {"steps": "150", "seeds": "2"} and found.tags["changed.steps"] == "100"


def test_a_lost_database_gets_its_runs_again(tmp_path):
    settings = tracking.Request(uri="sqlite:///mlflow.db", experiment="test")
    before = {name: track(tmp_path, name, "sqlite:///mlflow.db", range(3)) for name in ("first", "second")}
    (tmp_path / "mlflow.db").rename(tmp_path / "mlflow.db.damaged")
    assert tracking.copy_again(tmp_path, settings) == ["first", "second"]
    assert tracking.copy_again(tmp_path, settings) == []

    from mlflow import MlflowClient

    client = MlflowClient(resolve_uri("sqlite:///mlflow.db", tmp_path))
    for name, lost in before.items():
        run = client.get_run(tracking.run_id(tmp_path, name))
        assert run.info.status == "FINISHED" and run.data.tags["goku.recorded_run"] == lost != run.info.run_id
        assert [m.step for m in client.get_metric_history(run.info.run_id, "loss")] == [0, 1, 2]
        assert run.data.params == {"steps": "3", "deep.list": "[1, 2]"}


def test_a_torn_line_is_cut_and_steps_are_not_repeated(tmp_path, monkeypatch):
    monkeypatch.setattr(tracking.subprocess, "Popen", lambda *a, **k: None)
    settings = tracking.Request()
    tracker = MlflowTracker(tmp_path, "f", "vae", {}, settings, {})
    tracker.log_metrics({"loss": 1.0}, 0)
    tracker.log_metrics({"loss": 0.5, "gap": float("inf")}, 1)
    spool = tmp_path / ".goku/tracking/f.jsonl"
    with spool.open("ab") as file:
        file.write(b'{"kind":"metrics","metr')
    again = MlflowTracker(tmp_path, "f", "vae", {}, settings, {})
    for step in range(4):
        again.log_metrics({"loss": 1.0}, step)
    lines = [line for line in tracking._lines(spool) if line["kind"] == "metrics"]
    assert [line["step"] for line in lines] == [0, 1, 2, 3]
    assert lines[1]["metrics"]["gap"] == "inf"


def test_uri_is_resolved_in_the_workspace(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert resolve_uri("sqlite:///a.db", tmp_path) == f"sqlite:///{tmp_path}/a.db"
    assert resolve_uri("http://host:5000", tmp_path) == "http://host:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://team:5000")
    assert resolve_uri("sqlite:///a.db", tmp_path) == "http://team:5000"


def test_params_are_flat_and_short():
    assert flatten({"a": {"b": 1, "c": [1, 2]}, "d": "x" * 9000}) == {"a.b": "1", "a.c": "[1, 2]", "d": "x" * 500}


@pytest.mark.parametrize("name", ["goku_core.tracking", "goku_core.config"])
def test_importing_costs_no_mlflow(name):
    import subprocess
    import sys

    program = f"import sys, {name}; print('mlflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
