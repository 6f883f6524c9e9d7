"""One cell in a process of its own: `goku run CELL --no-flow`, the command that `dvc repro` calls too.

Memory of the stage ends with the process, and one that is killed leaves its driver alive to repeat it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from goku_core.pipeline.errors import GokuError, StageFailed

COMMAND = [sys.executable, "-m", "goku_core.cli"]


def execute_in_child(cell: str, workspace: Path, driver: str, driver_run: str, strict: bool) -> dict[str, Any]:
    """Run the cell named `cell`; progress goes to this process's standard error. Returns the outcome as JSON values.

    Raises `GokuError` where the input was refused and `StageFailed` where the work failed or the process was killed.
    """
    command = [*COMMAND, "run", cell, "--no-flow", "--driver", driver, "--driver-run", driver_run, "--json"]
    if strict:
        command.append("--strict")
    done = subprocess.run(command, cwd=workspace, stdout=subprocess.PIPE, text=True, check=False)
    answer = json.loads(done.stdout)[-1] if done.stdout.strip() else {}
    if done.returncode == 0:
        return answer
    if done.returncode == 2:
        raise GokuError(f"{cell}: refused, see the message above.")
    if done.returncode < 0:
        raise StageFailed(f"{cell}: its process was killed by signal {-done.returncode}.", retriable=True)
    message = answer.get("message", f"{cell}: its process ended with exit code {done.returncode}, see above.")
    raise StageFailed(message, retriable=answer.get("retriable", False))
