"""When ranks hang, who is slow, what ended an attempt, and how often a run starts again: decided by pure functions."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from goku_core.train.goodput import Attempt, count
from goku_core.train.health.heart import PHASES, Heart, Pulse, file_of, read
from goku_core.train.health.request import FaultSettings
from goku_core.train.health.selfcheck import PRODUCT, digest, examine, examine_in_child, matrices
from goku_core.train.launch.budgets import decide
from goku_core.train.launch.failures import Ending, Failure, cause
from goku_core.train.launch.supervisor import hanging, scores

SETTINGS = FaultSettings()


def pulse(rank: int = 0, phase: str = "forward", step: int = 50, beat: float = 0.0, **changes: object) -> Pulse:
    known = {"steps": 50, "recent": [1.0] * 20, "seconds": dict.fromkeys(PHASES, 0.0)} | changes
    return Pulse(rank, 0, 1, 0.0, 0.0, phase=phase, step=step, beat=beat, **known)


def test_ten_thousand_steps_without_a_false_alarm() -> None:
    """Steps of 1 s with a heavy tail, a data wait of a minute and a save of five now and then: nobody hangs."""
    draws, now = random.Random(0), 0.0
    for step in range(10_000):
        wait = 60.0 if step % 500 == 499 else 0.1
        save = 300.0 if step % 1000 == 999 else 0.0
        long = draws.lognormvariate(0.0, 0.5)
        for phase, seconds in (("data", wait), ("forward", long), ("backward", long), ("checkpoint", save)):
            beats = [pulse(0, phase, step, now), pulse(1, "optimizer", step, now + 0.01)]
            assert hanging(beats, now + seconds, SETTINGS) is None, (step, phase, seconds)
            now += seconds


def test_a_hang_is_found_within_a_factor_of_the_step() -> None:
    stuck = [pulse(0, "backward", 50, 3.0), pulse(1, "forward", 50, 1.0), pulse(2, "backward", 50, 3.0)]
    assert hanging(stuck, 20.0, SETTINGS) is None
    assert hanging(stuck, 22.0, SETTINGS).rank == 1, "the one that the others wait for"
    slow = [pulse(0, recent=[30.0] * 20), pulse(1, recent=[30.0] * 20)]
    assert hanging(slow, 290.0, SETTINGS) is None and hanging(slow, 310.0, SETTINGS) is not None
    first = [pulse(0, "forward", 0, steps=0, recent=[])]
    assert hanging(first, 1000.0, SETTINGS) is None, "it compiles"
    done = [pulse(0, "done"), pulse(1, "finish")]
    assert hanging(done, 800.0, SETTINGS) is None


def test_scores_name_the_slow_rank() -> None:
    def seconds(own: float, wait: float) -> dict[str, float]:
        return dict.fromkeys(PHASES, 0.0) | {"data": own / 2, "forward": own / 2, "backward": wait}

    before = [pulse(rank, seconds=seconds(0, 0)) for rank in range(4)]
    after = [pulse(rank, seconds=seconds(*((30.0, 1.0) if rank == 2 else (10.0, 21.0)))) for rank in range(4)]
    assert scores(before, after) == {0: 1.0, 1: 1.0, 2: 3.0, 3: 1.0}


def failed(kind: str = "crash", step: int = 10, progress: int = -1, message: str = "at 0x7f3a") -> Failure:
    return Failure(kind, message, rank=0, step=step, progress=progress)


def test_a_run_that_gets_on_may_fail_for_ever_and_one_that_does_not_stops() -> None:
    moving = [failed(step=100 * n, progress=100 * n) for n in range(1, 60)]
    for place in range(len(moving)):
        decision = decide(moving[: place + 1], SETTINGS)
        assert decision.restart and decision.wait == SETTINGS.backoff_seconds
    stuck = [failed(step=n, progress=40, message=f"fault {'abcdefgh'[n]}") for n in range(8)]
    answers = [decide(stuck[: n + 1], SETTINGS) for n in range(6)]
    assert [a.restart for a in answers] == [True] * 5 + [False]
    assert [a.wait for a in answers[:5]] == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert "budget is 5" in answers[-1].why


def test_the_same_failure_is_known_again_by_class_step_and_message() -> None:
    same = [failed(message=f"illegal address 0x{n}f in block {n}", progress=n) for n in range(1, 4)]
    assert decide(same[:2], SETTINGS).restart and not decide(same, SETTINGS).restart
    assert decide([*same[:2], failed(step=11)], SETTINGS).restart
    for kind in ("data bad", "diverged", "refused"):
        assert not decide([failed(kind)], SETTINGS).restart


def error(message: str, at: float, name: str = "crash") -> dict:
    return {"class": name, "type": "RuntimeError", "message": message, "trace": "Traceback ...", "time": at}


def test_the_cause_is_told_from_its_victims() -> None:
    lost = Ending(0, 1, error=error("[gloo/pair.cc] Connection closed by peer", 5.0))
    assert cause([lost, Ending(1, -signal.SIGKILL)])[:2] == ("crash", 1)
    assert cause([lost, Ending(1, 1, error=error("shape mismatch", 9.0))])[1:3] == (1, "shape mismatch")
    assert cause([lost, Ending(1, 1, error=error("too many", 9.0, "data bad"))])[:2] == ("data bad", 1)
    assert cause([Ending(0, 75), Ending(1, 75), Ending(2, -signal.SIGTERM)])[0] == "preemption"
    assert cause([Ending(0, -9, killed=True), lost])[1] == 0
    assert cause([Ending(0, -9, killed=True), Ending(1, 0)]) is None
    assert cause([Ending(3, -signal.SIGSEGV), Ending(1, -signal.SIGTERM)])[:2] == ("crash", 3)


def test_a_heartbeat_survives_its_process_and_costs_little(tmp_path: Path) -> None:
    heart = Heart(tmp_path, rank=3, node=1)
    for step in range(1, 41):
        for phase in ("data", "forward", "backward", "optimizer"):
            with heart.phase(phase):
                pass
        heart.step(step)
    with heart.phase("checkpoint"):
        pass
    found = read(file_of(tmp_path, 3))
    assert (found.rank, found.node, found.step, found.first, found.saved, found.phase) == (3, 1, 40, 0, 40, "other")
    assert found.marks.keys() == {0, 40} and found.seconds == heart.seconds
    assert sum(found.seconds.values()) == pytest.approx(found.beat - found.started_monotonic)
    file_of(tmp_path, 3).write_bytes(b"torn")
    assert read(file_of(tmp_path, 3)) is None and read(tmp_path / "none") is None
    started = time.perf_counter()
    for _ in range(2000):
        with heart.phase("forward"):
            pass
    assert (time.perf_counter() - started) / 2000 < 0.001


def test_time_of_a_run_is_split_without_a_rest() -> None:
    """Two ranks, three attempts: 40 steps of which 10 are lost, 10 s between attempts, one attempt that never trained."""

    def beat(rank: int, first: int, step: int, start: float, began: float) -> Pulse:
        each = {"data": 0.5, "forward": 1.0, "backward": 2.0, "optimizer": 0.5}
        steps = step - first
        seconds = dict.fromkeys(PHASES, 0.0) | {name: value * steps for name, value in each.items()}
        marks = {at: 3.5 * (at - first) for at in range(first, step + 1, 15)}
        return Pulse(
            rank, 0, 1, began, 0.0, step=step, first=first, steps=steps, marks=marks, beat=start + 4.0 * steps,
            seconds=seconds | {"start": start},
        )  # fmt: skip

    attempts = [
        Attempt(0.0, 120.0, 2, [beat(r, 0, 25, 5.0, 1.0) for r in (0, 1)], "one"),
        Attempt(130.0, 133.0, 2, [], "one"),
        Attempt(143.0, 250.0, 2, [beat(r, 15, 40, 5.0, 144.0) for r in (0, 1)], "one"),
    ]
    found = count(attempts, price=3.0)
    assert found.lost_steps == 10 and found.lost == 2 * 10 * 3.5
    assert found.productive == 2 * 40 * 3.5 and found.data == 2 * 50 * 0.5
    assert found.idle == pytest.approx(2 * (10 + 10 + (120 - 106) + (107 - 106)))
    assert found.start == pytest.approx(2 * (6 + 3 + 6))
    parts = (found.productive, found.lost, found.data, found.checkpoint, found.start, found.idle)
    assert sum(parts) == pytest.approx(500.0) and found.wall == pytest.approx(250.0)
    assert found.cost == pytest.approx(500 / 3600 * 3)
    elsewhere = [attempts[0], Attempt(100_000.0, 100_107.0, 2, attempts[2].pulses, "two")]
    assert count(elsewhere, 0.0).wall == pytest.approx(227.0), "between two launches no machine is held"


def test_a_fit_machine_is_found_fit_and_a_wrong_product_is_noticed(tmp_path: Path) -> None:
    assert digest(matrices()[0] @ matrices()[1]) == PRODUCT, "by integer arithmetic, which no BLAS touches"
    found = examine_in_child(tmp_path)
    assert {finding.what for finding in found} >= {"disk", "memory", "matmul on the processor"}
    assert all(finding.ok for finding in found), found
    assert not list(tmp_path.iterdir())
    wrong = matrices()[0] @ matrices()[1]
    wrong[17, 3] += 1
    assert digest(wrong) != PRODUCT
    blocked = tmp_path / "file"
    blocked.write_text("")
    (disk, *_) = examine(blocked / "folder")
    assert not disk.ok and "file" in disk.found
