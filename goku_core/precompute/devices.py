"""Which device a worker encodes on. Workers start and are replaced in any order, so each claims a free place by itself."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path
from typing import TextIO

from goku_core.pipeline.errors import GokuError
from goku_core.precompute.request import PrecomputeRequest

WAIT_SECONDS = 30.0  # a replaced worker's claim ends with its process, which the system may still be clearing away


def places(request: PrecomputeRequest, cores: int) -> list[str]:
    """One entry per worker: the torch device it encodes on. Raises GokuError where cuda is wanted and not there."""
    if request.device == "cpu":
        return ["cpu"] * cores
    import torch

    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if request.device == "cuda" and not found:
        raise GokuError("precompute.device: cuda, but torch sees no CUDA device here. Set it to auto or cpu.")
    if not found:
        return ["cpu"] * cores
    # Neighbouring workers on different devices: a few batches are spread too.
    return [f"cuda:{number}" for _ in range(request.workers_per_device) for number in range(found)]


class Claim:
    """A place of the list that no other living process holds. The claim ends with the process, however it ends."""

    def __init__(self, devices: list[str], folder: Path) -> None:
        """folder: where the lock files are; the same for all workers. Raises GokuError when no place becomes free."""
        folder.mkdir(parents=True, exist_ok=True)
        self._file: TextIO
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            for number, device in enumerate(devices):
                file = (folder / f"{number}.lock").open("a+")
                try:
                    fcntl.lockf(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    file.close()
                    continue
                self._file, self.device = file, device
                return
            if time.monotonic() > deadline:
                raise GokuError(f"all {len(devices)} places on {', '.join(sorted(set(devices)))} are taken")
            time.sleep(0.1)
