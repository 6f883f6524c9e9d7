"""Which frames of a clip a network is shown: VBench's "middle of n equal intervals" (vbench/utils.py, get_frame_indices)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from goku_core.pipeline.errors import GokuError


def middle_frames(count: int, wanted: int) -> list[int]:
    """Numbers of ``wanted`` frames of a clip of ``count``: the middles of as many equal intervals, in order.

    The borders of the intervals are cut to whole frames; the middle is (first + last) // 2. A clip with fewer frames than
    wanted gives each of them once, then the last again and again.
    Raises GokuError for a clip without frames.
    """
    if count < 1 or wanted < 1:
        raise GokuError(f"{wanted} frames are wanted of a clip of {count}: both must be at least 1")
    intervals = min(count, wanted)
    borders = [k * count // intervals for k in range(intervals + 1)]
    middles = [(first + after - 1) // 2 for first, after in pairwise(borders)]
    return middles + [middles[-1]] * (wanted - intervals)


def middle_of(frames: np.ndarray, wanted: int) -> np.ndarray:
    """Frames (T, ...) to (wanted, ...)."""
    return frames[middle_frames(len(frames), wanted)]
