"""The flow and `dvc repro` are two drivers of the same work: neither repeats what the other did."""

from __future__ import annotations

import json
import os
import subprocess
import threading

import pytest
from driven_line import DVC, digests, driven, dvc, goku, install_in_process, repro, run_flow
from tiny_line import bodies, set_params

from goku_core.pipeline.errors import GokuError, StageFailed


@pytest.fixture
def tiny(monkeypatch):
    install_in_process(monkeypatch)


@pytest.fixture
def workspace(tmp_path):
    return driven(tmp_path / "w")


def test_flow_then_repro_then_flow(tiny, workspace, prefect_server):
    assert set(run_flow(workspace).values()) == {"ran"}
    assert len(bodies(workspace)) == 5
    repro(workspace)
    assert len(bodies(workspace)) == 5, "dvc repro repeated what the flow had done"
    assert set(run_flow(workspace).values()) == {"already-done"}

    set_params(workspace, phases={"one": "c", "two": "changed"})
    repro(workspace)
    assert bodies(workspace)[5:] == ["models/two.txt", "reports/end.txt"]
    assert set(run_flow(workspace).values()) == {"already-done"}

    set_params(workspace)
    repro(workspace)  # the old parameters: everything comes back from the store
    assert len(bodies(workspace)) == 7


def test_records_name_the_driver(tiny, workspace, prefect_server):
    from goku_core.pipeline.commit import Workspace

    run_flow(workspace, "split")
    with Workspace(workspace) as place:
        (record,) = place.records()
    assert record.value["driver"] == "prefect"
    assert len(record.value["driver_run"]) == 36


def test_a_flow_of_one_stage(tiny, workspace, prefect_server, monkeypatch):
    from flows.train import train

    run_flow(workspace, "split", "join")
    assert [o["cell"] for o in train(["one"], False, str(workspace))] == ["train@one"]
    assert [o["status"] for o in train(None, False, str(workspace))] == ["already-done", "ran"]


def test_a_user_error_is_not_repeated_a_failed_body_is(tiny, workspace, prefect_server, monkeypatch):
    with pytest.raises(GokuError, match=r"its input models/two\.txt is not there"):
        run_flow(workspace, "close")  # its input is not there
    from flows import cells

    monkeypatch.setenv("TINY_FAIL", "data/parts")
    monkeypatch.setattr(cells, "run_cell", cells.run_cell.with_options(retries=1, retry_delay_seconds=0))
    with pytest.raises(StageFailed, match="the disk is on fire"):
        run_flow(workspace, "split")
    assert bodies(workspace) == ["data/parts"] * 2


def test_a_flow_that_failed_prints_what_a_run_without_flow_prints(tiny, workspace, prefect_server, monkeypatch, capfd):
    from flows import cells, line

    monkeypatch.setenv("TINY_FAIL", "data/joined.txt")
    monkeypatch.setattr(cells, "run_cell", cells.run_cell.with_options(retries=0))
    monkeypatch.chdir(workspace)
    monkeypatch.setattr("sys.argv", ["flows.line", "split", "join", "--json"])
    assert line.main() == 1
    ran, told = json.loads(capfd.readouterr().out)
    assert (ran["cell"], ran["status"]) == ("split", "ran")
    direct = goku(workspace, "run", "split", "join", "--no-flow", "--json")
    assert direct.returncode == 1
    done, said = json.loads(direct.stdout)
    assert (done, told) == (ran | {"status": "already-done"}, said)


def test_repro_alone_runs_each_body_once(workspace):
    repro(workspace)
    assert len(bodies(workspace)) == 5
    assert repro(workspace).count("didn't change") == 5
    (workspace / "dvc.lock").unlink()
    repro(workspace)
    assert len(bodies(workspace)) == 5


def test_dvc_shares_bytes_with_the_store(workspace):
    """No second copy on disk, and no second hashing: DVC's cache, the store and the workspace are one inode."""
    repro(workspace)
    assert (workspace / "models/two.txt").stat().st_nlink >= 3


