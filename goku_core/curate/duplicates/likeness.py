"""The closer look at two clips whose hashes are near: frame by frame, at the shift in time and the crop at which they fit best.

Colours and coarse tiles of luma first, of which it needs few; `edges` looks at what they find alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from goku_core.curate.duplicates import edges
from goku_core.curate.duplicates.request import Dedup
from goku_core.curate.scores.resemblance import COLOR, LUMA, WINDOWS, unpack
from goku_core.pipeline.errors import GokuError

SHIFTS = (0, -1, 1, -2, 2)  # samples, that is 0.5 s: what a cut found a little earlier or later makes
LEAST_OVERLAP = 0.5  # of the longer clip: else one is a part of the other and no copy
CONTRAST = 8.0  # levels: least standard deviation; below it, noise would be compared
MOVEMENT = 1.5  # levels: least root mean square of what moves; below it, both stand still
COARSE = 8  # tiles per side, means of those that are stored
AT_ONCE = 512  # pairs: bounds memory to about 100 MB
GREY = 128  # level of Cr and Cb without colour
LEAST_CROP = 0.025  # of the sides: what lacks less is as it was
MOST_GAIN = 1.4  # between the contrasts of two copies
DIGITS = 6  # of what is measured: sums in another order agree to these


@dataclass(frozen=True)
class Measured:
    """Of n pairs, float64 (n,); infinite where the overlap is too small. See `Dedup` for units."""

    difference: np.ndarray
    peak: np.ndarray
    movement: np.ndarray
    color: np.ndarray

    def within(self, bounds: Dedup) -> np.ndarray:
        good = (self.difference <= bounds.max_difference) & (self.peak <= bounds.max_peak)
        return good & (self.movement <= bounds.max_movement) & (self.color <= bounds.max_color)


@dataclass(frozen=True)
class _Moments:
    """place, here: int and bool (n, T), where a frame lies and whether there is one; count: int (n,), of the whole clip"""

    place: np.ndarray
    here: np.ndarray
    count: np.ndarray


class Looks:
    """Hashes and frames of many clips, side by side."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """rows: with clip_id, phash and signature. Raises `GokuError` where these were made by an older version."""
        looks = []
        for row in rows:
            try:
                looks.append(unpack(row["phash"], row["signature"]))
            except (KeyError, TypeError, ValueError) as error:
                raise GokuError(
                    f"{row['clip_id']} has no signature that near-duplicates could be told by: its table was made by an "
                    "older version. Run `goku run curate`."
                ) from error
        self.hashes = np.stack([look.hashes for look in looks]) if looks else np.empty((0, len(WINDOWS)), np.uint64)
        self._counts = np.array([len(look.luma) for look in looks], np.int64)
        self._starts = np.cumsum(self._counts) - self._counts
        self._strides = np.array([look.stride for look in looks], np.int64)
        luma = [look.luma.reshape(-1, LUMA * LUMA) for look in looks]
        color = [look.color.reshape(-1, COLOR * COLOR, 2) for look in looks]
        self._luma = np.concatenate(luma) if looks else np.empty((0, LUMA * LUMA), np.uint8)
        self._color = np.concatenate(color) if looks else np.empty((0, COLOR * COLOR, 2), np.uint8)

    def alike(self, whole: np.ndarray, part: np.ndarray, window: np.ndarray, bounds: Dedup) -> np.ndarray:
        """bool (n,): whether clip ``whole[i]`` is what ``window[i]`` shows of clip ``part[i]``, at some shift."""
        found = np.zeros(len(whole), bool)
        for number in np.unique(window):
            of_window = np.flatnonzero(window == number)
            for low in range(0, len(of_window), AT_ONCE):
                open_still = of_window[low : low + AT_ONCE]
                for shift in SHIFTS:
                    a, b = whole[open_still], part[open_still]
                    good = self.measure(a, b, int(number), shift).within(bounds)
                    good[good] = self._agree(a[good], b[good], int(number), shift, bounds)
                    found[open_still[good]] = True
                    open_still = open_still[~good]
        return found

    def measure(self, whole: np.ndarray, part: np.ndarray, window: int, shift: int) -> Measured:
        """All pairs at one window, with ``part`` beginning ``shift`` samples later than ``whole``."""
        a, b = self._moments(whole, part, shift)
        both = a.here & b.here
        luma_a, luma_b = (self._luma[x.place] @ _coarse(w).T for x, w in ((a, 0), (b, window)))
        color_a, color_b = (
            np.einsum("ij,ntjc->ntic", _zoom(COLOR, w), self._color[x.place].astype(np.float64), optimize=True)
            for x, w in ((a, 0), (b, window))
        )
        values = _compare(luma_a, luma_b, color_a, color_b, both)
        enough = both.sum(1) >= np.maximum(1, np.ceil(LEAST_OVERLAP * np.maximum(a.count, b.count)))
        return Measured(*(np.where(enough, np.round(value, DIGITS), np.inf) for value in values))

    def _agree(self, whole: np.ndarray, part: np.ndarray, window: int, shift: int, bounds: Dedup) -> np.ndarray:
        """Whether the edges agree, see `edges`. Less is demanded of what is cropped: it is laid over the whole less exactly."""
        a, b = self._moments(whole, part, shift)
        frames = (self._luma[x.place].reshape(*x.place.shape, LUMA, LUMA).astype(np.float64) for x in (a, b))
        cosine, side = edges.compared(*frames, a.here & b.here, WINDOWS[window])
        bound = np.where(side < 1 - LEAST_CROP, bounds.max_edges_cropped, bounds.max_edges)
        return np.round(1 - cosine, DIGITS) <= bound

    def _moments(self, whole: np.ndarray, part: np.ndarray, shift: int) -> tuple[_Moments, _Moments]:
        """Frames of both that stand beside each other, every so many that both have them at the same distance."""
        stride = np.maximum(self._strides[whole], self._strides[part])
        steps = [stride // self._strides[clips] for clips in (whole, part)]
        counts = [-(-self._counts[clips] // step) for clips, step in zip((whole, part), steps, strict=True)]
        length = int(max(one.max(initial=0) for one in counts))
        slices = slice(max(0, shift), length + min(0, shift)), slice(max(0, -shift), length - max(0, shift))
        found = []
        for clips, step, count, times in zip((whole, part), steps, counts, slices, strict=True):
            number = np.arange(length)[None, times]
            here = number < count[:, None]
            place = self._starts[clips][:, None] + np.where(here, number * step[:, None], 0)
            found.append(_Moments(place, here, count))
        return found[0], found[1]


def _compare(
    a: np.ndarray, b: np.ndarray, color_a: np.ndarray, color_b: np.ndarray, both: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """difference, peak, movement and color of n pairs, over the frames ``both`` (n, T) have."""
    weight = both[..., None].astype(np.float64)
    frames = np.maximum(both.sum(1), 1)[:, None, None]
    values = frames[:, 0, 0] * a.shape[2]
    (a, contrast_a), (b, contrast_b) = (_centred(x, weight, values) for x in (a, b))
    still_a, still_b = ((x * weight).sum(1, keepdims=True) / frames for x in (a, b))
    moving_a, moving_b = (a - still_a) * weight, (b - still_b) * weight
    energy = (moving_a**2).sum((1, 2)) + (moving_b**2).sum((1, 2))
    apart = ((moving_a - moving_b) ** 2).sum((1, 2))
    moves = energy > 2 * values * MOVEMENT**2
    movement = np.where(moves, np.sqrt(apart / np.maximum(energy, 1e-9)), 0.0)
    unlike = (a / contrast_a - b / contrast_b) * weight
    difference = np.abs(unlike).sum((1, 2)) / values
    peak = np.abs(unlike.sum(1) / frames[:, 0]).max(1)
    mean_a, mean_b = (((x - GREY) * weight[..., None]).sum(1) / frames for x in (color_a, color_b))
    # Whoever makes a clip brighter by a factor makes its colours as much stronger.
    gain = np.clip(contrast_a / contrast_b, 1 / MOST_GAIN, MOST_GAIN)
    color = np.minimum(*(np.abs(mean_a - mean_b * factor).mean((1, 2)) for factor in (1.0, gain)))
    return difference, peak, movement, color


def _centred(x: np.ndarray, weight: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Luma less its mean over the clip, and its deviation, both per pair: a brighter copy is the same."""
    centred = x - ((x * weight).sum((1, 2)) / values)[:, None, None]
    deviation = np.sqrt((centred**2 * weight).sum((1, 2)) / values)
    return centred, np.maximum(deviation, CONTRAST)[:, None, None]


