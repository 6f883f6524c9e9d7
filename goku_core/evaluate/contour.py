"""The colour-and-contour judge: finds saturated, simply shaped things on greyish ground. No weights, no download.

It knows four outlines (circle, square, triangle, star) and six hues, nothing about how the sample corpus draws them, and it
looks at pixels only. How it sees:

1. The picture is enlarged to a height of about 288 pixels (cubic), so that 64-pixel and 160-pixel pictures are judged alike.
2. A pixel belongs to a thing when its chroma (distance from grey in CIELAB) stands out; each thing is then cut again at half
   of its own chroma, which is where its true edge lies however blurred the picture is.
3. A region holding two hues is cut by hue: two things that touch are two things.
4. Outline: a star is hollow (area far below its hull's). Of the smallest enclosing circle, rectangle and triangle, the one
   that the region fills best names the others; a region that fills none is no detection at all.
5. Colour: nearest hue angle of the region's inner pixels.

The score is the fill of the enclosing figure, times how clearly it wins over the next one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType

import cv2
import numpy as np

from goku_core.evaluate.judge import Detection
from goku_core.scenes.vocabulary import COLORS

REVISION = 1
"""Raise when answers change: it is part of the fingerprint in every record."""


@dataclass(frozen=True)
class ContourSettings:
    """Our choices, set on rendered scenes with blur and noise added; lengths in shares of the picture's height."""

    working_height: int = 288
    seed_chroma: float = 22.0
    """CIELAB chroma from which a pixel is certainly coloured (greyish grounds stay below 12)."""
    least_peak_chroma: float = 28.0
    """A thing whose own chroma is lower is a tint of the ground, not a thing."""
    least_area: float = 0.006
    """Of the squared height: a circle of 9 % of the height across."""
    second_hue_share: float = 0.2
    """A region with this share of a second hue is two things."""
    star_solidity: float = 0.80
    least_fill: float = 0.80
    """Share of the enclosing figure that must be filled to be called that figure."""


