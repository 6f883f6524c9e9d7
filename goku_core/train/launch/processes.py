"""The processes of the ranks of this node: alive, stopped, their stacks, their end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from goku_core.train.health.heart import Pulse

STACK_SECONDS = 2.0  # a rank gets to write its stacks


def alive(pid: int) -> bool:
    """Is it a running child of ours? One that has ended and is not reaped yet is not, nor a stranger who got its number."""
    return state(pid) is not None


def state(pid: int) -> str | None:
    """The kernel's letter (R running, S sleeping, D in a device, T stopped); None when the child is gone."""
    if not sys.platform.startswith("linux"):
        try:
            os.kill(pid, 0)
        except OSError:
            return None
        return "S"
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0] if fields[0] not in "ZX" and int(fields[1]) == os.getpid() else None


def send(pulse: Pulse, number: signal.Signals) -> None:
    if alive(pulse.pid):
        with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
            os.kill(pulse.pid, number)


def kill(pulses: Iterable[Pulse]) -> set[int]:
    """Ends ranks and what they started; returns which were still there."""
    ended = set()
    for pulse in pulses:
        if alive(pulse.pid):
            ended.add(pulse.rank)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pulse.pid, signal.SIGKILL)  # each rank leads a process group of its own
    return ended


def dump_stacks(pulses: Iterable[Pulse], files: dict[int, Path]) -> None:
    """Has every rank write the stacks of its threads. One that is stopped is let go on for it: it is about to be ended."""
    waiting = {}
    for pulse in pulses:
        if (how := state(pulse.pid)) is None:
            continue
        before = files[pulse.rank].stat().st_size if files[pulse.rank].is_file() else 0
        waiting[pulse.rank] = before
        send(pulse, signal.SIGUSR1)
        if how == "T":
            send(pulse, signal.SIGCONT)
    end = time.monotonic() + STACK_SECONDS
    while waiting and time.monotonic() < end:
        time.sleep(0.05)
        waiting = {r: size for r, size in waiting.items() if not files[r].is_file() or files[r].stat().st_size <= size}
    time.sleep(0.1)  # the last lines of the last one
