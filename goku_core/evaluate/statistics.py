"""From rows to scores: shares, intervals, chance. Pure functions of numbers; the order of rows never matters.

Intervals are a bootstrap over PROMPTS, not over pictures: the four pictures of a prompt succeed and fail together, and
treating them as independent halves the interval (reference: with 4 pictures a prompt, 1.6 against 3.1 points).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum
from typing import TypeVar

import numpy as np

LEVEL = 0.95
Item = TypeVar("Item")
Values = Mapping[str, tuple[float, float]]
"""prompt id -> (sum of its weighted scores, sum of its weights): a line of a table is the ratio of the totals."""


@dataclass(frozen=True)
class Score:
    """A number with its 95 % interval; None where it has none (one distance between two whole sets)."""

    value: float
    low: float | None
    high: float | None

    def rounded(self) -> dict[str, float | None]:
        low, high = (None if bound is None else round(bound, 6) for bound in (self.low, self.high))
        return {"score": round(self.value, 6), "low": low, "high": high}


def task_shares(by_prompt: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, float]:
    """{task: {prompt: verdicts of its pictures}} -> share of correct PICTURES by task (GenEval's definition)."""
    return {
        task: fsum(value for values in prompts.values() for value in values) / sum(map(len, prompts.values()))
        for task, prompts in by_prompt.items()
    }


def overall(shares: Mapping[str, float]) -> float:
    """Unweighted mean over the tasks (GenEval: so a prompt of a small task weighs more)."""
    return fsum(shares.values()) / len(shares)


def weighted_mean(values: Values) -> float:
    """The mean over all prompts, by weight; correctly rounded, so the same in any order. nan where nothing weighs."""
    weight = fsum(weight for _, weight in values.values())
    return fsum(top for top, _ in values.values()) / weight if weight else float("nan")


def resampled(
    lines: Mapping[str, Values], strata: Mapping[str, str], resamples: int, seed: int
) -> dict[str, np.ndarray]:
    """Each line's mean in every resample, (resamples,): prompts are drawn with replacement within their stratum.

    All lines see the same drawn prompts, so that what is made of several lines (a total of dimensions that share their
    prompts, a difference of two models) has the right spread. strata: prompt id -> name of its stratum. The draws
    depend on (seed, stratum, its number of prompts) alone: another task more or less moves no interval.
    """
    above = {name: np.zeros(resamples) for name in sorted(lines)}
    below = {name: np.zeros(resamples) for name in sorted(lines)}
    groups: dict[str, list[str]] = {}
    for prompt in sorted(strata):
        groups.setdefault(strata[prompt], []).append(prompt)
    for stratum in sorted(groups):
        prompts = groups[stratum]
        word = int.from_bytes(hashlib.blake2b(stratum.encode(), digest_size=8).digest(), "big")
        pick = np.random.default_rng([seed, word]).integers(0, len(prompts), size=(resamples, len(prompts)))
        for name in above:
            cells = np.array([lines[name].get(prompt, (0.0, 0.0)) for prompt in prompts])
            if cells.any():
                above[name] += cells[:, 0][pick].sum(axis=1)
                below[name] += cells[:, 1][pick].sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {name: above[name] / below[name] for name in above}


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
        low, high = percentiles(values)
        agreed = shares[task] in (0.0, 1.0)
        wilson_low, wilson_high = wilson(shares[task], len(sums) if agreed else int(counts.sum()))
        low, high = min(low, wilson_low), max(high, wilson_high)
        scores[task] = Score(shares[task], min(low, shares[task]), max(high, shares[task]))
    mean = overall(shares)
    low, high = percentiles(np.mean(drawn, axis=0))
    floor_low, floor_high = _independent(shares, by_prompt)
    return scores, Score(mean, min(low, floor_low, mean), max(high, floor_high, mean))


def mean_interval(values: Sequence[float], resamples: int, seed: int) -> Score:
    """Mean of independent values with a percentile bootstrap interval."""
    data = np.asarray(values, dtype=float)
    rng = np.random.default_rng(seed)
    means = data[rng.integers(0, len(data), size=(resamples, len(data)))].mean(axis=1)
    low, high = percentiles(means)
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


@dataclass(frozen=True)
class Difference:
    """Second minus first on one line, on the same prompts.

    low, high   95 % interval of the paired bootstrap
    p           two-sided, from the bootstrap: how far 0 lies in the tail of the differences, at least 1 / (resamples + 1)
    adjusted    p after Holm's correction for all lines that were compared together
    detectable  smallest true difference seen at 80 % power with these prompts (two-sided, 5 %); None where no two
                prompts differ differently, so that their spread says nothing
    """

    name: str
    first: float
    second: float
    value: float
    low: float
    high: float
    p: float
    adjusted: float
    detectable: float | None
    prompts: int

    @property
    def finding(self) -> bool:
        """The interval of the difference does not hold 0."""
        return not self.low <= 0 <= self.high

    def words(self, compared: int = 1) -> str:
        """What may be said of it. compared: number of lines in the comparison."""
        span = f"{self.value:+.4f}, 95 % interval {self.low:+.4f} to {self.high:+.4f}"
        if not self.finding:
            if self.detectable is None:
                return f"not a finding: {span}; the prompts do not differ in it, so nothing is known of smaller differences"
            return (
                f"not a finding: {span} holds 0; with these {self.prompts} prompts a true difference below "
                f"{self.detectable:.4f} is missed more often than one time in five"
            )
        if self.adjusted > 1 - LEVEL:
            return (
                f"a finding on its own ({span}), but not among the {compared} lines compared "
                f"(p {self.p:.4f}, {self.adjusted:.4f} after Holm)"
            )
        return f"a finding: {span} (p {self.adjusted:.4f} after Holm over {compared} lines)"


def differences(
    first: tuple[Mapping[str, float], Mapping[str, np.ndarray]],
    second: tuple[Mapping[str, float], Mapping[str, np.ndarray]],
    prompts: Mapping[str, int],
) -> list[Difference]:
    """Paired differences of all lines of `prompts` (line -> number of its prompts), Holm-adjusted together.

    Each side is (line -> score, line -> score in every resample); the resamples of both have drawn the same prompts.
    """
    found = []
    for name in prompts:
        drawn = second[1][name] - first[1][name]
        drawn = drawn[~np.isnan(drawn)]
        value = second[0][name] - first[0][name]
        low, high = percentiles(drawn)
        spread = float(np.std(drawn, ddof=1))
        found.append(
            Difference(
                name,
                first[0][name],
                second[0][name],
                value,
                min(low, value),
                max(high, value),
                tail(drawn),
                1.0,
                detectable(spread, 1) if spread > 1e-12 else None,
                prompts[name],
            )
        )
    return [replace(d, adjusted=p) for d, p in zip(found, holm([d.p for d in found]), strict=True)]


def tail(drawn: np.ndarray) -> float:
    """Two-sided p of "no difference" from resampled differences: twice the smaller share on the far side of 0.

    The observed sample counts as one more resample, so that p is never 0.
    """
    below, above = int((drawn <= 0).sum()), int((drawn >= 0).sum())
    return min(1.0, 2 * (1 + min(below, above)) / (1 + len(drawn)))


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: the smallest p times the number of lines, the next times one less, never falling."""
    adjusted = [1.0] * len(ps)
    running = 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        running = max(running, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = running
    return adjusted


TWO_SIDED, POWER = 1.959964, 0.841621
"""Normal quantiles of 97.5 % and of 80 %."""


def detectable(spread: float, prompts: int) -> float:
    """Smallest true difference that is seen with 80 % power (two-sided, 5 %) on so many prompts.

    spread: standard deviation of one prompt's paired difference, in the unit of the score.
    """
    return (TWO_SIDED + POWER) * spread / float(np.sqrt(prompts))


def prompts_needed(spread: float, difference: float) -> int:
    """Prompts with which a true difference is seen with 80 % power: the planning side of `detectable`."""
    return int(np.ceil(((TWO_SIDED + POWER) * spread / difference) ** 2))


def shuffled_chance(items: Sequence[Item], agrees: Callable[[Item, Item], bool]) -> float:
    """Expected share when every prompt gets the right picture of ANOTHER prompt: the exact mean over all ordered pairs.

    This is what a model scores that draws perfect pictures of the task and never reads the prompt.
    """
    if len(items) < 2:
        return float("nan")
    hits = sum(agrees(a, b) for i, a in enumerate(items) for j, b in enumerate(items) if i != j)
    return hits / (len(items) * (len(items) - 1))


def percentiles(values: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval of resamples; those without a value (nan) are left out."""
    low, high = np.quantile(values[~np.isnan(values)], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
