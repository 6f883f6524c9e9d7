"""`goku tune` as a person runs it: MLflow runs below the study's, a preset, and a flow that is thin."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tune_workspace import RATE, new_workspace

from goku_core import config

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]


def goku(workspace: Path, *words: str) -> dict:
    command = [sys.executable, "-m", "goku_core.cli", *words, "--json"]
    environment = {"PYTHONPATH": str(ROOT)}
    import os

    done = subprocess.run(
        command, cwd=workspace, env=os.environ | environment, stdout=subprocess.PIPE, text=True, check=True, timeout=240
    )
    return json.loads(done.stdout)


def test_trials_are_child_runs_of_the_study_and_the_best_becomes_a_preset(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    workspace = new_workspace(tmp_path / "line")
    found = goku(workspace, "tune", "--name", "rates", "--trials", "2", "--write-best")
    assert len(found["trials"]) == 2 and found["preset"] == "params/tuned-rates.yaml"
    best = config.load_params(workspace / found["preset"]).train.phases["first"].learning_rate
    assert best == pytest.approx(found["best"]["values"][RATE])
    assert not (workspace / ".goku/tune/rates/places/0/mlflow.db").exists()
    client = MlflowClient(tracking_uri=f"sqlite:///{workspace / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "goku"]
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if run.data.tags.get("goku.tune") == "rates"]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert {run.data.tags["goku.trial"] for run in children} == {"0", "1"}
    losses = {int(run.data.tags["goku.trial"]): run.data.metrics["validation_loss"] for run in children}
    assert losses == {t["trial"]: pytest.approx(t["validation_loss"]) for t in found["trials"]}
    # The same command again: nothing is trained, the study's run is the same one.
    again = goku(workspace, "tune", "--name", "rates", "--trials", "2")
    assert again["trials"] == found["trials"]
    runs = client.search_runs([experiment.experiment_id])
    assert len([run for run in runs if run.data.tags.get("goku.tune") == "rates"]) == 1 and len(runs) == 3
