"""Inception Score (Salimans et al., arXiv 1606.03498): exp of the mean KL divergence of p(y|x) from p(y), by splits.

The number depends on how the samples are split, so the split is part of its name:
  adm             splits of 5000 in the order given, the last one may be shorter; the mean is printed
  torch-fidelity  10 splits after a shuffle with seed 2020
  stylegan-v      10 splits after a shuffle with seed 42 (video IS; C3D instead of Inception)
Sorted by sample id the order is a property of the samples and not of the file system.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from goku_core.pipeline.errors import GokuError

Splitting = Literal["adm", "torch-fidelity", "stylegan-v"]
ADM_SPLIT = 5000
SPLITS = 10
SEED = {"torch-fidelity": 2020, "stylegan-v": 42}


@dataclass(frozen=True)
class InceptionScore:
    """mean and population standard deviation over the splits. The deviation says nothing where there is one split."""

    mean: float
    deviation: float
    splits: int


def inception_score(probabilities: np.ndarray, splitting: Splitting) -> InceptionScore:
    """probabilities (n, classes), rows that sum to 1, in the order of their sample ids.

    A class of probability 0 adds nothing (p log p -> 0); the official codes make NaN of it.
    """
    rows = np.asarray(probabilities, dtype=np.float64)
    if rows.ndim != 2 or not len(rows):
        raise GokuError(f"Inception Score: probabilities of shape {rows.shape}; one row per sample is needed")
    if not np.allclose(rows.sum(axis=1), 1.0, atol=1e-4) or rows.min() < 0:
        raise GokuError("Inception Score: the rows are no probabilities (they do not sum to 1)")
    scores = [_score(part) for part in _parts(rows, splitting)]
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)), len(scores))


def class_probabilities(features: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """softmax of features (n, d) times weight (classes, d), WITHOUT the bias: float64 (n, classes).

    ADM builds its softmax from the graph's MatMul alone, and so does every IS that is compared with it.
    """
    across = weight.astype(np.float64).T
    parts = (features[start : start + ADM_SPLIT] for start in range(0, len(features), ADM_SPLIT))
    return np.concatenate([_softmax(part.astype(np.float64) @ across) for part in parts])


def _softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def _parts(rows: np.ndarray, splitting: Splitting) -> Iterator[np.ndarray]:
    if splitting == "adm":
        yield from (rows[start : start + ADM_SPLIT] for start in range(0, len(rows), ADM_SPLIT))
        return
    if len(rows) < SPLITS:
        raise GokuError(f"Inception Score: {len(rows)} samples cannot be cut into {SPLITS} splits")
    # numpy promises that this old generator never changes its draws: the same splits as the official codes.
    rows = rows[np.random.RandomState(SEED[splitting]).permutation(len(rows))]
    yield from (rows[i * len(rows) // SPLITS : (i + 1) * len(rows) // SPLITS] for i in range(SPLITS))


def _score(part: np.ndarray) -> float:
    marginal = part.mean(axis=0, keepdims=True)
    ratio = np.divide(part, marginal, out=np.ones_like(part), where=part > 0)
    return float(np.exp((part * np.log(ratio)).sum(axis=1).mean()))