@cache
def _coarse(window: int) -> np.ndarray:
    """(COARSE^2, LUMA^2): coarse tiles of a window from stored tiles of the whole."""
    pooled = np.kron(np.eye(COARSE), np.full(LUMA // COARSE, COARSE / LUMA))
    return _zoom(COARSE, window) @ np.kron(pooled, pooled)


@cache
def _zoom(tiles: int, window: int) -> np.ndarray:
    """(tiles^2, tiles^2): tile means of a window from those of the whole frame, taken as a surface through their centres.

    The whole frame passes through the same surface, so that both sides are equally smooth.
    """
    one = WINDOWS[window]
    rows, columns = _axis(tiles, one.share, one.y), _axis(tiles, one.share, one.x)
    return np.kron(rows, columns)


def _axis(tiles: int, share: float, place: float) -> np.ndarray:
    points = 16  # per tile
    moments = share * place + (1 - share) * (np.arange(tiles * points) + 0.5) / (tiles * points)
    x = np.clip(moments * tiles - 0.5, 0, tiles - 1)
    low = np.minimum(x.astype(int), tiles - 2)
    weights = np.zeros((tiles * points, tiles))
    weights[np.arange(len(x)), low] = 1 - (x - low)
    weights[np.arange(len(x)), low + 1] = x - low
    return weights.reshape(tiles, points, tiles).mean(axis=1)
