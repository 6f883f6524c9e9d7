"""The flow of a search: `goku tune` in a process of its own. The search keeps its own state, so that a retry goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows.forms import inside
from flows.limits import place_to_train
from flows.retries import MOST, PAUSES, may_be_repeated
from goku_core.pipeline.errors import GokuError, StageFailed

COMMAND = [sys.executable, "-m", "goku_core.cli", "tune"]


@flow(name="tune", flow_run_name="tune {name}")
def tune(
    name: str = "study", trials: int | None = None, write_best: bool = False, workspace: str = "."
) -> dict[str, Any]:
    """Search better parameters of a phase, as the section `tune` of params.yaml says.

    Args:
        name: name of the study; one that is there goes on.
        trials: trials in all; none: tune.trials of params.yaml.
        write_best: write params/tuned-NAME.yaml.
        workspace: folder that holds params.yaml.
    """
    found = search(name, trials, write_best, str(inside(workspace)))
    rows = [
        {"trial": t["trial"], "end": t["state"], "loss": t["validation_loss"], **t["values"]} for t in found["trials"]
    ]
    create_table_artifact(rows, key="tune", description=f"Trials of the study {name}, by validation loss.")
    return found


@task(
    task_run_name="tune {name}",
    cache_policy=NO_CACHE,
    retries=MOST,
    retry_delay_seconds=PAUSES,
    retry_condition_fn=may_be_repeated,
)
def search(name: str, trials: int | None, write_best: bool, workspace: str) -> dict[str, Any]:
    """Raises `GokuError` for what a user must mend, `StageFailed` where the process died."""
    command = [*COMMAND, "--name", name, "--json"]
    command += ["--trials", str(trials)] if trials else []
    command += ["--write-best"] if write_best else []
    with place_to_train("tune", Path(workspace)):
        done = subprocess.run(command, cwd=Path(workspace), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == 0:
        return json.loads(done.stdout)
    if done.returncode < 0:
        killed = f"tune {name}: its process was killed by signal {-done.returncode}."
        raise StageFailed(killed, retriable=True, kind="infrastructure")
    raise GokuError(f"tune {name}: refused or failed, see the message above.")


if __name__ == "__main__":
    tune()
