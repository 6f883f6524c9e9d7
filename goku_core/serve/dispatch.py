"""The thread between desk and worker: keeps a worker alive and the default model in it, and gives it one order after the other."""

from __future__ import annotations

import shlex
import threading
import time
from typing import TYPE_CHECKING, Any

from goku_core import __version__
from goku_core.media.provenance import Provenance, again_arguments
from goku_core.pipeline.code import PACKAGE_ROOT, git
from goku_core.pipeline.errors import GokuError
from goku_core.serve.archive import Job, log
from goku_core.serve.child import Child, ChildFailed, Stopped
from goku_core.serve.orders import Result
from goku_core.serve.shelf import evidence

if TYPE_CHECKING:
    from goku_core.serve.desk import Desk

IDLE_SECONDS = 0.5  # between two looks for orders that came late and for a change of the champion
AGAIN_SECONDS = 30.0  # before a model that could not be loaded is tried again


class Dispatcher:
    """fault: why the default model is not loaded; None: it is."""

    def __init__(self, desk: Desk, device: str) -> None:
        self._desk, self._device = desk, device
        self._child: Child | None = None
        self._warm: str | None = None
        self._not_before = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="goku-serve-dispatch", daemon=True)
        self.fault: str | None = "the model is being loaded"

    @property
    def digests(self) -> list[str]:
        """Bundles of which a network is in memory."""
        return self._child.digests if self._child is not None else []

    @property
    def worker_pid(self) -> int | None:
        return self._child.pid if self._child is not None else None

    def start(self) -> None:
        self._software = {"version": __version__, "code": git(PACKAGE_ROOT.parent)}
        self._thread.start()

    def stop(self) -> None:
        """Returns once what runs has ended or was called off."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    self._keep_warm()
                    job = self._desk.next(IDLE_SECONDS)
                    if job is not None:
                        self._draw(job)
                except Exception:  # nothing may end this thread: without it every order would wait for ever
                    log.exception("the dispatcher goes on after")
                    time.sleep(1.0)
        finally:
            if self._child is not None:
                self._child.close()

    def _keep_warm(self) -> None:
        """The default model in memory, also after a promotion, a rollback, or the end of a worker."""
        desk = self._desk
        if time.monotonic() < self._not_before:
            return
        try:
            digest = desk.shelf.named(desk.model)
            if digest == self._warm and self._child is not None and self._child.alive:
                return
            if digest != self._warm:
                self.fault = f"bundle {digest[:12]} is being loaded"
            found = desk.shelf.bundle(digest)
            tasks = sorted(found.kinds)[: desk.limits.loaded]
            begun = time.monotonic()
            message = {"kind": "load", "id": "load", "folder": str(found.folder), "digest": digest, "tasks": tasks}
            self._living().ask(message, lambda said: None, self._stop.is_set)
        except Stopped:
            return
        except (GokuError, ChildFailed) as error:
            self.fault = str(error)
            log.error("%s is not loaded: %s", desk.model, error)
            self._forget(error)
            self._not_before = time.monotonic() + AGAIN_SECONDS
            return
        self._warm, self.fault = digest, None
        log.info("%s is bundle %s, loaded in %.1f s", desk.model, digest[:12], time.monotonic() - begun)

    def _draw(self, job: Job) -> None:
        desk = self._desk
        out = desk.archive.drawing(job)
        begun = [time.monotonic()]

        def heard(said: dict[str, Any]) -> None:
            if said["kind"] == "drawing":  # its networks are loaded: from here on it is drawn
                begun[0] = time.monotonic()
            else:
                desk.progressed(job, said["share"])

        try:
            found = desk.shelf.bundle(job.digest)
            image = desk.upload_file(job.order.first_frame) if job.order.first_frame else None
            message = {
                "kind": "draw",
                "id": job.id,
                "folder": str(found.folder),
                "digest": job.digest,
                "task": job.order.task,
                "prompt": job.order.prompt,
                "negative": job.order.negative,
                "seed": job.order.seed,
                "image": str(image) if image else None,
                "terms": vars(job.terms),
                "out": str(out),
            }
            drawn = self._living().ask(message, heard, desk.unwanted)
            seconds = time.monotonic() - begun[0]
            facts = self._facts(job, drawn["provenance"], found.manifest)
        except Stopped:
            desk.stopped(job)
        except ChildFailed as failure:
            self._forget(failure)
            desk.failed(job, failure.code, failure.message)
        except GokuError as error:
            desk.failed(job, "model", str(error))
        except Exception as error:  # whatever it is, the client is answered and the next order is drawn
            log.exception("order %s", job.id)
            desk.failed(job, "internal", f"{type(error).__name__}: the service's log says where.")
        else:
            clip = job.order.task != "t2i"
            result = Result(
                url=f"/v1/generations/{job.id}/file",
                media_type="video/mp4" if clip else "image/png",
                bytes=drawn["bytes"],
                sha256=drawn["sha256"],
                height=job.terms.height,
                width=job.terms.width,
                frames=job.terms.frames,
                seconds=round(seconds, 4),
            )
            desk.finished(job, result, facts)

    def _living(self) -> Child:
        """The worker; a new one where the last has died. Raises `ChildFailed`."""
        if self._child is None or not self._child.alive:
            self._forget(None)
            limits = self._desk.limits
            self._child = Child(self._desk.workspace, self._device, limits.loaded, limits.memory_mb, self._desk.expire)
            self._desk.metrics.worker_starts.inc()
        return self._child

    def _forget(self, error: Exception | None) -> None:
        """A worker that died; and that the default model was in it. After an order that did not fit, nothing is in it."""
        if isinstance(error, ChildFailed) and error.lives and error.code != "out-of-memory":
            return
        if self._child is not None and (error is None or not self._child.alive):
            self._child.close()
            self._child = None
        self._warm = None
        self.fault = self.fault or "the worker is being started again"

    def _facts(self, job: Job, provenance: dict[str, Any], manifest: dict[str, Any]) -> dict[str, Any]:
        """Everything that the result came from."""
        desk = self._desk
        made = Provenance.from_json(provenance)
        assert made is not None  # it is our own
        name = desk.archive.drawing(job).name
        order = job.order.model_dump(mode="json", exclude_none=True, exclude={"deadline_s"})
        exact = {"model": job.digest, "height": made.height, "width": made.width, "steps": made.steps}
        exact |= {"guidance": made.guidance, "frames": made.frames}
        exact |= {"image_guidance": made.image_guidance} if made.image_guidance is not None else {}
        command = shlex.join(again_arguments(made, name))
        return {
            "order": order,
            "provenance": provenance,
            "bundle": {"digest": job.digest, "version": job.version, **manifest},
            "ledger": evidence(desk.shelf.entries(), job.digest).model_dump(mode="json"),
            "software": self._software,
            "again": {"command": command, "order": order | exact},
        }
