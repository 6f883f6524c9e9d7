"""How long an order will take, from those that were drawn."""

from __future__ import annotations

from goku_core.serve.archive import Job

WEIGHT = 0.2  # of the newest measurement: a machine's speed drifts, one slow order says little


class Speed:
    """Seconds per unit of work (tokens times evaluations), a moving mean for each model and task."""

    def __init__(self) -> None:
        self._rates: dict[tuple[str, str], float] = {}

    def learn(self, job: Job, seconds: float) -> None:
        key, rate = (job.digest, job.order.task), seconds / job.work
        self._rates[key] = (1 - WEIGHT) * self._rates.get(key, rate) + WEIGHT * rate

    def seconds(self, job: Job) -> float | None:
        """None where nothing was drawn with any model yet."""
        rate = self._rates.get((job.digest, job.order.task))
        if rate is None and self._rates:
            rate = sum(self._rates.values()) / len(self._rates)
        return None if rate is None else rate * job.work
