"""Between records and a table: the lines, what each prompt adds to them, and what is made of several lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum

import numpy as np

from goku_core.evaluate.benchmarks.coverage import Covered
from goku_core.evaluate.manifest import Sample
from goku_core.evaluate.statistics import Score, Values, percentiles, resampled, weighted_mean, wilson
from goku_core.evaluate.tables import Line, Mode, Table

Rule = Callable[[Mapping[str, np.ndarray]], np.ndarray]
"""{line: its means} -> the number made of them, elementwise. Affine: the sensitivities below rely on it."""


FEW = 10
"""Prompts below which a percentile bootstrap is known to cover too little. Our choice: at 10, 95 % intervals cover about 90 %."""


@dataclass(frozen=True)
class Part:
    """A line made of records.

    values  what each prompt adds
    binary  every score is right or wrong: its interval is then never narrower than Wilson's
    """

    name: str
    values: Values
    have: int
    want: int
    lacks: str = ""
    unit: str = "share"
    binary: bool = False
    more: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Combined:
    """A number made of lines; without a score unless all of them have one. lacks: why it never has one."""

    name: str
    of: tuple[str, ...]
    rule: Rule
    lacks: str = ""


@dataclass(frozen=True)
class Tally:
    """A benchmark's result before intervals. combined: the last one is the total. strata: prompt id -> stratum."""

    benchmark: str
    mode: Mode
    parts: tuple[Part, ...]
    combined: tuple[Combined, ...]
    strata: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def scored(self) -> dict[str, Part]:
        """The lines that have a score, by name."""
        return {part.name: part for part in self.parts if not part.lacks}

    def lack(self, combined: Combined) -> str:
        """Why this number cannot be said; "" when it can."""
        without = [name for name in combined.of if name not in self.scored()]
        return combined.lacks or ("without " + ", ".join(without) if without else "")


def part(name: str, covered: Covered, values: Values, binary: bool = False, unit: str = "share", **more: float) -> Part:
    """The line of these records. What was judged and holds nothing to score has no score either."""
    lacks = covered.lacks
    if not lacks and not any(weight for _, weight in values.values()):
        lacks = f"all {covered.have} samples were judged and none holds anything to score"
    return Part(name, values, covered.have, covered.want, lacks, unit, binary, more)


def unplanned(name: str) -> Part:
    """A line of the protocol for which nothing was planned."""
    return Part(name, {}, 0, 0, "not planned: the suite has no prompt of it")


def mean_of(names: Sequence[str]) -> Rule:
    """The unweighted mean of these lines."""
    return lambda lines: sum(lines[name] for name in names) / len(names)


def off_protocol(benchmark: str, official: Mapping[str, int], planned: Mapping[str, int]) -> tuple[str, ...]:
    """The note that a plan is not the protocol's, so that nobody sets its score beside published ones. () when it is.

    Both: line -> number of prompts.
    """
    other = [
        f"{name} {planned.get(name, 0)} of {many}" for name, many in official.items() if planned.get(name, 0) != many
    ]
    if not other:
        return ()
    return (
        f"Not the prompts of the protocol of {benchmark} ({', '.join(other)}): not comparable with published rows.",
    )


def prompts_by(benchmark: str, samples: Sequence[Sample], lines: Callable[[Sample], Sequence[str]]) -> dict[str, int]:
    """Line -> number of its prompts in the plan."""
    found: dict[str, set[str]] = {}
    for sample in samples:
        for name in lines(sample) if sample.benchmark == benchmark else ():
            found.setdefault(name, set()).add(sample.prompt.prompt_id)
    return {name: len(prompts) for name, prompts in found.items()}


def strata_of(benchmark: str, samples: Sequence[Sample]) -> dict[str, str]:
    """Prompts that are scored in the same lines are exchangeable: their task and dimensions name their stratum."""
    return {s.prompt.prompt_id: "/".join((s.task, *s.prompt.dimensions)) for s in samples if s.benchmark == benchmark}


def table(tally: Tally, resamples: int, seed: int) -> Table:
    """With 95 % intervals of a bootstrap over prompts."""
    scored = tally.scored()
    drawn = resampled({name: part.values for name, part in scored.items()}, tally.strata, resamples, seed)
    point = {name: np.array([weighted_mean(part.values)]) for name, part in scored.items()}
    scores = {name: _score(part, drawn[name]) for name, part in scored.items()}
    moves = sensitivity(tally)
    lines = [
        Line(
            part.name,
            scores.get(part.name),
            part.have,
            part.want,
            part.lacks,
            part.unit,
            {**part.more, **({"moves_total": moves[part.name]} if part.name in moves else {})},
        )
        for part in tally.parts
    ]
    for combined in tally.combined:
        parts = [part for part in tally.parts if part.name in combined.of]
        have, want = sum(part.have for part in parts), sum(part.want for part in parts)
        lack, score = tally.lack(combined), None
        if not lack:
            value = float(combined.rule(point)[0])
            low, high = percentiles(combined.rule(drawn))
            if all(part.binary for part in parts):
                low, high = _independent(value, combined, scores, parts, low, high)
            score = Score(value, min(low, value), max(high, value))
        lines.append(Line(combined.name, score, have, want, lack))
    return Table(tally.benchmark, tally.mode, tuple(lines[:-1]), lines[-1], (*tally.notes, *_few(scored)))


def _few(scored: Mapping[str, Part]) -> tuple[str, ...]:
    """A bootstrap over a handful of prompts is too sure of itself; that is said where it is so."""
    few = [name for name, part in scored.items() if sum(weight > 0 for _, weight in part.values.values()) < FEW]
    return (f"Fewer than {FEW} prompts in {', '.join(few)}: take these intervals as too narrow.",) if few else ()


def sensitivity(tally: Tally) -> dict[str, float]:
    """Line -> points by which the total moves for +1 raw percentage point of it. Computed from the total's own rule."""
    total = tally.combined[-1]
    if not total.of:
        return {}
    base = {name: np.zeros(1) for name in total.of}
    zero = total.rule(base)
    return {name: float((total.rule(base | {name: np.ones(1)}) - zero)[0]) for name in total.of}


def _score(part: Part, drawn: np.ndarray) -> Score:
    value = weighted_mean(part.values)
    low, high = percentiles(drawn)
    if part.binary:
        prompts, samples = len(part.values), fsum(weight for _, weight in part.values.values())
        # where all agree, the samples of a prompt may well be one trial
        floor, roof = wilson(value, prompts if value in (0.0, 1.0) else int(samples))
        low, high = min(low, floor), max(high, roof)
    return Score(value, min(low, value), max(high, value))


def _independent(
    value: float, combined: Combined, scores: Mapping[str, Score], parts: Sequence[Part], low: float, high: float
) -> tuple[float, float]:
    """Never narrower than if all samples were independent: Wilson's bounds of the parts, added in squares (MOVER)."""
    base = {name: np.zeros(1) for name in combined.of}
    zero = combined.rule(base)
    down = up = 0.0
    for part in parts:
        share = scores[part.name].value
        weight = float((combined.rule(base | {part.name: np.ones(1)}) - zero)[0])
        floor, roof = wilson(share, int(fsum(n for _, n in part.values.values())))
        down, up = down + (weight * (share - floor)) ** 2, up + (weight * (roof - share)) ** 2
    return min(low, value - float(np.sqrt(down))), max(high, value + float(np.sqrt(up)))
