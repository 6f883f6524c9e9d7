"""Starts the ranks of a training run, watches them, and starts them again: `python -m goku_core.train.launch JOB.json`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from goku_core.pipeline.errors import FailureKind, GokuError
from goku_core.train.health.errors import MachineBad

# What a restart by whoever drives the stage would meet again, and what it is for them.
MENDED_BY_HAND: dict[str, FailureKind] = {"refused": "user", "data bad": "data", "diverged": "numeric"}


def launch(job: Path) -> None:
    """Runs the launcher of this node until the work of `job` is done (`train.job.Job`, in the run's scratch folder).

    Raises `GokuError` where the user must mend something, `MachineBad` where the machine must be another, `Preempted` where the
    run was asked to leave, and `RuntimeError` where the restarts that a class of failures may have are spent; the message is the
    launcher's final report. The launcher is a process of its own: it outlives neither the work nor this process.
    """
    from goku_core.train.health.errors import PREEMPTED, Preempted
    from goku_core.train.launch.loop import OUTCOME, outcome

    (job.parent / OUTCOME).unlink(missing_ok=True)
    command = [sys.executable, "-m", "goku_core.train.launch", str(job), "--parent", str(os.getpid())]
    with subprocess.Popen(command) as process, _passing_on(process):
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.wait()  # the terminal interrupted the launcher too: its ranks save and leave
            raise
    if code == 0:
        return
    told = outcome(job.parent)
    if code == PREEMPTED:
        raise Preempted(
            f"training was asked to leave ({told['why'] if told else 'no word'}); the same command continues it."
        )
    if told is None or "report" not in told:
        message = f"the launcher ended with code {code}, see above"
        raise GokuError(message) if code == 2 else RuntimeError(message)
    if (failed := told["failure"]["kind"]) == "node bad":
        raise MachineBad(told["report"])
    if failed in MENDED_BY_HAND:
        error = GokuError(told["report"])
        error.kind = MENDED_BY_HAND[failed]
        raise error
    raise RuntimeError(told["report"])


@contextmanager
def _passing_on(process: subprocess.Popen) -> Iterator[None]:
    """SIGTERM to this process asks the launcher to leave, and this one outlives it: in a container all ends with process 1."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
