"""The pool contains crashes, hangs, memory bombs and exceptions; everybody else's rows come back in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.pool import PoolResult, run_operator

HERE = str(Path(__file__).resolve().parents[1] / "workspaces")
BEHAVE = "pool_operators:behave"
MEMORY = 400 << 20


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)


def table(deeds: list[str], times: int = 1) -> pa.Table:
    return pa.table(
        {
            "name": [f"row {i}" for i in range(len(deeds))],
            "number": list(range(len(deeds))),
            "deed": deeds,
            "times": pa.array([times] * len(deeds), pa.int64()),
        }
    )


def run(deeds: list[str], *, workers: int = 2, batch_rows: int = 4, timeout: float = 30.0) -> PoolResult:
    return run_operator(
        BEHAVE,
        table(deeds),
        {},
        workers=workers,
        batch_rows=batch_rows,
        timeout_seconds=timeout,
        memory_bytes=MEMORY,
    )


def test_order_does_not_depend_on_workers_or_batches() -> None:
    seen = []
    results = [
        run_operator(
            BEHAVE,
            table(["fine"] * 23, times=2),
            {"plus": 1},
            workers=workers,
            batch_rows=batch_rows,
            on_progress=seen.append if workers == 3 else None,
        )
        for workers, batch_rows in ((1, 23), (2, 3), (3, 5))
    ]
    assert results[0] == results[1] == results[2]
    assert results[0].table.column("square").to_pylist() == [n * n + 1 for n in range(23) for _ in range(2)]
    assert sum(seen) == 23


@pytest.mark.parametrize(
    ("deed", "error_class", "said"),
    [
        ("exit", "crash", "exit code 3"),
        ("segfault", "crash", "SIGSEGV"),
        ("grow", "memory", "400 MB"),
        ("leap", "memory", "MemoryError"),
        ("raise", "exception", "ValueError: a bad row"),
    ],
)
def test_a_poison_row_is_quarantined_and_the_others_are_not_touched(deed: str, error_class: str, said: str) -> None:
    deeds = ["fine"] * 10
    deeds[5] = deed
    result = run(deeds)
    assert result.table.column("square").to_pylist() == [n * n for n in range(10) if n != 5]
    (bad,) = result.quarantined
    assert (bad.row_index, bad.error_class) == (5, error_class)
    assert said in bad.message
    if deed == "exit":
        assert "last words" in bad.detail


def test_a_hang_is_cut_off() -> None:
    started = time.monotonic()
    result = run(["fine", "hang", "fine"], batch_rows=1, timeout=2.0)
    assert result.table.column("name").to_pylist() == ["row 0", "row 2"]
    assert [(q.row_index, q.error_class) for q in result.quarantined] == [(1, "timeout")]
    assert time.monotonic() - started < 20


def test_several_poison_rows_same_answer_for_any_number_of_workers() -> None:
    deeds = ["fine", "exit", "raise", "fine", "segfault", "fine", "fine", "raise"]
    one, two = run(deeds, workers=1, batch_rows=8), run(deeds, workers=2, batch_rows=3)
    assert one == two
    assert [q.row_index for q in one.quarantined] == [1, 2, 4, 7]


def test_prints_do_not_disturb_the_pipe() -> None:
    assert run(["print", "fine"]).table.num_rows == 2


def test_no_rows_at_all_still_has_the_schema() -> None:
    for result in (run([]), run(["raise"])):
        assert result.table.num_rows == 0
        assert result.table.schema.names == ["name", "square"]


@pytest.mark.parametrize(
    ("operator", "said"),
    [
        ("no.such.module:f", "No module named"),
        ("pool_operators:missing", "no attribute 'missing'"),
        ("pool_operators", "package.module:function"),
        ("pool_operators:shapeless", "different schemas"),
    ],
)
def test_an_operator_that_cannot_be_used_is_named(operator: str, said: str) -> None:
    with pytest.raises(GokuError, match=said):
        run_operator(operator, table(["fine"] * 2), {}, workers=1)


def test_children_die_with_a_killed_parent(tmp_path: Path) -> None:
    """The parent is killed with -9 while its child hangs; the child must be gone soon after."""
    script = (
        "import sys, pyarrow as pa; sys.path.insert(0, sys.argv[1])\n"
        "import pool_operators\n"
        "from goku_core.pipeline.pool import run_operator\n"
        "t = pa.table({'name': ['a'], 'number': [1], 'deed': ['hang'], 'times': [1]})\n"
        "run_operator('pool_operators:behave', t, {}, workers=1)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, HERE])
    children: list[int] = []
    try:
        for _ in range(200):
            children = _children(parent.pid)
            if children:
                break
            time.sleep(0.1)
        assert children
    finally:
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    for _ in range(100):
        if not any(_runs(child) for child in children):
            return
        time.sleep(0.1)
    pytest.fail("the child outlived its parent")


def _children(pid: int) -> list[int]:
    folder = Path(f"/proc/{pid}/task")
    if not folder.exists():
        pytest.skip("needs /proc")
    # The child belongs to the thread that started it.
    return [int(child) for task in folder.iterdir() for child in (task / "children").read_text().split()]


def _runs(pid: int) -> bool:
    """Alive and not a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
