"""The tables of an evaluation, and what it lacks: pure functions of manifest and records."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from goku_core.evaluate.benchmarks.benchmark import benchmark_named
from goku_core.evaluate.page.folder import Evaluation
from goku_core.evaluate.statistics import Score
from goku_core.evaluate.tables import Line, Mode, Table
from goku_core.scenes.vocabulary import GENEVAL_TASKS


@dataclass(frozen=True)
class Gap:
    """What is not there of one dimension: of `want` planned samples, `have` were judged and `drawn` lie in the folder."""

    benchmark: str
    dimension: str
    have: int
    want: int
    drawn: int

    def words(self) -> str:
        return f"{self.benchmark}/{self.dimension}: {self.want - self.have} of {self.want} records missing"


def tables_of(evaluation: Evaluation, modes: Sequence[Mode] | None, resamples: int, seed: int) -> list[Table]:
    """A table per benchmark and mode, in the order of the plan. modes: those asked for; None for all that exist.

    The line's own folder carries its scores with it (its chance level belongs to its prompts); they are not made twice.
    """
    if evaluation.summary:
        return tables_of_line(evaluation.summary)
    from goku_core.evaluate.benchmarks.coverage import in_mode

    found = []
    for name in evaluation.benchmarks:
        benchmark = benchmark_named(name)
        said = [row for row in evaluation.records if row.benchmark == name]
        planned = [sample for sample in evaluation.samples if sample.benchmark == name]
        for mode in benchmark.modes:
            if modes is None or mode in modes:
                of_mode = in_mode(said, evaluation.modes, mode)
                found.append(benchmark.aggregate(of_mode, planned, mode, resamples, seed))
    return found


def tables_of_line(summary: Mapping[str, Any]) -> list[Table]:
    """The tables of the stage's summary.json: GenEval's rule on pictures, and the clips."""
    tasks = summary["tasks"]
    order = [*(name for name in GENEVAL_TASKS if name in tasks), *sorted(set(tasks) - set(GENEVAL_TASKS))]
    lines = [_line(name, tasks[name], tasks[name]["pictures"]) for name in order]
    pictures = sum(line.have for line in lines)
    notes = (f"protocol {summary.get('protocol', 'unknown')}",)
    made = [Table("geneval", "official", tuple(lines), _line("overall", summary["overall"], pictures), notes)]
    for name, dimensions in summary.get("clips", {}).items():
        count = dimensions["count"]
        moving = [_line(d, found, count) for d, found in dimensions.items() if isinstance(found, Mapping)]
        headline = next((line for line in moving if line.name == "direction"), moving[0])
        made.append(Table(name, "corrected", tuple(line for line in moving if line is not headline), headline))
    return made


def gaps(evaluation: Evaluation) -> list[Gap]:
    """Dimensions with planned samples that nobody has judged, in the order of the plan."""
    said = {(row.sample_id, row.dimension) for row in evaluation.records}
    want: Counter[tuple[str, str]] = Counter()
    have: Counter[tuple[str, str]] = Counter()
    drawn: Counter[tuple[str, str]] = Counter()
    for sample in evaluation.samples:
        for dimension in sample.prompt.dimensions:
            key = sample.benchmark, dimension
            want[key] += 1
            have[key] += (sample.sample_id, dimension) in said
            drawn[key] += sample.sample_id in evaluation.media
    return [Gap(*key, have[key], want[key], drawn[key]) for key in want if have[key] < want[key]]


def said(score: Score | None) -> bool:
    """A score that is a number."""
    return score is not None and math.isfinite(score.value)


def number(value: float, unit: str) -> str:
    """Shares with three decimals, decibels with one, anything else with four digits; the unit where it is no share."""
    if unit == "share":
        return f"{value:.3f}"
    return f"{value:.1f} dB" if unit == "dB" else f"{value:.4g}{'' if unit in ('', 'number') else ' ' + unit}"


def interval(line: Line) -> str:
    """ "0.412 to 0.530"; empty where the number has none (one distance between two whole sets)."""
    if line.score is None or line.score.low is None or line.score.high is None:
        return ""
    return f"{number(line.score.low, line.unit)} to {number(line.score.high, line.unit)}"


def _line(name: str, found: Mapping[str, Any], count: int) -> Line:
    low, high = found["interval"]
    more = {key: float(found[key]) for key in ("chance", "chance_shuffled") if found.get(key) is not None}
    unit = "dB" if name.endswith("_psnr") else "share"
    return Line(name, Score(found["score"], low, high), count, count, "", unit, more)
