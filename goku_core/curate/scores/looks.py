"""What the shot finder keeps of a frame, and what it says about a film."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import cv2
import numpy as np

from goku_core.media.planes import resize

GRID = (9, 16)  # rows, columns of the coarse picture: things that move a little stay in their cell

Kind = Literal["cut", "fade", "dissolve"]


@dataclass
class Look:
    """One frame, some kilobytes of it.

    pts        timestamp, ticks
    thumbnail  uint8 (h, w, 3) RGB
    change     mean difference of the thumbnail to that of the frame before, levels of 255; 0 for the first
    """

    pts: int
    thumbnail: np.ndarray
    change: float

    @classmethod
    def after(cls, before: Look | None, pts: int, thumbnail: np.ndarray) -> Look:
        if before is None:
            return cls(pts, thumbnail, 0.0)
        return cls(pts, thumbnail, sum(cv2.mean(cv2.absdiff(thumbnail, before.thumbnail))[:3]) / 3)

    @cached_property
    def grid(self) -> np.ndarray:
        """float32 (432,): means of 9x16 tiles, three colours."""
        return resize(self.thumbnail, *GRID).astype(np.float32).ravel()

    @cached_property
    def pattern(self) -> np.ndarray:
        """The grid less its mean colour, of unit length: a change of light leaves it as it is."""
        tiles = self.grid.reshape(-1, 3) - self.grid.reshape(-1, 3).mean(0)
        return tiles.ravel() / max(1e-6, float(np.linalg.norm(tiles)))

    @cached_property
    def light(self) -> tuple[float, float]:
        """Mean and standard deviation of luma: brightness and contrast."""
        mean, spread = cv2.meanStdDev(cv2.cvtColor(self.thumbnail, cv2.COLOR_RGB2GRAY))
        return float(mean[0, 0]), float(spread[0, 0])


@dataclass(frozen=True)
class Boundary:
    """Where one shot ends and the next begins, in ticks.

    start   the earlier shot's frames lie before it
    end     the later shot begins with it; the same as start for a cut. Frames between the two belong to no shot
    centre  the frame by which it is known: the later shot's first, the darkest, or the half of a dissolve
    """

    kind: Kind
    start: int
    end: int
    centre: int

    def joined(self, later: Boundary) -> Boundary:
        """Both and what lies between as one; of two kinds the gradual one gives the name."""
        chief = later if self.kind == "cut" else self
        return replace(chief, start=min(self.start, later.start), end=max(self.end, later.end))


def since(looks: Iterable[Look], pts: int) -> list[Look]:
    """Those from a timestamp on, in order."""
    return [look for look in looks if look.pts >= pts]
