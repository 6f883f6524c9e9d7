"""From rows to scores: shares, intervals, chance. Pure functions of numbers; the order of rows never matters.

Intervals are a bootstrap over PROMPTS, not over pictures: the four pictures of a prompt succeed and fail together, and
treating them as independent halves the interval (reference: with 4 pictures a prompt, 1.6 against 3.1 points).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

LEVEL = 0.95
Item = TypeVar("Item")


@dataclass(frozen=True)
class Score:
    """A share with its 95 % interval. All in 0..1."""

    value: float
    low: float
    high: float

    def rounded(self) -> dict[str, float]:
        return {"score": round(self.value, 6), "low": round(self.low, 6), "high": round(self.high, 6)}


def task_shares(by_prompt: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, float]:
    """{task: {prompt: verdicts of its pictures}} -> share of correct PICTURES by task (GenEval's definition)."""
    return {
        task: float(np.mean([value for values in prompts.values() for value in values]))
        for task, prompts in by_prompt.items()
    }


def overall(shares: Mapping[str, float]) -> float:
    """Unweighted mean over the tasks (GenEval: so a prompt of a small task weighs more)."""
    return float(np.mean(list(shares.values())))


def bootstrap(
    by_prompt: Mapping[str, Mapping[str, Sequence[float]]], resamples: int, seed: int
) -> tuple[dict[str, Score], Score]:
    """Scores by task and overall, each with the percentile interval of a bootstrap over prompts within its task.

    Resampling few prompts can claim too much (four prompts with equal shares: an interval of width zero). So an interval
    is never narrower than Wilson's for independent pictures, or, where all pictures of a task agree, for its prompts.
    """
    rng = np.random.default_rng(seed)
    shares = task_shares(by_prompt)
    scores: dict[str, Score] = {}
    drawn = []
    for task in sorted(by_prompt):
        prompts = by_prompt[task]
        sums = np.array([np.sum(prompts[p]) for p in sorted(prompts)], dtype=float)
        counts = np.array([len(prompts[p]) for p in sorted(prompts)], dtype=float)
        pick = rng.integers(0, len(sums), size=(resamples, len(sums)))
        values = sums[pick].sum(axis=1) / counts[pick].sum(axis=1)
        drawn.append(values)
        low, high = _percentiles(values)
        agreed = shares[task] in (0.0, 1.0)
        wilson_low, wilson_high = wilson(shares[task], len(sums) if agreed else int(counts.sum()))
        low, high = min(low, wilson_low), max(high, wilson_high)
        scores[task] = Score(shares[task], min(low, shares[task]), max(high, shares[task]))
    mean = overall(shares)
    low, high = _percentiles(np.mean(drawn, axis=0))
    floor_low, floor_high = _independent(shares, by_prompt)
    return scores, Score(mean, min(low, floor_low, mean), max(high, floor_high, mean))


def mean_interval(values: Sequence[float], resamples: int, seed: int) -> Score:
    """Mean of independent values with a percentile bootstrap interval."""
    data = np.asarray(values, dtype=float)
    rng = np.random.default_rng(seed)
    means = data[rng.integers(0, len(data), size=(resamples, len(data)))].mean(axis=1)
    low, high = _percentiles(means)
    if data.mean() in (0.0, 1.0):
        wilson_low, wilson_high = wilson(float(data.mean()), len(data))
        low, high = min(low, wilson_low), max(high, wilson_high)
    return Score(float(data.mean()), low, high)


def _independent(
    shares: Mapping[str, float], by_prompt: Mapping[str, Mapping[str, Sequence[float]]]
) -> tuple[float, float]:
    """Interval of the mean of the tasks if all pictures were independent: Wilson's bounds, added in squares (MOVER)."""
    down = up = 0.0
    for task, share in shares.items():
        low, high = wilson(share, sum(len(values) for values in by_prompt[task].values()))
        down, up = down + (share - low) ** 2, up + (high - share) ** 2
    mean = overall(shares)
    return mean - float(np.sqrt(down)) / len(shares), mean + float(np.sqrt(up)) / len(shares)


def wilson(share: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a share among n independent trials."""
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))


def shuffled_chance(items: Sequence[Item], agrees: Callable[[Item, Item], bool]) -> float:
    """Expected share when every prompt gets the right picture of ANOTHER prompt: the exact mean over all ordered pairs.

    This is what a model scores that draws perfect pictures of the task and never reads the prompt.
    """
    if len(items) < 2:
        return float("nan")
    hits = sum(agrees(a, b) for i, a in enumerate(items) for j, b in enumerate(items) if i != j)
    return hits / (len(items) * (len(items) - 1))


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
