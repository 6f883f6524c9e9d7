"""A task run for every partition of a big map, or for neighbours together where there are many.

The work itself is the stage's process, as for every driver; what it tells while it works (`pipeline.events`) begins and
ends these task runs. They keep no answers: which partitions are finished is known from their files alone.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from prefect import task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture

from goku_core.pipeline.errors import StageFailed

MOST = 16  # task runs per map
MOST_OF_CELL = 40  # and per cell and attempt, however many maps it has: a run of the whole line stays below 200


@task(task_run_name="{name}", cache_policy=NO_CACHE)
def partition(name: str, end: Future[dict[str, int]]) -> dict[str, int]:
    """Lasts as long as the work on its rows. Returns rows and how many of them were quarantined."""
    return end.result()


@dataclass
class _Map:
    name: str
    partitions: int
    progress: Any
    left: dict[int, int] = field(default_factory=dict)  # task run -> partitions that are not finished
    ends: dict[int, Future[dict[str, int]]] = field(default_factory=dict)
    seen: dict[int, dict[str, int]] = field(default_factory=dict)
    finished: int = 0

    def run_of(self, number: int) -> int:
        return number * min(self.partitions, MOST) // self.partitions


class Watch:
    """Takes the events of one cell's process. `close` after the process has ended."""

    def __init__(self, cell: str) -> None:
        self._cell = cell
        self._maps: dict[str, _Map] = {}
        self._runs: list[PrefectFuture[dict[str, int]]] = []

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] == "plan":
            text = f"{self._cell}: {event['map']}, {event['rows']} rows in {event['partitions']} partitions"
            self._maps[event["map"]] = _Map(event["map"], event["partitions"], create_progress_artifact(0, None, text))
            of = self._maps[event["map"]]
            for number in range(of.partitions):
                of.left[of.run_of(number)] = of.left.get(of.run_of(number), 0) + 1
            return
        of = self._maps[event["map"]]
        run = of.run_of(event["partition"])
        if event["event"] == "begun" and run not in of.ends and len(self._runs) < MOST_OF_CELL:
            of.ends[run], of.seen[run] = Future(), {"rows": 0, "quarantined": 0}
            name = f"{self._cell}: {of.name} {run + 1}/{min(of.partitions, MOST)}"
            self._runs.append(partition.submit(name, of.ends[run]))
        elif event["event"] in ("kept", "finished"):
            of.finished += 1
            of.left[run] -= 1
            if event["event"] == "finished" and run in of.seen:
                of.seen[run] = {key: value + event[key] for key, value in of.seen[run].items()}
            if run in of.ends and not of.left[run]:
                of.ends[run].set_result(of.seen[run])
            if not of.left[run]:
                update_progress_artifact(of.progress, 100 * of.finished / of.partitions)

    def close(self) -> None:
        for end in (end for of in self._maps.values() for end in of.ends.values() if not end.done()):
            end.set_exception(StageFailed("the process ended before this part was finished", retriable=True))
        for run in self._runs:
            run.wait()
