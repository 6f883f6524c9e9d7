"""Whose turn it is to drive the line in a workspace.

`dvc repro` removes the outputs of a stage before it runs it, also while a flow reads them, and nothing can hold it back
once it is at a stage. So it has the line alone: it begins when no other driver is at work, and as long as its process
lives the others wait. Flows and `goku run` take nothing away from each other (cells have their own locks) and may be many.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from goku_core.pipeline.files import write_json
from goku_core.pipeline.progress import console

# Lock file -> the open file that holds the lock, and how often this process is in its turn: POSIX locks do not count.
_OURS: dict[str, tuple[Any, int]] = {}
_GUARD = threading.Lock()


@contextlib.contextmanager
def shared(workspace: Path, waiting: Callable[[str], None]) -> Iterator[None]:
    """A turn beside others of its kind; `waiting(who)` is called once where DVC has the line."""
    place = _place(workspace)
    name = str(place)
    with _GUARD:
        file, entered = _OURS[name] if name in _OURS else (_enter(place, waiting), 0)
        _OURS[name] = file, entered + 1
    try:
        yield
    finally:
        with _GUARD:
            file, entered = _OURS.pop(name)
            if entered > 1:
                _OURS[name] = file, entered - 1
            else:
                file.close()  # and the lock with it


def take_for_dvc(workspace: Path, waiting: Callable[[str], None]) -> bool:
    """The turn of the `dvc` that started this process, until that ends. False where no `dvc` did."""
    dvc = _dvc_above()
    if dvc is None:
        return False
    place = _place(workspace)
    if _alone(place) == dvc:
        return True
    with place.open("a+") as file:
        _locked(file, fcntl.LOCK_EX, lambda: waiting("another driver"))
        told = False
        while other := _alone(place):  # not this one: asked above
            if not told:
                waiting(f"dvc (process {other[0]})")
            told = True
            time.sleep(0.2)
        write_json(_note(place), {"pid": dvc[0], "began": dvc[1]})
    return True


def waits_for(driver: str) -> Callable[[str], None]:
    """What a driver says while it waits."""
    return lambda who: console().print(
        f"{driver}: the line is driven by {who}; waiting for it", soft_wrap=True, markup=False
    )


def _enter(place: Path, waiting: Callable[[str], None]) -> Any:
    told = False
    while True:
        file = place.open("a+")
        _locked(file, fcntl.LOCK_SH, lambda: None)
        other = _alone(place)
        if other is None or other == _dvc_above():
            return file
        file.close()
        if not told:
            waiting(f"dvc (process {other[0]})")
            told = True
        time.sleep(0.2)


def _locked(file: Any, kind: int, waiting: Callable[[], None]) -> None:
    told = False
    while True:
        try:
            fcntl.lockf(file.fileno(), kind | fcntl.LOCK_NB)
            return
        except (BlockingIOError, PermissionError):
            if not told:
                waiting()
            told = True
            time.sleep(0.1)


def _place(workspace: Path) -> Path:
    place = workspace.resolve() / ".goku" / "locks" / "line.lock"
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def _note(place: Path) -> Path:
    return place.with_name("line.dvc.json")


def _alone(place: Path) -> tuple[int, str] | None:
    """The living `dvc` that has the line."""
    with contextlib.suppress(FileNotFoundError, ValueError):  # nobody has had it yet
        told = json.loads(_note(place).read_text(encoding="utf-8"))
        if _began(told["pid"]) == told["began"]:
            return told["pid"], told["began"]
    return None


def _dvc_above() -> tuple[int, str] | None:
    """The `dvc` among the processes above this one."""
    pid = os.getppid()
    while pid > 1:
        words = [Path(word).name for word in _ps(pid, "args").split()[:4]]
        if words and (words[0] == "dvc" or (words[0].startswith("python") and "dvc" in words)):
            return pid, _began(pid)
        pid = int(_ps(pid, "ppid") or 0)
    return None


def _began(pid: int) -> str:
    """When a process began, so that another one with its number is not taken for it; empty where there is none."""
    status = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return ""
        return "" if fields[0] in "ZX" else fields[19]
    return _ps(pid, "lstart")


def _ps(pid: int, field: str) -> str:
    if Path("/proc/self/stat").exists():
        try:
            if field == "args":
                return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        except (FileNotFoundError, ProcessLookupError):
            return ""
    done = subprocess.run(["ps", "-o", f"{field}=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip()
