"""Every line of a benchmark's table for two models: both numbers, their paired difference, or what one of the two lacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from goku_core.evaluate.benchmarks import compare
from goku_core.evaluate.benchmarks.benchmark import benchmark_named
from goku_core.evaluate.manifest import Sample
from goku_core.evaluate.page.tables import said
from goku_core.evaluate.records import Record
from goku_core.evaluate.statistics import Difference
from goku_core.evaluate.tables import Line, Mode


@dataclass(frozen=True)
class Compared:
    """The number of both models, and second minus first; no difference where a number belongs to a whole set."""

    first: float
    second: float
    difference: Difference | None


@dataclass(frozen=True)
class LineCompared:
    """words: what may be said of the difference, or why there is none."""

    name: str
    unit: str
    compared: Compared | None
    words: str
    total: bool


def compared(
    benchmark: str,
    first: Sequence[Record],
    second: Sequence[Record],
    samples: Sequence[Sample],
    mode: Mode,
    resamples: int,
    seed: int,
) -> list[LineCompared]:
    """In the order of the table, the total last. Both sides are records of the same samples."""
    found = benchmark_named(benchmark)
    if found.tally is None:
        here, there = (found.aggregate(rows, samples, mode, resamples, seed) for rows in (first, second))
        pairs = list(zip((*here.lines, here.total), (*there.lines, there.total), strict=True))
        return [_of_sets(one, other, one is here.total) for one, other in pairs]
    told = compare.compare(benchmark, (first, samples), (second, samples), mode, resamples, seed)
    words, differences = told.words(), {line.name: line for line in told.lines}
    lacks = dict(line.split(": ", 1) for line in told.left_out)
    tally = found.tally(first, samples, mode)
    units = [(part.name, part.unit) for part in tally.parts] + [(made.name, "share") for made in tally.combined]
    lines = []
    for name, unit in units:
        line = differences.get(name)
        both = Compared(line.first, line.second, line) if line else None
        lines.append(LineCompared(name, unit, both, words.get(name) or lacks.get(name, "no score"), False))
    last = lines.pop()
    return [*lines, LineCompared(last.name, last.unit, last.compared, last.words, True)]


def _of_sets(one: Line, other: Line, total: bool) -> LineCompared:
    both, words = None, one.lacks or other.lacks
    if one.score is not None and other.score is not None and said(one.score) and said(other.score):
        both = Compared(one.score.value, other.score.value, None)
        words = "one number for a whole set of samples: no interval, so nothing is said about chance"
    return LineCompared(one.name, one.unit, both, words, total)
