"""Where the thing of a clip goes, and whether that is the way the prompt says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from goku_core.evaluate.judges.detector import Detection, Detector

DIRECTIONS: Mapping[str, tuple[float, float]] = {
    "left": (-1.0, 0.0),
    "right": (1.0, 0.0),
    "up": (0.0, -1.0),
    "down": (0.0, 1.0),
}
LEAST_TRAVEL = 0.06
"""Of the picture's height, over the whole clip. Less is standing still. Our choice: three times the judge's jitter."""
LEAST_COSINE = 0.7071
"""Within 45 degrees of the wanted direction."""
LEAST_SIGHT = 0.5
"""Share of frames in which the thing must be seen for its path to count."""


@dataclass(frozen=True)
class Path2D:
    """Where a thing was: frame numbers (n,), centres (n, 2) in heights of the picture, x then y.

    total: frames of the clip; looked: frames that were looked at, n of which show the thing.
    """

    frames: np.ndarray
    centres: np.ndarray
    total: int
    looked: int

    @property
    def travel(self) -> np.ndarray:
        """Displacement over the clip (2,), from a line fitted to all centres (one bad frame does not decide)."""
        if len(self.frames) < 2:
            return np.zeros(2)
        slope = np.polyfit(self.frames, self.centres, 1)[0]
        return slope * (self.total - 1)


def follow(clip: np.ndarray, judge: Detector, label: str | None, color: str | None, frames: int = 9) -> Path2D:
    """Track the thing of that class and colour through evenly spaced frames of a clip (T, H, W, 3) uint8.

    Where it is seen in too few frames, the largest thing is followed instead: a blue circle that moves right where a
    green one was asked for is right in its direction and wrong in its subject, and these are two dimensions. Where
    nothing has one of the known shapes, whatever has the colour is followed, for the same reason.
    """
    numbers = np.unique(np.linspace(0, len(clip) - 1, frames).round().astype(int))
    seen = judge.detect(clip[numbers])
    chosen = [_wanted(things, label, color) for things in seen]
    if sum(thing is not None for thing in chosen) < LEAST_SIGHT * len(numbers):
        chosen = [max(things, key=lambda t: t.area, default=None) for things in seen]
    places = [None if t is None else ((t.box[0] + t.box[2]) / 2, (t.box[1] + t.box[3]) / 2) for t in chosen]
    if color is not None and sum(place is not None for place in places) < LEAST_SIGHT * len(numbers):
        places = judge.locate(clip[numbers], color)
    found = [(number, place) for number, place in zip(numbers, places, strict=True) if place is not None]
    centres = [place for _, place in found]
    return Path2D(
        np.array([number for number, _ in found], dtype=float),
        np.array(centres, dtype=float).reshape(-1, 2) / clip.shape[1],
        total=len(clip),
        looked=len(numbers),
    )


def direction_verdict(path: Path2D, direction: str) -> tuple[bool, str]:
    """(right, reason) of a path against a word of DIRECTIONS."""
    if len(path.frames) < max(2, LEAST_SIGHT * path.looked):
        return False, f"a thing is seen in {len(path.frames)} of {path.looked} frames"
    dx, dy = path.travel
    distance = float(np.hypot(dx, dy))
    if distance < LEAST_TRAVEL:
        return False, f"expected motion {direction}, found {distance:.2f} heights of travel"
    wx, wy = DIRECTIONS[direction]
    if (dx * wx + dy * wy) / distance < LEAST_COSINE:
        return False, f"expected motion {direction}, found {heading(dx, dy)}"
    return True, ""


def heading(dx: float, dy: float) -> str:
    """The word of DIRECTIONS nearest to a displacement (y grows downwards)."""
    return max(DIRECTIONS, key=lambda name: DIRECTIONS[name][0] * dx + DIRECTIONS[name][1] * dy)


def _wanted(things: Sequence[Detection], label: str | None, color: str | None) -> Detection | None:
    matching = [t for t in things if color is None or t.color == color]
    if color is None or len(matching) > 1:
        matching = [t for t in matching if label is None or t.label == label]
    return matching[0] if matching else None
