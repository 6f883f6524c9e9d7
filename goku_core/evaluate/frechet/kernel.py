"""Kernel Inception Distance (Binkowski et al., arXiv 1801.01401): unbiased, so small sets can be compared at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from goku_core.pipeline.errors import GokuError

SUBSETS, SUBSET_SIZE, SEED = 100, 1000, 2020
"""As torch-fidelity draws them."""


@dataclass(frozen=True)
class KernelDistance:
    """mean and population standard deviation over the subsets. The mean of equal distributions is 0; it may be negative."""

    mean: float
    deviation: float


def kernel_distance(
    reference: np.ndarray, samples: np.ndarray, subsets: int = SUBSETS, size: int = SUBSET_SIZE, seed: int = SEED
) -> KernelDistance:
    """reference (n, d), samples (m, d), each at least `size`; kernel (x.y / d + 1)^3."""
    if min(len(reference), len(samples)) < size:
        raise GokuError(
            f"KID: subsets of {size} cannot be drawn from {len(reference)} reference and {len(samples)} generated samples"
        )
    draw = np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        first = samples[draw.choice(len(samples), size, replace=False)]
        second = reference[draw.choice(len(reference), size, replace=False)]
        values.append(squared_discrepancy(first, second))
    return KernelDistance(float(np.mean(values)), float(np.std(values)))


def squared_discrepancy(first: np.ndarray, second: np.ndarray) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy of two sets of one size."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    size = len(a)
    within = _off_diagonal(_kernel(a, a)) + _off_diagonal(_kernel(b, b))
    return float(within / (size * (size - 1)) - 2 * _kernel(a, b).mean())


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a @ b.T / a.shape[1] + 1.0) ** 3


def _off_diagonal(kernel: np.ndarray) -> float:
    return float(kernel.sum() - np.trace(kernel))
