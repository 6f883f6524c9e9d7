"""`goku node`: what every pod of a training job runs. Node 0 does the work; the others lend it their ranks."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from goku_core.pipeline.errors import GokuError, StageFailed

if TYPE_CHECKING:
    from goku_core.pipeline.line import Cell

# Exit codes, for the failure policy of the job (infra/kubernetes/training): the launcher's own (75, 76), and
FAILED, REFUSED, LEFT, MACHINE_BAD = 1, 2, 75, 76


def node(
    names: Annotated[list[str], typer.Argument(metavar="CELL...", help="Phases of train, in order: train@joint_low")],
    number: Annotated[int, typer.Option("--node", min=0, envvar="GOKU_NODE", help="Number of this node, from 0")] = 0,
    endpoint: Annotated[
        str | None, typer.Option(envvar="GOKU_ENDPOINT", help="HOST:PORT of node 0 (several nodes only)")
    ] = None,
) -> None:
    """One node of a training on several: node 0 runs the phases as `goku run` does, the others join it until they are stopped.

    The same command on every node, in a workspace that all of them see at one path. SIGTERM saves and leaves.

    Exit codes: 0 done, 1 failed (may be tried again), 2 to be mended first, 75 left (the same command goes on), 76 a bad machine.

    Example: GOKU_ENDPOINT=node0:29400 GOKU_NODE=1 goku node train@joint_low
    """
    from goku_core.cli_run import chosen_line

    _, cells = chosen_line(names)
    if others := [cell.name for cell in cells if cell.stage != "train"]:
        raise GokuError(f"{', '.join(others)}: only phases of train run on several nodes (train@joint_low).")
    if number > 0:
        if endpoint is None:
            raise GokuError("--endpoint: a node that is not the first must be told where that one is, HOST:PORT.")
        command = ["-m", "goku_core.train.launch", "--node", str(number), "--endpoint", endpoint, "--stay"]
        os.execv(sys.executable, [sys.executable, *command])
    if endpoint is not None:
        os.environ["GOKU_ENDPOINT"] = endpoint
    raise typer.Exit(lead(cells, Path.cwd()))


def lead(cells: list[Cell], workspace: Path) -> int:
    """Runs the cells one after another; the exit code that tells Kubernetes what to do next."""
    from goku_core import config, tracking
    from goku_core.pipeline.executor import execute
    from goku_core.pipeline.versions.turns import shared, waits_for

    signal.signal(signal.SIGTERM, _leave)
    opener = tracking.opener(config.load_params(workspace / "params.yaml").tracking)
    with shared(workspace, waits_for("goku node")):  # `dvc repro` removes what it is about to run
        for cell in cells:
            try:
                execute(cell, workspace, "direct", driver_run=os.environ.get("GOKU_JOB"), open_tracker=opener)
            except StageFailed as error:
                print(error, file=sys.stderr, flush=True)
                return code_of(error)
    return 0


def code_of(error: StageFailed) -> int:
    from goku_core.train.health.errors import MachineBad, Preempted

    if isinstance(error.__cause__, Preempted):
        return LEFT
    if isinstance(error.__cause__, MachineBad):
        return MACHINE_BAD
    return FAILED if error.retriable else REFUSED


def _leave(number: int, frame: FrameType | None) -> None:
    """Between launches there is nothing to save. While one runs, it takes the signal itself."""
    raise SystemExit(LEFT)
