"""The colour-and-contour judge: finds saturated, simply shaped things on greyish ground. No weights, no download.

It knows four outlines (circle, square, triangle, star) and six hues, nothing about how the sample corpus draws them,
and it looks at pixels only. How it sees:

1. The picture is scaled to a height of 224 pixels (cubic), so that 64-pixel and 160-pixel pictures are judged alike.
2. A pixel belongs to a thing when its chroma (distance from grey in CIELAB) stands out; each thing is then cut again at
   half of its own chroma, which is where its true edge lies however blurred the picture is.
3. A region holding two hues is cut by hue: two things that touch are two things.
4. Outline: the distance from the centroid to the edge, all around, laid over that of the four ideal figures of the same
   area, each turned to fit best. The largest overlap (intersection over union) names the figure; a region that overlaps
   none of them well is no detection at all.
5. Colour: nearest hue angle of the region's inner pixels.

The score is the overlap, lowered where two figures overlap about equally well. Everything is plain arithmetic on the
contour: OpenCV's smallest enclosing triangle, the obvious tool, gave different answers on the same pixels between runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from types import MappingProxyType

import cv2
import numpy as np

from goku_core.evaluate.judges.detector import Detection
from goku_core.evaluate.judges.judge import Answer, Bench, Seen, asked_of
from goku_core.evaluate.manifest import Sample
from goku_core.evaluate.verdict import answered
from goku_core.pipeline.errors import GokuError
from goku_core.scenes.vocabulary import COLORS

REVISION = 3
"""Raise when answers change: it is part of the fingerprint in every record."""

AIR = 9
"""Pixels of the enlarged picture around a region in which its true edge is looked for."""
ANGLES = 120
"""Directions in which an outline is measured: 3 degrees, a pixel of the edge of the largest thing."""
CHECK_SIZE = (96, 176)
CHECK_SHARE = 0.9
"""Of twelve renders with known things that must be judged rightly; at the line's sizes all of them are."""


@dataclass(frozen=True)
class ContourSettings:
    """Our choices, set on rendered scenes with blur and noise added; lengths in shares of the picture's height."""

    working_height: int = 224
    seed_chroma: float = 22.0
    """CIELAB chroma from which a pixel is certainly coloured (greyish grounds stay below 12)."""
    least_peak_chroma: float = 36.0
    """A thing whose own chroma is lower is a tint of the ground, not a thing."""
    least_area: float = 0.018
    """Of the squared height: a circle of 15 % of the height across. Less than the smallest star anybody asks for; smaller
    specks are the colour noise of an untrained model, which holds squares and triangles enough to score by chance."""
    most_ground_chroma: float = 0.45
    """Of the thing's own chroma: a thing stands on ground that is clearly greyer (median of a ring around it)."""
    second_hue_share: float = 0.2
    """A region with this share of a second hue is two things."""
    most_clutter: float = 0.15
    """Share of the picture that may be coloured without belonging to a thing. Above it there is no ground for things to
    stand on, and what looks like one is chance."""
    least_overlap: float = 0.86
    """Intersection over union with the ideal figure. An ellipse of 4:3 has 0.85 with the circle, a half moon 0.6."""
    roundness: float = 0.10
    """The ideal figures are blurred by this share of their enclosing radius: what the edge of a small picture does."""


def make(bench: Bench) -> ContourJudge:
    return ContourJudge()


