"""Shot boundaries, from frames that are decoded anyway: PySceneDetect's cuts (paper section 4.4 names the library), looked
at a second time, and gradual changes (see `transitions`).

Two detectors of the library propose: the adaptive one, which compares a frame's change with that of its neighbours, and
the content one, which sees a cut amid motion too. A proposal is dropped when the picture before it comes back shortly
after (a flash), and when the frames on both sides look alike in colours and edges (shaking, a jerk).
Two boundaries nearer than `min_seconds` become one with what lies between, so that no clip holds frames of two shots.
Verdicts come up to `LAG` late; whoever listens keeps what it measured meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from statistics import median
from typing import Any

import cv2
import numpy as np

from goku_core.curate.request import Shots
from goku_core.curate.scores.looks import Boundary, Look
from goku_core.curate.scores.transitions import LONGEST, Dissolves, Fades
from goku_core.media.decode import Frame, resize
from goku_core.scorers.appearance import Appearance

THUMBNAIL_AREA = 128 * 72  # px: changes are compared on frames of about this size
WINDOW = 2  # frames before and after, the adaptive detector's default
LEAST_LOOKS = 2 * WINDOW + 2  # that are kept however far apart frames are: proposals come late by frames, not seconds
LAG = LONGEST + 1.0  # s by which a boundary may become known late
FLASH = 0.35  # s: what is as before within this time was a flash
RETURN = 0.4  # of the flash's difference to the picture before it: what comes nearer than this is that picture again
RESTLESS = 8.0  # levels of 255 by which frames around change, from where on a change alone proves nothing
# Cosines of appearance of two frames next to each other. However a camera shakes they stay above 0.97, cuts below 0.9.
SAME_SHOT = 0.95
SAME_PICTURE = 0.985  # where little moves: a jerk, a drawing held for two frames; 999 of 1000 pairs of scenes are below


class ShotFinder:
    """Feed it frames in order; it answers with boundaries in order.

    time_base  seconds per tick of the frames' timestamps
    settled    timestamp before which no boundary will be named any more
    change     difference of the last frame to the one before it, levels of 255
    """

    def __init__(self, time_base: Fraction, settings: Shots) -> None:
        self._detector = _detector(settings)
        ticks = float(1 / time_base)
        self._lag, self._flash, self._apart = (round(s * ticks) for s in (LAG, FLASH, settings.min_seconds))
        self._fades = Fades(ticks) if settings.gradual else None
        self._dissolves = Dissolves(ticks) if settings.gradual else None
        self._appearance = Appearance()
        self._looks: deque[Look] = deque()
        self._fed = 0
        self._proposals: dict[int, bool] = {}  # frame number: whether the adaptive detector says so
        self._found: list[Boundary] = []
        self._held: Boundary | None = None
        self._faded: int | None = None  # end of the last fade
        self._factor = 0  # known with the first frame
        self.change = 0.0
        self.settled = 0

    def add(self, frame: Frame) -> list[Boundary]:
        """Boundaries that have become certain."""
        look = Look.after(self._looks[-1] if self._looks else None, frame.pts, self._thumbnail(frame))
        self.change = look.change
        self._looks.append(look)
        self._propose(look.thumbnail)
        self._fed += 1
        self._judge(look.pts - self._flash)
        self._look_for_gradual(look)
        # The one before stays: a frame may be on the screen for longer than that, and then comes the cut.
        while len(self._looks) > LEAST_LOOKS and self._looks[1].pts < look.pts - self._lag:
            self._looks.popleft()
        return list(self._release(look.pts - self._lag))

    def finish(self, end: int) -> list[Boundary]:
        """What is still open when the film ends at ``end`` (exclusive)."""
        if not self._looks:
            return []
        # The detector needs frames behind a cut to see it: the last one, repeated, uncovers a cut near the end.
        for _ in range(WINDOW):
            self._propose(self._looks[-1].thumbnail)
            self._fed += 1
        self._fed -= WINDOW
        self._judge(end)
        if self._fades is not None and self._dissolves is not None:
            self._found += [found for found in (self._fades.finish(end), self._dissolves.finish()) if found is not None]
        return list(self._release(end + self._apart + 1))

    def _look_for_gradual(self, look: Look) -> None:
        if self._fades is None or self._dissolves is None:
            return
        if (fade := self._fades.add(look, self._looks)) is not None:
            if (late := self._dissolves.finish()) is not None:
                self._found.append(late)
            self._found = [found for found in self._found if found.kind != "dissolve" or found.end <= fade.start]
            self._found.append(fade)
            self._faded = fade.end
        if self._fades.open is None and (found := self._dissolves.add(look, self._looks, self._faded)) is not None:
            self._found.append(found)

    def _thumbnail(self, frame: Frame) -> np.ndarray:
        if self._factor == 0:
            height, width = frame.size
            wanted = (height * width / THUMBNAIL_AREA) ** 0.5
            # Multiples of three are the quick ones.
            self._factor = max(1, round(wanted)) if wanted < 3 else 3 * round(wanted / 3)
        image = frame.thumbnail(self._factor)
        return (
            resize(image, *self._looks[0].thumbnail.shape[:2]) if self._looks else image
        )  # a stream may change its size

    def _propose(self, image: np.ndarray) -> None:
        from scenedetect import FrameTimecode

        # The library reads BGR; swapped colours only turn the hue circle around, differences stay.
        self._proposals |= self._detector.propose(FrameTimecode(self._fed, 25.0), image, self._proposals)

    def _judge(self, until: int) -> None:
        """Looks again at proposals that have enough frames behind them."""
        first = self._fed - len(self._looks)
        for number in sorted(self._proposals):
            place = number - first
            if place >= len(self._looks) or self._looks[place].pts > until:
                return
            adaptive = self._proposals.pop(number)
            if place > 0 and self._is_cut(place, adaptive):
                pts = self._looks[place].pts
                self._found.append(Boundary("cut", pts, pts, pts))

    def _is_cut(self, place: int, adaptive: bool) -> bool:
        looks = self._looks
        before, after = looks[place - 1], looks[place]
        window = range(max(0, place - 8), min(len(looks), place + 9))
        around = [looks[i].change for i in window if i != place]
        if not adaptive and after.change < max(looks[i].change for i in window if abs(i - place) <= WINDOW):
            return False  # a neighbour is the better place
        later = [looks[i] for i in range(place + 1, len(looks)) if looks[i].pts <= after.pts + self._flash]
        earlier = [looks[i] for i in range(place - 1) if looks[i].pts >= before.pts - self._flash]
        if any(_returns(before, after, look) for look in later) or any(
            _returns(after, before, look) for look in earlier
        ):
            return False
        calm = adaptive and (not around or median(around) < RESTLESS)
        first, second = self._appearance.embed([before.thumbnail, after.thumbnail])
        return float(first @ second) < (SAME_PICTURE if calm else SAME_SHOT)

    def _release(self, certain: int) -> Iterator[Boundary]:
        """Boundaries in order, of which nothing that comes can change anything."""
        if self._fades is not None and self._fades.open is not None:
            certain = min(certain, self._fades.open)
        self._found.sort(key=lambda boundary: boundary.start)
        while self._found and self._found[0].end <= certain:
            found = self._found.pop(0)
            if self._near(found):
                self._held = self._held.joined(found)
                continue
            if self._held is not None:
                yield self._held
            self._held = found
        if (
            self._held is not None
            and certain - self._held.end >= self._apart
            and not any(map(self._near, self._found[:1]))
        ):
            yield self._held
            self._held = None
        waiting = [boundary.start for boundary in (*self._found[:1], *([self._held] if self._held else []))]
        self.settled = min([certain, *waiting])

    def _near(self, found: Boundary) -> bool:
        """Whether a boundary is to be one with the one that is held back. A long black stretch comes in parts that stay so."""
        held = self._held
        return held is not None and found.start - held.end < self._apart and not held.kind == found.kind == "fade"


def _detector(settings: Shots) -> Any:
    """Both rules of the library on one difference per frame."""
    from scenedetect.detectors import AdaptiveDetector

    class Cuts(AdaptiveDetector):
        _hsv: np.ndarray | None = None

        def propose(self, place: Any, image: np.ndarray, known: dict[int, bool]) -> dict[int, bool]:
            """Frame numbers, and whether the adaptive rule says so; ``known`` as before."""
            adaptive = {cut.frame_num: True for cut in self.process_frame(place, image)}
            # What the content detector compares with its threshold is what this one compares with its neighbours.
            content = {place.frame_num: False} if (self._frame_score or 0.0) >= settings.content_threshold else {}
            return content | {number: known[number] for number in content if number in known} | adaptive

        def _calculate_frame_score(self, timecode: Any, frame_img: np.ndarray) -> float:
            """The library's number to the last bit, in a fifth of its time: one difference of three planes, bytes stay bytes."""
            before, self._hsv = self._hsv, cv2.cvtColor(frame_img, cv2.COLOR_BGR2HSV)
            if before is None:
                return 0.0
            hue, saturation, value = (
                total / before[..., 0].size for total in cv2.sumElems(cv2.absdiff(self._hsv, before))[:3]
            )
            return (hue + saturation + value) / 3

    # Lengths are ours to judge, by timestamps: the library counts frames at one rate.
    return Cuts(settings.adaptive_threshold, 0, WINDOW, settings.min_content)


def _returns(before: Look, flash: Look, later: Look) -> bool:
    """Whether the picture before a change is back: much nearer to it than to what flashed up."""
    back = float(np.abs(later.grid - before.grid).mean())
    return back < RETURN * float(np.abs(flash.grid - before.grid).mean())
