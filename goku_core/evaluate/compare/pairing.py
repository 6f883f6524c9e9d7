"""Which samples and judges two evaluations share, and what about them is not the same."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from goku_core.evaluate.benchmarks.coverage import in_mode
from goku_core.evaluate.manifest import Sample
from goku_core.evaluate.page.folder import Evaluation
from goku_core.evaluate.records import Record
from goku_core.evaluate.tables import Mode
from goku_core.pipeline.errors import GokuError

DRAWN = ("rewriting", "height", "width", "frames", "fps", "steps", "guidance")


@dataclass(frozen=True)
class Pairing:
    """What is compared.

    samples   of the first evaluation, those that the second has too under the same id and prompt
    first, second   their records of these samples
    refused   (benchmark, dimension) -> why no difference of it is said
    warnings  what makes the two unlike, in words
    """

    samples: tuple[Sample, ...]
    first: tuple[Record, ...]
    second: tuple[Record, ...]
    refused: Mapping[tuple[str, str], str]
    warnings: tuple[str, ...]

    def agreed(self) -> tuple[list[Record], list[Record]]:
        """The records that the same judges made on both sides: what differences are made of."""
        kept = [[row for row in rows if _key(row) not in self.refused] for rows in (self.first, self.second)]
        return kept[0], kept[1]


def paired(first: Evaluation, second: Evaluation, modes: Mapping[str, Mode]) -> Pairing:
    """Raises GokuError where the two have no prompt in common.

    modes: benchmark -> mode; the records that a judge made for the other mode do not count.
    """
    others = {sample.sample_id: sample for sample in second.samples}
    shared = [s for s in first.samples if s.sample_id in others and others[s.sample_id].prompt.text == s.prompt.text]
    if not shared:
        raise GokuError(
            f"{first.folder} and {second.folder} have no prompt in common ({', '.join(first.benchmarks) or 'nothing'} "
            f"and {', '.join(second.benchmarks) or 'nothing'}): two models are compared on one suite."
        )
    # numbers of whole sets stand under a sample id of their own, which no plan has
    known = {sample.sample_id for sample in shared} | {f"{sample.benchmark}-set-0" for sample in shared}
    here, there = (_of_mode(one, known, modes) for one in (first, second))
    refused = _refused(_judges(here), _judges(there))
    warnings = _unlike([(sample, others[sample.sample_id]) for sample in shared])
    warnings += _left_out(first, second, len(shared))
    warnings += _stamps(first.environment, second.environment)
    return Pairing(tuple(shared), tuple(here), tuple(there), refused, tuple(warnings))


def _key(row: Record) -> tuple[str, str]:
    return row.benchmark, row.dimension


def _of_mode(evaluation: Evaluation, known: Collection[str], modes: Mapping[str, Mode]) -> list[Record]:
    rows: list[Record] = []
    for benchmark, mode in modes.items():
        said = [row for row in evaluation.records if row.benchmark == benchmark and row.sample_id in known]
        rows += in_mode(said, evaluation.modes, mode)
    return rows


def _judges(rows: Sequence[Record]) -> dict[tuple[str, str], frozenset[str]]:
    found: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        found.setdefault(_key(row), set()).add(row.judge)
    return {key: frozenset(judges) for key, judges in found.items()}


def _refused(
    here: Mapping[tuple[str, str], frozenset[str]], there: Mapping[tuple[str, str], frozenset[str]]
) -> dict[tuple[str, str], str]:
    return {
        key: f"judged by {_named(here[key])} here and by {_named(there[key])} there: not comparable"
        for key in here
        if key in there and here[key] != there[key]
    }


def _named(judges: frozenset[str]) -> str:
    return " and ".join(sorted(judges))


def _unlike(pairs: Sequence[tuple[Sample, Sample]]) -> list[str]:
    """Seeds, rewriting, sizes and solver settings that are not the same, each with how many samples it touches."""
    words = []
    if count := sum(a.seed != b.seed for a, b in pairs):
        words.append(f"{count} of {len(pairs)} samples have another seed: prompts are paired, noise is not")
    if count := sum(a.asked != b.asked for a, b in pairs):
        words.append(f"{count} of {len(pairs)} samples were asked for in other words (prompt rewriting)")
    for name in DRAWN:
        values = {(getattr(a.drawing, name), getattr(b.drawing, name)) for a, b in pairs}
        for here, there in sorted((pair for pair in values if pair[0] != pair[1]), key=str):
            words.append(f"{name}: {_said(here)} and {_said(there)}")
    return words


def _left_out(first: Evaluation, second: Evaluation, shared: int) -> list[str]:
    return [
        f"{len(one.samples) - shared} of {len(one.samples)} samples of {one.folder.name} have no partner: left out"
        for one in (first, second)
        if len(one.samples) > shared
    ]


def _stamps(here: Mapping[str, Any], there: Mapping[str, Any], path: str = "") -> list[str]:
    """Entries of the environment stamps that differ, by their full names."""
    words = []
    for name in sorted(set(here) | set(there)):
        one, other = here.get(name), there.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            words += _stamps(one, other, f"{path}{name}.")
        elif one != other:
            words.append(f"environment, {path}{name}: {_said(one)} and {_said(other)}")
    return words


def _said(value: Any) -> str:
    return "not recorded" if value in (None, "") else str(value)
