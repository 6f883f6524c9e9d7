"""Watches the ranks of this node while they train: a hang, a death, a request to leave, trouble on other nodes."""

from __future__ import annotations

import os
import signal
import statistics
import sys
import threading
import time
import traceback
from collections.abc import Sequence

from goku_core.train.health import incidents
from goku_core.train.health.errors import PREEMPTED
from goku_core.train.health.heart import Pulse, file_of, pulses, read
from goku_core.train.health.request import FaultSettings
from goku_core.train.launch import processes
from goku_core.train.launch.failures import EXCERPT, Failure
from goku_core.train.launch.nodes import Nodes
from goku_core.train.launch.places import RankFiles

DEATH_SECONDS = 2.0  # ranks may outlive a dead one: time to notice themselves and to say so in their logs
ABANDON_SECONDS = 8.0  # after the others have failed: ranks are gone, and the agent has had time to see it
STRAGGLER_STEPS = 20  # steps that a rank's own seconds are compared over
COMPARE_SECONDS = 2.0  # between two looks at the heartbeats of all nodes


def allowance(pulse: Pulse, settings: FaultSettings) -> float:
    """Seconds for which a rank may stay in its present phase."""
    if pulse.phase == "start":
        return settings.start_seconds
    if pulse.phase in ("checkpoint", "finish"):
        return settings.checkpoint_seconds
    if (step := pulse.step_seconds) is None:
        return settings.first_step_seconds
    floor = settings.data_seconds if pulse.phase == "data" else settings.hang_floor_seconds
    return max(floor, settings.hang_factor * step)


def hanging(found: Sequence[Pulse], now: float, settings: FaultSettings) -> Pulse | None:
    """The rank that the others wait for, if it has stayed in its phase for too long.

    Ranks meet in every step, so all but one may wait for the one whose last sign of life is oldest among those least far: as
    long as that one may stay where it is (it waits for data, or saves), nobody hangs.
    """
    working = [pulse for pulse in found if pulse.phase != "done"]
    if not working:
        return None
    last = min(working, key=lambda pulse: (pulse.step, pulse.beat))
    return last if now - last.beat > allowance(last, settings) else None


def scores(before: Sequence[Pulse], after: Sequence[Pulse]) -> dict[int, float]:
    """By rank: seconds of its own phases (data, forward) over those of the median of the others. 1 is as quick as they are.

    Backward and optimizer are left out: there a quick rank waits for a slow one.
    """
    earlier = {pulse.rank: pulse for pulse in before}
    own = {}
    for pulse in after:
        if pulse.rank in earlier:
            own[pulse.rank] = sum(pulse.seconds[p] - earlier[pulse.rank].seconds[p] for p in ("data", "forward"))
    found = {}
    for rank, seconds in own.items():
        others = [other for number, other in own.items() if number != rank]
        if others and (middle := statistics.median(others)) > 0:
            found[rank] = seconds / middle
    return found


