"""The flow that evaluates a registered model again: every night the champion, and a new challenger at once."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Annotated, Any

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from flows.forms import inside
from flows.retries import MOST, PAUSES, may_be_repeated
from goku_core.pipeline.errors import GokuError, StageFailed

# Of the ledger, and nothing that a command line could take for something else.
Model = Annotated[str, Field(pattern=r"^(champion|challenger|previous|[0-9]{1,9})$")]
COMMAND = [sys.executable, "-m", "goku_core.cli", "evaluate", "registered"]


@flow(name="reevaluate", flow_run_name="reevaluate {model}")
def reevaluate(model: Model = "champion", same: bool = False, workspace: str = ".") -> dict[str, Any]:
    """Evaluate a registered model's own bytes again, and note the score beside the ledger.

    Args:
        model: champion, challenger, previous, or a version of the ledger.
        same: the line's prompts and noise, not new ones; done work is not repeated.
        workspace: folder that holds params.yaml.
    """
    note = again(model, same, str(inside(workspace)))
    low, high = note["interval"]
    row = {"version": note["version"], "score": round(note["score"], 4), "interval": f"{low:.4f} to {high:.4f}"}
    row |= {"ledger": round(note["ledger"]["score"], 4), "holds": note["holds"], "note": note["note"]}
    create_table_artifact([row], key="reevaluation", description=note["reason"])
    if note["holds"] is False:
        raise GokuError(f"version {note['version']} has dropped: {note['reason']}")
    return note


@task(
    task_run_name="reevaluate {model}",
    cache_policy=NO_CACHE,
    retries=MOST,
    retry_delay_seconds=PAUSES,
    retry_condition_fn=may_be_repeated,
)
def again(model: str, same: bool, workspace: str) -> dict[str, Any]:
    """Raises `GokuError` for what a user must mend, `StageFailed` where the process died."""
    command = [*COMMAND, model, *(["--same"] if same else []), "--json"]
    done = subprocess.run(command, cwd=workspace, stdout=subprocess.PIPE, text=True, check=False)
    if done.stdout.strip():
        return json.loads(done.stdout)
    if done.returncode == 2:
        raise GokuError(f"reevaluate {model}: refused, see the message above.")
    killed = done.returncode < 0
    message = f"reevaluate {model}: its process ended with {done.returncode}, see above."
    raise StageFailed(message, retriable=True, kind="infrastructure" if killed else None)


if __name__ == "__main__":
    reevaluate()
