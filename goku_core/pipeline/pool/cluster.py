"""The engine of several machines: the same jobs through Ray Data, the supervised child inside the Ray worker.

Ray Data hands batches to actors, one per processor (or share of an accelerator). Each actor owns a child as a thread of
the local engine does, so a crash, a hang or a memory bomb ends the child and not Ray's worker: Ray sees rows that were
quarantined, never a failure. What is left to Ray's failures are machines and Ray itself, and there its own retries are
not used, because they are endless: a batch that goes down with its worker is not repeated by Ray. Its absence is noticed
when the round ends, and the next round holds what is missing. Rounds that finish nothing end the run.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.pool.messages import as_bytes, from_bytes
from goku_core.pipeline.pool.nodes import connect, require_shared
from goku_core.pipeline.pool.result import Done, Job, Quarantined, Work
from goku_core.pipeline.pool.supervisor import Supervisor
from goku_core.pipeline.progress import console

WORKERS = "GOKU_RAY_WORKERS"
IDLE_ROUNDS = 3  # rounds in a row that finish nothing, then the run ends with an error
BLOCKS_PER_WORKER = 16  # our choice: even load at the end, and few enough messages for the driver
JOBS_PER_BLOCK = 64

JOB = pa.schema([("first_row", pa.int64()), ("batch", pa.binary())])
OUTCOME = pa.schema(
    [
        ("first_row", pa.int64()),
        ("rows", pa.int64()),
        ("results", pa.list_(pa.binary())),
        ("quarantined", pa.string()),
        ("to_mend", pa.string()),
        ("error", pa.string()),
    ]
)


class Seat:
    """What an actor of Ray Data holds: one supervisor with its child."""

    def __init__(self, work: Work, path: list[str]) -> None:
        # Children can import what the driver can, also from a path that only the driver was given.
        sys.path += [place for place in path if place not in sys.path]
        self._supervisor = Supervisor(work, threading.Event())

    def __call__(self, jobs: pa.Table) -> pa.Table:
        """Rows of `JOB` in, rows of `OUTCOME` out. An error is told, not raised: Ray would take it for a lost machine."""
        outcomes = []
        for job in jobs.to_pylist():
            try:
                done = self._supervisor.do(job["first_row"], from_bytes(job["batch"]))
            except GokuError as error:
                outcomes.append({"first_row": job["first_row"], "to_mend": str(error)})
                continue
            except Exception:
                outcomes.append({"first_row": job["first_row"], "error": traceback.format_exc()})
                continue
            outcomes.append(
                {
                    "first_row": done.first_row,
                    "rows": done.rows,
                    "results": [as_bytes(batch) for batch in done.results],
                    "quarantined": json.dumps([asdict(bad) for bad in done.quarantined]),
                }
            )
        return pa.Table.from_pylist(outcomes, schema=OUTCOME)


def run(table: pa.Table, jobs: Sequence[Job], work: Work, shared: Path) -> Iterator[Done]:
    """Outcomes in the order in which they are finished. ``shared``: a folder that every node must see.

    Raises GokuError where Ray is missing, cannot be reached, or a node sees other files or other code than this process.
    """
    connect()
    require_shared(shared, table, work.operator)
    left = {job.first_row: job for job in jobs}
    idle = 0
    while left:
        before = len(left)
        try:
            for outcome in _round(table, list(left.values()), work):
                # A block that was made again because its first copy was lost tells the same once more.
                if left.pop(outcome.first_row, None) is not None:
                    yield outcome
        except _ray_failures() as error:
            console().print(f"cluster: {type(error).__name__}: {_first_line(error)}", soft_wrap=True, markup=False)
        if left:
            idle = idle + 1 if len(left) == before else 0
            console().print(f"cluster: {len(left)} of {before} batches were lost with a worker or a node", markup=False)
        if idle == IDLE_ROUNDS:
            raise RuntimeError(
                f"{len(left)} batches were lost {IDLE_ROUNDS} times in a row with the Ray workers that held them, the "
                f"first begins with row {min(left)}. See `ray status` and the memory of the nodes"
            )


def _round(table: pa.Table, jobs: Sequence[Job], work: Work) -> Iterator[Done]:
    """Every job is tried at most once; what goes down with its worker is simply not among the outcomes."""
    import ray

    data = ray.data
    share = _share(work)
    workers = min(len(jobs), _workers(share))
    size = max(1, min(JOBS_PER_BLOCK, len(jobs) // (workers * BLOCKS_PER_WORKER)))
    blocks = [_block(table, jobs[start : start + size]) for start in range(0, len(jobs), size)]
    settings = data.DataContext.get_current()
    settings.max_errored_blocks = -1
    settings.enable_progress_bars = False
    settings.print_on_execution_start = False
    # It writes a page for every batch that is lost, a line for every dataset that is not; `run` says what matters.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    outcomes = data.from_arrow(blocks).map_batches(
        Seat,
        fn_constructor_args=(work, sys.path),
        batch_size=None,
        batch_format="pyarrow",
        compute=data.ActorPoolStrategy(size=min(workers, len(blocks)), max_tasks_in_flight_per_actor=1),
        # An actor whose machine went is started elsewhere; the batch it held is not (see above).
        ray_remote_args_fn=lambda: {"max_restarts": -1, "max_task_retries": 0},
        **share,
    )
    try:
        for block in outcomes.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for row in block.to_pylist():
                yield _outcome(row)
    finally:
        # Actors go when the last reference to them does. Ray Data leaves some in cycles, and until Python happens to look
        # for those, the actors of this round keep the processors that the next one waits for.
        del outcomes
        gc.collect()


def _block(table: pa.Table, jobs: Sequence[Job]) -> pa.Table:
    rows = [{"first_row": job.first_row, "batch": as_bytes(job.batch(table))} for job in jobs]
    return pa.Table.from_pylist(rows, schema=JOB)


def _outcome(row: dict[str, Any]) -> Done:
    if row["to_mend"] is not None:
        raise GokuError(row["to_mend"])
    if row["error"] is not None:
        raise RuntimeError(f"on a node of the cluster:\n{row['error']}")
    quarantined = [Quarantined(**bad) for bad in json.loads(row["quarantined"])]
    return Done(row["first_row"], row["rows"], [from_bytes(data) for data in row["results"]], quarantined)


def _share(work: Work) -> dict[str, float]:
    """What one actor takes of a machine: a processor, or its part of an accelerator where the cluster has any."""
    import ray

    if work.devices is not None and ray.cluster_resources().get("GPU", 0) > 0:
        return {"num_cpus": 1, "num_gpus": 1 / work.devices.share}
    return {"num_cpus": 1}


def _workers(share: dict[str, float]) -> int:
    """As many actors as the cluster has room for now, or as the environment asks for where machines are still to come."""
    import ray

    if wanted := os.environ.get(WORKERS):
        if not wanted.isdigit() or int(wanted) < 1:
            raise GokuError(f"{WORKERS}={wanted}: must be a number of workers, 1 or more")
        return int(wanted)
    there = ray.cluster_resources()
    places = [
        there.get(kind, 0) / share[key] for key, kind in (("num_cpus", "CPU"), ("num_gpus", "GPU")) if key in share
    ]
    return max(1, int(min(places)))


def _ray_failures() -> tuple[type[Exception], ...]:
    import ray

    return (ray.exceptions.RayError,)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else ""
