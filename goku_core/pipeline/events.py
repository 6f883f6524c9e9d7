"""What a stage tells the process that started it, over a pipe: one JSON document a line, while the work goes on.

The driver (a Prefect flow) turns it into task runs and progress. Nobody listens under `dvc repro` or `goku run
--no-flow`; then nothing is said, and nothing of the work depends on it.
"""

from __future__ import annotations

import os

from goku_core.pipeline.files import canonical_json

DESCRIPTOR = "GOKU_EVENTS_FD"


def tell(event: str, **facts: object) -> None:
    """One line to the driver. Shorter than a pipe's atomic write (4096 bytes), so that lines never mix."""
    if (number := os.environ.get(DESCRIPTOR)) is None:
        return
    try:
        os.set_inheritable(int(number), False)  # a server that a stage starts must not keep the pipe open
        os.write(int(number), (canonical_json({"event": event, **facts}) + "\n").encode())
    except OSError:  # the driver is gone; the work is not its business
        del os.environ[DESCRIPTOR]
