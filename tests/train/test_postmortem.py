"""What is told of work that failed: from the files that real attempts leave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_goku
import tiny_line

from flows.drill import Fault, kept_at
from flows.postmortem import report
from goku_core.pipeline import process
from goku_core.pipeline.errors import GokuError, StageFailed
from goku_core.pipeline.executor import execute
from goku_core.train.drill.faults import FAULTS
from goku_core.train.health import incidents
from goku_core.train.postmortem import last_failure


def test_nothing_failed(tmp_path: Path) -> None:
    place = tiny_line.new_workspace(tmp_path / "w")
    assert last_failure(place) is None
    execute(tiny_line.cells(tiny_line.load_params(place / "params.yaml"))[0], place)
    assert last_failure(place) is None
    assert "left no attempt" in report(None)


def test_the_newest_failure_or_that_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tiny_line.new_workspace(tmp_path / "w")
    (cell, *_) = tiny_line.cells(tiny_line.load_params(place / "params.yaml"))
    monkeypatch.setenv("TINY_FAIL", "data/parts")
    for run in ("first", "second"):
        with pytest.raises(StageFailed):
            execute(cell, place, driver_run=run)
    newest = last_failure(place)
    assert newest is not None
    assert (newest["run"], newest["attempt"], newest["kind"]) == ("second", 2, "unknown")
    assert newest["message"] == "the disk is on fire" and "RuntimeError" in newest["trace"]
    assert last_failure(place, "first")["run"] == "first"
    assert last_failure(place, "a run that died before its work") is None
    monkeypatch.delenv("TINY_FAIL")
    execute(cell, place)
    assert last_failure(place)["run"] == "second", "a later success does not undo what is asked about"


def test_a_killed_process_left_no_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tiny_line.new_workspace(tmp_path / "w", steps=200, step_seconds=0.05)
    words = ["run", "split", "--no-flow", "--driver-run", "night"]
    begun = subprocess.Popen([sys.executable, tiny_goku.__file__, *words], cwd=place)
    deadline = time.monotonic() + 60
    while not list(place.glob(".goku/scratch/*/steps.txt")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(begun.pid, signal.SIGKILL)
    begun.wait()
    found = last_failure(place, "night")
    assert found is not None
    assert (found["cell"], found["kind"], found["trace"]) == ("split", "killed", "")
    assert found["scratch"] and "self-check" in found["to_do"]
    # What the driver makes of the same: a machine's matter, with a budget of its own.
    monkeypatch.setattr(process, "COMMAND", [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])
    with pytest.raises(StageFailed) as caught:
        process.execute_in_child("split", place, "prefect", "", False)
    assert caught.value.kind == "infrastructure"


def test_a_training_tells_its_incidents_and_its_time(tmp_path: Path) -> None:
    place = tiny_line.new_workspace(tmp_path / "w")
    (cell, *_) = tiny_line.cells(tiny_line.load_params(place / "params.yaml"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINY_FAIL", "data/parts")
        with pytest.raises(StageFailed):
            execute(cell, place)
    (scratch,) = (place / ".goku/scratch").iterdir()
    (scratch / "hearts/attempt-0001").mkdir(parents=True)
    (scratch / "logs/attempt-0001").mkdir(parents=True)
    (scratch / "logs/attempt-0001/rank-00000.stderr").write_text("\n".join(f"line {n}" for n in range(40)))
    for step in range(12):
        incidents.record(scratch, "spike" if step % 2 else "rewind", step=step)
    found = last_failure(place)
    assert found["incidents"] == {"rewind": 6, "spike": 6} and found["last_incidents"][-1]["step"] == 11
    assert found["logs"]["rank-00000.stderr"].splitlines()[-1] == "line 39"
    assert len(found["logs"]["rank-00000.stderr"].splitlines()) == 12
    found["message"] = "<img src=x> [a](javascript:b) | `code`"
    told = report(found)
    assert "<img" not in told and "[a](" not in told and "line 39" in told and "spike: 6" in told


@pytest.mark.parametrize("name", ["../../elsewhere", "a/b", "", "1234"])
def test_a_report_is_kept_under_the_id_of_a_run_and_nowhere_else(name: str, tmp_path: Path) -> None:
    with pytest.raises(GokuError, match="no id of a flow run"):
        kept_at(tmp_path, name)


def test_the_form_offers_every_fault_there_is() -> None:
    assert set(Fault.__args__) == set(FAULTS)
