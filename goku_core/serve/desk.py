"""The desk: takes orders, keeps their queue, hands them to the worker one by one, and hands out tickets and results.

Thread-safe. The HTTP app and the page both talk to one desk in one process.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from goku_core.serve.limits import Limits
from goku_core.serve.orders import ModelCard, Order, Ticket, Upload


class Desk:
    """Orders of one workspace.

    workspace  folder with the ledger and the bundles; tickets and files are kept in its .goku/serve
    limits     see `Limits`
    device     auto, cpu, cuda or cuda:N, of the worker
    """

    def __init__(self, workspace: Path, limits: Limits | None = None, device: str = "auto") -> None:
        self.workspace, self.limits, self.device = workspace, limits or Limits(), device

    def open(self) -> None:
        """Start the worker and let it load the default model. Raises GokuError where there is none."""
        raise NotImplementedError

    def close(self, grace: float, because: str = "the service was stopped") -> None:
        """Cancel what waits, give what runs `grace` seconds, end the worker. Nothing is taken from here on."""
        raise NotImplementedError

    @property
    def ready(self) -> bool:
        """Is a model loaded and does the desk take orders?"""
        raise NotImplementedError

    def submit(self, order: Order, client: str = "page") -> Ticket:
        """Take an order. client: who asks, for the limit per client.

        Raises `Refused`: 422 for what this service or the model cannot do, 404 for an unknown model or upload,
        429 (with retry_after) where the queue or the client's share is full, 503 while closing.
        """
        raise NotImplementedError

    def ticket(self, id: str) -> Ticket:
        """Raises `Refused` (404) where there is no such order, or it is no longer kept."""
        raise NotImplementedError

    def wait(self, id: str, seconds: float) -> Ticket:
        """The ticket once it has ended, or as it stands after `seconds`."""
        raise NotImplementedError

    def follow(self, id: str, on_change: Callable[[Ticket], None]) -> Callable[[], None]:
        """`on_change` is called at every change (from another thread; it must not block). Returns what ends that."""
        raise NotImplementedError

    def cancel(self, id: str) -> Ticket:
        """Waiting or running; one that has ended stays as it is. Raises `Refused` (404)."""
        raise NotImplementedError

    def file(self, id: str) -> Path:
        """The finished PNG or MP4. Raises `Refused`: 404 unknown, 409 not done (yet)."""
        raise NotImplementedError

    def provenance(self, id: str) -> dict[str, Any]:
        """JSON-able: order and ticket, `provenance` as in the file, `bundle` (manifest and lineage), `ledger` (the entry),
        `commit`, and `again`: the command and the order that draw the same again. Raises `Refused` as `file` does."""
        raise NotImplementedError

    def models(self) -> list[ModelCard]:
        """Every model of the ledger whose bundle is here, newest first. Read anew at every call."""
        raise NotImplementedError

    def upload(self, content: bytes) -> Upload:
        """Take a first frame (PNG, JPEG or WebP). Raises `Refused`: 413 too large, 422 no picture."""
        raise NotImplementedError

    def upload_file(self, id: str) -> Path:
        """The bytes of a first frame as they came. Raises `Refused` (404)."""
        raise NotImplementedError
