"""What a sample of n tokens costs: a*n + b*n^2. Matrix products grow with its tokens, attention with their square."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Cost = tuple[float, float]


def flop_cost(width: int, ffn: int) -> Cost:
    """(a, b) of one block from its FLOP, forward: 12*d^2 + 4*d*ffn a token (28*d^2 at ffn = 4*d), 4*d a pair of tokens.

    Self-attention takes four products of d x d, cross-attention two on this side, the feed-forward layer two of d x ffn;
    scores and values of attention 2*d each. Products with the text are left out: texts are short.
    """
    return float(12 * width * width + 4 * width * ffn), 4.0 * width


def prices(lengths: np.ndarray, cost: Cost) -> np.ndarray:
    """Cost of each sample (n,) as whole numbers in float64, in a unit of their own.

    Their sums are exact in any order, so that ranks whose processors add up differently still make the same plan.
    """
    linear, quadratic = cost
    if linear < 0 or quadratic < 0:
        raise ValueError(f"cost {linear:g}*n + {quadratic:g}*n^2: neither part may be below 0")
    price = linear * lengths + quadratic * np.square(lengths, dtype=np.float64)
    _, exponent = np.frexp(price.max(initial=0.0) * len(price))  # their sum stays below 2^exponent
    return np.rint(np.ldexp(price, 51 - int(exponent)))


@dataclass(frozen=True)
class Fit:
    """Seconds = linear * sum of n + quadratic * sum of n^2.

    r_squared  share of the variance of the seconds that it explains
    worst      largest error of a measurement in units of that measurement
    """

    linear: float
    quadratic: float
    r_squared: float
    worst: float


def fit(packs: Sequence[Sequence[int]], seconds: Sequence[float]) -> Fit:
    """Least squares over packs (tokens of their samples) and their seconds, each error taken relative to its measurement.

    Relative, because else the longest pack alone would decide. A part that comes out negative is set to 0. Raises
    ValueError for fewer than two packs, and for packs that all say the same (equal in tokens and in pairs).
    """
    terms = np.array([[sum(pack), sum(n * n for n in pack)] for pack in packs], np.float64)
    taken = np.array(seconds, np.float64)
    if len(terms) != len(taken) or len(terms) < 2 or (taken <= 0).any():
        raise ValueError(f"{len(terms)} packs and {len(taken)} times above 0: a fit needs two or more of both")
    relative = terms / taken[:, None]
    if np.linalg.matrix_rank(relative / np.linalg.norm(relative, axis=0)) < 2:
        raise ValueError("all packs have the same ratio of pairs to tokens: measure samples of several lengths")
    found = np.linalg.lstsq(relative, np.ones(len(taken)), rcond=None)[0]
    if (found < 0).any():
        kept = int(np.argmax(found))
        column = relative[:, kept]
        found = np.zeros(2)
        found[kept] = column.sum() / (column @ column)
    model = terms @ found
    spread = float(np.square(taken - taken.mean()).sum())
    explained = 1.0 - float(np.square(taken - model).sum()) / spread if spread > 0 else 1.0
    return Fit(float(found[0]), float(found[1]), explained, float(np.abs(model / taken - 1).max()))
