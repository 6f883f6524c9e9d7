"""Operators that misbehave in every way, for the tests of the pool. Imported by its child processes."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from typing import Any

import numpy as np
import pyarrow as pa

SCHEMA = pa.schema([("name", pa.string()), ("square", pa.int64())])


def behave(batch: pa.RecordBatch, settings: dict[str, Any]) -> pa.RecordBatch:
    """Squares ``number`` of each row, ``times`` rows each; ``deed`` says what goes wrong."""
    names: list[str] = []
    squares: list[int] = []
    for row in batch.to_pylist():
        _do(row["deed"])
        for _ in range(row.get("times", 1)):
            names.append(row["name"])
            squares.append(row["number"] ** 2 + settings.get("plus", 0))
    return pa.record_batch([names, squares], schema=SCHEMA)


def logged(batch: pa.RecordBatch, settings: dict[str, Any]) -> pa.RecordBatch:
    """`behave` that takes its time and writes down every call: a line "process name name ..." in settings["log"]."""
    names = [row["name"] for row in batch.to_pylist()]
    descriptor = os.open(settings["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{os.getpid()} {' '.join(names)}\n".encode())
    os.close(descriptor)
    time.sleep(settings.get("seconds", 0.0) * len(names))
    return behave(batch, settings)


def seen_device(batch: pa.RecordBatch, settings: dict[str, Any]) -> pa.RecordBatch:
    """The accelerator that the child of each row may use."""
    time.sleep(0.05)
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
    return pa.record_batch([[seen] * batch.num_rows, [os.getpid()] * batch.num_rows], names=["device", "process"])


def look_elsewhere(asked: dict[str, Any], node: str) -> str:
    """What a Ray node finds where the workspace's path leads to a folder of its own."""
    from goku_core.pipeline.pool.nodes import look

    return look({**asked, "probe": asked["probe"].replace("/map/", "/elsewhere/")}, node)


def shapeless(batch: pa.RecordBatch, settings: dict[str, Any]) -> pa.RecordBatch:
    """Its schema depends on the rows, which no pool can join."""
    return pa.record_batch([[1]], names=[str(batch.column("number")[0])])


def _do(deed: str) -> None:
    if deed == "exit":
        print("last words", file=sys.stderr, flush=True)
        os._exit(3)
    if deed == "segfault":
        ctypes.string_at(0)
    if deed == "hang":
        time.sleep(3600)
    if deed == "grow":
        held = []
        while True:
            held.append(np.ones(8 << 20, np.uint8))
            time.sleep(0.005)
    if deed == "leap":
        np.ones(1 << 40, np.uint8)
    if deed == "raise":
        raise ValueError("a bad row")
    if deed == "print":
        print("to standard output")
        os.write(1, b"past Python")
