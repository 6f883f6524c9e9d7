"""What kind of failure an error is: of real errors, made by the packages that raise them."""

from __future__ import annotations

import errno
import io
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny_line
from PIL import Image
from safetensors.numpy import load

from goku_core.pipeline.errors import GokuError, StageFailed
from goku_core.pipeline.executor import execute
from goku_core.pipeline.failures import classify
from goku_core.pipeline.files import read_json_lines
from goku_core.storage import ObjectError
from goku_core.train.health.errors import DataBad, Diverged, Preempted


def full_disk() -> None:
    with Path("/dev/full").open("w") as file:
        file.write("x" * 100_000)


def locked_database() -> None:
    first, second = (sqlite3.connect("file:shared?mode=memory&cache=shared", uri=True, timeout=0) for _ in range(2))
    first.execute("create table t (a)")
    first.execute("begin exclusive")
    second.execute("insert into t values (1)")


def too_long() -> None:
    subprocess.run([sys.executable, "-c", "import time; time.sleep(9)"], timeout=0.01, check=False)


def overflow() -> None:
    with np.errstate(over="raise"):
        np.float32(1e38) * np.float32(1e38)


@pytest.mark.parametrize(
    ("deed", "kind"),
    [
        (full_disk, "infrastructure"),
        (locked_database, "infrastructure"),
        (too_long, "infrastructure"),
        (lambda: pq.read_table(io.BytesIO(b"no table")), "data"),
        (lambda: load(b"no tensors"), "data"),
        (lambda: Image.open(io.BytesIO(b"no picture")), "data"),
        (lambda: json.loads("{"), "data"),
        (lambda: b"\xff".decode(), "data"),
        (lambda: Path("/nowhere/at/all").read_bytes(), "data"),
        (overflow, "numeric"),
        (lambda: np.linalg.inv(np.zeros((2, 2))), "numeric"),
        (lambda: int("seven"), "unknown"),
        (lambda: None.field, "unknown"),  # type: ignore[attr-defined]
    ],
)
def test_errors_of_others_are_told_by_their_type(deed, kind: str) -> None:
    with pytest.raises(Exception) as caught:
        deed()
    assert classify(caught.value) == kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (GokuError("mend this"), "user"),
        (Diverged("nan"), "numeric"),
        (DataBad("shards"), "data"),
        (Preempted("leave"), "infrastructure"),
        (ObjectError("away", status=503, code="SlowDown", passing=True), "infrastructure"),
        (ObjectError("forbidden", status=403, code="AccessDenied", passing=False), "user"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "infrastructure"),
        (MemoryError(), "infrastructure"),
    ],
)
def test_errors_of_our_own_say_it_themselves(error: Exception, kind: str) -> None:
    assert classify(error) == kind
    wrapped = RuntimeError("while it worked")
    wrapped.__cause__ = error
    assert classify(wrapped) == kind


def test_what_is_known_of_a_failed_body_reaches_its_driver_and_the_list_of_attempts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tiny_line.new_workspace(tmp_path / "w")
    (cell, *_) = tiny_line.cells(tiny_line.load_params(place / "params.yaml"))

    def run(request: object, context: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tiny_line, "run", run)
    with pytest.raises(StageFailed) as caught:
        execute(cell, place, driver_run="a-run")
    assert (caught.value.kind, caught.value.retriable) == ("infrastructure", True)
    started, failed = read_json_lines(place / ".goku/attempts.jsonl")
    assert (started["run"], failed["kind"]) == ("a-run", "infrastructure")