@pytest.mark.platform
def test_direct_then_repro_and_repro_then_direct(workspace):
    assert goku(workspace, "run", "--no-flow").returncode == 0
    repro(workspace)
    assert len(bodies(workspace)) == 5
    set_params(workspace, phases={"one": "c", "two": "changed"})
    repro(workspace)
    told = goku(workspace, "run", "--no-flow", "--json")
    assert {o["status"] for o in json.loads(told.stdout)} == {"already-done"}
    assert len(bodies(workspace)) == 7


@pytest.mark.platform
def test_flow_and_repro_at_once(tiny, tmp_path, prefect_server):
    """DVC removes outputs before it asks for them: it must not while the flow reads them."""
    workspace = driven(tmp_path / "w", steps=2, step_seconds=0.4)
    flow = threading.Thread(target=lambda: answers.update(run_flow(workspace)))
    answers: dict[str, str] = {}
    flow.start()
    _wait_for(lambda: bodies(workspace))
    said = repro(workspace)
    flow.join()
    assert set(answers.values()) == {"ran"}
    assert "dvc repro: the line is driven by another driver; waiting for it" in said
    assert len(bodies(workspace)) == 5
    assert len(digests(workspace)) == 6
    assert repro(workspace).count("didn't change") == 5


@pytest.mark.platform
def test_a_driver_that_comes_while_repro_is_at_work_waits(tmp_path):
    workspace = driven(tmp_path / "w", steps=2, step_seconds=0.2)
    first = subprocess.Popen([DVC, "repro"], cwd=workspace, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    _wait_for(lambda: bodies(workspace))
    second = goku(workspace, "run", "--no-flow", "--json")
    said, _ = first.communicate()
    assert first.returncode == second.returncode == 0, said + second.stderr
    assert f"goku run: the line is driven by dvc (process {first.pid}); waiting for it" in second.stderr
    assert {o["status"] for o in json.loads(second.stdout)} == {"already-done"}
    assert len(bodies(workspace)) == 5


@pytest.mark.platform
def test_a_dvc_that_was_killed_holds_nobody_up(tmp_path):
    workspace = driven(tmp_path / "w", steps=20, step_seconds=0.2)
    killed = subprocess.Popen([DVC, "repro"], cwd=workspace, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              start_new_session=True)  # fmt: skip
    _wait_for(lambda: bodies(workspace))
    os.killpg(killed.pid, 9)
    killed.wait()
    for lock in (workspace / ".dvc/tmp").glob("*lock*"):
        assert lock.exists()  # DVC itself gets over them
    set_params(workspace)
    said = goku(workspace, "run", "--no-flow")
    assert said.returncode == 0 and "waiting" not in said.stderr
    repro(workspace)
    assert bodies(workspace).count("reports/end.txt") == 1


@pytest.mark.platform
def test_numbers_and_curves_for_dvc(workspace):
    from driven_line import commit

    set_params(workspace, steps=4)
    repro(workspace)
    commit(workspace, "four steps")
    set_params(workspace, steps=6)
    repro(workspace)
    shown = json.loads(dvc(workspace, "metrics", "show", "--json"))
    assert shown[""]["data"]["metrics/join.json"]["data"]["steps_done"] == 6
    changed = json.loads(dvc(workspace, "metrics", "diff", "--json"))["metrics/join.json"]["steps_done"]
    assert (changed["old"], changed["new"], changed["diff"]) == (4, 6, 2)
    drawn = json.loads(dvc(workspace, "plots", "show", "--show-vega", "plots/join.csv"))
    curve = [(int(one["step"]), float(one["loss"])) for one in drawn["data"]["values"]]
    assert curve == [(step, pytest.approx(1 / step)) for step in range(1, 7)]
    bars = json.loads(dvc(workspace, "plots", "show", "--show-vega", "plots/split.csv"))["data"]["values"]
    assert [(one["name"], float(one["value"])) for one in bars] == [("steps_done", 6.0)]


def _wait_for(condition, seconds=60.0):
    import time

    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
