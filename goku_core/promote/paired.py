"""The difference of two models on the same prompts: what a gate may hold against a candidate.

Two scores on one list of prompts are not independent: a prompt that is hard for one is hard for the other. The bootstrap
draws the same prompts for both, within each task, so that what they share falls out (the usual stratified paired
bootstrap; the scores themselves are those of the evaluation).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

RESAMPLES = 2000
SEED = 0
COLUMNS = ("benchmark", "dimension", "task", "prompt", "judge", "score")


@dataclass(frozen=True)
class Difference:
    """Candidate minus champion, in the score's unit, with its 95 % interval; prompts: how many they share."""

    value: float
    low: float
    high: float
    prompts: int


def difference(candidate: Path | None, champion: Path | None, name: str) -> Difference | str:
    """The paired difference of a score by its name, from two tables of records; in words, why there is none."""
    if candidate is None:
        return "the candidate has no records"
    if champion is None:
        return "the champion's records are gone"
    ours, theirs = _by_prompt(candidate, name), _by_prompt(champion, name)
    if not ours or set(ours) != set(theirs):
        return "the two were asked other prompts, or looked at by other judges"
    rng = np.random.default_rng(SEED)
    means, drawn = [], []
    for task in sorted({task for task, *_ in ours}):
        keys = sorted(key for key in ours if key[0] == task)
        table = np.array([[*ours[key], *theirs[key]] for key in keys])  # prompts x (sum, count, sum, count)
        means.append(_share(table.sum(axis=0)))
        drawn.append(_share(table[rng.integers(0, len(keys), (RESAMPLES, len(keys)))].sum(axis=1)))
    low, high = np.percentile(np.mean(drawn, axis=0), [2.5, 97.5])
    return Difference(float(np.mean(means)), float(low), float(high), len(ours))


def _share(table: np.ndarray) -> np.ndarray:
    return table[..., 0] / table[..., 1] - table[..., 2] / table[..., 3]


def _by_prompt(path: Path, name: str) -> Mapping[tuple[str, ...], tuple[float, int]]:
    """(task, prompt, judge) -> sum and number of its scores, of the records that the score is made from."""
    import pyarrow.parquet as pq

    sums: dict[tuple[str, ...], tuple[float, int]] = {}
    for row in _rows(pq.read_table(path, columns=list(COLUMNS)).to_pylist(), name):
        key = (row["task"], row["prompt"], row["judge"])
        total, count = sums.get(key, (0.0, 0))
        sums[key] = (total + float(row["score"]), count + 1)
    return sums


def _rows(rows: Iterable[Mapping[str, Any]], name: str) -> Iterable[Mapping[str, Any]]:
    benchmark, _, of = name.partition("/")
    for row in rows:
        if row["score"] is None:
            continue
        if name == "overall" or benchmark == "geneval":
            chosen = row["dimension"] == "geneval" and (name == "overall" or row["task"] == of)
        else:
            chosen = (row["benchmark"], row["dimension"]) == (benchmark, of)
        if chosen:
            yield row
