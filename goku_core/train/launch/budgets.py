"""May a failed run start again, and when? A pure function of what has failed so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from goku_core.train.health.request import FaultSettings
from goku_core.train.launch.failures import Failure


@dataclass(frozen=True)
class Decision:
    """restart after `wait` seconds, or stop; `why` in words."""

    restart: bool
    wait: float
    why: str


def decide(failures: Sequence[Failure], settings: FaultSettings) -> Decision:
    """What follows the last of `failures`.

    Budgets count the failures since a checkpoint newer than all before was saved: a run that gets on may fail as often as it
    likes, one that does not stops soon. The wait doubles with each failure without progress.
    """
    last = failures[-1]
    if last.kind == "refused":
        return Decision(False, 0.0, "this must be mended first; a restart would meet it again")
    stuck = _without_progress(failures)
    budget = getattr(settings.budgets, last.kind.replace(" ", "_"))
    spent = sum(one.kind == last.kind for one in stuck)
    if spent > budget:
        return Decision(False, 0.0, f"{spent} x {last.kind} without a new checkpoint; the budget is {budget}")
    same = 0
    for one in reversed(failures):
        if one.signature != last.signature:
            break
        same += 1
    if same >= settings.identical and last.kind != "preemption":
        return Decision(False, 0.0, f"the same failure came {same} times in a row")
    wait = min(settings.backoff_seconds * 2.0 ** (len(stuck) - 1), settings.backoff_most_seconds)
    return Decision(True, wait, f"{last.kind} {spent} of {budget} without a new checkpoint")


def _without_progress(failures: Sequence[Failure]) -> Sequence[Failure]:
    """The failures at the end of which none saved more than what had been saved before it."""
    start, best = 0, -1
    for place, failure in enumerate(failures):
        if failure.progress > best:
            start, best = place, failure.progress
    return failures[start:]
