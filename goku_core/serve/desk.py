"""The desk: takes orders, keeps their queue, hands out tickets and results. The HTTP app and the page talk to one desk.

Thread-safe. Orders are drawn one by one in the order they came (`dispatch.py`, `worker.py`).
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.files import lock_if_free
from goku_core.serve.archive import PLACE, Archive, Job, log
from goku_core.serve.dispatch import Dispatcher
from goku_core.serve.limits import Limits
from goku_core.serve.metrics import Metrics
from goku_core.serve.orders import Fault, FaultCode, ModelCard, Order, Refused, Result, State, Ticket, Upload
from goku_core.serve.shelf import Settled, Shelf
from goku_core.serve.speed import Speed
from goku_core.serve.uploads import Uploads

TRIES = 2  # of an order that was in work when the service died
Watcher = Callable[[Ticket], None]


class Desk:
    """Orders of one workspace.

    workspace    folder with the ledger and the bundles; tickets and files are kept in its .goku/serve
    limits       see `Limits`
    device       auto, cpu, cuda or cuda:N, of the worker
    model        what draws orders that name no model; kept in memory
    log_prompts  may prompts stand in the log?
    """

    def __init__(
        self,
        workspace: Path,
        limits: Limits | None = None,
        device: str = "auto",
        model: str = "champion",
        log_prompts: bool = False,
    ) -> None:
        self.workspace, self.limits, self.model, self.log_prompts = workspace, limits or Limits(), model, log_prompts
        self.shelf, self.metrics = Shelf(workspace, self.limits), Metrics()
        self.archive: Archive
        self._uploads = Uploads(workspace / PLACE / "uploads", self.limits)
        self._speed = Speed()
        self._changed = threading.Condition(threading.RLock())
        self._jobs: dict[str, Job] = {}
        self._waiting: list[str] = []
        self._running: str | None = None
        self._call_off: Fault | None = None  # why the running order is no longer wanted
        self._watchers: dict[str, list[Watcher]] = {}
        self._open, self._closing = ExitStack(), False
        self._dispatcher = Dispatcher(self, device)
        self.metrics.watch(lambda: len(self._waiting), lambda: self._running is not None, lambda: self.ready)

    def open(self) -> None:
        """Take up what an earlier service left, and start the worker, which loads the default model by and by.

        Raises GokuError where there is no such model, and where another service works in this workspace.
        """
        self.shelf.bundle(self.shelf.named(self.model))
        if not self._open.enter_context(lock_if_free(self.workspace / PLACE / "lock")):
            raise GokuError("Another `goku serve` works in this workspace. Stop it, or use that one.")
        self.archive = Archive(self.workspace, self.limits)
        for job in self.archive.load():
            self._jobs[job.id] = job
            if job.has_ended:
                continue
            if job.begun >= TRIES:
                self._end(
                    job, "failed", Fault(code="worker-died", message="The service died twice while drawing this.")
                )
            else:
                job.state, job.progress, job.started = "queued", 0.0, None
                self._waiting.append(job.id)
        if self._waiting:
            log.info("%d orders of an earlier service are drawn now", len(self._waiting))
        self._dispatcher.start()

    def close(self, grace: float, because: str = "the service was stopped") -> None:
        """Cancel what waits, give what runs `grace` seconds, end the worker. Nothing is taken from here on."""
        with self._changed:
            if not self._closing:
                self._closing = True
                for id in list(self._waiting):
                    self._end(self._jobs[id], "cancelled", Fault(code="shutdown", message=f"Not begun: {because}."))
            self._changed.wait_for(lambda: self._running is None, timeout=grace)
            if self._running is not None:
                self._call_off = Fault(code="shutdown", message=f"Not done within {grace:g} s: {because}.")
        self._dispatcher.stop()
        self._open.close()

    @property
    def closing(self) -> bool:
        return self._closing

    @property
    def ready(self) -> bool:
        """Is the default model loaded and does the desk take orders?"""
        return not self._closing and self._dispatcher.fault is None

    @property
    def unready_because(self) -> str | None:
        return "the service is stopping" if self._closing else self._dispatcher.fault

    def submit(self, order: Order, client: str = "page") -> Ticket:
        """Take an order. client: who asks, for the limit per client.

        Raises `Refused`: 422 for what this service or the model cannot do, 404 for an unknown model or upload, 413 for a
        picture that is too large, 429 (with retry_after) where the queue or the client's share is full, 503 while closing.
        """
        try:
            self._check_room(client)  # before anything is written for somebody who is refused
            settled = self.shelf.settle(order, self.model)
            if order.first_frame is not None:
                order = order.model_copy(update={"first_frame": self._uploads.given(order.first_frame)})
            with self._changed:
                self._check_room(client)
                job = self._job(order, client, settled)
                try:
                    self.archive.save(job)
                except OSError as error:
                    log.error("order not taken: %s", error)
                    raise Refused(503, "storage", "The service cannot write to its disk.", retry_after=60) from error
                self._jobs[job.id] = job
                self._waiting.append(job.id)
                self._changed.notify_all()
                ticket = self._ticket(job)
        except Refused as refused:
            self.metrics.refused.labels(refused.code).inc()
            raise
        self.metrics.taken.labels(job.version, order.task).inc()
        words = f": {order.prompt!r}" if self.log_prompts else ""
        log.info("%s taken: %s, version %d, %d tokens%s", job.id, order.task, job.version, job.tokens, words)
        return ticket

    def ticket(self, id: str) -> Ticket:
        """Raises `Refused` (404) where there is no such order, or it is no longer kept."""
        with self._changed:
            return self._ticket(self._find(id))

    def wait(self, id: str, seconds: float) -> Ticket:
        """The ticket once it has ended, or as it stands after `seconds`."""
        with self._changed:
            job = self._find(id)
            self._changed.wait_for(lambda: job.has_ended, timeout=seconds)
            return self._ticket(job)

    def follow(self, id: str, on_change: Watcher) -> Callable[[], None]:
        """`on_change` is called at every change (from another thread; it must not block). Returns what ends that."""
        with self._changed:
            self._find(id)
            self._watchers.setdefault(id, []).append(on_change)

        def end() -> None:
            with self._changed:
                watchers = self._watchers.get(id, [])
                if on_change in watchers:
                    watchers.remove(on_change)
                if not watchers:
                    self._watchers.pop(id, None)

        return end

    def cancel(self, id: str) -> Ticket:
        """Waiting or running; one that has ended stays as it is. Raises `Refused` (404)."""
        fault = Fault(code="cancelled", message="Called off by the client.")
        with self._changed:
            job = self._find(id)
            if id in self._waiting:
                self._end(job, "cancelled", fault)
            elif id == self._running:
                self._call_off = self._call_off or fault
            return self._ticket(job)

    def file(self, id: str) -> Path:
        """The finished PNG or MP4. Raises `Refused`: 404 unknown, 409 not done (yet)."""
        path = self.archive.drawing(self._done(id))
        if not path.is_file():  # somebody else's doing
            raise Refused(404, "unknown-order", "The file of this order is gone. Order it again: it will be the same.")
        return path

    def provenance(self, id: str) -> dict[str, Any]:
        """JSON-able, as of the moment of drawing: `order` and `ticket`, `provenance` as in the file, `bundle` (digest, files,
        lineage), `ledger` (the entry), `software` (version and commit), and `again`: the command and the order that draw the
        same again. Raises `Refused` as `file` does."""
        return self.archive.provenance(self._done(id))

    def models(self) -> list[ModelCard]:
        """Every model of the ledger whose bundle is here, newest first. Read anew at every call."""
        return self.shelf.cards(self._dispatcher.digests)

    def upload(self, content: bytes) -> Upload:
        """Take a first frame (PNG, JPEG or WebP). Raises `Refused`: 413 too large, 422 no picture."""
        try:
            return self._uploads.take(content)
        except Refused as refused:
            self.metrics.refused.labels(refused.code).inc()
            raise

    def upload_file(self, id: str) -> Path:
        """The bytes of a first frame as they came. Raises `Refused` (404)."""
        return self._uploads.path(id)

    # What follows is for the dispatcher.

    def next(self, seconds: float) -> Job | None:
        """The order that is to be drawn now, begun; None where none came within `seconds`."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing, timeout=seconds)
            self.expire()
            if not self._waiting or self._closing:
                return None
            job = self._jobs[self._waiting.pop(0)]
            self._running, self._call_off = job.id, None
            job.state, job.started, job.begun = "running", time.time(), job.begun + 1
            self._save(job)
            self.metrics.waiting.labels(job.version, job.order.task).observe(job.started - job.created)
            for id in [job.id, *self._waiting]:
                self._tell(self._jobs[id])
            return job

    def expire(self) -> None:
        """End what waits in vain; call off what runs too long."""
        with self._changed:
            now = time.time()
            for job in [self._jobs[id] for id in self._waiting]:
                if now > job.deadline:
                    self._end(job, "failed", _late(job, "was still waiting"))
            if self._running is not None and now > (job := self._jobs[self._running]).deadline:
                self._call_off = self._call_off or _late(job, "was being drawn")

    def unwanted(self) -> bool:
        """Is what runs no longer wanted?"""
        return self._call_off is not None

    def progressed(self, job: Job, share: float) -> None:
        with self._changed:
            job.progress = max(job.progress, share)  # the adaptive solver goes back where a step was too long
            self._tell(job)

    def finished(self, job: Job, result: Result, provenance: dict[str, Any]) -> None:
        with self._changed:
            try:
                self.archive.save_provenance(job, provenance)
            except OSError as error:
                log.error("%s: %s", job.id, error)
                self.failed(job, "internal", f"Drawn, but it could not be kept: {error.strerror}.")
                return
            job.progress, job.result = 1.0, result
            self._speed.learn(job, result.seconds)
            self.metrics.drawing.labels(job.version, job.order.task).observe(result.seconds)
            self._end(job, "done", None)

    def failed(self, job: Job, code: FaultCode, message: str) -> None:
        self._end(job, "failed", Fault(code=code, message=message))

    def stopped(self, job: Job) -> None:
        """It was called off, and the worker has let go of it."""
        with self._changed:
            fault = self._call_off or Fault(code="internal", message="Stopped without a reason.")
            self._end(job, "cancelled" if fault.code == "cancelled" else "failed", fault)

    def _end(self, job: Job, state: State, fault: Fault | None) -> None:
        with self._changed:
            job.state, job.error, job.ended = state, fault, time.time()
            if job.id in self._waiting:
                self._waiting.remove(job.id)
            if self._running == job.id:
                self._running = self._call_off = None
            if state != "done":
                self.archive.drawing(job).unlink(missing_ok=True)
            self._save(job)
            self._tell(job)
            for id in self._waiting:
                self._tell(self._jobs[id])
            self._prune()
            self._changed.notify_all()
        how = "done" if fault is None else fault.code
        self.metrics.ended.labels(job.version, job.order.task, how).inc()
        log.info("%s %s after %.1f s%s", job.id, state, job.ended - job.created, f": {fault.code}" if fault else "")

    def _save(self, job: Job) -> None:
        """On a full disk the service goes on answering from memory, and says so."""
        try:
            self.archive.save(job)
        except OSError as error:
            log.error("%s (%s) is not written: %s", job.id, job.state, error)

    def _prune(self) -> None:
        stale = self.archive.stale(list(self._jobs.values()))
        for job in stale:
            self.archive.drop(self._jobs.pop(job.id))
        used = {job.order.first_frame for job in self._jobs.values()}
        self._uploads.prune({id for id in used if id})

    def _check_room(self, client: str) -> None:
        """Raises `Refused`."""
        with self._changed:
            if self._closing:
                raise Refused(503, "shutdown", "The service is stopping and takes no orders.", retry_after=10)
            held = [*self._waiting, *([self._running] if self._running else [])]
            shares = Counter(self._jobs[id].client for id in held)
            limits = self.limits
            if len(self._waiting) >= limits.queue:
                self._full("queue", f"{limits.queue} orders are waiting, the most that are taken.")
            if shares[client] >= limits.per_client:
                self._full(
                    "per-client", f"{limits.per_client} of your orders are waiting or running, the most for one."
                )

    def _full(self, code: str, message: str) -> None:
        """Raises: to be tried again when the one that runs should be done."""
        seconds = max(1, round(self._left(self._jobs[self._running]) or 1) if self._running else 1)
        raise Refused(429, code, f"{message} Try again in {seconds} s.", retry_after=seconds)

    def _job(self, order: Order, client: str, settled: Settled) -> Job:
        now = time.time()
        return Job(
            id=secrets.token_hex(16),
            order=order,
            client=client,
            digest=settled.bundle.digest,
            version=settled.entry.version,
            terms=settled.terms,
            tokens=settled.tokens,
            created=now,
            deadline=now + (order.deadline_s or self.limits.deadline_s),
        )

    def _find(self, id: str) -> Job:
        job = self._jobs.get(id)
        if job is None:
            raise Refused(404, "unknown-order", "There is no such order, or it is no longer kept.")
        return job

    def _done(self, id: str) -> Job:
        with self._changed:
            job = self._find(id)
            if job.state == "done":
                return job
            why = f": {job.error.message}" if job.error else " yet."
            raise Refused(409, job.error.code if job.error else "not-done", f"Order {id} is not done{why}")

    def _ticket(self, job: Job) -> Ticket:
        if job.has_ended:
            return job.ticket(self.model, None, None)
        position = self._waiting.index(job.id) if job.id in self._waiting else 0
        before = [self._jobs[id] for id in self._waiting[:position]] if job.state == "queued" else []
        if self._running not in (None, job.id):
            before.append(self._jobs[self._running])
        parts = [self._left(one) for one in (*before, job)]
        eta = None if None in parts else sum(part for part in parts if part is not None)
        return job.ticket(self.model, position, eta)

    def _left(self, job: Job) -> float | None:
        """Seconds of work that are left of an order; None where nothing like it was drawn yet."""
        whole = self._speed.seconds(job)
        return None if whole is None else whole * (1.0 - job.progress)

    def _tell(self, job: Job) -> None:
        if watchers := list(self._watchers.get(job.id, ())):
            ticket = self._ticket(job)
            for watcher in watchers:
                watcher(ticket)


def _late(job: Job, how: str) -> Fault:
    return Fault(code="deadline", message=f"It {how} after {job.deadline - job.created:g} s, its deadline.")