class ContourJudge:
    """A `Judge` of samples by GenEval's rule, and the `Detector` behind it. Of a clip it looks at the middle frame."""

    name = "contour"
    dimensions = frozenset({"geneval/geneval", "motion/subject", "i2v/subject"})
    labels = ("circle", "square", "triangle", "star")
    minimum_score: Mapping[str, float] = MappingProxyType({"*": 0.3})
    """One threshold for all tasks: the 0.9 for counting in GenEval mends duplicate boxes of its detector, and connected
    regions have no duplicates."""

    def __init__(self, settings: ContourSettings | None = None) -> None:
        self.settings = settings or ContourSettings()
        self._hues = _hue_angles(COLORS)
        self._ideals = {label: ideal_profile(label, self.settings.roundness) for label in self.labels}

    @property
    def fingerprint(self) -> str:
        said = f"contour/{REVISION}/{sorted(asdict(self.settings).items())}/{sorted(COLORS.items())}"
        return f"contour-{hashlib.sha256(said.encode()).hexdigest()[:12]}"

    def missing(self) -> str:
        return ""

    def suits(self, sample: Sample) -> bool:
        """Whether the sample is asked for things of its four shapes and six colours only."""
        asked = sample.prompt.metadata
        clauses = [*asked.get("include", ()), *asked.get("exclude", ())]
        return bool(clauses) and all(
            clause["class"] in self.labels and clause.get("color", "red") in COLORS for clause in clauses
        )

    def check(self) -> None:
        from goku_core.evaluate.ground_truth import known_share

        if (share := known_share(self, CHECK_SIZE)) < CHECK_SHARE:
            raise GokuError(
                f"the judge contour gets {share:.2f} of renders with known things right, needs {CHECK_SHARE}"
            )

    def sees(self, height: int, width: int) -> bool:
        from goku_core.evaluate.ground_truth import known_share

        return known_share(self, (height, width)) >= CHECK_SHARE

    def judge(self, seen: Sequence[Seen]) -> list[Answer]:
        answers = []
        for one in seen:
            found = self._look(one.frames[len(one.frames) // 2])
            answers += [answered(one.sample, found, self, name) for name in sorted(asked_of(self, one.sample))]
        return answers

    def detect(self, images: np.ndarray) -> list[list[Detection]]:
        """images (n, H, W, 3) uint8 RGB -> detections, best first."""
        return [self._look(image) for image in images]

    def locate(self, images: np.ndarray, color: str) -> list[tuple[float, float] | None]:
        """Centre (x, y) in pixels of what has that colour, whatever its shape; None where there is too little of it."""
        wanted = list(COLORS).index(color)
        return [self._center(image, wanted) for image in images]

    def _center(self, image: np.ndarray, wanted: int) -> tuple[float, float] | None:
        lab, chroma, scale = self._enlarged(image)
        colored = np.argwhere(chroma > self.settings.least_peak_chroma)
        if len(colored):
            colored = colored[self._nearest_hue(lab[tuple(colored.T)]) == wanted]
        if len(colored) < self.settings.least_area * self.settings.working_height**2:
            return None
        y, x = np.median(colored, axis=0)
        return float(x / scale), float(y / scale)

    def _enlarged(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """CIELAB and chroma of the picture at working height, and the scale."""
        scale = self.settings.working_height / image.shape[0]
        large = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        lab = cv2.cvtColor(large.astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB)
        lab = cv2.GaussianBlur(lab, (0, 0), 1.5)
        return lab, np.hypot(lab[..., 1], lab[..., 2]), scale

    def _look(self, image: np.ndarray) -> list[Detection]:
        s = self.settings
        lab, chroma, scale = self._enlarged(image)
        least = s.least_area * s.working_height**2
        seen, named = [], 0.0
        for rough, corner in _components(chroma > s.seed_chroma, least * 0.5, air=AIR):
            window = tuple(slice(at, at + side) for at, side in zip(corner, rough.shape, strict=True))
            for region in self._regions(rough, lab[window], chroma[window], least):
                if (thing := self._name(region, lab[window], corner, least, scale)) is not None:
                    seen.append(thing)
                    named += float(region.sum())
        if np.count_nonzero(chroma > s.seed_chroma) - named > s.most_clutter * chroma.size:
            return []
        return sorted(seen, key=lambda d: (-d.score, d.box))

    def _regions(self, rough: np.ndarray, lab: np.ndarray, chroma: np.ndarray, least: float) -> list[np.ndarray]:
        """Masks of the things within one coloured patch, each of one hue, cut at half of its own chroma."""
        regions = []
        for one in self._split_by_hue(rough, lab, least):
            peak = float(np.percentile(chroma[one], 85))
            if peak < self.settings.least_peak_chroma:
                continue
            near = cv2.dilate(one.astype(np.uint8), np.ones((AIR, AIR), np.uint8)).astype(bool)
            parts = [_placed(*part, rough.shape) for part in _components(near & (chroma > peak / 2), least)]
            regions += [part for part in parts if self._stands_out(part, chroma, peak)]
        return regions

    def _stands_out(self, region: np.ndarray, chroma: np.ndarray, peak: float) -> bool:
        mask = region.astype(np.uint8)
        inner = cv2.dilate(mask, np.ones((AIR, AIR), np.uint8))
        ring = (cv2.dilate(inner, np.ones((AIR, AIR), np.uint8)) - inner).astype(bool)
        return not ring.any() or float(np.median(chroma[ring])) < self.settings.most_ground_chroma * peak

    def _split_by_hue(self, region: np.ndarray, lab: np.ndarray, least: float) -> list[np.ndarray]:
        names = self._nearest_hue(lab[region])
        counts = np.bincount(names, minlength=len(self._hues))
        if np.sort(counts)[-2] < max(self.settings.second_hue_share * len(names), least):
            return [region]
        parts = []
        for hue in np.flatnonzero(counts >= least):
            mask = np.zeros_like(region)
            mask[region] = names == hue
            parts += [_placed(*part, region.shape) for part in _components(mask, least)]
        return parts

    def _name(
        self, region: np.ndarray, lab: np.ndarray, corner: tuple[int, int], least: float, scale: float
    ) -> Detection | None:
        contours, _ = cv2.findContours(region.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        outline = max(contours, key=cv2.contourArea)
        area = float(cv2.contourArea(outline))
        if area < least:
            return None
        label, score = self._shape(outline)
        if label is None:
            return None
        x, y, w, h = cv2.boundingRect(outline)
        inner = cv2.erode(region.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
        body = inner if inner.any() else region
        counts = np.bincount(self._nearest_hue(lab[body]), minlength=len(self._hues))
        color = list(COLORS)[int(np.argmax(counts))]
        x, y = x + corner[1], y + corner[0]
        box = (x / scale, y / scale, (x + w) / scale, (y + h) / scale)
        return Detection(label, score, box, area / scale**2, color)

    def _shape(self, outline: np.ndarray) -> tuple[str | None, float]:
        """Name and score of an outline; (None, 0) when it resembles none of the four."""
        around = profile(outline)
        overlaps = {label: overlap(around, ideal) for label, ideal in self._ideals.items()}
        (label, best), (_, second) = sorted(overlaps.items(), key=lambda item: -item[1])[:2]
        if best < self.settings.least_overlap:
            return None, 0.0
        return label, best * min(1.0, 0.5 + (best - second) / 0.04)

    def _nearest_hue(self, lab: np.ndarray) -> np.ndarray:
        """lab (n, 3) -> index of the colour with the nearest hue angle, (n,)."""
        angles = np.arctan2(lab[:, 2], lab[:, 1])
        gap = np.abs(np.angle(np.exp(1j * (angles[:, None] - self._hues[None, :]))))
        return gap.argmin(axis=1)


def profile(outline: np.ndarray, angles: int = ANGLES) -> np.ndarray:
    """Distance from the centroid to the edge at evenly spaced angles (angles,), scaled to a figure of area pi."""
    moments = cv2.moments(outline)
    centre = np.array([moments["m10"], moments["m01"]]) / max(moments["m00"], 1e-9)
    away = outline.reshape(-1, 2) - centre
    around = np.arctan2(away[:, 1], away[:, 0])
    order = np.argsort(around, kind="stable")
    grid = np.linspace(-np.pi, np.pi, angles, endpoint=False)
    radii = np.interp(grid, around[order], np.hypot(*away[order].T), period=2 * np.pi)
    return radii / np.sqrt(np.mean(radii**2))


def overlap(around: np.ndarray, turned: np.ndarray) -> float:
    """Largest intersection over union of a profile (n,) with an ideal in all its turns (n, n); all have one area."""
    common = (np.minimum(turned, around) ** 2).sum(axis=1)
    return float((common / (2 * np.sum(around**2) - common)).max())


@lru_cache(maxsize=16)
def ideal_profile(label: str, roundness: float) -> np.ndarray:
    """Profile of a regular figure, blurred by `roundness` x its enclosing radius, in all its turns (angles, angles).

    The star has five points and an inner radius of 0.43.
    """
    radius, side = 200, 640
    canvas = np.zeros((side, side), np.float32)
    if label == "circle":
        cv2.circle(canvas, (side // 2, side // 2), radius, 1.0, -1)
    else:
        corners, inner = {"triangle": (3, 1.0), "square": (4, 1.0), "star": (10, 0.43)}[label]
        turn = 2 * np.pi * np.arange(corners) / corners
        reach = radius * np.where(np.arange(corners) % 2 == 0, 1.0, inner)
        points = side // 2 + reach[:, None] * np.stack([np.sin(turn), -np.cos(turn)], axis=1)
        cv2.fillPoly(canvas, [np.round(points).astype(np.int32)], 1.0)
    soft = cv2.GaussianBlur(canvas, (0, 0), roundness * radius)
    # Half of its own strongest tone, as the judge cuts every region.
    contours, _ = cv2.findContours((soft > 0.5 * soft.max()).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    around = profile(contours[0])
    return np.stack([np.roll(around, k) for k in range(len(around))])


def _components(mask: np.ndarray, least: float, air: int = 0) -> list[tuple[np.ndarray, tuple[int, int]]]:
    """Connected regions of at least `least` pixels: the mask of the box (and `air`) around each, and its top left."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    found = []
    for i in range(1, count):
        left, top, width, height, area = stats[i]
        if area >= least:
            y, x = max(0, top - air), max(0, left - air)
            found.append((labels[y : top + height + air, x : left + width + air] == i, (int(y), int(x))))
    return found


def _placed(mask: np.ndarray, corner: tuple[int, int], shape: tuple[int, ...]) -> np.ndarray:
    """The mask of a box set back into a picture of that shape."""
    whole = np.zeros(shape, bool)
    whole[corner[0] : corner[0] + mask.shape[0], corner[1] : corner[1] + mask.shape[1]] = mask
    return whole


def _hue_angles(colors: Mapping[str, tuple[int, int, int]]) -> np.ndarray:
    """Hue angle (radians, CIELAB) of each named colour."""
    rgb = np.array([list(colors.values())], dtype=np.float32) / 255.0
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)[0]
    return np.arctan2(lab[:, 2], lab[:, 1])
