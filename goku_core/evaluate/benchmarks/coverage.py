"""Which records a line of a table rests on: every sample that was planned, judged by one judge.

A sample that nobody judged is not a zero, and neither is a dimension whose judge is missing: the line then has no score
and says what it lacks, with the command that completes it. What contradicts the plan is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from goku_core.evaluate.judges.judge import JUDGES, Bench, judge_named
from goku_core.evaluate.manifest import Sample
from goku_core.evaluate.records import Record, merged
from goku_core.evaluate.results.importing import FORMATS
from goku_core.evaluate.statistics import Values
from goku_core.evaluate.tables import Mode
from goku_core.pipeline.errors import GokuError

LineOf = Callable[[Sample, str], str]
"""(sample, dimension) -> the line of the table that its record belongs to."""


@dataclass(frozen=True)
class Covered:
    """The records of one line.

    rows   sorted by sample; also those that were judged and hold nothing to score (`Record.count` 0)
    want   records the plan asks for
    lacks  "" when all are there; else what is missing and the command that completes it
    """

    rows: tuple[Record, ...]
    want: int
    lacks: str = ""

    @property
    def have(self) -> int:
        return len(self.rows)

    def by_prompt(self) -> dict[str, list[Record]]:
        """prompt id -> its records that hold something to score."""
        found: dict[str, list[Record]] = {}
        for row in self.rows:
            if row.count:
                found.setdefault(row.prompt_id, []).append(row)
        return found

    def by_sample(self) -> Values:
        """Every sample weighs the same."""
        return {p: (sum(r.score for r in rows), len(rows)) for p, rows in self.by_prompt().items()}

    def by_count(self) -> Values:
        """Every sample weighs as many frames as it has."""
        return {
            p: (sum(r.score * r.count for r in rows), sum(r.count for r in rows))
            for p, rows in self.by_prompt().items()
        }

    def by_prompt_mean(self) -> Values:
        """Every prompt weighs the same."""
        return {p: (sum(r.score for r in rows) / len(rows), 1) for p, rows in self.by_prompt().items()}


def cover(
    benchmark: str,
    records: Sequence[Record],
    samples: Sequence[Sample],
    needs: Mapping[str, str],
    line: LineOf = lambda sample, dimension: dimension,
    once: Collection[str] = (),
) -> dict[str, Covered]:
    """Line -> its records, for every line that the plan knows.

    needs: dimension -> the judge's network in words, for "not evaluated: needs ...".
    once: dimensions that look at all samples of a prompt together and have one record, at its first sample.
    Raises GokuError where nothing is planned, for records of samples that are not in the plan, for two records that
    disagree, and where a dimension was judged by two judges (`in_mode` and `chosen` leave one).
    """
    planned = {s.sample_id: s for s in samples if s.benchmark == benchmark}
    if not planned:
        raise GokuError(f"{benchmark}: the manifest holds no sample of it.")
    ours = merged(r for r in records if r.benchmark == benchmark)
    strangers = sorted({r.sample_id for r in ours} - set(planned))
    if strangers:
        raise GokuError(
            f"{benchmark}: {len(strangers)} judged samples are not in the manifest, for example {strangers[0]}. "
            "Records and manifest are of two evaluations; a table needs both of one."
        )
    wanted: dict[str, dict[tuple[str, str], None]] = {}
    for sample_id in sorted(planned):
        for dimension in planned[sample_id].prompt.dimensions:
            if dimension in once and planned[sample_id].index:
                continue
            wanted.setdefault(line(planned[sample_id], dimension), {})[sample_id, dimension] = None
    found: dict[str, dict[str, list[Record]]] = {}
    for row in ours:
        found.setdefault(row.dimension, {}).setdefault(row.judge, []).append(row)
    known = {(r.sample_id, d): r for d, judges in found.items() for r in _one_judge(f"{benchmark}/{d}", judges)}
    return {
        name: _covered(benchmark, [known.get(key) for key in keys], list(keys), needs) for name, keys in wanted.items()
    }


def chosen(records: Sequence[Record], judge: str) -> list[Record]:
    """Without the other judges' records of every dimension that this one judged: the way out where two judged one.

    judge: beginning of its fingerprint. Raises GokuError where no judge or several begin so.
    """
    meant = sorted({r.judge for r in records if r.judge.startswith(judge)})
    if len(meant) != 1:
        known = ", ".join(sorted({r.judge for r in records}))
        raise GokuError(f"{len(meant)} judges of these records begin with {judge!r}. There are: {known}")
    seen = {(r.benchmark, r.dimension) for r in records if r.judge == meant[0]}
    return [r for r in records if r.judge == meant[0] or (r.benchmark, r.dimension) not in seen]


def in_mode(records: Sequence[Record], modes: Mapping[str, Collection[str]], mode: Mode) -> list[Record]:
    """Without the records that judges made for the other mode, in dimensions where one spoke for this mode.

    modes: fingerprint -> modes it was asked in (`modes` of its entry in judging.json). A judge that says the same in both
    modes was asked once and speaks in both tables; so does one that nothing is known of.
    """
    meant = {(r.benchmark, r.dimension) for r in records if mode in modes.get(r.judge, ())}
    return [r for r in records if mode in modes.get(r.judge, (mode,)) or (r.benchmark, r.dimension) not in meant]


def _one_judge(key: str, judges: Mapping[str, list[Record]]) -> list[Record]:
    if len(judges) > 1:
        raise GokuError(
            f"{key} was judged by {len(judges)} judges: {' and '.join(sorted(judges))}. "
            "A table rests on one: choose it by the beginning of its fingerprint (--judge)."
        )
    return next(iter(judges.values()))


def _covered(
    benchmark: str, rows: list[Record | None], keys: list[tuple[str, str]], needs: Mapping[str, str]
) -> Covered:
    there = tuple(row for row in rows if row is not None)
    if len(there) == len(rows):
        return Covered(there, len(rows))
    missing = [key for key, row in zip(keys, rows, strict=True) if row is None]
    dimensions = sorted({dimension for _, dimension in missing})
    complete = "; ".join(completing(benchmark, dimension) for dimension in dimensions)
    if not there:
        networks = ", ".join(needs.get(dimension, f"a judge of {dimension}") for dimension in dimensions)
        return Covered(there, len(rows), f"not evaluated: needs {networks}; {complete}")
    example = "/".join(missing[0])
    return Covered(there, len(rows), f"{len(missing)} of {len(rows)} records missing, first {example}; {complete}")


def completing(benchmark: str, dimension: str) -> str:
    """The command that makes the records of a dimension."""
    for name in JUDGES:
        if f"{benchmark}/{dimension}" in judge_named(name, Bench()).dimensions:
            return f"`goku evaluate judge DIR --judge {name}`"
    if benchmark not in FORMATS:
        return f"no judge here knows {benchmark}/{dimension}"
    return (
        f"no judge here knows {benchmark}/{dimension}; an official result file comes in with "
        f"`goku evaluate import-results {benchmark} FILE --out DIR`"
    )
