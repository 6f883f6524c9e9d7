"""What differs between two evaluations of one suite, line by line, and which samples turned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from goku_core.evaluate.benchmarks.benchmark import benchmark_named
from goku_core.evaluate.compare.differences import Compared, compared
from goku_core.evaluate.compare.pairing import Pairing, paired
from goku_core.evaluate.manifest import Sample
from goku_core.evaluate.page.folder import Evaluation
from goku_core.evaluate.records import Record
from goku_core.evaluate.statistics import LEVEL
from goku_core.evaluate.tables import Mode

Turn = Literal["worse", "better"]


@dataclass(frozen=True)
class Row:
    """One line of a table, for two models.

    compared  both values and their difference (second minus first); None where it cannot be said
    told      what may be said of the difference, at length, or why there is none
    worse, better   samples that went from right to wrong, and back, of those judged right or wrong
    """

    benchmark: str
    name: str
    unit: str
    compared: Compared | None
    told: str = ""
    worse: int = 0
    better: int = 0
    judged: int = 0
    total: bool = False

    @property
    def words(self) -> str:
        """The same in a few words: better and worse are findings, also after allowing for all lines compared (Holm).

        A bootstrap of few prompts claims too much (two that differ alike: an interval of width zero), so nothing is a
        finding that a test of signs could not call one if all prompts agreed: its least p of n prompts is 2 ** (1 - n).
        """
        if self.compared is None or self.compared.difference is None:
            return self.told
        found = self.compared.difference
        if found.value == found.low == found.high == 0:
            return "equal"
        if not found.finding:
            return "not a finding"
        if 2.0 ** (1 - found.prompts) > 1 - LEVEL:
            return f"not a finding: {found.prompts} prompts are too few"
        side = "better" if found.value > 0 else "worse"
        return side if found.adjusted <= 1 - LEVEL else f"{side} on its own, not among the lines compared"


@dataclass(frozen=True)
class Comparison:
    """names: how the two were called. turns: sample id -> dimension -> worse or better."""

    names: tuple[str, str]
    mode: str
    rows: tuple[Row, ...]
    warnings: tuple[str, ...]
    turns: Mapping[str, Mapping[str, Turn]]

    def as_json(self) -> dict[str, Any]:
        rows = [asdict(row) | {"words": row.words} for row in self.rows]
        turned = {name: dict(found) for name, found in sorted(self.turns.items())}
        head = {"first": self.names[0], "second": self.names[1], "mode": self.mode}
        return head | {"warnings": list(self.warnings), "rows": rows, "turned": turned}


def compare(
    first: Evaluation,
    second: Evaluation,
    mode: Mode | None = None,
    resamples: int = 2000,
    seed: int = 0,
    names: tuple[str, str] | None = None,
) -> Comparison:
    """second minus first, on the samples both have. mode: None for each benchmark's first.

    A line judged by different judges is refused by name, and so is what is made of it; the others are compared.
    Raises GokuError where nothing can be paired or a benchmark is unknown.
    """
    shared = [name for name in first.benchmarks if name in second.benchmarks]
    known = {name: benchmark_named(name).modes for name in shared}
    modes = {name: mode if mode in has else has[0] for name, has in known.items()}
    given = paired(first, second, modes)
    turns = turned(*given.agreed())
    rows: list[Row] = []
    for name in dict.fromkeys(sample.benchmark for sample in given.samples):
        rows += _rows(name, given, modes[name], resamples, seed, turns)
    called = names or (first.folder.name, second.folder.name)
    said = ", ".join(f"{name} {modes[name]}" for name in dict.fromkeys(row.benchmark for row in rows))
    return Comparison(called, said, tuple(rows), given.warnings, turns)


def turned(first: Sequence[Record], second: Sequence[Record]) -> dict[str, dict[str, Turn]]:
    """Samples whose verdict changed; in a dimension that knows only degrees, whose score did."""
    before = {(row.sample_id, row.dimension): row for row in first}
    turns: dict[str, dict[str, Turn]] = {}
    for row in second:
        earlier = before.get((row.sample_id, row.dimension))
        if earlier is None:
            continue
        one, other = (earlier.score, row.score) if row.verdict is None else (bool(earlier.verdict), bool(row.verdict))
        if one != other:
            turns.setdefault(row.sample_id, {})[row.dimension] = "worse" if other < one else "better"
    return turns


def _rows(
    name: str, given: Pairing, mode: Mode, resamples: int, seed: int, turns: Mapping[str, Mapping[str, Turn]]
) -> list[Row]:
    samples = [sample for sample in given.samples if sample.benchmark == name]
    here, there = ([row for row in rows if row.benchmark == name] for rows in given.agreed())
    refusals = {f"{dimension}: {why}" for (b, dimension), why in given.refused.items() if b == name}
    sayable = _sayable(name, given, samples, mode) if refusals else frozenset()
    rows = []
    for line in compared(name, here, there, samples, mode, resamples, seed):
        refused = line.compared is None and line.name in sayable
        told = "refused: " + "; ".join(sorted(refusals)) if refused else line.words
        counted = _counts("" if line.total else line.name, samples, here, turns)
        rows.append(Row(name, line.name, line.unit, line.compared, told, *counted, line.total))
    return rows


def _sayable(name: str, given: Pairing, samples: Sequence[Sample], mode: Mode) -> frozenset[str]:
    """Lines that only the judges keep from being compared."""
    here, there = ([row for row in rows if row.benchmark == name] for rows in (given.first, given.second))
    return frozenset(
        line.name for line in compared(name, here, there, samples, mode, resamples=100, seed=0) if line.compared
    )


def _counts(
    line: str, samples: Sequence[Sample], rows: Sequence[Record], turns: Mapping[str, Mapping[str, Turn]]
) -> tuple[int, int, int]:
    """(right to wrong, wrong to right, judged right or wrong) among the records of a line; all of them for ""."""
    known = {sample.sample_id for sample in samples}
    of_line = [
        row
        for row in rows
        if row.verdict is not None and row.sample_id in known and line in ("", row.dimension, row.task)
    ]
    found = [turns.get(row.sample_id, {}).get(row.dimension) for row in of_line]
    return found.count("worse"), found.count("better"), len(of_line)
