"""The engine of one machine: a few threads of this process, each with a child of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence

import pyarrow as pa

from goku_core.pipeline.pool.result import Done, Job, Work
from goku_core.pipeline.pool.supervisor import Supervisor


def seats(work: Work, workers: int) -> list[str | None]:
    """One entry per child: the device it sees, None without devices."""
    return (work.devices.seats() if work.devices else []) or [None] * max(1, workers)


def run(table: pa.Table, jobs: Sequence[Job], work: Work, workers: int) -> Iterator[Done]:
    """Outcomes in the order in which they are finished. Jobs are taken in the order given.

    Closing the iterator, or an error in it, kills the children at once, whatever they are doing.
    """
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    finished: queue.SimpleQueue[Done | BaseException] = queue.SimpleQueue()
    stop = threading.Event()

    def serve(device: str | None) -> None:
        supervisor = Supervisor(work, stop, device)
        try:
            while not stop.is_set():
                try:
                    job = waiting.get_nowait()
                except queue.Empty:
                    return
                finished.put(supervisor.do(job.first_row, job.batch(table)))
        except BaseException as error:  # handed to the caller's thread, which raises it
            if not stop.is_set():
                finished.put(error)
        finally:
            supervisor.close()

    threads = [
        threading.Thread(target=serve, args=(device,), daemon=True, name="pool-supervisor")
        for device in seats(work, workers)[: len(jobs)]
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in jobs:
            answer = finished.get()
            if isinstance(answer, BaseException):
                raise answer
            yield answer
    finally:
        stop.set()
        for thread in threads:
            thread.join()
