"""The heartbeat of a rank: what it is doing since when, and the seconds of each phase, in a small file in memory.

The file is mapped, so that a beat costs about a microsecond and what was written survives `kill -9` of the rank. The launcher
reads it to notice a hang, and goodput is computed from it afterwards. Standard library only: it is written before torch is
imported.
"""

from __future__ import annotations

import mmap
import os
import statistics
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Phase = Literal["data", "forward", "backward", "optimizer", "checkpoint"]
PHASES = ("start", "data", "forward", "backward", "optimizer", "checkpoint", "other", "finish", "done")
PRODUCTIVE = ("forward", "backward", "optimizer", "other")
FOLDER = "GOKU_HEARTS"  # variable by which the launcher tells its ranks where the files of this attempt are

_MAGIC = b"goku-hrt"
_STEPS, _MARKS = 32, 64  # of both, the newest are kept
# sequence, rank, node, pid, wall clock and monotonic clock at the start
_HEAD = struct.Struct("<8sQiiqdd")
# phase, step, first step, saved step, steps, rewound steps, beat (monotonic), lost seconds, seconds by phase
_LIVE = struct.Struct(f"<qqqqqqdd{len(PHASES)}d")
_RING = struct.Struct(f"<{_STEPS}d")
_MARK = struct.Struct("<" + "qd" * _MARKS)
_LIVE_AT = _HEAD.size
_RING_AT = _LIVE_AT + _LIVE.size
_MARKS_AT = _RING_AT + _RING.size
_SIZE = _MARKS_AT + _MARK.size


@dataclass
class Pulse:
    """What a heartbeat file says.

    first    optimizer step that this process began with (it had done so many before); -1: none yet
    step     optimizer steps done
    saved    step of the last checkpoint of this process; -1: none
    beat     when its present phase began, by the monotonic clock of its machine
    seconds  by phase, ended phases only
    lost     of `seconds`, spent on steps that a rewind threw away
    recent   seconds of the last steps, the newest last
    marks    productive seconds up to a step that the run may go back to, by step
    """

    rank: int
    node: int
    pid: int
    started: float
    started_monotonic: float
    phase: str = "start"
    step: int = 0
    first: int = -1
    saved: int = -1
    steps: int = 0
    rewound: int = 0
    beat: float = 0.0
    lost: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    recent: list[float] = field(default_factory=list)
    marks: dict[int, float] = field(default_factory=dict)

    @property
    def kept(self) -> float:
        """Productive seconds less those of steps thrown away."""
        return sum(self.seconds[name] for name in PRODUCTIVE) - self.lost

    @property
    def step_seconds(self) -> float | None:
        """Median of the last steps; None before the second: the first one compiles and allocates."""
        recent = self.recent[1:] if self.steps <= _STEPS else self.recent
        return statistics.median(recent) if recent else None

    @property
    def last_beat(self) -> float:
        """The wall clock at the last beat."""
        return self.started + self.beat - self.started_monotonic


