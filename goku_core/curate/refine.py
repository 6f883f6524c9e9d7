"""A second look at shots: neighbouring frames, one per second, that do not resemble each other mean a missed cut.

The paper embeds frames with DINOv2 and cuts where their cosine falls below 0.85, or 0.90 for 720p and more (section
4.4, Table 4). Its weights are not here. `Appearance` is embedded: colours and edge directions, which know nothing of
things, so its bound is its own and lies far lower: what a camera and moving objects do within a second must not fall
below it. It finds what the detectors of shots overlook because it creeps in, never what only changes its meaning.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np

from goku_core.curate.request import Refine
from goku_core.media.decode import Frame
from goku_core.pipeline.errors import GokuError
from goku_core.scorers.appearance import Appearance

SPACING = 1.0  # s between the compared frames (paper section 4.4)
LONG_SIDE = 448  # px at most: twice what DINOv2 looks at


class Features(Protocol):
    """What tells pictures apart."""

    def embed(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """n frames, uint8 (H, W, 3) RGB, to float32 (n, d) rows of unit length."""


def features_of(refine: Refine) -> Features | None:
    """The features that a request names. Raises `GokuError` where their weights are missing."""
    if refine.kind == "none":
        return None
    if refine.kind == "embedded":
        return Appearance()
    if not Path(refine.weights).is_dir():
        raise GokuError(
            f"curate.refine.weights: there is no folder {refine.weights}. Put a DINOv2 checkpoint there (docs/weights.md"
            ") or set curate.refine.kind: embedded"
        )
    from goku_core.scorers.dinov2 import Dinov2Features

    return Dinov2Features(Path(refine.weights), refine.device)


class Refiner:
    """Finds further cuts within a shot. Features of a frame are computed once, however often it is asked.

    least   cosine below which two neighbouring seconds belong to two shots
    """

    def __init__(self, features: Features, least: float) -> None:
        self._features, self._least = features, least
        self._known: dict[int, np.ndarray] = {}

    def cuts(self, samples: Sequence[Frame], seconds: set[int], changes: Sequence[tuple[int, float]]) -> list[int]:
        """Timestamps with which another shot begins, rising.

        samples   frames of one shot, closer together than `SPACING`
        seconds   timestamps of those that are `SPACING` apart: they are compared
        changes   (timestamp, change against the frame before) of every frame of it
        """
        places = [place for place, frame in enumerate(samples) if frame.pts in seconds]
        self._embed([samples[place] for place in places])
        times = [pts for pts, _ in changes]
        found = []
        for first, second in pairwise(places):
            if self._alike(samples[first], samples[second]) or not (
                self._lasts(samples, first) and self._lasts(samples, second)
            ):
                continue
            between = changes[bisect_right(times, samples[first].pts) : bisect_right(times, samples[second].pts)]
            found.append(max(between, key=lambda change: change[1])[0])
        return found

    def _lasts(self, samples: Sequence[Frame], place: int) -> bool:
        """Whether a neighbouring sample shows the same: a flash, or a thing that flies by the lens, is no other shot."""
        beside = [samples[other] for other in (place - 1, place + 1) if 0 <= other < len(samples)]
        self._embed(beside)
        return any(self._alike(samples[place], frame) for frame in beside)

    def _alike(self, one: Frame, two: Frame) -> bool:
        return float(self._known[one.pts] @ self._known[two.pts]) >= self._least

    def _embed(self, frames: Sequence[Frame]) -> None:
        new = [frame for frame in frames if frame.pts not in self._known]
        if new:
            embedded = self._features.embed([frame.small(LONG_SIDE).rgb() for frame in new])
            self._known |= {frame.pts: row for frame, row in zip(new, embedded, strict=True)}

    def forget(self, before: int) -> None:
        """Drops what was kept of frames before a timestamp."""
        times = sorted(self._known)
        for pts in times[: bisect_left(times, before)]:
            del self._known[pts]
