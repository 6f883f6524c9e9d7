"""A rank that is asked to leave (SIGTERM, SIGINT) ends the step, saves with the others, and goes."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

import torch
import torch.distributed as dist

SUPERVISED = "GOKU_LAUNCHER"  # variable with the launcher's process id


class Leave:
    """`asked` becomes true with the first SIGTERM or SIGINT.

    Install it in the main thread, when there is something to save. Under a launcher further signals change nothing (it tells
    every rank again when the first one has left, and kills what stays too long); without one, the second ends the process, and
    Ctrl+C does at once.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, object] = {}
        if threading.current_thread() is threading.main_thread():
            self._supervised = SUPERVISED in os.environ
            wanted = (signal.SIGTERM, signal.SIGINT) if self._supervised else (signal.SIGTERM,)
            self._before = {number: signal.signal(number, self._note) for number in wanted}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if not self._supervised:
            self.close()

    def agreed(self, device: torch.device | str = "cpu") -> bool:
        """Has any rank been asked? All ranks call it at the same point and get the same answer."""
        if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
            return self.asked
        flag = torch.tensor([float(self.asked)], device=device)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag.item())

    def __enter__(self) -> Leave:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Signals have their former meaning again."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before = {}
