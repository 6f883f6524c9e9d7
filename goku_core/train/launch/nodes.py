"""What the launchers of a job tell each other: a small store at the job's endpoint, kept by the launcher of node 0.

Node 0 leads: it numbers the attempts, waits for the nodes to be ready, hears how each of them ended, and says what follows.
One that is alone leads itself, by the same steps.
"""

from __future__ import annotations

import json
import queue
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist

from goku_core.pipeline.errors import GokuError

POLL_SECONDS = 0.1
PUBLISH_SECONDS = 1.0
# A launcher from which nothing is heard for so long is taken for gone (our choice: a switch may reboot a port, not more). A
# connection whose other end vanished without a word would be waited on for about a quarter of an hour (Linux' TCP retries).
SILENCE_SECONDS = 30.0
_SIOCGIFADDR = 0x8915


class Left(Exception):
    """This launcher was asked to leave while it waited for others."""


class LeaderGone(Exception):
    """The launcher of node 0 does not answer any more."""


class Nodes:
    """This node among those of the job.

    endpoint         HOST:PORT of node 0; None for a job of one node
    leaving          waiting ends with `Left` once it is set
    join_seconds     wait for the others
    silence_seconds  a launcher that says nothing for so long is gone
    """

    def __init__(
        self,
        node: int = 0,
        count: int = 1,
        endpoint: str | None = None,
        leaving: threading.Event | None = None,
        join_seconds: float = 600.0,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self.node, self.count, self.join_seconds, self.silence_seconds = node, count, join_seconds, silence_seconds
        self.leaving = leaving or threading.Event()
        self._questions: queue.SimpleQueue[tuple[Callable[[], Any], Future]] = queue.SimpleQueue()
        self._answers: threading.Thread | None = None
        self._silent = False
        host, port = _split(endpoint) if endpoint else ("127.0.0.1", 0)
        self._store = self._open(host, port)
        self.host, self.port = host, self._store.port
        self.address = "127.0.0.1" if endpoint is None else _own_address(host, self.port)
        self.interface = None if endpoint is None else _interface_of(self.address)
        self._published, self._beat = 0.0, 0
        self._heard: dict[tuple[int, int], tuple[int, float]] = {}

    @property
    def endpoint(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def leads(self) -> bool:
        return self.node == 0

    @property
    def unreachable(self) -> bool:
        """Has the store stopped to answer? Only a launcher that starts anew connects again."""
        return self._silent

    def _open(self, host: str, port: int) -> dist.TCPStore:
        end = time.monotonic() + self.join_seconds
        while True:
            try:
                socket.getaddrinfo(host, port)  # the name of a pod is known a little after the pod is there
                if not self.leads:  # torch's client prints its stack while nobody listens, and heeds no signal
                    socket.create_connection((host, port), timeout=5.0).close()
                return dist.TCPStore(
                    host, port, is_master=self.leads, multi_tenant=True, wait_for_workers=False,
                    timeout=timedelta(seconds=10),
                )  # fmt: skip
            except (RuntimeError, ValueError, OSError) as error:
                unknown = isinstance(error, socket.gaierror)
                if (self.leads and not unknown) or time.monotonic() > end:
                    what = "take the port" if self.leads else "reach node 0"
                    raise GokuError(f"node {self.node} cannot {what} at {host}:{port}: {error}") from error
                if self.leaving.wait(1.0):
                    raise Left from error

    def say(self, key: str, value: Any) -> None:
        self._ask(lambda: self._store.set(key, json.dumps(value)))

    def heard(self, key: str) -> bool:
        return self._ask(lambda: self._store.check([key]))

    def _ask(self, question: Callable[[], Any]) -> Any:
        """What the store answers. A call to it has no time-out of its own, so a thread that may be left behind makes it.

        Raises `LeaderGone` where it does not answer, and from then on at once.
        """
        if self._answers is None:
            self._answers = threading.Thread(target=self._answer, name="store", daemon=True)
            self._answers.start()
        if self._silent:
            raise LeaderGone
        answer: Future = Future()
        self._questions.put((question, answer))
        try:
            return answer.result(self.silence_seconds)
        except TimeoutError as error:
            self._silent = True
            raise LeaderGone from error
        except RuntimeError as error:
            raise LeaderGone from error

    def _answer(self) -> None:
        while True:
            question, answer = self._questions.get()
            try:
                answer.set_result(question())
            except BaseException as error:
                answer.set_exception(error)

    def hear(self, key: str, seconds: float | None = None, heed_leaving: bool = True) -> Any:
        """The value of `key` once somebody has said it; None when nobody did in time (None: waits for ever)."""
        end = None if seconds is None else time.monotonic() + seconds
        while not self.heard(key):
            if heed_leaving and self.leaving.is_set():
                raise Left
            if end is not None and time.monotonic() > end:
                return None
            time.sleep(POLL_SECONDS)
        return json.loads(self._ask(lambda: self._store.get(key)))

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

    def publish(self, attempt: int, step: int | None) -> None:
        """Tells the others, every now and then, that this launcher is there, and how far its ranks are once they have begun."""
        if self.count == 1 or time.monotonic() - self._published < PUBLISH_SECONDS:
            return
        self._published = time.monotonic()
        self._beat += 1
        try:
            self.say(f"beat/{attempt}/{self.node}", self._beat)
            if step is not None:
                self.say(f"step/{attempt}/{self.node}", step)
        except LeaderGone:
            return

    def silent(self, attempt: int, members: Collection[int]) -> tuple[int, float] | None:
        """(node, seconds) of another one whose launcher has said nothing for too long in this attempt. The leader asks.

        Its own clock counts, from the first time it looked: those of other machines may be wrong.
        """
        now = time.monotonic()
        for node in members:
            if node == self.node:
                continue
            beat = self.hear(f"beat/{attempt}/{node}", 0.0, False) or 0
            known, since = self._heard.get((attempt, node), (-1, now))
            if beat != known:
                self._heard[attempt, node] = beat, now
            elif now - since > self.silence_seconds and not self.heard(f"result/{attempt}/{node}"):
                return node, now - since
        return None

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


def _interface_of(address: str) -> str | None:
    """The network interface that has this address, for gloo; None where it cannot be told (gloo then asks for the host's name).

    Where a host's name is not known, or known as 127.0.1.1 (as Debian writes it), gloo would tell the other hosts a loopback
    address, and no rank there would reach the ranks here.
    """
    if not sys.platform.startswith("linux"):
        return None
    if ":" in address:
        wanted = socket.inet_pton(socket.AF_INET6, address).hex()
        lines = [line.split() for line in Path("/proc/net/if_inet6").read_text().splitlines()]
        return next((fields[-1] for fields in lines if fields[0] == wanted), None)
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                told = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()))
            except OSError:  # it has no such address
                continue
            if socket.inet_ntoa(told[20:24]) == address:
                return name
    return None
