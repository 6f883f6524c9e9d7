"""Mean and covariance of features, and the Frechet distance between two of them. float64 throughout.

The distance (Heusel et al., arXiv 1706.08500, equation 6) is |m1 - m2|^2 + tr C1 + tr C2 - 2 tr (C1 C2)^(1/2). The usual code
takes the square root of the matrix C1 C2 (scipy.linalg.sqrtm), which is not symmetric and, with fewer samples than
features, singular: the root then carries noise of the square root of the rounding error, or an imaginary part, or, with
scipy 1.12, -1.9e28 for two equal sets. Here C = F F^T, and tr (C1 C2)^(1/2) is the sum of the singular values of
F1^T F2: no root of a rounding error is ever taken, and no rank is asked for.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from goku_core.pipeline.errors import GokuError

ROWS = 4096
"""Rows added up at a time: a fixed cut, so that the sums round alike whoever extracted the features."""


@dataclass(frozen=True)
class Moments:
    """mean (d,), covariance (d, d) with divisor n - 1, float64. count: samples behind them, 0 where a file does not say."""

    mean: np.ndarray
    covariance: np.ndarray
    count: int = 0

    def __post_init__(self) -> None:
        mean = np.ascontiguousarray(self.mean, dtype=np.float64)
        covariance = np.ascontiguousarray(self.covariance, dtype=np.float64)
        if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
            raise GokuError(
                f"statistics: a mean {mean.shape} and a covariance {covariance.shape} do not belong together"
            )
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            raise GokuError("statistics: mean or covariance hold NaN or infinity")
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "covariance", (covariance + covariance.T) / 2)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the numbers: what a distance says it was measured against."""
        return hashlib.sha256(self.mean.tobytes() + self.covariance.tobytes()).hexdigest()

    @cached_property
    def factor(self) -> np.ndarray:
        """F (d, r) with F F^T = covariance; directions without variance (within rounding) are left out."""
        values, vectors = np.linalg.eigh(self.covariance)
        keep = values > max(values[-1], 0.0) * len(values) * np.finfo(np.float64).eps
        return vectors[:, keep] * np.sqrt(values[keep])


def moments(rows: np.ndarray) -> Moments:
    """Mean and covariance of features (n, d), n at least 2. The bits depend on the order of the rows: sort them by sample id.

    ADM's code averages float32 features in float32; we do not, which moves its FID by less than its printed digits.
    """
    if rows.ndim != 2 or len(rows) < 2:
        raise GokuError(f"statistics: features of shape {rows.shape}; two samples at least are needed")
    count, width = rows.shape
    total = np.zeros(width)
    for start in range(0, count, ROWS):
        total += rows[start : start + ROWS].sum(axis=0, dtype=np.float64)
    mean = total / count
    scatter = np.zeros((width, width))
    for start in range(0, count, ROWS):
        part = rows[start : start + ROWS].astype(np.float64) - mean
        scatter += part.T @ part
    return Moments(mean, scatter / (count - 1), count)


def frechet_distance(first: Moments, second: Moments) -> float:
    """Squared Frechet (2-Wasserstein) distance of two Gaussians; 0 for equal ones, never below 0.

    Raises GokuError for features of different widths, and for a covariance that is none (no distance is invented).
    """
    if len(first.mean) != len(second.mean):
        raise GokuError(
            f"Frechet distance: features of {len(first.mean)} and of {len(second.mean)} numbers come from different networks"
        )
    traces = float(np.trace(first.covariance) + np.trace(second.covariance))
    shared = first.factor.T @ second.factor
    fidelity = float(np.linalg.svd(shared, compute_uv=False).sum()) if shared.size else 0.0
    apart = first.mean - second.mean
    value = float(apart @ apart) + traces - 2 * fidelity
    if value < -1e-6 * max(traces, 1.0):
        raise GokuError(
            f"Frechet distance: {value:g} is negative beyond rounding. One of the covariances is none (it has clearly "
            "negative eigenvalues): compute the reference statistics again."
        )
    return max(value, 0.0)
