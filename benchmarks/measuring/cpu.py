"""CPU seconds and memory of a call or a command, its child processes included: what a core pays, whoever else is at work."""

from __future__ import annotations

import os
import resource
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measuring.timing import Timing

POLL = 0.02  # s between two looks at the memory


@dataclass(frozen=True)
class Cost:
    """cpu and wall in s; peak_mib: largest sum of resident memory over the process tree, None where not watched."""

    cpu: float
    wall: float
    peak_mib: float | None = None


def of_call(call: Callable[[], object]) -> Cost:
    """A call in this process."""
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    return Cost(time.process_time() - cpu, time.perf_counter() - wall)


def of_command(command: Sequence[str], folder: Path, environment: dict[str, str] | None = None) -> Cost:
    """A command and all its children. Raises `SystemExit` with the end of its output where it fails."""
    before, wall = _children(), time.perf_counter()
    child = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    peak = _Peak(child.pid)
    peak.start()
    output, _ = child.communicate()
    seconds = time.perf_counter() - wall
    peak.join()
    if child.returncode:
        raise SystemExit(f"{' '.join(command[:4])} ... failed:\n{output[-2000:]}")
    return Cost(_children() - before, seconds, peak.mib)


def alternate(
    sides: dict[str, Callable[[], Cost]], repeats: int, say: Callable[[str], None], warmup: int = 1
) -> tuple[dict[str, Timing], dict[str, list[Cost]]]:
    """CPU seconds of each side, in alternating order, and all costs."""
    timings: dict[str, Timing] = {name: Timing() for name in sides}
    costs: dict[str, list[Cost]] = {name: [] for name in sides}
    for number in range(-warmup, repeats):
        for name in list(sides) if number % 2 == 0 else list(reversed(sides)):
            say(f"{name}, {'warm-up' if number < 0 else f'repeat {number + 1} of {repeats}'}")
            cost = sides[name]()
            if number >= 0:
                costs[name].append(cost)
                timings[name].seconds.append(cost.cpu)
    return timings, costs


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class _Peak(threading.Thread):
    """Watches the resident memory of a process and its descendants, by /proc; stays None elsewhere."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self._root = root
        self.mib: float | None = None

    def run(self) -> None:
        while Path(f"/proc/{self._root}/statm").exists() and not _is_zombie(self._root):
            pages = sum(_pages(process) for process in _tree(self._root))
            mib = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
            self.mib = max(self.mib or 0.0, mib)
            time.sleep(POLL)


def _tree(root: int) -> list[int]:
    found = [root]
    for process in found:
        try:
            threads = list(Path(f"/proc/{process}/task").iterdir())
            found += [int(child) for thread in threads for child in (thread / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended meanwhile
    return found


def _pages(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _is_zombie(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
