"""From marked frames to clips: shots, divided where they are too long, with what was measured on the way.

Clips are spans of their source in integer timestamps, end exclusive; nothing is cut or written. Memory is bounded: a
running shot is divided as soon as it is `max_seconds` + `min_seconds` long, so that the rest is never too short.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from goku_core.curate.scores import motion
from goku_core.curate.scores.motion import MotionMeter
from goku_core.media.decode import Frame

SAMPLE_SPACING = 0.5  # s between frames kept for text, sharpness and hash
SAMPLE_SIDE = 960  # px, longest side of those frames: letters of a text box of 1 % stay readable


@dataclass(frozen=True)
class Span:
    """One candidate clip.

    start, end  timestamps in ticks, end exclusive
    motion      motion score, None where the span is shorter than one pair of frames
    samples     uint8 (H, W, 3) RGB frames, `SAMPLE_SPACING` apart from the start on
    """

    start: int
    end: int
    motion: float | None
    samples: list[np.ndarray]


class SpanRecorder:
    """Collects the frames of one shot at a time."""

    def __init__(self, time_base: Fraction, fps: Fraction, max_seconds: float, min_seconds: float) -> None:
        self._time_base = time_base
        self._longest = round(Fraction(max_seconds) / time_base)
        self._shortest = round(Fraction(min_seconds) / time_base)
        self._frame_ticks = max(1, round(1 / (fps if fps > 0 else Fraction(24)) / time_base))
        self._meter = MotionMeter()
        self._begin()

    def record(self, marked: Iterable[tuple[Frame, bool]]) -> Iterator[Span]:
        """Spans in order; together they hold every frame exactly once."""
        for frame, begins_shot in marked:
            if begins_shot and self._times:
                yield from self._finish(frame.pts)
                self._begin()
            self._add(frame)
            if frame.pts - self._times[0] >= self._longest + self._shortest:
                yield self._split(self._times[0] + self._longest)
        if self._times:
            yield from self._finish(self._times[-1] + self._frame_ticks)

    def _begin(self) -> None:
        self._times: list[int] = []
        self._flows: list[tuple[int, int, float]] = []  # earlier, later, px per `motion.SPACING`
        self._samples: list[tuple[int, np.ndarray]] = []
        self._earlier: tuple[int, np.ndarray] | None = None
        self._origin = 0

    def _add(self, frame: Frame) -> None:
        if not self._times:
            self._origin = frame.pts
        self._times.append(frame.pts)
        if self._due(frame.pts, motion.SPACING, None if self._earlier is None else self._earlier[0]):
            self._add_flow(frame)
        if self._due(frame.pts, SAMPLE_SPACING, self._samples[-1][0] if self._samples else None):
            height, width = frame.size
            scale = min(1.0, SAMPLE_SIDE / max(height, width))
            self._samples.append((frame.pts, frame.rgb(round(height * scale), round(width * scale))))

    def _due(self, pts: int, spacing: float, last: int | None) -> bool:
        """Whether a moment of the grid (multiples of ``spacing`` since the shot began) lies in (last, pts]."""
        step = Fraction(spacing) / self._time_base
        return last is None or (pts - self._origin) // step > (last - self._origin) // step

    def _add_flow(self, frame: Frame) -> None:
        height, width = frame.size
        luma = frame.grey(motion.HEIGHT, max(16, round(width * motion.HEIGHT / height)))
        if self._earlier is not None:
            pts, before = self._earlier
            if before.shape == luma.shape:
                seconds = float((frame.pts - pts) * self._time_base)
                # Frames do not fall on the grid exactly at every rate: the score is per 0.25 s, not per pair.
                self._flows.append((pts, frame.pts, self._meter.measure(before, luma) * motion.SPACING / seconds))
        self._earlier = (frame.pts, luma)

    def _finish(self, end: int) -> Iterator[Span]:
        length = end - self._times[0]
        if length > self._longest:  # but shorter than longest + shortest: two halves, none too short
            yield self._split(self._times[0] + length // 2)
        yield self._take(end)

    def _split(self, wanted: int) -> Span:
        """Takes everything before the first frame at or after ``wanted``; the rest begins the next span."""
        end = self._times[bisect_left(self._times, wanted)]
        span = self._take(end)
        self._times = [pts for pts in self._times if pts >= end]
        self._flows = [flow for flow in self._flows if flow[0] >= end]
        self._samples = [sample for sample in self._samples if sample[0] >= end]
        return span

    def _take(self, end: int) -> Span:
        flows = [value for _, later, value in self._flows if later < end]
        samples = [image for pts, image in self._samples if pts < end]
        return Span(self._times[0], end, float(np.mean(flows)) if flows else None, samples)
