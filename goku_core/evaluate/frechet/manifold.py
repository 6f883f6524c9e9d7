"""Improved precision and recall (Kynkaanniemi et al., arXiv 1904.06991), as guided-diffusion's evaluator counts them.

Around every sample of a set lies a ball that reaches to its k-th nearest neighbour of the same set; the balls are the set's
manifold. Precision: share of generated samples inside a ball of the reference set. Recall: the other way round.
Distances are squared, the sample itself counts as its neighbour number 0, and the surface belongs to the ball.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from goku_core.evaluate.tables import Mode
from goku_core.pipeline.errors import GokuError

NEIGHBOURS = 3
BLOCK = {"official": 10_000, "corrected": 2_000}
"""Rows and columns of a block of distances. Of the official one the result depends on it: a block in which half precision
overflows is computed in single precision, its neighbours are not."""
SAME = 1e-12
"""A squared distance below this share of the squared lengths is rounding, that is 0: copies lie in each other's balls."""


@dataclass(frozen=True)
class Overlap:
    precision: float
    recall: float


def precision_recall(
    reference: np.ndarray, samples: np.ndarray, mode: Mode = "corrected", neighbours: int = NEIGHBOURS
) -> Overlap:
    """reference (n, d), samples (m, d), both more than `neighbours`. ADM: n = 10,000, m = 50,000, pool_3 features.

    official   squared distances in half precision, a block in single precision where half overflows: as the
               reference code does on a GPU, sums within a product kept in single precision. Inception's features have
               squared lengths of some hundreds, where half precision steps by 0.25; the last digits depend on the GPU
    corrected  float64
    """
    for name, rows in (("reference", reference), ("samples", samples)):
        if len(rows) <= neighbours:
            raise GokuError(f"precision and recall: {len(rows)} {name}; more than {neighbours} are needed")
    distances = _half if mode == "official" else _double
    block = BLOCK[mode]
    reach_reference = _radii(reference, neighbours, distances, block)
    reach_samples = _radii(samples, neighbours, distances, block)
    inside_samples = np.zeros(len(reference), bool)
    inside_reference = np.zeros(len(samples), bool)
    for rows, columns in _blocks(len(reference), len(samples), block):
        apart = distances(reference[rows], samples[columns])
        inside_samples[rows] |= (apart <= reach_samples[columns]).any(axis=1)
        inside_reference[columns] |= (apart <= reach_reference[rows, None]).any(axis=0)
    return Overlap(precision=float(inside_reference.mean()), recall=float(inside_samples.mean()))


Distances = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _radii(rows: np.ndarray, neighbours: int, distances: Distances, block: int) -> np.ndarray:
    """(n,) squared distance to the k-th neighbour; number 0 of the sorted distances is the sample itself."""
    reach = np.empty(len(rows))
    for start in range(0, len(rows), block):
        here = rows[start : start + block]
        nearest = np.full((len(here), neighbours + 1), np.inf)
        for other in range(0, len(rows), block):
            near = np.concatenate([nearest, distances(here, rows[other : other + block])], axis=1)
            nearest = np.partition(near, neighbours, axis=1)[:, : neighbours + 1]
        reach[start : start + block] = nearest.max(axis=1)
    return reach


def _blocks(rows: int, columns: int, block: int) -> Iterator[tuple[slice, slice]]:
    for top in range(0, rows, block):
        for left in range(0, columns, block):
            yield slice(top, min(top + block, rows)), slice(left, min(left + block, columns))


def _double(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Squared distances (n, m) in float64."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    lengths = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None]
    apart = lengths - 2 * (a @ b.T)
    return np.where(apart < SAME * lengths, 0.0, apart)


def _half(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Squared distances (n, m) rounded to half precision after every step; in float32 where one of them overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        a, b = first.astype(np.float16), second.astype(np.float16)
        apart = _expanded(a, b, np.float16)
    if not np.isfinite(apart).all():
        apart = _expanded(first.astype(np.float32), second.astype(np.float32), np.float32)
    return apart.astype(np.float32)


def _expanded(a: np.ndarray, b: np.ndarray, kind: type) -> np.ndarray:
    """max(|a|^2 - 2 a.b + |b|^2, 0), products summed in float32, each result rounded to `kind`."""
    lengths_a = (a * a).sum(axis=1, dtype=np.float32).astype(kind)[:, None]
    lengths_b = (b * b).sum(axis=1, dtype=np.float32).astype(kind)[None]
    products = (a.astype(np.float32) @ b.astype(np.float32).T).astype(kind)
    return np.maximum(lengths_a - kind(2) * products + lengths_b, kind(0))
