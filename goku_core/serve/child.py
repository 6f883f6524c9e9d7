"""The service's end of the worker process: start, ask, watch time and memory, end."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from goku_core.pipeline.pool.child import resident_bytes
from goku_core.serve.guard import TOKEN
from goku_core.serve.orders import FaultCode

START_SECONDS = 180.0  # importing torch on a busy machine takes many seconds
STOP_SECONDS = 10.0  # between being told to stop and being ended: one solver step, or the decoding of a clip
WATCH_SECONDS = 0.1


class ChildFailed(Exception):
    """What became of a request. The child lives on where `lives`."""

    def __init__(self, code: FaultCode, message: str, lives: bool) -> None:
        super().__init__(message)
        self.code, self.message, self.lives = code, message, lives


class Stopped(Exception):
    """The request was called off, as it was asked to."""


class Child:
    """A running `serve.worker`.

    watch  called ten times a second while the child works
    """

    def __init__(
        self, workspace: Path, device: str, loaded: int, memory_mb: int | None, watch: Callable[[], None]
    ) -> None:
        self._memory_mb, self._watch, self._rest = memory_mb, watch, b""
        self._looked = 0.0
        self.digests: list[str] = []
        environment = {name: value for name, value in os.environ.items() if name != TOKEN}
        # The child can import whatever this process can, also from a path that only this process was given.
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "goku_core.serve.worker", device, str(loaded)],
            cwd=workspace,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # an interrupt at the terminal is the service's to handle
        )
        deadline = time.monotonic() + START_SECONDS
        said = self._next(deadline)
        if said is None or said["kind"] != "started":
            self.close()
            raise ChildFailed("model", said["message"] if said else f"no start within {START_SECONDS:g} s", False)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(
        self, message: dict[str, Any], on_message: Callable[[dict[str, Any]], None], unwanted: Callable[[], bool]
    ) -> dict[str, Any]:
        """The answer to `message`, which has an id. Raises `ChildFailed` and `Stopped`.

        on_message  called with what is said before the answer
        unwanted    asked ten times a second: is the answer no longer wanted?
        """
        self._send(message)
        told_at: float | None = None
        while True:
            said = self._next(time.monotonic() + WATCH_SECONDS)
            if said is not None and said.get("id") == message["id"]:
                self.digests = said.get("digests", self.digests)
                if said["kind"] == "stopped":
                    raise Stopped
                if said["kind"] == "failed":
                    raise ChildFailed(said["code"], said["message"], lives=True)
                if said["kind"] in ("loaded", "drawn"):
                    return said
                on_message(said)
            if told_at is None and unwanted():
                self._send({"kind": "stop", "id": message["id"]})
                told_at = time.monotonic()
            elif told_at is not None and time.monotonic() > told_at + STOP_SECONDS:
                self.close()
                raise Stopped

    def close(self) -> None:
        """Ends the child at once."""
        with contextlib.suppress(ProcessLookupError):  # it may be gone already
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):  # unsent bytes for a dead child
                stream.close()

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None

    def _next(self, deadline: float) -> dict[str, Any] | None:
        """The next message, None where there is none until the deadline. Raises `ChildFailed`."""
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._rest:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            if select.select([descriptor], [], [], min(left, WATCH_SECONDS))[0]:
                part = os.read(descriptor, 1 << 16)
                if not part:
                    raise self._died()
                self._rest += part
            self._look()
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    def _look(self) -> None:
        """Ten times a second, however much the child says."""
        now = time.monotonic()
        if now < self._looked + WATCH_SECONDS:
            return
        self._looked = now
        self._watch()
        if self._memory_mb is not None and resident_bytes(self._process.pid) > self._memory_mb * 2**20:
            self.close()
            raise ChildFailed(
                "out-of-memory", f"The worker grew beyond {self._memory_mb} MB and was ended.", lives=False
            )

    def _died(self) -> ChildFailed:
        code = self._process.wait()
        self.close()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        guess = " (the system may have been out of memory)" if code == -signal.SIGKILL else ""
        return ChildFailed("worker-died", f"The worker {how}{guess}. A new one is started.", lives=False)
