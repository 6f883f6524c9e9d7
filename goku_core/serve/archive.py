"""Orders on disk: `.goku/serve/orders/ID/order.json`, and beside it the file that was drawn and what it was drawn from.

An order is written before its ticket is handed out, and again when it begins and ends. So whatever ends the service, the next
one knows of every order: those that ended are still answered, those that did not are drawn, and a result is the same bytes.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from goku_core.orders import Terms
from goku_core.pipeline.files import write_json
from goku_core.serve.limits import Limits
from goku_core.serve.orders import ENDED, Fault, Order, Result, State, Ticket

PLACE = ".goku/serve"
RECORD, PROVENANCE = "order.json", "provenance.json"
log = logging.getLogger("goku.serve")


class Job(BaseModel):
    """An order that was taken, and what became of it. Times are seconds since 1970.

    begun  how often a worker began it: one that twice went down with the service is not tried a third time
    """

    id: str
    order: Order
    client: str
    digest: str
    version: int
    terms: Terms
    tokens: int
    created: float
    deadline: float
    state: State = "queued"
    progress: float = 0.0
    begun: int = 0
    started: float | None = None
    ended: float | None = None
    error: Fault | None = None
    result: Result | None = None

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED

    @property
    def work(self) -> float:
        """What its seconds grow with: tokens times evaluations."""
        return self.tokens * self.terms.steps * (1 if self.terms.guidance == 1.0 else 2)

    def ticket(self, default: str, position: int | None, eta_s: float | None) -> Ticket:
        return Ticket(
            id=self.id,
            state=self.state,
            position=position,
            progress=self.progress,
            eta_s=eta_s,
            error=self.error,
            result=self.result,
            task=self.order.task,
            seed=self.order.seed,
            model=self.order.model or default,
            digest=self.digest,
            version=self.version,
            created=clock(self.created) or "",
            started=clock(self.started),
            ended=clock(self.ended),
        )


def clock(seconds: float | None) -> str | None:
    """UTC, ISO 8601, milliseconds."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


class Archive:
    """The orders of a workspace, one folder each."""

    def __init__(self, workspace: Path, limits: Limits) -> None:
        self.folder, self.limits = workspace / PLACE / "orders", limits
        self.folder.mkdir(parents=True, exist_ok=True)
        (workspace / PLACE).chmod(0o700)  # what people asked for is nobody else's business

    def place(self, id: str) -> Path:
        return self.folder / id

    def drawing(self, job: Job) -> Path:
        """The file of an order."""
        return self.place(job.id) / ("result.png" if job.order.task == "t2i" else "result.mp4")

    def save(self, job: Job) -> None:
        write_json(self.place(job.id) / RECORD, job.model_dump(mode="json"))

    def save_provenance(self, job: Job, facts: dict[str, Any]) -> None:
        write_json(self.place(job.id) / PROVENANCE, facts)

    def provenance(self, job: Job) -> dict[str, Any]:
        return json.loads((self.place(job.id) / PROVENANCE).read_text(encoding="utf-8"))

    def load(self) -> list[Job]:
        """Every order, oldest first. What cannot be read is left where it is, and said."""
        jobs = []
        for path in self.folder.glob(f"*/{RECORD}"):
            try:
                jobs.append(Job.model_validate_json(path.read_bytes()))
            except ValidationError as error:
                log.warning(
                    "order %s cannot be read (%d faults) and is left out", path.parent.name, error.error_count()
                )
        return sorted(jobs, key=lambda job: job.created)

    def stale(self, jobs: list[Job]) -> list[Job]:
        """Of orders, those that ended and are no longer kept."""
        oldest = time.time() - self.limits.kept_hours * 3600
        ended = sorted((job for job in jobs if job.has_ended), key=lambda job: -(job.ended or 0.0))
        return [job for place, job in enumerate(ended) if place >= self.limits.kept or (job.ended or 0.0) < oldest]

    def drop(self, job: Job) -> None:
        shutil.rmtree(self.place(job.id), ignore_errors=True)
