"""The child's end of the pool: ``python -m goku_core.pipeline.pool.worker``, spoken to over stdin and stdout.

Whatever an operator or a native library prints goes to standard error.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import importlib.abc
import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO

import pyarrow as pa

from goku_core.pipeline.pool.messages import FAILURE, HEADER, READY, RESULT, as_bytes, from_bytes

PR_SET_PDEATHSIG = 1
# The parent watches resident memory; this limit on writable memory stops an allocation too fast to be watched. It is
# larger because reserved is not resident.
DATA_LIMIT_FACTOR = 2

Operator = Callable[[pa.RecordBatch, dict[str, Any]], pa.RecordBatch]


def load(operator: str) -> Operator:
    """The function named "package.module:function". Raises ValueError, ImportError or AttributeError."""
    module, colon, name = operator.partition(":")
    if not colon or not name:
        raise ValueError(f"'{operator}' is not of the form package.module:function")
    return getattr(importlib.import_module(module), name)


def main() -> None:
    # The pipe keeps a descriptor of its own; descriptor 1 then leads to standard error, also for native libraries.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    faulthandler.enable()
    _die_with_parent()
    requests = sys.stdin.buffer
    message = _read(requests)
    if message is None:
        return
    setup = json.loads(message[1])
    _limit_memory(setup["memory_bytes"])
    _keep_pandas_out()
    try:
        operator = load(setup["operator"])
    except Exception as error:
        _reply(replies, FAILURE, _failure(error))
        return
    _reply(replies, READY, b"")
    while (message := _read(requests)) is not None:
        try:
            answer = operator(from_bytes(message[1]), setup["settings"])
            if not isinstance(answer, pa.RecordBatch):
                raise TypeError(f"{setup['operator']} returned {type(answer).__name__}, not a pyarrow.RecordBatch")
            body = as_bytes(answer)
        except Exception as error:
            _reply(replies, FAILURE, _failure(error))
        else:
            _reply(replies, RESULT, body)


def _failure(error: Exception) -> bytes:
    told = {
        "error_class": "memory" if isinstance(error, MemoryError) else "exception",
        "message": f"{type(error).__name__}: {error}",
        "detail": "".join(traceback.format_exception(error)),
    }
    return json.dumps(told).encode()


def _read(stream: BinaryIO) -> tuple[bytes, bytes] | None:
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None  # the parent has closed the pipe
    kind, length = HEADER.unpack(header)
    return kind, stream.read(length)


def _reply(stream: BinaryIO, kind: bytes, body: bytes) -> None:
    stream.write(HEADER.pack(kind, len(body)) + body)
    stream.flush()


def _limit_memory(memory_bytes: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = memory_bytes * DATA_LIMIT_FACTOR
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard < 0 else min(wanted, hard), hard))


def _keep_pandas_out() -> None:
    """pyarrow imports pandas on its first conversion from a list, for one to two seconds and 60 MB in every child.

    It tries only once; operators work on Arrow batches and do without its pandas conversions.
    """
    if "pandas" in sys.modules:
        return
    blocker = _NoPandas()
    sys.meta_path.insert(0, blocker)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(blocker)


class _NoPandas(importlib.abc.MetaPathFinder):
    """While in place, pandas is not installed."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is kept out of the pool's children", name=fullname)


def _die_with_parent() -> None:
    """Even when the parent is killed with -9. Linux tells us; elsewhere a thread looks once a second."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main()
