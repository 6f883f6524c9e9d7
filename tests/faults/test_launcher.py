"""Real ranks under the real launcher, and what may befall them. Each run ends with the bits of the unbroken one."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import small_rank
import torch

from goku_core.pipeline.files import read_json_lines
from goku_core.train import goodput
from goku_core.train.health import incidents
from goku_core.train.health.heart import Pulse, pulses

WORKSPACES = Path(__file__).resolve().parents[1] / "workspaces"
ROOT = WORKSPACES.parents[1]
FAULTS = {
    "hang_floor_seconds": 2.0,
    "look_seconds": 0.1,
    "backoff_seconds": 0.1,
    "self_check": False,
    "grace_seconds": 10.0,
}
STEPS = 160


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen]]:
    """Launchers of a test; those that still run at its end are ended, their ranks with them."""
    processes: list[subprocess.Popen] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()


def make_job(place: Path, faults: dict | None = None, **changes: object) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    job = {"scratch": str(place), "seed": 7, "steps": STEPS, "checkpoint_every": 20, "pause": 0.01, "cores": 2}
    file = place / "job.json"
    file.write_text(json.dumps(job | {"request": {"faults": FAULTS | (faults or {})}} | changes))
    return file


def start(job: Path, started: list[subprocess.Popen], *options: str, ranks: int = 2) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "goku_core.train.launch",
        str(job),
        "--module",
        "small_rank",
        "--ranks",
        str(ranks),
    ]
    path = os.pathsep.join((str(ROOT), str(WORKSPACES), os.environ.get("PYTHONPATH", "")))
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    with (job.parent / f"launcher-{len(started)}.log").open("w") as log:
        process = subprocess.Popen([*command, *options], env=environment, stderr=log, stdout=log)
    started.append(process)
    return process


def beats(place: Path, attempt: int) -> list[Pulse]:
    return pulses(place / "hearts" / f"attempt-{attempt:04d}")


def wait_for(condition: Callable[[], object], process: subprocess.Popen, seconds: float = 180.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        assert process.poll() is None, f"the launcher ended with code {process.returncode}"
        time.sleep(0.02)


def at_step(place: Path, attempt: int, step: int, ranks: int = 2) -> Callable[[], bool]:
    def reached() -> bool:
        found = beats(place, attempt)
        return len(found) == ranks and all(pulse.step >= step for pulse in found)

    return reached


def wait_until_gone(ranks: list[Pulse], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while any(Path(f"/proc/{pulse.pid}").exists() for pulse in ranks):
        assert time.monotonic() < end, "a rank lives on"
        time.sleep(0.05)


def failures(place: Path) -> list[dict]:
    return [line["failure"] for line in read_json_lines(place / "attempts.jsonl") if line["event"] == "end"]


@pytest.fixture(scope="module")
def unbroken() -> dict[str, torch.Tensor]:
    torch.set_num_threads(1)
    return small_rank.reference({"seed": 7, "steps": STEPS}, ranks=2)


def same(job: Path, unbroken: dict[str, torch.Tensor]) -> bool:
    """Bit for bit?"""
    found = small_rank.outcome(json.loads(job.read_text()))
    return found.keys() == unbroken.keys() and all(torch.equal(found[name], unbroken[name]) for name in found)


def test_a_killed_rank_then_a_hang_then_sigterm(tmp_path: Path, unbroken: dict, started: list) -> None:
    job = make_job(tmp_path)
    process = start(job, started)
    wait_for(at_step(tmp_path, 1, 30), process)
    victim = beats(tmp_path, 1)[1]
    killed = time.time()
    os.kill(victim.pid, signal.SIGKILL)

    wait_for(at_step(tmp_path, 2, 63), process)  # not at a checkpoint, where a rank may take its time
    again = time.time() - killed
    stopped = beats(tmp_path, 2)[1]
    os.kill(stopped.pid, signal.SIGSTOP)

    wait_for(at_step(tmp_path, 3, 90), process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 75
    assert json.loads((tmp_path / "launch.json").read_text())["outcome"] == "left"
    left = beats(tmp_path, 3)
    assert {pulse.phase for pulse in left} == {"done"} and left[0].step == left[1].step

    process = start(job, started)
    assert process.wait(90) == 0, (tmp_path / "launcher-1.log").read_text()
    assert beats(tmp_path, 4)[0].first == left[0].step, "what was saved on request is not trained again"
    assert same(job, unbroken)

    crash, hang, preemption, none = failures(tmp_path)
    assert (crash["kind"], crash["rank"]) == ("crash", 1) and "SIGKILL" in crash["message"]
    assert crash["at"] - killed < 5 and again < 60
    assert (hang["kind"], hang["rank"]) == ("hang", 1) and "stopped" in hang["message"]
    assert 2 <= hang["waited"] < 8
    stacks = [(tmp_path / f"stacks/attempt-0002/rank-0000{rank}.txt").read_text() for rank in (0, 1)]
    assert all("small_rank.py" in text for text in stacks), "stacks of all ranks, also of the one that was stopped"
    assert preemption["kind"] == "preemption" and none is None

    found = goodput.of_run(tmp_path, time.time(), price=2.0)
    parts = found.productive + found.lost + found.data + found.checkpoint + found.start + found.idle
    assert parts == pytest.approx(found.wall * found.ranks, rel=0.01)
    assert found.attempts == 4 and found.cost == pytest.approx(found.rank_hours * 2)
    lost = sum(beats(tmp_path, n)[0].step - beats(tmp_path, n + 1)[0].first for n in (1, 2, 3))
    assert found.lost_steps == lost > 0 and found.lost > 0
    assert [line["kind"] for line in found.incidents] == ["crash", "hang", "preemption"]


@pytest.mark.slow
def test_a_preempted_rank_takes_all_along_and_they_come_back(tmp_path: Path, unbroken: dict, started: list) -> None:
    """SIGTERM to one rank, not to the launcher: all save together, and the run starts again by itself."""
    job = make_job(tmp_path)
    process = start(job, started)
    wait_for(at_step(tmp_path, 1, 30), process)
    os.kill(beats(tmp_path, 1)[0].pid, signal.SIGTERM)
    assert process.wait(90) == 0
    assert failures(tmp_path)[0]["kind"] == "preemption"
    assert beats(tmp_path, 2)[0].first == beats(tmp_path, 1)[0].step
    assert same(job, unbroken)


@pytest.mark.slow
def test_ranks_do_not_outlive_their_launcher(tmp_path: Path, unbroken: dict, started: list) -> None:
    job = make_job(tmp_path)
    process = start(job, started)
    wait_for(at_step(tmp_path, 1, 25), process)
    found = beats(tmp_path, 1)
    process.kill()
    process.wait()
    wait_until_gone(found)
    assert start(job, started).wait(90) == 0
    assert same(job, unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("draw", range(3))
def test_everything_killed_at_drawn_moments(tmp_path: Path, unbroken: dict, started: list, draw: int) -> None:
    """kill -9 of the launcher, and with it of both ranks, wherever they are: three times, then the run ends unbroken."""
    draws, job = random.Random(draw), make_job(tmp_path)
    for attempt in (1, 2, 3):
        process = start(job, started)
        wait_for(at_step(tmp_path, attempt, draws.randrange(1, 50 * attempt)), process)
        time.sleep(draws.uniform(0, 0.1))
        ranks = beats(tmp_path, attempt)
        process.kill()
        process.wait()
        wait_until_gone(ranks)
    assert start(job, started).wait(90) == 0
    assert same(job, unbroken)


@pytest.mark.slow
def test_the_same_failure_again_and_again_ends_with_a_report(tmp_path: Path, started: list) -> None:
    """A bug of the training itself: no restart mends it, and the report says where it is."""
    job = make_job(tmp_path, {"identical": 2}, fail=30, pause=0)
    assert start(job, started).wait(90) == 1
    report = json.loads((tmp_path / "launch.json").read_text())["report"]
    assert "a fault of its own" in report and "after step 30" in report and "small_rank.py" in report
    assert "same failure came 2 times" in report and "saved    up to step 20" in report
    assert len(failures(tmp_path)) == 2


@pytest.mark.slow
def test_what_the_user_must_mend_is_not_tried_again(tmp_path: Path, started: list) -> None:
    job = make_job(tmp_path, refuse=5, pause=0)
    assert start(job, started).wait(60) == 1
    told = json.loads((tmp_path / "launch.json").read_text())
    assert told["failure"]["kind"] == "refused" and "colour" in told["report"] and len(failures(tmp_path)) == 1


@pytest.mark.slow
def test_two_nodes_lose_a_rank_and_then_a_launcher(tmp_path: Path, unbroken: dict, started: list) -> None:
    """Two launchers on one machine, as two machines would have them: both ranks come back, wherever the fault was."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    job = make_job(tmp_path)
    options = ("--nodes", "2", "--endpoint", f"127.0.0.1:{port}")
    first = start(job, started, *options, "--node", "0", ranks=1)
    second = start(job, started, *options, "--node", "1", ranks=1)
    wait_for(at_step(tmp_path, 1, 30), first)
    assert {pulse.node for pulse in beats(tmp_path, 1)} == {0, 1}
    os.kill(next(pulse.pid for pulse in beats(tmp_path, 1) if pulse.node == 1), signal.SIGKILL)
    wait_for(at_step(tmp_path, 2, 70), first)
    second.kill()
    second.wait()
    third = start(job, started, *options, "--node", "1", ranks=1)  # as a pod that comes back
    assert first.wait(120) == 0, (tmp_path / "launcher-0.log").read_text()
    assert third.wait(30) == 0
    assert failures(tmp_path)[0]["kind"] == "crash"
    assert same(job, unbroken)


@pytest.mark.slow
def test_a_slow_rank_is_named(tmp_path: Path, unbroken: dict, started: list) -> None:
    job = make_job(tmp_path)
    process = start(job, started)
    wait_for(at_step(tmp_path, 1, 5), process)
    victim = beats(tmp_path, 1)[1].pid
    end = time.monotonic() + 30
    while process.poll() is None and not list(incidents.recorded(tmp_path)) and time.monotonic() < end:
        os.kill(victim, signal.SIGSTOP)
        time.sleep(0.06)
        os.kill(victim, signal.SIGCONT)
        time.sleep(0.02)
    assert process.wait(60) == 0
    told = [line for line in incidents.recorded(tmp_path) if line["kind"] == "straggler"]
    assert told and told[0]["rank"] == 1 and told[0]["score"] > 1.5
    assert same(job, unbroken)
