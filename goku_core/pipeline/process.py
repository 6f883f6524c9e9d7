"""One cell in a process of its own: `goku run CELL --no-flow`, the command that `dvc repro` calls too.

Memory of the stage ends with the process, and one that is killed leaves its driver alive to repeat it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from goku_core.pipeline.errors import GokuError, StageFailed
from goku_core.pipeline.events import DESCRIPTOR
from goku_core.pipeline.files import write_json
from goku_core.pipeline.fingerprint import digest_json
from goku_core.pipeline.progress import console

COMMAND = [sys.executable, "-m", "goku_core.cli"]


def execute_in_child(
    cell: str,
    workspace: Path,
    driver: str,
    driver_run: str,
    strict: bool,
    on_event: Callable[[dict[str, Any]], None] | None = None,
    changes: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Run the cell named `cell`; progress goes to this process's standard error. Returns the outcome as JSON values.

    on_event  called in this thread with what the process tells while it works, see `pipeline.events`
    changes   of params.yaml for this run; they lie in .goku/changes under their digest, so that it can be repeated by hand

    Raises `GokuError` where the input was refused and `StageFailed` where the work failed or the process was killed.
    """
    command = [*COMMAND, "run", cell, "--no-flow", "--driver", driver, "--driver-run", driver_run, "--json"]
    if strict:
        command.append("--strict")
    if changes:
        file = workspace / ".goku" / "changes" / f"{digest_json(changes)[:12]}.json"
        write_json(file, changes)
        command += ["--changes", str(file)]
    code, told = _run(command, workspace, on_event or _nothing)
    answer = json.loads(told)[-1] if told.strip() else {}
    if code == 0:
        return answer
    if code == 2:
        raise GokuError(f"{cell}: refused, see the message above.")
    if code < 0:
        raise StageFailed(f"{cell}: its process was killed by signal {-code}.", retriable=True, kind="infrastructure")
    message = answer.get("message", f"{cell}: its process ended with exit code {code}, see above.")
    raise StageFailed(message, retriable=answer.get("retriable", False), kind=answer.get("kind"))


def _run(command: list[str], workspace: Path, on_event: Callable[[dict[str, Any]], None]) -> tuple[int, str]:
    """Exit code and standard output of a command; its events as they come. An error here kills the process."""
    reading, writing = os.pipe()
    with os.fdopen(reading, encoding="utf-8") as events, ThreadPoolExecutor(1) as other:
        try:
            process = subprocess.Popen(
                command,
                cwd=workspace,
                stdout=subprocess.PIPE,
                text=True,
                pass_fds=[writing],
                env=os.environ | {DESCRIPTOR: str(writing)},
            )
        finally:
            os.close(writing)  # else the events would never end
        with process:
            try:
                told = other.submit(process.stdout.read)
                for line in events:
                    try:
                        on_event(json.loads(line))
                    except Exception as error:  # a server that only shows the progress must not end the work
                        console().print(f"progress is not shown any more: {error}", soft_wrap=True, markup=False)
                        on_event = _nothing
                return process.wait(), told.result()
            except BaseException:
                process.kill()
                raise


def _nothing(event: dict[str, Any]) -> None:
    """Nobody listens."""
