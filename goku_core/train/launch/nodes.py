"""What the launchers of a job tell each other: a small store at the job's endpoint, kept by the launcher of node 0.

Node 0 leads: it numbers the attempts, waits for the nodes to be ready, hears how each of them ended, and says what follows.
One that is alone leads itself, by the same steps.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Collection
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from goku_core.pipeline.errors import GokuError

POLL_SECONDS = 0.1
PUBLISH_SECONDS = 1.0


class Left(Exception):
    """This launcher was asked to leave while it waited for others."""


class LeaderGone(Exception):
    """The launcher of node 0 does not answer any more."""


class Nodes:
    """This node among those of the job.

    endpoint  HOST:PORT of node 0; None for a job of one node
    leaving   waiting ends with `Left` once it is set
    """

    def __init__(
        self,
        node: int = 0,
        count: int = 1,
        endpoint: str | None = None,
        leaving: threading.Event | None = None,
        join_seconds: float = 600.0,
    ) -> None:
        self.node, self.count, self.join_seconds = node, count, join_seconds
        self.leaving = leaving or threading.Event()
        host, port = _split(endpoint) if endpoint else ("127.0.0.1", 0)
        self._store = self._open(host, port)
        self.host, self.port = host, self._store.port
        self.address = "127.0.0.1" if endpoint is None else _own_address(host, self.port)
        self._published = 0.0

    @property
    def endpoint(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def leads(self) -> bool:
        return self.node == 0

    def _open(self, host: str, port: int) -> dist.TCPStore:
        end = time.monotonic() + self.join_seconds
        while True:
            try:
                return dist.TCPStore(
                    host, port, is_master=self.leads, multi_tenant=True, wait_for_workers=False,
                    timeout=timedelta(seconds=10),
                )  # fmt: skip
            except (RuntimeError, ValueError) as error:
                if self.leads or time.monotonic() > end:
                    what = "take the port" if self.leads else "reach node 0"
                    raise GokuError(f"node {self.node} cannot {what} at {host}:{port}: {error}") from error
                if self.leaving.wait(1.0):
                    raise Left from error

    def say(self, key: str, value: Any) -> None:
        try:
            self._store.set(key, json.dumps(value))
        except RuntimeError as error:
            raise LeaderGone from error

    def heard(self, key: str) -> bool:
        try:
            return self._store.check([key])
        except RuntimeError as error:
            raise LeaderGone from error

    def hear(self, key: str, seconds: float | None = None, heed_leaving: bool = True) -> Any:
        """The value of `key` once somebody has said it; None when nobody did in time (None: waits for ever)."""
        end = None if seconds is None else time.monotonic() + seconds
        while not self.heard(key):
            if heed_leaving and self.leaving.is_set():
                raise Left
            if end is not None and time.monotonic() > end:
                return None
            time.sleep(POLL_SECONDS)
        try:
            return json.loads(self._store.get(key))
        except RuntimeError as error:
            raise LeaderGone from error

    def gather(self, key: str, wanted: Collection[int], seconds: float, heed_leaving: bool = True) -> dict[int, Any]:
        """What the nodes `wanted` said under `key`/<node>; those that said nothing in time are missing."""
        end = time.monotonic() + seconds
        found = {}
        for node in wanted:
            value = self.hear(f"{key}/{node}", max(0.0, end - time.monotonic()), heed_leaving)
            if value is not None:
                found[node] = value
        return found

    def fail(self, attempt: int) -> None:
        """Ranks of this node have failed: those of the others cannot go on. A leader that is gone needs no word."""
        if self.count > 1:
            try:
                self.say(f"failed/{attempt}", self.node)
            except LeaderGone:
                return

    def has_failed(self, attempt: int) -> bool:
        """Have ranks of any node failed? Without the leader the attempt has."""
        if self.count == 1:
            return False
        try:
            return self.heard(f"failed/{attempt}")
        except LeaderGone:
            return True

    def publish_step(self, attempt: int, step: int) -> None:
        """Tells the others how far the ranks of this node are, every now and then."""
        if self.count == 1 or time.monotonic() - self._published < PUBLISH_SECONDS:
            return
        self._published = time.monotonic()
        try:
            self.say(f"step/{attempt}/{self.node}", step)
        except LeaderGone:
            return

    def is_last(self, attempt: int, step: int) -> bool:
        """Is no other node less far than `step`? The ranks here may be waiting for those of one that is."""
        if self.count == 1:
            return True
        try:
            others = self.gather(f"step/{attempt}", [n for n in range(self.count) if n != self.node], 0.0, False)
        except LeaderGone:
            return True
        return all(other >= step for other in others.values())


def _split(endpoint: str) -> tuple[str, int]:
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isdigit():
        raise GokuError(f"--endpoint {endpoint}: must be HOST:PORT of node 0, with a free port.")
    return host, int(port)


def _own_address(host: str, port: int) -> str:
    """The address of this machine as node 0 sees it."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, port))
        return probe.getsockname()[0]
