"""Two models on the same prompts: paired differences of every line and of the total, and what may be said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from goku_core.evaluate.benchmarks.benchmark import benchmark_named, known_mode
from goku_core.evaluate.benchmarks.tally import Tally
from goku_core.evaluate.manifest import Sample
from goku_core.evaluate.records import Record
from goku_core.evaluate.statistics import LEVEL, Difference, Values, differences, resampled, weighted_mean
from goku_core.evaluate.tables import Mode
from goku_core.pipeline.errors import GokuError

Side = tuple[Sequence[Record], Sequence[Sample]]


@dataclass(frozen=True)
class Comparison:
    """Second minus first, line by line; the total, where both have one, is the last.

    left_out  lines that one of the two has no score for, with the reason
    notes     what the differences rest on, in words
    """

    benchmark: str
    mode: Mode
    lines: tuple[Difference, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]

    def words(self) -> dict[str, str]:
        """Line -> what may be said of its difference."""
        return {line.name: line.words(len(self.lines)) for line in self.lines}

    def as_json(self) -> dict[str, Any]:
        said = self.words()
        lines = [{**asdict(line), "finding": line.finding, "words": said[line.name]} for line in self.lines]
        return {**asdict(self), "lines": lines}


def compare(name: str, first: Side, second: Side, mode: Mode, resamples: int, seed: int) -> Comparison:
    """Each side is (records, samples planned). Pure, and independent of the order of rows.

    Raises GokuError where the two were not planned on the same prompts, and for benchmarks without scores by prompt.
    """
    benchmark = benchmark_named(name)
    known_mode(name, mode, benchmark.modes)
    if benchmark.tally is None:
        raise GokuError(
            f"{name}: its numbers belong to whole sets; without scores by prompt no difference has an interval."
        )
    _same_prompts(name, first[1], second[1])
    tallies = [benchmark.tally(records, samples, mode) for records, samples in (first, second)]
    scored = [tally.scored() for tally in tallies]
    names = [part.name for part in tallies[0].parts if part.name in scored[0] and part.name in scored[1]]
    strata = tallies[0].strata  # of the first for both, so that both draw the same prompts
    sides = [_side(tally, names, strata, resamples, seed) for tally in tallies]
    counts = {line: len(_prompts(scored[0][line].values) & _prompts(scored[1][line].values)) for line in names}
    left_out = [
        f"{part.name}: {part.lacks}"
        for tally in tallies
        for part in tally.parts
        if part.lacks and part.name not in names
    ]
    for combined in tallies[0].combined:
        if any(tally.lack(combined) for tally in tallies):
            left_out.append(f"{combined.name}: " + next(filter(None, (t.lack(combined) for t in tallies))))
            continue
        for point, drawn in sides:
            point[combined.name] = float(combined.rule({n: np.array([v]) for n, v in point.items()})[0])
            drawn[combined.name] = combined.rule(drawn)
        counts[combined.name] = len(set().union(*(_prompts(scored[0][line].values) for line in combined.of)))
    lines = differences(sides[0], sides[1], counts)
    return Comparison(
        name, mode, tuple(lines), tuple(dict.fromkeys(left_out)), _notes(first[1], second[1], lines, resamples)
    )


def _side(
    tally: Tally, names: Sequence[str], strata: Mapping[str, str], resamples: int, seed: int
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    values = {name: tally.scored()[name].values for name in names}
    point = {name: weighted_mean(line) for name, line in values.items()}
    return point, resampled(values, strata, resamples, seed)


def _prompts(values: Values) -> set[str]:
    return {prompt for prompt, (_, weight) in values.items() if weight}


def _same_prompts(name: str, first: Sequence[Sample], second: Sequence[Sample]) -> None:
    asked = [
        {s.prompt.prompt_id: (s.prompt.text, s.task, s.prompt.dimensions) for s in samples if s.benchmark == name}
        for samples in (first, second)
    ]
    if asked[0] != asked[1]:
        different = sorted(p for p in set(asked[0]) | set(asked[1]) if asked[0].get(p) != asked[1].get(p))
        raise GokuError(
            f"{name}: the two were not planned on the same prompts: {len(different)} differ, first {different[0]}. "
            "A paired comparison needs one suite for both."
        )


def _notes(
    first: Sequence[Sample], second: Sequence[Sample], lines: Sequence[Difference], resamples: int
) -> tuple[str, ...]:
    said = [
        f"{len(lines)} lines were compared; where nothing differs, about one in twenty would look like a finding on its own. "
        "The adjusted p (Holm) allows for it."
    ]
    if {s.sample_id: s.seed for s in first} != {s.sample_id: s.seed for s in second}:
        said.append("The samples have other seeds: the noise of the drawing is part of every difference.")
    rewritings = [{s.drawing.rewriting for s in samples} for samples in (first, second)]
    if rewritings[0] != rewritings[1]:
        said.append(
            "The prompts were rewritten for one of the two, or in another way: models and rewriting differ at once."
        )
    least = int(2 * len(lines) / (1 - LEVEL))
    if resamples < least:
        said.append(
            f"With {resamples} resamples no adjusted p of {len(lines)} lines can fall below 0.05; it takes {least} and more."
        )
    if not any(line.finding for line in lines):
        said.append("Not a finding: no line differs by more than its noise.")
    return tuple(said)
