"""Motion score: mean optical flow, by OpenCV's DIS ("dense inverse search").

The paper names RAFT but neither unit, resolution nor frame spacing (section 4.5). Our choice, written into the column's
metadata: pixels at 256 px frame height, between frames 0.25 s apart, averaged over the frame and the clip. The bounds
of paper Table 4 are applied to this number as they stand; a RAFT score would need its own calibration.

Flow is only defined where something can be followed. On a flat ground the search follows grain and reports several
pixels for a picture that stands still (measured: 1.2 to 3.7, as much as a large moving object). Hence flow counts only
near places that changed by more than the noise; elsewhere it is zero. Grainy stills then score 0 to 0.16, large moving
things 1.4 to 3.5, shaking by up to 80 px at 480p 24 to 46; slow motion of a real film loses a tenth (0.33 for 0.37).
"""

from __future__ import annotations

import cv2
import numpy as np

HEIGHT = 256  # px: flow is measured on frames scaled to this height
SPACING = 0.25  # s between the two frames of a pair
UNIT = "mean optical flow (DIS FAST), px at 256 px frame height per 0.25 s"

_BLUR = 2.0  # px; averages grain away before frames are compared
_CHANGE = 3.0  # grey levels: the least change that counts, above quantisation and coding flicker
_NOISE_FACTOR = 5.0  # standard deviations of the noise: about one false pixel in a million
_CHANGE_LIMIT = 8.0  # grey levels: where the whole frame moves, "noise" is motion; real motion exceeds this
_CELL = 8  # px: the map of changed places is this much coarser
_LEAST = 8  # changed px of a cell's 64; single ones are coding noise
_REACH = 12  # cells (3/8 of the height): how far flow is believed around a change; covers flat insides of objects


class MotionMeter:
    """Measures pairs of luma frames, uint8 (256, W)."""

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        size = 2 * _REACH + 1
        self._disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))

    def measure(self, earlier: np.ndarray, later: np.ndarray) -> float:
        """Mean flow magnitude in px; 0 where nothing but noise changed."""
        moving = self._moving(earlier, later)
        if not moving.any():
            return 0.0
        flow = self._flow.calc(earlier, later, None)
        return float((cv2.magnitude(flow[..., 0], flow[..., 1]) * moving).mean())

    def _moving(self, earlier: np.ndarray, later: np.ndarray) -> np.ndarray:
        """Where flow is believed: uint8 0 or 1, of the frames' size."""
        before, after = (cv2.GaussianBlur(f, (0, 0), _BLUR).astype(np.int16) for f in (earlier, later))
        change = np.abs(after - before).astype(np.float32)
        noise = 1.4826 * float(np.median(change[::4, ::4]))  # of normal noise: its standard deviation
        changed = (change > min(_CHANGE_LIMIT, max(_CHANGE, _NOISE_FACTOR * noise))).astype(np.uint8)
        height, width = changed.shape
        rows, columns = -(-height // _CELL), -(-width // _CELL)
        padded = np.zeros((rows * _CELL, columns * _CELL), np.uint8)
        padded[:height, :width] = changed
        counts = padded.reshape(rows, _CELL, columns, _CELL).sum(axis=(1, 3))
        near = cv2.dilate((counts >= _LEAST).astype(np.uint8), self._disc)
        return near.repeat(_CELL, axis=0).repeat(_CELL, axis=1)[:height, :width]
