"""Which device a worker computes on. Workers are children of the pool and all get the same settings: each takes a seat.

A seat is a file lock: it falls back to the next child when its holder dies, however it dies.
"""

from __future__ import annotations

import fcntl
import os
import time
from dataclasses import dataclass
from pathlib import Path

from goku_core.pipeline.errors import GokuError

WAIT_SECONDS = 60.0  # a child that was killed may hold its seat for as long as the kernel needs to end it


def resolved(device: str) -> str:
    """A device of torch for "auto"; any other name as it is."""
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class Seats:
    """``count`` workers may compute at once, on devices in turn. devices: 0 for the CPU."""

    count: int
    devices: int

    @classmethod
    def plan(cls, device: str, share: float, cores: int) -> Seats:
        """As `Models` says. Raises GokuError where a GPU is demanded and torch sees none.

        On a CPU there is a single-threaded worker per core, as in the rest of the pool: results then do not depend on
        the number of cores.
        """
        if resolved(device) == "cpu":
            return cls(cores, 0)
        import torch

        devices = torch.cuda.device_count()
        if devices == 0:
            raise GokuError(
                f"curate.models.device is {device}, but torch sees no GPU (torch {torch.__version__}). "
                "Set it to auto or cpu, or install a CUDA build of torch"
            )
        return cls(devices * max(1, int(1.0 / share + 1e-9)), devices)

    def device(self, seat: int) -> str:
        return f"cuda:{seat % self.devices}" if self.devices else "cpu"


def take_seat(folder: Path, count: int) -> int:
    """The first free seat, held until this process ends. Raises GokuError where all stay taken."""
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        for seat in range(count):
            # Never closed: the lock lives as long as the descriptor.
            descriptor = os.open(folder / f"{seat}.seat", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            return seat
        if time.monotonic() > deadline:
            raise GokuError(
                f"all {count} seats in {folder} are taken by other processes: is the same stage running twice?"
            )
        time.sleep(0.1)
