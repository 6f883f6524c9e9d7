"""The process: a socket, the application, and an end at which nobody is left without an answer."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Collection
from types import FrameType

import uvicorn
from fastapi import FastAPI

from goku_core.pipeline.errors import GokuError
from goku_core.serve.archive import log
from goku_core.serve.desk import Desk

LINGER_SECONDS = 1.0  # after the last order has ended: who asks twice a second for his ticket still hears how it ended
CONNECTIONS = 1000  # at once; the next is told 503
HANG_UP_SECONDS = 3.0


class Server(uvicorn.Server):
    """At the first signal the desk is closed while tickets are still answered, then the server ends; at the second at once."""

    def __init__(self, config: uvicorn.Config, desk: Desk, grace: float, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._desk, self._grace, self._on_start, self._ending = desk, grace, on_start, False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._ending:
            self.should_exit = self.force_exit = True
            return
        self._ending = True
        threading.Thread(target=self._end, name="goku-serve-end").start()

    def _end(self) -> None:
        log.info("stopping: what runs has %g s, what waits is cancelled", self._grace)
        try:
            self._desk.close(self._grace)
            time.sleep(LINGER_SECONDS)
        finally:
            self.should_exit = True


def listening(host: str, port: int) -> socket.socket:
    """A socket on that address; port 0: one that is free. Raises GokuError where it is taken or not there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except OSError as error:
        found.close()
        raise GokuError(
            f"--host {host} --port {port}: cannot listen there ({error.strerror}). Another `goku serve` may; "
            "name another port, or 0 for one that is free."
        ) from error
    return found


def serve(
    app: FastAPI, desk: Desk, sock: socket.socket, grace: float, proxies: Collection[str], on_start: Callable[[], None]
) -> None:
    """Until SIGTERM or SIGINT.

    grace    seconds that a running order gets at the end
    proxies  addresses whose word about a client's address is taken
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,  # the desk says what it takes and what became of it
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=HANG_UP_SECONDS,
        ws_max_size=2**20,
    )
    try:
        Server(config, desk, grace, on_start).run(sockets=[sock])
    finally:
        desk.close(0.0)