class Supervisor(threading.Thread):
    """Ends the ranks of this node when they cannot go on, and remembers why.

    members  nodes of the attempt
    leaving  set when the launcher was asked to leave
    failure  what was found, None as long as nothing was
    killed   ranks that were ended by it
    """

    def __init__(
        self,
        files: RankFiles,
        settings: FaultSettings,
        nodes: Nodes,
        leaving: threading.Event,
        host: str,
        members: Sequence[int] = (),
    ) -> None:
        super().__init__(name="supervisor", daemon=True)
        self.files, self.settings, self.nodes, self.leaving, self.host = files, settings, nodes, leaving, host
        self.members = members
        self.places = files.places
        self.failure: Failure | None = None
        self.killed: set[int] = set()
        self._began = time.monotonic()
        self._over = threading.Event()
        self._told: set[int] = set()
        self._leave_by: float | None = None
        self._died: float | None = None
        self._others_failed: float | None = None
        self._compared: list[Pulse] = []
        self._slow: set[int] = set()
        self._looked_at_all = 0.0
        self._failed_to_look = False

    def run(self) -> None:
        while not self._over.wait(self.settings.look_seconds):
            try:
                self._look()
            except Exception:  # ranks must never be left alone because looking at them failed once
                if not self._failed_to_look:
                    traceback.print_exc()
                self._failed_to_look = True

    def end(self) -> None:
        self._over.set()
        self.join()

    def pulses(self) -> list[Pulse]:
        """Of the ranks of this node that have begun."""
        found = [read(file_of(self.places.hearts, rank)) for rank in self.files.ranks]
        return [pulse for pulse in found if pulse is not None]

    def _look(self) -> None:
        found, now = self.pulses(), time.monotonic()
        self._dead(found, now)
        self._leave(found, now)
        self._hang(found, now)
        self._others(found, now)
        if self.files.node == 0 and now - self._looked_at_all > COMPARE_SECONDS:
            self._looked_at_all = now
            self._stragglers(pulses(self.places.hearts))

    def _dead(self, found: list[Pulse], now: float) -> None:
        """After the death of one the others wait in vain; some notice themselves, some never."""
        gone = [pulse for pulse in found if pulse.phase != "done" and not processes.alive(pulse.pid)]
        if gone and self._died is None:
            self._died = now
            self.nodes.fail(self.places.attempt)
        if self._died is not None and now - self._died > DEATH_SECONDS:
            self.killed |= processes.kill(found)

    def _leave(self, found: list[Pulse], now: float) -> None:
        if not self.leaving.is_set():
            return
        self._leave_by = self._leave_by or now + self.settings.grace_seconds
        for pulse in found:
            if pulse.pid not in self._told:
                self._told.add(pulse.pid)
                processes.send(pulse, signal.SIGTERM)
        if now > self._leave_by and any(processes.alive(pulse.pid) for pulse in found):
            self._fail(found, None, "preemption", "ranks did not leave within the grace period and were ended")

    def _hang(self, found: list[Pulse], now: float) -> None:
        if self.failure or self._died is not None:
            return
        missing = set(self.files.ranks) - {pulse.rank for pulse in found}
        if missing and now - self._began > self.settings.start_seconds:
            self._fail(found, None, "hang", f"rank {min(missing)} has not begun")
            return
        late = hanging(found, now, self.settings)
        if late is None or not self.nodes.is_last(self.places.attempt, late.step):
            return
        stopped = " (the process is stopped)" if processes.state(late.pid) == "T" else ""
        seconds = now - late.beat
        self._fail(
            found, late, "hang", f"in {late.phase} of step {late.step + 1} for {seconds:.0f} s{stopped}", seconds
        )

    def _others(self, found: list[Pulse], now: float) -> None:
        """Ranks of other nodes have failed: those here cannot go on."""
        if not self.failure:
            self.nodes.publish(self.places.attempt, min((pulse.step for pulse in found), default=None))
            if self.nodes.leads and (lost := self.nodes.silent(self.places.attempt, self.members)):
                self._fail(found, None, "node bad", f"nothing has been heard of it for {lost[1]:.0f} s", node=lost[0])
        if self._others_failed is None and self.nodes.has_failed(self.places.attempt):
            self._others_failed = now
        if self._others_failed is not None and now - self._others_failed > DEATH_SECONDS:
            self.killed |= processes.kill(found)
        if self.nodes.unreachable and self._others_failed and now - self._others_failed > ABANDON_SECONDS:
            # torch's agent asks the same store how to end, with nothing that would end its waiting.
            print("node 0 does not answer; start this one again with it", file=sys.stderr, flush=True)
            os._exit(PREEMPTED)

    def _stragglers(self, found: list[Pulse]) -> None:
        if len(found) < 2:
            return
        if len(self._compared) < len(found):
            if all(pulse.steps > 1 for pulse in found):
                self._compared = found
            return
        if min(p.step for p in found) - min(p.step for p in self._compared) < STRAGGLER_STEPS:
            return
        for rank, score in scores(self._compared, found).items():
            if score > self.settings.straggler_score and rank not in self._slow:
                self._slow.add(rank)
                step = next(pulse.step for pulse in found if pulse.rank == rank)
                facts = {"attempt": self.places.attempt, "rank": rank, "step": step, "score": round(score, 2)}
                incidents.record(self.places.scratch, "straggler", **facts)
        self._compared = found

    def _fail(
        self,
        found: list[Pulse],
        culprit: Pulse | None,
        kind: str,
        message: str,
        waited: float | None = None,
        node: int | None = None,
    ) -> None:
        """Remembers what was found, saves all stacks, tells the other nodes, then ends the ranks."""
        at = time.time()
        processes.dump_stacks(found, {rank: self.places.stack(rank) for rank in self.files.ranks})
        excerpt = ""
        if culprit is not None and (stack := self.places.stack(culprit.rank)).is_file():
            excerpt = stack.read_text(errors="replace")[:EXCERPT]
        self.failure = Failure(
            kind,  # type: ignore[arg-type]
            message,
            rank=culprit.rank if culprit else None,
            step=culprit.step if culprit else None,
            excerpt=excerpt,
            at=at,
            waited=waited,
            node=self.files.node if node is None else node,
            host=self.host if node is None else "",
        )
        self.nodes.fail(self.places.attempt)
        self.killed |= processes.kill(found)
