"""Motion score: mean optical flow, by OpenCV's DIS ("dense inverse search").

The paper names RAFT but neither unit, resolution nor frame spacing (section 4.5). Our choice, written into the column's
metadata: pixels at 256 px frame height, between frames 0.25 s apart, one such pair every 0.5 s, averaged over the frame
and the clip. The bounds
of paper Table 4 are applied to this number as they stand; a RAFT score would need its own calibration.

Flow is only defined where something can be followed. On a flat ground the search follows grain and reports several
pixels for a picture that stands still (measured: 1.2 to 3.7, as much as a large moving object). Hence flow counts only
near places that changed by more than the noise; elsewhere it is zero. Grainy stills then score 0 to 0.16, large moving
things 1.4 to 13, a shaking camera 24 and more; slow motion of a real film loses a tenth (0.33 for 0.37).

The search reaches about 30 px. A camera thrown further is found by phase correlation of the whole frames, from which the
search then starts: without it a swing of 85 px scored 9, as an ordinary moving thing does; with it 38.
"""

from __future__ import annotations

import cv2
import numpy as np

HEIGHT = 256  # px: flow is measured on frames scaled to this height
SPACING = 0.25  # s between the two frames of a pair
EVERY = 2 * SPACING  # s from one pair to the next: half the search, and a mean of half as many pairs
DIGITS = 4  # of a clip's score; what lies behind them is rounding
UNIT = "mean optical flow (DIS FAST), px at 256 px frame height per 0.25 s"

_BLUR = 2.0  # px; averages grain away before frames are compared
_CHANGE = 3.0  # grey levels: the least change that counts, above quantisation and coding flicker
_NOISE_FACTOR = 5.0  # standard deviations of the noise: about one false pixel in a million
_CHANGE_LIMIT = 8.0  # grey levels: where the whole frame moves, "noise" is motion; real motion exceeds this
_CELL = 8  # px: the map of changed places is this much coarser
_LEAST = 8  # changed px of a cell's 64; single ones are coding noise
_REACH = 12  # cells (3/8 of the height): how far flow is believed around a change; covers flat insides of objects


_THROW = 48.0  # px: shifts of the whole frame from here on are looked for; a thing that fast crosses it in 2.5 s
_THROW_PEAK = 0.3  # least height of the correlation's peak: 0.83 and more for shaking, below 0.1 where it is chance
_THROW_LIMIT = 0.6  # of the frame's sides: less overlap proves nothing
_THROW_GAIN = 0.5  # the shift must halve the difference of the frames


class MotionMeter:
    """Measures pairs of luma frames, uint8 (256, W)."""

    def __init__(self) -> None:
        # Two searches: OpenCV's keeps the start it was once given and would use it for every later pair.
        self._flow, self._flow_from = (cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST) for _ in range(2))
        size = 2 * _REACH + 1
        self._disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))

    def measure(self, earlier: np.ndarray, later: np.ndarray) -> float:
        """Mean flow magnitude in px; 0 where nothing but noise changed."""
        moving = self._moving(earlier, later)
        share = cv2.countNonZero(moving) / moving.size
        if share == 0:
            return 0.0
        start = _throw(earlier, later)
        if start is None:
            flow = self._flow.calc(earlier, later, None)
        else:
            flow = self._flow_from.calc(earlier, later, start)
        right, down = cv2.split(flow)
        return cv2.mean(cv2.magnitude(right, down), moving)[0] * share

    def _moving(self, earlier: np.ndarray, later: np.ndarray) -> np.ndarray:
        """Where flow is believed: uint8 0 or 1, of the frames' size."""
        before, after = (cv2.GaussianBlur(luma, (0, 0), _BLUR) for luma in (earlier, later))
        change = cv2.absdiff(after, before)
        noise = 1.4826 * float(np.median(change[::4, ::4]))  # of normal noise: its standard deviation
        least = min(_CHANGE_LIMIT, max(_CHANGE, _NOISE_FACTOR * noise))
        # Levels are whole numbers: above `least` is above what is left of it without its fraction.
        changed = cv2.threshold(change, int(least), 255, cv2.THRESH_BINARY)[1]
        height, width = changed.shape
        rows, columns = -(-height // _CELL), -(-width // _CELL)
        padded = cv2.copyMakeBorder(
            changed, 0, rows * _CELL - height, 0, columns * _CELL - width, cv2.BORDER_CONSTANT, value=0
        )
        means = cv2.resize(padded, (columns, rows), interpolation=cv2.INTER_AREA)
        found = cv2.threshold(means, round(255 * (_LEAST - 0.5) / _CELL**2), 1, cv2.THRESH_BINARY)[1]
        near = cv2.dilate(found, self._disc)
        return cv2.resize(near, (columns * _CELL, rows * _CELL), interpolation=cv2.INTER_NEAREST)[:height, :width]


def _throw(earlier: np.ndarray, later: np.ndarray) -> np.ndarray | None:
    """A large shift of the whole frame as a start for the flow, float32 (H, W, 2); None where there is none."""
    height, width = earlier.shape[0] // 2, earlier.shape[1] // 2
    before, after = (cv2.resize(f, (width, height), interpolation=cv2.INTER_AREA) for f in (earlier, later))
    before, after = before.astype(np.float32), after.astype(np.float32)
    (right, down), peak = cv2.phaseCorrelate(before, after, cv2.createHanningWindow((width, height), cv2.CV_32F))
    if peak < _THROW_PEAK or 2 * float(np.hypot(right, down)) < _THROW:
        return None
    x, y = round(right), round(down)
    if abs(x) > _THROW_LIMIT * width or abs(y) > _THROW_LIMIT * height:
        return None
    source = np.s_[max(0, -y) : height - max(0, y), max(0, -x) : width - max(0, x)]
    target = np.s_[max(0, y) : height - max(0, -y), max(0, x) : width - max(0, -x)]
    moved = np.abs(before[source] - after[target]).mean()
    if moved > _THROW_GAIN * np.abs(before[source] - after[source]).mean():
        return None
    return np.full((*earlier.shape, 2), (2 * right, 2 * down), np.float32)