class ContourJudge:
    name = "contour"
    labels = ("circle", "square", "triangle", "star")
    minimum_score: Mapping[str, float] = MappingProxyType({"*": 0.3})
    """One threshold for all tasks: the 0.9 for counting in GenEval mends duplicate boxes of its detector, and connected
    regions have no duplicates."""

    def __init__(self, settings: ContourSettings | None = None) -> None:
        self.settings = settings or ContourSettings()
        self._hues = _hue_angles(COLORS)

    @property
    def fingerprint(self) -> str:
        said = f"contour/{REVISION}/{sorted(asdict(self.settings).items())}/{sorted(COLORS.items())}"
        return f"contour-{hashlib.sha256(said.encode()).hexdigest()[:12]}"

    def detect(self, images: np.ndarray) -> list[list[Detection]]:
        """images (n, H, W, 3) uint8 RGB -> detections, best first."""
        return [self._look(image) for image in images]

    def _look(self, image: np.ndarray) -> list[Detection]:
        s = self.settings
        scale = s.working_height / image.shape[0]
        large = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        lab = cv2.cvtColor(large.astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB)
        lab = cv2.GaussianBlur(lab, (0, 0), 1.5)
        chroma = np.hypot(lab[..., 1], lab[..., 2])
        least = s.least_area * s.working_height**2
        seen = []
        for region in self._regions(lab, chroma, least):
            if (thing := self._name(region, lab, chroma, least, scale)) is not None:
                seen.append(thing)
        return sorted(seen, key=lambda d: (-d.score, d.box))

    def _regions(self, lab: np.ndarray, chroma: np.ndarray, least: float) -> list[np.ndarray]:
        """Boolean masks of coloured regions, each of one hue, cut at half of its own chroma."""
        regions = []
        for rough in _components(chroma > self.settings.seed_chroma, least * 0.5):
            for one in self._split_by_hue(rough, lab, least):
                peak = float(np.percentile(chroma[one], 85))
                if peak < self.settings.least_peak_chroma:
                    continue
                near = cv2.dilate(one.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
                regions += _components(near & (chroma > peak / 2), least)
        return regions

    def _split_by_hue(self, region: np.ndarray, lab: np.ndarray, least: float) -> list[np.ndarray]:
        names = self._nearest_hue(lab[region])
        counts = np.bincount(names, minlength=len(self._hues))
        if np.sort(counts)[-2] < max(self.settings.second_hue_share * len(names), least):
            return [region]
        parts = []
        for hue in np.flatnonzero(counts >= least):
            mask = np.zeros_like(region)
            mask[region] = names == hue
            parts += _components(mask, least)
        return parts

    def _name(
        self, region: np.ndarray, lab: np.ndarray, chroma: np.ndarray, least: float, scale: float
    ) -> Detection | None:
        contours, _ = cv2.findContours(region.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        outline = max(contours, key=cv2.contourArea)
        area = float(cv2.contourArea(outline))
        if area < least:
            return None
        label, score = self._shape(outline, area)
        if label is None:
            return None
        x, y, w, h = cv2.boundingRect(outline)
        inner = cv2.erode(region.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
        body = inner if inner.any() else region
        counts = np.bincount(self._nearest_hue(lab[body]), minlength=len(self._hues))
        color = list(COLORS)[int(np.argmax(counts))]
        box = (x / scale, y / scale, (x + w) / scale, (y + h) / scale)
        return Detection(label, score, box, area / scale**2, color)

    def _shape(self, outline: np.ndarray, area: float) -> tuple[str | None, float]:
        """Name and score of an outline; (None, 0) when it resembles none of the four."""
        s = self.settings
        hull = cv2.convexHull(outline)
        solidity = area / max(float(cv2.contourArea(hull)), 1.0)
        if solidity < s.star_solidity:
            return ("star", 0.9) if _points(outline, hull) == 5 else (None, 0.0)
        fills = enclosing_fills(hull, area)
        best, second = sorted(fills.values(), reverse=True)[:2]
        if best < s.least_fill:
            return None, 0.0
        label = max(fills, key=lambda name: fills[name])
        return label, float(min(1.0, best) * min(1.0, 0.5 + (best - second) / 0.2))

    def _nearest_hue(self, lab: np.ndarray) -> np.ndarray:
        """lab (n, 3) -> index of the colour with the nearest hue angle, (n,)."""
        angles = np.arctan2(lab[:, 2], lab[:, 1])
        gap = np.abs(np.angle(np.exp(1j * (angles[:, None] - self._hues[None, :]))))
        return gap.argmin(axis=1)


def enclosing_fills(hull: np.ndarray, area: float) -> dict[str, float]:
    """Share of the smallest enclosing circle, square and triangle that `area` fills.

    The square has the longer side of the rotated rectangle, so that an oblong is none. Ideal values: circle 1, .785, .605; square .637, 1, .5; equilateral triangle .413, .5, 1.
    """
    (_, radius) = cv2.minEnclosingCircle(hull)
    (_, (width, height), _) = cv2.minAreaRect(hull)
    triangle, _corners = cv2.minEnclosingTriangle(hull.astype(np.float32))
    return {
        "circle": area / max(np.pi * radius**2, 1.0),
        "square": area / max(width, height, 1.0) ** 2,
        "triangle": area / max(float(triangle), 1.0),
    }


def _points(outline: np.ndarray, hull: np.ndarray) -> int:
    """Bays of an outline that are deep enough to lie between the points of a star."""
    corners = cv2.convexHull(outline, returnPoints=False)
    defects = cv2.convexityDefects(outline, np.sort(corners, axis=0)[::-1])
    if defects is None:
        return 0
    (_, radius) = cv2.minEnclosingCircle(hull)
    return int(np.count_nonzero(defects.reshape(-1, 4)[:, 3] / 256.0 > 0.12 * radius))


def _components(mask: np.ndarray, least: float) -> list[np.ndarray]:
    """Connected regions of at least `least` pixels, in scan order."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    return [labels == i for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] >= least]


def _hue_angles(colors: Mapping[str, tuple[int, int, int]]) -> np.ndarray:
    """Hue angle (radians, CIELAB) of each named colour."""
    rgb = np.array([list(colors.values())], dtype=np.float32) / 255.0
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)[0]
    return np.arctan2(lab[:, 2], lab[:, 1])
