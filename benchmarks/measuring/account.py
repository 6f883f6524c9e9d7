"""Seconds of processor time of a program and of all that it starts, servers that outlive it included (Linux, as root).

Wall time on a busy machine says little; the kernel's account of a control group says what was used whatever else ran.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path

V1, V2 = Path("/sys/fs/cgroup/cpuacct"), Path("/sys/fs/cgroup")


class Account:
    """One control group. `seconds()` is None where none can be made: on another system, or without the right to."""

    def __init__(self) -> None:
        root = V1 if V1.is_dir() else V2
        self._place: Path | None = root / f"goku-bench-{uuid.uuid4().hex[:12]}"
        try:
            self._place.mkdir()
            self._usage()
        except (OSError, ValueError):
            self._place = None

    @property
    def enter(self) -> Callable[[], None] | None:
        """To be called in a new process before its program begins (`preexec_fn`)."""
        if self._place is None:
            return None
        file = str(self._place / "cgroup.procs")

        def write() -> None:
            with open(file, "w") as procs:  # noqa: PTH123  between fork and exec as little as possible
                procs.write(str(os.getpid()))

        return write

    def seconds(self) -> float | None:
        return None if self._place is None else self._usage()

    def close(self) -> None:
        """Programs must have ended; a group that the kernel still holds is left to it."""
        if self._place is not None:
            try:
                self._place.rmdir()
            except OSError as error:
                print(f"{self._place} stays: {error.strerror}")

    def _usage(self) -> float:
        assert self._place is not None
        if (v1 := self._place / "cpuacct.usage").is_file():
            return int(v1.read_text()) / 1e9
        lines = (self._place / "cpu.stat").read_text().splitlines()
        return int(dict(line.split() for line in lines)["usage_usec"]) / 1e6
