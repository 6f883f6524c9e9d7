"""What an evaluation ends in: a table per benchmark and mode. A line without a score says what it needs, never 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from goku_core.evaluate.statistics import Score

Mode = Literal["official", "corrected"]


@dataclass(frozen=True)
class Line:
    """One number of a table.

    name     "subject_consistency", "two_object", "total", ...
    score    None when it cannot be said; `lacks` then says why ("not evaluated: needs ...", "12 of 400 records missing")
    have     records it rests on; want: records the protocol asks for
    more     further numbers of the line (official weight, normalised value, chance), by name
    """

    name: str
    score: Score | None
    have: int = 0
    want: int = 0
    lacks: str = ""
    unit: str = "share"
    more: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """The result of one benchmark in one mode. total: its headline, without a score unless every line has one.

    notes  differences between the modes, doubts, what is not a finding: in words
    """

    benchmark: str
    mode: Mode
    lines: tuple[Line, ...]
    total: Line
    notes: tuple[str, ...] = ()

    def scores(self) -> dict[str, float]:
        """Line -> its value, of the lines that have one; the total among them."""
        return {line.name: line.score.value for line in (*self.lines, self.total) if line.score is not None}

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def modes_apart(official: Table, corrected: Table, least: float = 5e-7) -> tuple[str, ...]:
    """What the defects of the official code are worth here: the lines on which two modes of one evaluation differ.

    least: differences below it are not told (six digits are what tables are rounded to). Which rules differ, and why, is
    in the notes of the tables.
    """
    theirs, ours = official.scores(), corrected.scores()
    said = tuple(
        f"{name}: {theirs[name]:.6f} as the official code has it, {ours[name]:.6f} corrected ({ours[name] - theirs[name]:+.6f})"
        for name in theirs
        if name in ours and abs(ours[name] - theirs[name]) > least
    )
    return said or ("The official and the corrected rule give the same scores here.",)
