"""One process that works for several process pools: `python -m flows.worker POOL...` (what `goku up` starts).

Prefect's own command serves one pool per process; each costs 100 MB.
"""

from __future__ import annotations

import argparse
import asyncio
import os

from prefect.utilities.processutils import setup_signal_handlers_worker
from prefect.workers.process import ProcessWorker


async def serve(pools: list[str], name: str) -> None:
    """Runs until it is told to end. One that fails takes the others with it, so that `goku status` shows it."""
    setup_signal_handlers_worker(os.getpid(), "the worker", print)
    async with asyncio.TaskGroup() as group:
        for pool in pools:
            group.create_task(ProcessWorker(work_pool_name=pool, name=name).start(), name=pool)


def main() -> None:
    parser = argparse.ArgumentParser(description="Work for process pools of Prefect.")
    parser.add_argument("pools", nargs="+")
    parser.add_argument("--name", required=True)
    given = parser.parse_args()
    try:
        asyncio.run(serve(given.pools, given.name))
    except KeyboardInterrupt:
        print("the worker stopped", flush=True)


if __name__ == "__main__":
    main()
