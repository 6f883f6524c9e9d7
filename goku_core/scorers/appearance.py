"""What pictures look like, without weights: colours and edge directions. It knows nothing of things.

Curation looks for missed cuts with it, evaluation for how much a clip stays like itself: where the weights of a network that
knows things (DINO, DINOv2) are not there, under a name of its own, never in the network's.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from goku_core.media.planes import resize


class Appearance:
    """Colours of the whole and of its quarters, and edge directions of the quarters: 2,688 numbers.

    Cosines of such parts compare histograms (of roots: the Bhattacharyya coefficient), so a thing that moves within
    its quarter changes nothing, a camera that pans changes them gradually.
    """

    SIDE = 96  # px, the longer side of what is looked at
    BINS = 8  # of each colour channel
    DIRECTIONS = 32
    WEIGHTS = (0.5, 0.25, 0.25)  # colours, colours of quarters, edges of quarters

    def embed(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack([self._one(frame) for frame in frames])

    def _one(self, rgb: np.ndarray) -> np.ndarray:
        scale = self.SIDE / max(rgb.shape[:2])
        image = resize(rgb, *(max(8, round(side * scale)) for side in rgb.shape[:2])) if scale < 1 else rgb
        lab = cv2.cvtColor(cv2.GaussianBlur(image, (0, 0), 1.0), cv2.COLOR_RGB2LAB)
        height, width = lab.shape[0] // 2, lab.shape[1] // 2
        quarters = [np.s_[y : y + height, x : x + width] for y in (0, height) for x in (0, width)]
        luma = lab[..., 0].astype(np.float32)
        strength, angle = cv2.cartToPolar(cv2.Sobel(luma, cv2.CV_32F, 1, 0), cv2.Sobel(luma, cv2.CV_32F, 0, 1))
        parts = (
            self._colours(lab),
            np.concatenate([self._colours(np.ascontiguousarray(lab[quarter])) for quarter in quarters]),
            np.concatenate([self._directions(strength[quarter], angle[quarter]) for quarter in quarters]),
        )
        joined = [np.sqrt(weight) * _unit(np.sqrt(part)) for weight, part in zip(self.WEIGHTS, parts, strict=True)]
        return _unit(np.concatenate(joined)).astype(np.float32)

    def _colours(self, lab: np.ndarray) -> np.ndarray:
        """Soft histogram: neighbouring bins share, or a slow change of light would jump."""
        found = cv2.calcHist([lab], [0, 1, 2], None, [self.BINS] * 3, [0, 256, 64, 192, 64, 192])
        for axis in range(3):
            padded = np.pad(found, [(1, 1) if own == axis else (0, 0) for own in range(3)])
            inner = [np.roll(padded, shift, axis) for shift in (-1, 0, 1)]
            found = (0.25 * inner[0] + 0.5 * inner[1] + 0.25 * inner[2]).take(range(1, self.BINS + 1), axis)
        return found.ravel()

    def _directions(self, strength: np.ndarray, angle: np.ndarray) -> np.ndarray:
        """Edge strength by direction; a constant keeps flat pictures alike, whose few edges are grain."""
        places = (angle.ravel() * (self.DIRECTIONS / (2 * np.pi))).astype(np.int64) % self.DIRECTIONS
        sums = np.bincount(places, strength.ravel(), self.DIRECTIONS)
        return (sums + np.roll(sums, 1) + np.roll(sums, -1)) / 3 + 4.0 * strength.size / self.DIRECTIONS


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(1e-12, float(np.linalg.norm(vector)))
