"""Processes that outlive the command that started them: told apart from strangers, measured, and ended for certain.

A process is known by its id, the time it started and the boot of the machine, so that an id which the kernel has given
to somebody else is never taken for ours. All of them and all that they start carry `MARK` in their environment, with
the workspace as value: the runs of a worker live in process groups of their own, and are found by it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MARK = "GOKU_SERVICES"
PROC = Path("/proc")
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Identity:
    """pid, and when it started: clock ticks since the boot `boot` (Linux), or what `ps` says (elsewhere)."""

    pid: int
    started: str
    boot: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def identity(pid: int) -> Identity | None:
    """None where there is no such process any more; one that has ended and only waits to be noticed has ended."""
    found = _seen(pid)
    if found is None:
        return None
    state, started = found
    return None if state.startswith("Z") else Identity(pid, started, _boot())


def alive(who: Identity) -> bool:
    return identity(who.pid) == who


def _seen(pid: int) -> tuple[str, str] | None:
    """State and time of start of a process."""
    if PROC.is_dir():
        try:
            # The name stands in brackets and may hold anything; what follows the last bracket is numbers (proc(5)).
            fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return fields[0], fields[19]
    told = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, started = told.stdout.strip().partition(" ")
    return (state, started.strip()) if state else None


def _boot() -> str:
    file = PROC / "sys/kernel/random/boot_id"
    return file.read_text().strip() if file.is_file() else ""


def start(command: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path) -> Identity:
    """A process in a session of its own, with its output in `log`; the log of the start before is kept beside it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.is_file():
        log.replace(log.with_name(f"{log.name}.1"))
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(command),
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    who = identity(process.pid)
    process.returncode = 0  # it is meant to outlive this process: no warning that it still runs
    return who or Identity(process.pid, "", "")


def stop(who: Identity, grace: float) -> str:
    """End a process and its group: asked first, and killed after `grace` s. What was necessary, in words."""
    if not alive(who):
        return "was not running"
    _signal_group(who.pid, signal.SIGTERM)
    if wait(lambda: not alive(who), grace):
        _signal_group(who.pid, signal.SIGKILL)  # what it may have left in its group
        return "stopped"
    _signal_group(who.pid, signal.SIGKILL)
    wait(lambda: not alive(who), 5.0)
    return f"did not stop within {grace:.0f} s, killed"


def sweep(workspace: Path, grace: float, spared: set[int]) -> int:
    """End what still carries the mark of `workspace` and is not `spared` (process groups). How many there were."""
    return _end([who for who in marked(workspace) if _group(who.pid) not in spared], grace)


def end_orphans(workspace: Path, who: Identity, grace: float) -> int:
    """End what a process that is gone has left in its group: a server's child may hold its port. How many."""
    return _end([one for one in marked(workspace) if _group(one.pid) == who.pid], grace)


def _end(left: Sequence[Identity], grace: float) -> int:
    for number in (signal.SIGTERM, signal.SIGKILL):
        for who in left:
            if alive(who):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(who.pid, number)
        if wait(lambda: not any(alive(who) for who in left), grace):
            break
    return len(left)


def marked(workspace: Path) -> list[Identity]:
    """All processes that were started, however indirectly, for `workspace`. Without /proc none is found."""
    wanted = f"{MARK}={workspace.resolve()}".encode()
    found = []
    for folder in PROC.glob("[0-9]*"):
        try:
            ours = wanted in (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # another user's, or it has just ended
            continue
        if ours and int(folder.name) != os.getpid() and (who := identity(int(folder.name))):
            found.append(who)
    return found


def memory(workspace: Path) -> int:
    """Bytes of memory of all these processes, pages that several share counted once in sum (proc(5), Pss)."""
    total = 0
    for who in marked(workspace):
        with contextlib.suppress(OSError):
            lines = (PROC / str(who.pid) / "smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def listener(port: int) -> str:
    """Who listens on a port, as far as this user may see it: ``process 4242 (python -m http.server)``."""
    sockets = set(listening(port))
    for folder in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(str(file.readlink()) in sockets for file in (folder / "fd").iterdir()):
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                variables = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
                place = [v.partition("=")[2] for v in variables if v.startswith(f"{MARK}=")]
                return f"process {folder.name} ({words.strip()[:80]})" + (f", which serves {place[0]}" if place else "")
    return "a process that this user may not look at"


def listening(port: int) -> Iterator[str]:
    """Sockets as they appear among the open files of a process."""
    for table in (PROC / "net/tcp", PROC / "net/tcp6"):
        for line in table.read_text().splitlines()[1:] if table.is_file() else ():
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:  # 0A: listening
                yield f"socket:[{fields[9]}]"


def tail(log: Path, lines: int = 15) -> str:
    """The end of a log."""
    if not log.is_file():
        return "(no log)"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 20_000))
        told = file.read().decode(errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in told[-lines:]) or "(the log is empty)"


def wait(until: Callable[[], bool], seconds: float) -> bool:
    """Whether something came true within so many seconds."""
    deadline = time.monotonic() + seconds
    while not until():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def _signal_group(pid: int, number: int) -> None:
    """To the group that the process leads. Nobody there is what is wanted."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
