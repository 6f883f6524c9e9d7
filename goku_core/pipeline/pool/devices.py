"""Accelerators for an operator's children: which child sees which device."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

VISIBLE = "CUDA_VISIBLE_DEVICES"
LISTING_SECONDS = 20.0


@dataclass(frozen=True)
class Devices:
    """Each child sees one accelerator, through CUDA_VISIBLE_DEVICES, and keeps it for its life.

    share  children that work on one accelerator side by side, each with its own copy of the networks
    names  accelerators as CUDA_VISIBLE_DEVICES names them; none given: those this process may use. On a cluster the
           engine hands them out itself, 1/share of one to each child

    Where there is no accelerator the operator runs on the processor, as if no devices had been asked for.
    """

    share: int = 1
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.share < 1:
            raise ValueError(f"share is {self.share}: at least one child must work on an accelerator")

    def seats(self) -> list[str]:
        """One device name per child; neighbours differ, so that few children spread over all devices."""
        return list(self.names or visible()) * self.share


def visible() -> tuple[str, ...]:
    """Accelerators this process may use. Asks the environment and the driver, and imports no network library."""
    if (told := os.environ.get(VISIBLE)) is not None:
        # As CUDA reads it: what stands behind an invalid entry does not count.
        names = [name.strip() for name in told.split(",")]
        return tuple(names[: next((i for i, name in enumerate(names) if name in ("", "-1")), len(names))])
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=LISTING_SECONDS,
            check=False,
        )
    except (FileNotFoundError, PermissionError, subprocess.TimeoutExpired):
        return ()
    return tuple(listed.stdout.split()) if listed.returncode == 0 else ()
