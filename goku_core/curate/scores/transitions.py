"""Gradual changes of shot: fades through black or white, and dissolves. Both are trimmed: their frames are in no clip.

A fade takes the contrast away and gives it back; what is left in between is a blank frame. A dissolve is a mix of two
pictures whose shares change steadily: every frame between is a weighted mean of the two ends (in coarse tiles, which
motion within a shot disturbs little), and its contrast is less than theirs, because two unlike pictures average out. A
pan has no such dip, a change of light has two alike ends, a wipe is not a mix of its ends.

The bounds were chosen on other random films than those that `goku bench shots` reports on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from goku_core.curate.scores.looks import Boundary, Look, since

LONGEST = 2.0  # s of one side of a fade, or of a dissolve: longer ones are looked upon as content
BLANK_SPREAD = 5.0  # standard deviation of luma: no picture is left
BLANK_DARK, BLANK_BRIGHT = 20.0, 235.0  # mean luma: black or white (a plain grey is a picture)
STEP = 0.125  # s over which contrast is seen to grow, and between two looks for dissolves
STEADY = 0.35  # of a fade's fastest growth in that time: what grows less is the shot itself
RESTORED = 0.95  # of the contrast of the shot: from there on the frame belongs to it
PART = 5.0  # s after which a black stretch is handed on, so that an hour of it is not waited for

DISSOLVES = (0.25, 0.4, 0.6, 0.8, 1.0, 1.3, 1.6, 2.0)  # s: lengths that are tried
LEAST_STEP = 6.0  # levels, root mean square of tiles: the two ends differ at all
LEAST_SPREAD = 6.0  # levels: both ends are pictures
MOST_ALIKE = 0.6  # correlation of the two ends
MOST_REST = 0.42  # share of the change that is no mixing, mean of the inner frames
MOST_JUMP = 0.4  # of the share from one frame to the next: more is a cut
QUICK_JUMP = 0.6  # a frame's change over the difference of the ends, where motion counts too
MOST_RETURN = 0.2  # sum of the share's steps backwards
MOST_CONTRAST = 0.83  # contrast (variance) of the inner frames over that of the ends
LEAST_QUALITY = (
    0.85  # lost contrast + unlikeness of the ends - rest: 1.04 and more for dissolves, 0.7 and less by chance
)
SETTLED = 0.4  # s without a better one, then a dissolve is believed
EDGE = 0.06  # of the share: where a dissolve begins and ends


class Fades:
    """Finds fades in looks that come one by one. ticks: of a second."""

    def __init__(self, ticks: float) -> None:
        self._longest, self._step, self._part = (round(s * ticks) for s in (LONGEST, STEP, PART))
        self._start: int | None = None
        self._blank: Look | None = None  # the least contrast
        self._last_blank = 0

    @property
    def open(self) -> int | None:
        """Where a fade began that is not over."""
        return self._start

    def add(self, look: Look, history: Sequence[Look]) -> Boundary | None:
        """``history``: earlier looks, `LONGEST` at least. A fade that ended shortly before ``look``."""
        if is_blank(look):
            if self._start is None:
                self._start, self._blank = self._beginning(look, history), look
            elif self._blank is None or look.light[1] < self._blank.light[1]:
                self._blank = look
            self._last_blank = look.pts
            if look.pts - self._start > self._part and self._start < look.pts:
                part = Boundary("fade", self._start, look.pts, self._blank.pts)
                self._start, self._blank = look.pts, look
                return part
            return None
        if self._start is None:
            return None
        rising = [earlier for earlier in since(history, self._last_blank) if earlier.pts > self._last_blank]
        before = [earlier for earlier in rising if earlier.pts <= look.pts - self._step]
        if not before:
            return None
        growth = [self._growth(rising, earlier) for earlier in rising] + [look.light[1] - before[-1].light[1]]
        if growth[-1] > STEADY * max(growth) and look.pts - self._last_blank < self._longest:
            return None
        return self._over(_restored([*rising, look]))

    def _growth(self, rising: Sequence[Look], look: Look) -> float:
        before = [earlier for earlier in rising if earlier.pts <= look.pts - self._step]
        return look.light[1] - (before[-1].light[1] if before else 0.0)

    def finish(self, end: int) -> Boundary | None:
        """The film ends at ``end`` while it is dark, or becoming bright."""
        return None if self._start is None else self._over(end)

    def _over(self, end: int) -> Boundary:
        assert self._start is not None and self._blank is not None
        found = Boundary("fade", self._start, end, self._blank.pts)
        self._start = self._blank = None
        return found

    def _beginning(self, blank: Look, history: Sequence[Look]) -> int:
        """The first frame that has less contrast than the shot before it: a fade in, read backwards."""
        back = [look for look in reversed(history) if blank.pts - self._longest <= look.pts < blank.pts]
        current, fastest = blank, 0.0
        for look in back:
            if current.pts - look.pts < self._step and look is not back[-1]:
                continue
            growth = look.light[1] - current.light[1]
            fastest = max(fastest, growth)
            if growth <= STEADY * fastest:
                break
            current = look
        fading = [look for look in reversed(back) if look.pts >= current.pts]
        full = [look.pts for look in fading if look.light[1] >= RESTORED * current.light[1]]
        return next((look.pts for look in fading if look.pts > full[-1]), blank.pts) if full else blank.pts


def _restored(rising: Sequence[Look]) -> int:
    """Where a fade in is over: the first frame that has the contrast of the last."""
    return next(look.pts for look in rising if look.light[1] >= RESTORED * rising[-1].light[1])


def is_blank(look: Look) -> bool:
    mean, spread = look.light
    return spread < BLANK_SPREAD and (mean < BLANK_DARK or mean > BLANK_BRIGHT)


@dataclass(frozen=True)
class _Mix:
    boundary: Boundary
    quality: float


class Dissolves:
    """Finds dissolves in looks that come one by one. ticks: of a second."""

    def __init__(self, ticks: float) -> None:
        self._lengths = [round(seconds * ticks) for seconds in DISSOLVES]
        self._step, self._settled, self._longest = (round(s * ticks) for s in (STEP, SETTLED, LONGEST))
        self._next: int | None = None
        self._best: _Mix | None = None
        self._best_at = 0
        self._passed: int | None = None  # end of the last one: what is left of its earlier shot is no other one

    def add(self, look: Look, history: Sequence[Look], after: int | None = None) -> Boundary | None:
        """A dissolve that is certain by now.

        history  looks up to and with ``look``, `LONGEST` at least
        after    timestamp of the end of a fade: what comes up out of black is a mix too, but no dissolve
        """
        if self._next is not None and look.pts < self._next:
            return None
        self._next = look.pts + self._step
        begin = look.pts - self._longest
        barriers = [barrier for barrier in (after, self._passed) if barrier is not None]
        found = self._search(since(history, max([begin, *barriers])))
        if found is not None and (self._best is None or found.quality > self._best.quality):
            self._best, self._best_at = found, look.pts
            return None
        return self.finish() if self._best is not None and look.pts - self._best_at >= self._settled else None

    def finish(self) -> Boundary | None:
        found, self._best = self._best, None
        if found is None:
            return None
        self._passed = found.boundary.end
        return found.boundary

    def _search(self, looks: list[Look]) -> _Mix | None:
        """The best fit of all lengths that end with the last look."""
        last = looks[-1]
        if len(looks) < 4 or last.light[1] < LEAST_SPREAD:
            return None
        fits = []
        for length in self._lengths:
            window = since(looks, last.pts - length)
            if len(window) >= 5 and _may_mix(window):
                fits.append(_fit(window))
        return max((fit for fit in fits if fit is not None), key=lambda fit: fit.quality, default=None)


def _may_mix(window: Sequence[Look]) -> bool:
    """What can be said of the ends alone, and quickly: two unlike pictures, without a jump between them."""
    first, last = window[0], window[-1]
    if first.light[1] < LEAST_SPREAD or float(first.pattern @ last.pattern) > MOST_ALIKE:
        return False
    apart = float(np.abs(last.grid - first.grid).mean())
    return max(look.change for look in window[1:]) < QUICK_JUMP * apart


def _fit(window: Sequence[Look]) -> _Mix | None:
    """Whether looks are mixes of the first and the last with a share that goes steadily from 0 to 1."""
    grids = np.stack([look.grid for look in window])
    contrasts = np.array([look.light[1] for look in window]) ** 2
    times = [look.pts for look in window]
    step = grids[-1] - grids[0]
    size = float(step @ step)
    if size < LEAST_STEP**2 * len(step):
        return None
    alike = float(window[0].pattern @ window[-1].pattern)
    offsets = grids - grids[0]
    share = offsets @ step / size
    steps = np.diff(share)
    if steps.max() > MOST_JUMP or -steps[steps < 0].sum() > MOST_RETURN:
        return None
    inner = (share > 0.2) & (share < 0.8)
    if inner.sum() < 2:
        return None
    rest = np.linalg.norm(offsets[inner] - share[inner, None] * step, axis=1) / np.sqrt(size)
    straight = (1 - share[inner]) * contrasts[0] + share[inner] * contrasts[-1]
    dip = float((contrasts[inner] / straight).min())
    if rest.mean() > MOST_REST or dip > MOST_CONTRAST:
        return None
    begun = int(np.flatnonzero(share <= EDGE).max(initial=0)) + 1
    over = int(np.flatnonzero(share < 1 - EDGE).max(initial=0)) + 1
    half = int(np.argmin(np.abs(share - 0.5)))
    boundary = Boundary("dissolve", times[min(begun, half)], times[max(over, half)], times[half])
    mix = _Mix(boundary, (1 - dip) + (1 - alike) - float(rest.mean()))
    return mix if mix.quality >= LEAST_QUALITY else None
