"""Sharpness, exposure, and the heuristic that stands in place of an aesthetic score. All on luma at 256 px height.

The paper scores clips with the LAION aesthetic model (Table 4), whose weights are not here. `heuristic` is a
different quantity on its own scale and is never compared with a LAION threshold.
"""

from __future__ import annotations

import cv2
import numpy as np

HEIGHT = 256  # px: luma is scaled to this height first, so that scores of different resolutions compare
DARK, BRIGHT = 20, 235  # luma levels; outside of them detail is crushed or blown out
SHARP_WEIGHT = 0.6  # our choice: blur spoils a picture more surely than a dark corner


def sharpness(luma: np.ndarray) -> float:
    """Variance of the Laplacian; 0 for a flat picture, about 10 for soft, above 100 for crisp ones."""
    return float(cv2.Laplacian(luma, cv2.CV_32F).var())


def exposure(luma: np.ndarray) -> float:
    """Share of pixels whose luma is neither crushed nor blown out, 0 to 1."""
    return float(((luma >= DARK) & (luma <= BRIGHT)).mean())


def heuristic(sharp: float, exposed: float) -> float:
    """0 to 10, own scale: 0.6 of it from sharpness (10 at variance 10^4, logarithmic), 0.4 from exposure."""
    sharp_part = min(1.0, float(np.log10(1.0 + sharp)) / 4.0)
    return 10.0 * (SHARP_WEIGHT * sharp_part + (1.0 - SHARP_WEIGHT) * exposed)
