"""From frames and shot boundaries to clips: shots, divided where they are too long, with what was measured on the way.

Clips are spans of their source in integer timestamps, end exclusive; nothing is cut or written. Frames come first and
boundaries later (a fade is known when it is over), so what is measured lies on a grid of the source, not of the shot:
frames for scores every 0.5 s, and as often a pair for motion, which counts where both its frames lie in the clip.
Memory is bounded: a running shot is divided as soon as it is `max_seconds` + `min_seconds` long and nothing before that
can change any more, so that the rest is never too short.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from goku_core.curate.refine import SPACING as REFINE_SPACING
from goku_core.curate.refine import Refiner
from goku_core.curate.scores import motion
from goku_core.curate.scores.looks import Boundary
from goku_core.curate.scores.motion import MotionMeter
from goku_core.media.decode import Frame

SAMPLE_SPACING = 0.5  # s between frames kept for text, sharpness, hash and models
SAMPLE_SIDE = 960  # px, longest side of those frames: letters of a text box of 1 % stay readable


@dataclass(frozen=True)
class Span:
    """One candidate clip, or a transition: between two shots, or at the start or end of the film.

    start, end  timestamps in ticks, end exclusive
    motion      motion score, None where the span is shorter than one pair of frames
    samples     frames at most `SAMPLE_SIDE` px long, `SAMPLE_SPACING` apart; of a transition one, if it has any
    transition  "fade" or "dissolve", or "cut" for what lies between two cuts that are too near to each other
    """

    start: int
    end: int
    motion: float | None = None
    samples: list[Frame] = field(default_factory=list)
    transition: str | None = None


class SpanRecorder:
    """Collects what is measured on frames until it is known to which shot they belong.

    on_sample   hears of every sampled frame
    """

    def __init__(
        self,
        time_base: Fraction,
        fps: Fraction,
        max_seconds: float,
        min_seconds: float,
        refiner: Refiner | None = None,
        on_sample: Callable[[Frame], None] | None = None,
    ) -> None:
        self._time_base = time_base
        self._steps = {s: Fraction(s) / time_base for s in (motion.SPACING, SAMPLE_SPACING, REFINE_SPACING)}
        self._longest = round(Fraction(max_seconds) / time_base)
        self._shortest = round(Fraction(min_seconds) / time_base)
        self._frame_ticks = max(1, round(1 / (fps if fps > 0 else Fraction(24)) / time_base))
        self._meter = MotionMeter()
        self._refiner, self._on_sample = refiner, on_sample
        self._changes: list[tuple[int, float]] = []  # every frame's timestamp and change
        self._flows: list[tuple[int, int, float]] = []  # earlier, later, px per `motion.SPACING`
        self._samples: list[Frame] = []
        self._seconds: list[int] = []  # timestamps of samples `REFINE_SPACING` apart
        self._earlier: tuple[int, np.ndarray] | None = None
        self._origin: int | None = None
        self._last: int | None = None
        self._previous: Frame | None = None

    @property
    def end(self) -> int:
        """Timestamp behind the last frame."""
        return 0 if self._last is None else self._last + self._frame_ticks

    def add(self, frame: Frame, change: float = 0.0) -> None:
        """Measures what is due. change: difference to the frame before, in any unit."""
        if self._origin is None:
            self._origin = frame.pts
        if self._previous is not None and frame.pts - self._previous.pts > self._steps[SAMPLE_SPACING]:
            self._sample(self._previous)  # it stayed on the screen: what may be a whole clip must have been looked at
        flow = self._due(frame.pts, motion.SPACING)
        if self._due(frame.pts, SAMPLE_SPACING):
            self._sample(frame)
            if self._due(frame.pts, REFINE_SPACING):
                self._seconds.append(frame.pts)
        if flow:
            sampled = self._samples[-1] if self._samples and self._samples[-1].pts == frame.pts else frame
            self._add_flow(sampled, frame.size)
        self._changes.append((frame.pts, change))
        self._last, self._previous = frame.pts, frame

    def cut(self, boundary: Boundary) -> Iterator[Span]:
        """Ends the running shot. Spans in order; together they hold every frame exactly once."""
        yield from self._finish(boundary.start)
        if boundary.end > boundary.start and self._changes and self._changes[0][0] < boundary.end:
            start, end = self._changes[0][0], self._first_from(boundary.end)
            samples = [sample for sample in self._samples if sample.pts < end]
            self._drop(end)
            middle = samples[len(samples) // 2 :][:1]  # to be shown
            yield Span(start, end, samples=middle, transition=boundary.kind)

    def settle(self, certain: int) -> Iterator[Span]:
        """Divides the running shot where it is long enough; before ``certain`` no further boundary is to come."""
        while self._changes and certain - self._changes[0][0] >= self._longest + self._shortest:
            start = self._changes[0][0]
            further = [cut for cut in self._refined(certain) if cut < start + self._longest + self._shortest]
            if further:
                yield from self._divided(further[0])
            else:
                yield self._take(self._first_from(start + self._longest))

    def finish(self) -> Iterator[Span]:
        """The rest, when no frame is to come."""
        if self._changes:
            if self._previous is not None and not self._samples:
                self._sample(self._previous)
            yield from self._finish(self.end)

    def _sample(self, frame: Frame) -> None:
        if self._samples and self._samples[-1].pts >= frame.pts:
            return
        self._samples.append(frame.small(SAMPLE_SIDE))
        if self._on_sample is not None:
            self._on_sample(self._samples[-1])

    def _due(self, pts: int, spacing: float) -> bool:
        """Whether a moment of the grid (multiples of ``spacing`` since the source began) lies in (last, pts]."""
        if self._last is None or self._origin is None:
            return True
        step = self._steps[spacing]
        early, late = ((moment - self._origin) * step.denominator // step.numerator for moment in (self._last, pts))
        return late > early

    def _add_flow(self, frame: Frame, shown: tuple[int, int]) -> None:
        """Every other due frame begins a pair, the one after it ends it: what is measured is the pair, half of the time.

        frame: the one due or a smaller copy of it, whose sides are rounded; ``shown`` is the size of the frame itself.
        """
        height, width = shown
        luma = frame.grey(motion.HEIGHT, max(16, round(width * motion.HEIGHT / height)))
        if self._earlier is None or self._earlier[1].shape != luma.shape:
            self._earlier = (frame.pts, luma)
            return
        pts, before = self._earlier
        self._earlier = None
        seconds = float((frame.pts - pts) * self._time_base)
        # Frames do not fall on the grid exactly at every rate: the score is per 0.25 s, not per pair.
        self._flows.append((pts, frame.pts, self._meter.measure(before, luma) * motion.SPACING / seconds))

    def _finish(self, end: int) -> Iterator[Span]:
        """Everything before ``end`` is one shot, unless it is cut again."""
        for cut in self._refined(end):
            yield from self._divided(cut)
        yield from self._divided(end)

    def _divided(self, end: int) -> Iterator[Span]:
        """What lies before ``end`` as spans of which none is too long."""
        while self._changes and (start := self._changes[0][0]) < end:
            length = end - start
            if length <= self._longest:
                yield self._take(end)
            elif length < self._longest + self._shortest:  # two halves, none too short
                yield self._take(self._first_from(start + length // 2))
            else:
                yield self._take(self._first_from(start + self._longest))

    def _refined(self, end: int) -> list[int]:
        if self._refiner is None or not self._seconds:
            return []
        samples = [sample for sample in self._samples if sample.pts < end]
        return self._refiner.cuts(samples, set(self._seconds), [change for change in self._changes if change[0] < end])

    def _first_from(self, wanted: int) -> int:
        """Timestamp of the first frame at or after ``wanted``; the end of the film where none is."""
        place = bisect_left(self._changes, (wanted, -1.0))
        return self._changes[place][0] if place < len(self._changes) else max(wanted, self.end)

    def _take(self, end: int) -> Span:
        """Everything before ``end`` as one span; what comes from there on stays."""
        start = self._changes[0][0]
        flows = [value for earlier, later, value in self._flows if earlier >= start and later < end]
        samples = [sample for sample in self._samples if sample.pts < end]
        self._drop(end)
        # Sums over memory that lies differently each time differ by 1e-12: the table of clips has the same bytes each time.
        return Span(start, end, round(float(np.mean(flows)), motion.DIGITS) if flows else None, samples)

    def _drop(self, end: int) -> None:
        self._changes = self._changes[bisect_left(self._changes, (end, -1.0)) :]
        self._flows = [flow for flow in self._flows if flow[0] >= end]
        self._samples = [sample for sample in self._samples if sample.pts >= end]
        self._seconds = [pts for pts in self._seconds if pts >= end]
        if self._refiner is not None:
            self._refiner.forget(end)
