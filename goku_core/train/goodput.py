"""Where the time of a run went, from the files that its attempts left: heartbeats and the launcher's list of attempts.

Rank-seconds of a run, over the attempts of each launch and the time between them, are split so that the parts add up. Between
two launches no machine is held, and nothing is counted:

productive  forward, backward, optimizer and what lies between, of steps that stayed
lost        the same of steps that were trained again after a restart, or thrown away by a rewind
data, checkpoint  waiting for data; saving, as far as the rank waits for it
start       from the begin of an attempt until a rank's first step, and after the last one: weights are collected and written
idle        the rest: a rank that hangs or is gone until the attempt ends, and the time between attempts
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from goku_core.pipeline.files import read_json_lines
from goku_core.train.health import incidents
from goku_core.train.health.heart import PRODUCTIVE, Pulse, pulses

ATTEMPTS = "attempts.jsonl"


class Goodput(BaseModel):
    """Rank-seconds by use (see the module), over all attempts. wall: seconds by the clock. cost: rank-hours at the given price."""

    productive: float
    lost: float
    data: float
    checkpoint: float
    start: float
    idle: float
    wall: float
    ranks: int
    attempts: int
    lost_steps: int
    rank_hours: float
    cost: float
    share: float  # productive seconds of all
    incidents: list[dict[str, Any]]

    def metrics(self) -> dict[str, float]:
        """For a tracker."""
        told = self.model_dump(exclude={"incidents"})
        return {f"goodput.{name}": float(value) for name, value in told.items()} | {
            "incidents": float(len(self.incidents))
        }


@dataclass(frozen=True)
class Attempt:
    """begin, end: wall clock. pulses: the last heartbeat of each rank. launch: names the launcher, empty where there was none."""

    begin: float
    end: float
    ranks: int
    pulses: Sequence[Pulse]
    launch: str = ""

    @property
    def first(self) -> int | None:
        """Optimizer steps that had been done when it began; None when no rank has done one."""
        return min((pulse.first for pulse in self.pulses if pulse.first >= 0), default=None)


def of_run(scratch: Path, now: float, price: float = 0.0) -> Goodput:
    """Of the run in `scratch`, which goes on until `now` (wall clock) where its last attempt has not ended."""
    return count(read_attempts(scratch, now), price, list(incidents.recorded(scratch)))


def read_attempts(scratch: Path, now: float) -> list[Attempt]:
    """An attempt without a launcher, or whose launcher was killed, begins with its ranks and ends with their last heartbeat."""
    told: dict[int, dict[str, dict[str, Any]]] = {}
    for line in read_json_lines(scratch / ATTEMPTS):
        told.setdefault(line["attempt"], {})[line["event"]] = line
    folders = {int(path.name.removeprefix("attempt-")): path for path in (scratch / "hearts").glob("attempt-*")}
    found: list[Attempt] = []
    for number in sorted(told.keys() | folders.keys()):
        beats = pulses(folders[number]) if number in folders else []
        lines = told.get(number, {})
        begin = lines["begin"]["time"] if "begin" in lines else min((p.started for p in beats), default=None)
        if begin is None:
            continue
        end = lines["end"]["time"] if "end" in lines else max((p.last_beat for p in beats), default=begin)
        ranks = lines["begin"]["ranks"] if "begin" in lines else len(beats)
        launch = lines.get("begin", {}).get("launch", "")
        found.append(Attempt(begin, max(begin, end), ranks, beats, launch))
    if found and found[-1].pulses and "end" not in told.get(max(folders), {}):
        found[-1] = replace(found[-1], end=max(found[-1].end, now))
    return found


def count(attempts: Sequence[Attempt], price: float, known: Sequence[Mapping[str, Any]] = ()) -> Goodput:
    """What the attempts' time went to; parts add up to the ranks times the wall clock."""
    parts = dict.fromkeys(("productive", "lost", "data", "checkpoint", "start", "idle"), 0.0)
    lost_steps, wall = 0, 0.0
    for place, attempt in enumerate(attempts):
        # What was done beyond the step that a later attempt began with was done again.
        back = min((later.first for later in attempts[place + 1 :] if later.first is not None), default=None)
        for pulse in attempt.pulses:
            own, steps = _of_rank(pulse, attempt, back)
            for name, seconds in own.items():
                parts[name] += seconds
            if pulse.rank == 0:
                lost_steps += steps
        # Ranks that left no heartbeat: not even begun when the attempt ended.
        parts["start"] += (attempt.ranks - len(attempt.pulses)) * (attempt.end - attempt.begin)
        gap = _gap(attempts[place - 1], attempt) if place else 0.0
        parts["idle"] += attempt.ranks * gap
        wall += attempt.end - attempt.begin + gap
    total = sum(parts.values())
    return Goodput(
        **parts,
        wall=wall,
        ranks=max((attempt.ranks for attempt in attempts), default=0),
        attempts=len(attempts),
        lost_steps=lost_steps,
        rank_hours=total / 3600,
        cost=total / 3600 * price,
        share=parts["productive"] / total if total else 0.0,
        incidents=[dict(incident) for incident in known],
    )


def _gap(before: Attempt, after: Attempt) -> float:
    """Seconds between two attempts of one launch."""
    return max(0.0, after.begin - before.end) if after.launch and after.launch == before.launch else 0.0


def _of_rank(pulse: Pulse, attempt: Attempt, back: int | None) -> tuple[dict[str, float], int]:
    """Seconds of one rank in one attempt by use, and steps of it that were done again."""
    seconds = pulse.seconds
    lost, steps = pulse.lost, pulse.rewound
    if back is not None and pulse.step > back:
        # A restart begins at a checkpoint, and at every one the productive seconds so far were noted.
        noted = max((step for step in pulse.marks if step <= back), default=None)
        lost += pulse.kept - (0.0 if noted is None else pulse.marks[noted])
        steps += pulse.step - max(back, pulse.first)
    start = max(0.0, pulse.started - attempt.begin) + seconds["start"] + seconds["finish"]
    known = start + sum(seconds[name] for name in (*PRODUCTIVE, "data", "checkpoint"))
    own = {
        "productive": sum(seconds[name] for name in PRODUCTIVE) - lost,
        "lost": lost,
        "data": seconds["data"],
        "checkpoint": seconds["checkpoint"],
        "start": start,
        # What the last heartbeat does not tell: the phase in which the rank hung or died, and the wait for the others.
        "idle": max(0.0, attempt.end - attempt.begin - known),
    }
    return own, steps
