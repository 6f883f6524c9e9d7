"""Finished partitions outlive an attempt; children are spread over devices; the driver hears of the progress."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.events import DESCRIPTOR
from goku_core.pipeline.pool import Devices, PoolResult, run_operator
from goku_core.pipeline.pool.devices import visible
from goku_core.pipeline.pool.partitions import MOST, cut

HERE = str(Path(__file__).resolve().parents[1] / "workspaces")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)


def table(count: int, **deeds: str) -> pa.Table:
    names = [f"row{i}" for i in range(count)]
    return pa.table({"name": names, "number": range(count), "deed": [deeds.get(name, "fine") for name in names]})


def run(rows: pa.Table, folder: Path, **settings: Any) -> PoolResult:
    given = {"log": str(folder / "calls"), **settings}
    return run_operator(
        "pool_operators:logged", rows, given, workers=2, batch_rows=2, memory_bytes=1 << 29, keep=folder / "map"
    )


def calls(folder: Path) -> list[str]:
    """Rows in the order in which the operator was given them since the last look."""
    log = folder / "calls"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return sorted(name for line in lines for name in line.split()[1:])


def test_what_is_kept_is_not_done_again_and_the_answer_is_the_same(tmp_path: Path) -> None:
    rows = table(9)
    first = run(rows, tmp_path)
    assert calls(tmp_path) == sorted(rows.column("name").to_pylist())
    assert run(rows, tmp_path) == first
    assert calls(tmp_path) == []

    # Of a damaged and a lost partition only these are done again.
    kept = sorted((tmp_path / "map").glob("*.part"))
    assert len(kept) == 5
    kept[0].write_bytes(kept[0].read_bytes()[:-20])
    kept[1].unlink()
    assert run(rows, tmp_path) == first
    assert 3 <= len(calls(tmp_path)) <= 4


def test_what_failed_is_asked_anew(tmp_path: Path) -> None:
    """It may have been the disk. The answer is the same where it was the row."""
    rows = table(9, row3="raise", row8="segfault")
    first = run(rows, tmp_path)
    assert [(bad.row_index, bad.error_class) for bad in first.quarantined] == [(3, "exception"), (8, "crash")]
    calls(tmp_path)
    assert run(rows, tmp_path) == first
    assert set(calls(tmp_path)) == {"row2", "row3", "row8"}


@pytest.mark.parametrize("change", ["settings", "rows"])
def test_other_work_finds_nothing_kept(tmp_path: Path, change: str) -> None:
    run(table(4), tmp_path)
    calls(tmp_path)
    if change == "settings":
        result = run(table(4), tmp_path, plus=1)
        assert result.table.column("square").to_pylist() == [1, 2, 5, 10]
        assert len(calls(tmp_path)) == 4
    else:
        run(table(5), tmp_path)
        assert calls(tmp_path) == ["row4"]


@pytest.mark.parametrize("count", [1, MOST - 1, MOST, MOST + 1, 10 * MOST + 3])
def test_the_cut_loses_nothing_and_stays_small(count: int) -> None:
    parts = cut(list(range(count)))
    assert [job for part in parts for job in part] == list(range(count))
    assert len(parts) <= MOST
    assert len({len(part) for part in parts[:-1]}) <= 1


def test_the_driver_hears_of_every_partition_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = table(7, row6="raise")
    run(table(4), tmp_path)  # the first two partitions
    reading, writing = os.pipe()
    monkeypatch.setenv(DESCRIPTOR, str(writing))
    run(rows, tmp_path)
    os.close(writing)
    with os.fdopen(reading) as told:
        events = [json.loads(line) for line in told]
    assert events[0] == {"event": "plan", "map": "logged", "partitions": 4, "rows": 7}
    assert [e["partition"] for e in events if e["event"] == "kept"] == [0, 1]
    for kind in ("begun", "finished"):
        assert sorted(e["partition"] for e in events if e["event"] == kind) == [2, 3]
    for number in (2, 3):
        kinds = [e["event"] for e in events if e.get("partition") == number]
        assert kinds == ["begun", "finished"]


def test_a_driver_that_is_gone_does_not_end_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    monkeypatch.setenv(DESCRIPTOR, str(writing))
    assert run(table(3), tmp_path).table.num_rows == 3
    os.close(writing)


def test_children_spread_over_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = Devices(share=2, names=("7", "9"))
    result = run_operator("pool_operators:seen_device", table(40), {}, workers=1, devices=devices)
    seen = result.table.to_pylist()
    assert {row["device"] for row in seen} == {"7", "9"}
    assert 2 <= len({row["process"] for row in seen}) <= 4
    assert all(len({r["device"] for r in seen if r["process"] == row["process"]}) == 1 for row in seen)

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # none: the operator runs on the processor
    result = run_operator("pool_operators:seen_device", table(4), {}, workers=1, devices=Devices(share=3))
    assert len(set(result.table.column("process").to_pylist())) == 1


@pytest.mark.parametrize(("told", "names"), [("0,2", ("0", "2")), ("", ()), ("-1", ()), ("1,-1,3", ("1",))])
def test_visible_devices_as_cuda_reads_them(monkeypatch: pytest.MonkeyPatch, told: str, names: tuple[str, ...]) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", told)
    assert visible() == names


@pytest.mark.parametrize(
    ("engine", "said"),
    [("spark", r"GOKU_ENGINE=spark.*Known: local, ray"), ("ray", r"needs the extra `cluster`.*constraints\.txt")],
)
def test_an_engine_that_is_not_there_is_said_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, said: str
) -> None:
    from typer.testing import CliRunner

    from goku_core.cli import app
    from goku_core.pipeline.pool import operator

    monkeypatch.setenv("GOKU_ENGINE", "local")  # put back afterwards: the command sets it for the processes it starts
    monkeypatch.setattr(operator, "find_spec", lambda name: None)
    (tmp_path / "params.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["run", "curate", "--engine", engine])
    assert isinstance(done.exception, GokuError) and re.search(said, str(done.exception)), done.output
    assert not (tmp_path / ".goku").exists()