class Heart:
    """Seconds that this rank has spent in each phase, told to whoever watches.

    folder  where the file is; None: the launcher's, or no file where there is no launcher
    """

    def __init__(self, folder: Path | None = None, rank: int = 0, node: int = 0) -> None:
        if folder is None and FOLDER in os.environ:
            folder, rank = Path(os.environ[FOLDER]), int(os.environ.get("RANK", rank))
            node = int(os.environ.get("GOKU_NODE", node))
        now = time.monotonic()
        self.pulse = Pulse(rank, node, os.getpid(), time.time(), now, beat=now, seconds=dict.fromkeys(PHASES, 0.0))
        self._map: mmap.mmap | None = None
        self._sequence = 0
        self._step_began = now
        if folder is not None:
            self._open(folder)

    def _open(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = file_of(folder, self.pulse.rank)
        if (before := read(path)) is not None and before.pid == self.pulse.pid:
            # The process began its file before it could import this far: its start counts from there.
            self.pulse, self._sequence = before, 1 << 32
        else:
            path.write_bytes(bytes(_SIZE))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _SIZE)
        self._write(everything=True)

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        before = self.pulse.phase if self.pulse.phase != "start" else "other"
        if self.pulse.phase == "start":
            self._step_began = time.monotonic()
        self._turn(name)
        try:
            yield
        finally:
            if name == "checkpoint":
                self.pulse.saved = self.pulse.step
                self.mark(self.pulse.step)
            self._turn(before)

    def step(self, step: int) -> None:
        """Optimizer step number `step` (from 1) has ended."""
        pulse, now = self.pulse, time.monotonic()
        if pulse.first < 0:
            pulse.first = step - 1
            self._mark(pulse.first, 0.0)
        pulse.recent = [*pulse.recent[-_STEPS + 1 :], now - self._step_began]
        pulse.steps += 1
        pulse.step, self._step_began = step, now
        self._add_up()
        self._write(everything=True)

    def mark(self, step: int) -> None:
        """The run may go back to `step`: what is spent from now on would be lost then."""
        self._mark(step)
        self._write(everything=True)

    def rewound(self, step: int) -> float:
        """The run goes back to `step`; returns the productive seconds that this throws away."""
        pulse = self.pulse
        self._turn(pulse.phase)
        lost = pulse.kept - pulse.marks.get(step, pulse.kept)
        pulse.lost += lost
        pulse.rewound += max(0, pulse.step - step)
        pulse.step, self._step_began = step, time.monotonic()
        pulse.marks = {at: kept for at, kept in pulse.marks.items() if at <= step}
        self._write(everything=True)
        return lost

    def finish(self) -> None:
        """All steps are done; what follows (weights are collected and written) has no rhythm to be measured by."""
        self._turn("finish")

    def done(self) -> None:
        """This process ends as it should."""
        self._turn("done")

    @property
    def seconds(self) -> dict[str, float]:
        return dict(self.pulse.seconds)

    def _mark(self, step: int, kept: float | None = None) -> None:
        if kept is None:
            self._add_up()
            kept = self.pulse.kept
        self.pulse.marks.pop(step, None)
        self.pulse.marks[step] = kept
        while len(self.pulse.marks) > _MARKS:
            del self.pulse.marks[min(self.pulse.marks)]

    def _turn(self, phase: str) -> None:
        self._add_up()
        self.pulse.phase = phase
        self._write()

    def _add_up(self) -> None:
        now = time.monotonic()
        self.pulse.seconds[self.pulse.phase] += now - self.pulse.beat
        self.pulse.beat = now

    def _write(self, everything: bool = False) -> None:
        """Steps' seconds and marks change less often than the rest, and are written when they do."""
        if self._map is None:
            return
        pulse = self.pulse
        self._sequence += 2
        # An odd sequence number says that the rest is being written: a reader then looks again.
        head = (pulse.rank, pulse.node, pulse.pid, pulse.started, pulse.started_monotonic)
        _HEAD.pack_into(self._map, 0, _MAGIC, self._sequence - 1, *head)
        counts = (pulse.step, pulse.first, pulse.saved, pulse.steps, pulse.rewound)
        times = (pulse.beat, pulse.lost, *(pulse.seconds[name] for name in PHASES))
        _LIVE.pack_into(self._map, _LIVE_AT, PHASES.index(pulse.phase), *counts, *times)
        if everything:
            empty = _STEPS - len(pulse.recent)
            _RING.pack_into(self._map, _RING_AT, *pulse.recent, *[-1.0] * empty)
            marks = [number for mark in pulse.marks.items() for number in mark]
            _MARK.pack_into(self._map, _MARKS_AT, *marks, *[-1, 0.0] * (_MARKS - len(pulse.marks)))
        _HEAD.pack_into(self._map, 0, _MAGIC, self._sequence, *head)


def open_heart(scratch: Path, rank: int = 0) -> Heart:
    """Of a rank under a launcher, its own; of one without, that of a new attempt in `scratch`."""
    if FOLDER in os.environ:
        return Heart()
    numbers = [int(path.name.removeprefix("attempt-")) for path in (scratch / "hearts").glob("attempt-*")]
    return Heart(scratch / "hearts" / f"attempt-{1 + max(numbers, default=0):04d}", rank)


def file_of(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank:05d}"


def read(path: Path) -> Pulse | None:
    """What a heartbeat file says; None where there is none, or none that is whole."""
    for _ in range(20):
        try:
            with path.open("rb", buffering=0) as file:
                content = file.read(_SIZE)
                file.seek(0)
                again = file.read(_HEAD.size)
        except OSError:
            return None
        if len(content) == _SIZE and content[:8] == _MAGIC and again == content[: _HEAD.size]:
            pulse = _parsed(content)
            if pulse is not None:
                return pulse
        time.sleep(0.0005)
    return None


def _parsed(content: bytes) -> Pulse | None:
    """None while the file is being written."""
    _, sequence, rank, node, pid, started, started_monotonic = _HEAD.unpack_from(content)
    if sequence % 2:
        return None
    phase, step, first, saved, steps, rewound, beat, lost, *seconds = _LIVE.unpack_from(content, _LIVE_AT)
    marks = _MARK.unpack_from(content, _MARKS_AT)
    return Pulse(
        rank=rank,
        node=node,
        pid=pid,
        started=started,
        started_monotonic=started_monotonic,
        phase=PHASES[phase],
        step=step,
        first=first,
        saved=saved,
        steps=steps,
        rewound=rewound,
        beat=beat,
        lost=lost,
        seconds=dict(zip(PHASES, seconds, strict=True)),
        recent=[value for value in _RING.unpack_from(content, _RING_AT) if value >= 0],
        marks={at: kept for at, kept in zip(marks[::2], marks[1::2], strict=True) if at >= 0},
    )


def pulses(folder: Path) -> list[Pulse]:
    """Of all ranks of an attempt, by rank."""
    found = [read(path) for path in sorted(folder.glob("rank-*"))]
    return [pulse for pulse in found if pulse is not None]
