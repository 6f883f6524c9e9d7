"""The parent's end of one child process of the pool: start, ask, watch time and memory, kill."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import pyarrow as pa

from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.pool.devices import VISIBLE
from goku_core.pipeline.pool.messages import BATCH, FAILURE, HEADER, READY, SETUP, as_bytes, from_bytes

START_SECONDS = 120.0  # importing a network library on a busy machine takes many seconds
WATCH_SECONDS = 0.1
STDERR_BYTES = 4096
# One thread per child, unless the user's environment says otherwise: the pool already uses every core.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")


class ChildFailed(Exception):
    """What became of a request: "crash", "timeout", "memory" or "exception"."""

    def __init__(self, error_class: str, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.error_class, self.message, self.detail = error_class, message, detail


class Stopped(Exception):
    """The pool is being taken down while a child was at work."""


class Child:
    """A running `pool.worker`. After a crash, time-out or memory failure it is dead and `alive` is False."""

    def __init__(
        self,
        operator: str,
        settings: dict[str, Any],
        memory_bytes: int,
        stop: threading.Event,
        device: str | None = None,
    ) -> None:
        self.memory_bytes, self.stop = memory_bytes, stop
        environment = dict(os.environ)
        # The child can import whatever this process can, also from a path that only this process was given.
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        for variable in THREAD_VARIABLES:
            environment.setdefault(variable, "1")
        if device is not None:
            environment[VISIBLE] = device
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "goku_core.pipeline.pool.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # an interrupt at the terminal is ours to handle; and we can kill the whole group
        )
        self._errors: deque[int] = deque(maxlen=STDERR_BYTES)
        self._reader = threading.Thread(target=self._keep_errors, daemon=True, name="pool-stderr")
        self._reader.start()
        setup = {"operator": operator, "settings": settings, "memory_bytes": memory_bytes}
        try:
            self._send(SETUP, json.dumps(setup).encode())
            kind, body = self._receive(START_SECONDS)
        except ChildFailed as failure:
            raise GokuError(
                f"operator {operator}: its child process did not start: {failure.message}\n{failure.detail}".rstrip()
            ) from failure
        if kind != READY:
            self.close()
            raise GokuError(f"operator {operator} cannot be loaded: {json.loads(body)['message']}")

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, batch: pa.RecordBatch, timeout_seconds: float) -> pa.RecordBatch:
        """The operator's answer. Raises ChildFailed; after "exception" the child lives on."""
        self._send(BATCH, as_bytes(batch))
        kind, body = self._receive(timeout_seconds)
        if kind == FAILURE:
            told = json.loads(body)
            raise ChildFailed(told["error_class"], told["message"], told["detail"])
        return from_bytes(body)

    def close(self) -> None:
        """Ends the child, its own children too."""
        with contextlib.suppress(ProcessLookupError):  # it may be gone already
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(BrokenPipeError):  # unsent bytes for a dead child
                stream.close()

    def _send(self, kind: bytes, body: bytes) -> None:
        try:
            self._process.stdin.write(HEADER.pack(kind, len(body)) + body)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None

    def _receive(self, timeout_seconds: float) -> tuple[bytes, bytes]:
        deadline = time.monotonic() + timeout_seconds
        kind, length = HEADER.unpack(self._read(HEADER.size, deadline, timeout_seconds))
        return kind, self._read(length, deadline, timeout_seconds)

    def _read(self, size: int, deadline: float, timeout_seconds: float) -> bytes:
        data = bytearray()
        descriptor = self._process.stdout.fileno()
        while len(data) < size:
            if self.stop.is_set():
                self.close()
                raise Stopped
            if select.select([descriptor], [], [], WATCH_SECONDS)[0]:
                part = os.read(descriptor, min(size - len(data), 1 << 20))
                if not part:
                    raise self._died()
                data += part
                continue
            if resident_bytes(self._process.pid) > self.memory_bytes:
                raise self._killed("memory", f"the process grew beyond {self.memory_bytes / 2**20:.0f} MB")
            if time.monotonic() > deadline:
                raise self._killed("timeout", f"no answer within {timeout_seconds:g} s")
        return bytes(data)

    def _killed(self, error_class: str, message: str) -> ChildFailed:
        self.close()
        return ChildFailed(error_class, message, self._tail())

    def _died(self) -> ChildFailed:
        code = self._process.wait()
        self.close()
        if code < 0:
            # SIGKILL that is not ours is the kernel's, out of memory.
            cause = "memory" if -code == signal.SIGKILL else "crash"
            return ChildFailed(cause, f"the process was killed by {signal.Signals(-code).name}", self._tail())
        return ChildFailed("crash", f"the process ended with exit code {code}", self._tail())

    def _keep_errors(self) -> None:
        while part := os.read(self._process.stderr.fileno(), 4096):
            self._errors.extend(part)

    def _tail(self) -> str:
        return bytes(self._errors).decode(errors="replace").strip()


def resident_bytes(pid: int) -> int:
    """Resident memory of a process; 0 where the system has no /proc (there the child's own limit holds alone)."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
