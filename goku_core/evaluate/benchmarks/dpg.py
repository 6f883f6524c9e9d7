"""DPG-Bench (arXiv 2403.05135; `dpg_bench/compute_dpg_bench.py` at 3c228f1): dense prompts, questions that depend on questions.

Four tiles of a prompt, the same questions asked of each. A tile: answer all questions (right only when the answer is
"yes"), then go through them in the order of the file and set a question to 0 when one of its parents is 0 by then, in
place, so that a 0 runs down the tree where parents come first. Tile = mean over questions, prompt = mean over tiles,
total = mean over prompts.

Categories: the words before "(" of a question's tuple, and of these what stands before "-".

Modes. official reproduces three defects of the code: the first data row of the file is dropped (ELLA#61; the plan marks its
prompt `first_of_file`); a prompt with a question whose parent is no question of it is left out; and categories are made of
the answers of the LAST tile, BEFORE the parent rule (ELLA#60), which is why the published totals lie 3 to 8 points below
the mean of their categories. corrected: no row is dropped, a missing parent is no parent, and categories are over all tiles
after the parent rule (`before_rule`: all tiles before it; `official`: as the official code has it).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum
from typing import Any

from goku_core.evaluate.benchmarks.benchmark import by_prompt
from goku_core.evaluate.benchmarks.coverage import Covered, cover
from goku_core.evaluate.benchmarks.tally import Combined, Part, Tally, mean_of, off_protocol, part, strata_of
from goku_core.evaluate.manifest import Sample
from goku_core.evaluate.records import Record
from goku_core.evaluate.statistics import Values, weighted_mean
from goku_core.evaluate.tables import Mode
from goku_core.pipeline.errors import GokuError

PER_PROMPT, PROMPTS = 4, 1065
NEEDS = {"dpg": "mPLUG VQA (large, COCO)"}


@dataclass(frozen=True)
class Question:
    """One row of `dpg_bench.csv`. number: its proposition id; parents: theirs, 0 for none; about: the column `tuple`."""

    number: int
    parents: tuple[int, ...]
    about: str
    text: str

    @property
    def category(self) -> str:
        """Level 2, "entity - whole"."""
        return self.about.split("(")[0].strip()

    @property
    def group(self) -> str:
        """Level 1, "entity"."""
        return self.category.split("-")[0].strip()


def questions_of(metadata: Mapping[str, Any]) -> list[Question]:
    """The questions of a prompt, [{id, question, dependency, tuple, ...}] in the order of the file.

    Raises GokuError where the plan has none.
    """
    rows = metadata.get("questions")
    if not rows:
        raise GokuError(
            "dpg: the plan has no questions. They are in dpg_bench.csv of the ELLA repository; plan again with a folder "
            "that holds it."
        )
    return [
        Question(
            int(row["id"]),
            (*map(int, row["dependency"]), *map(int, row.get("missing_parents", ()))),
            str(row["tuple"]),
            str(row["question"]),
        )
        for row in rows
    ]


def propagated(questions: Sequence[Question], answers: Mapping[int, str]) -> dict[int, float]:
    """Scores of a tile after the parent rule, in place and in the order of the file.

    Raises KeyError for a question without an answer, and for a parent that is no question.
    """
    scores = right(questions, answers)
    for question in questions:
        if any(scores[parent] == 0 for parent in question.parents if parent != 0):
            scores[question.number] = 0.0
    return scores


def right(questions: Sequence[Question], answers: Mapping[int, str]) -> dict[int, float]:
    """Scores before the parent rule: 1 where the answer is exactly "yes"."""
    return {question.number: float(answers[question.number] == "yes") for question in questions}


def tally(records: Sequence[Record], samples: Sequence[Sample], mode: Mode) -> Tally:
    """Lines: overall, then the categories "L1 entity", "L2 entity - whole", ..., where the records hold the answers."""
    covered = cover("dpg", records, samples, NEEDS)["dpg"]
    prompts = {s.prompt.prompt_id: s.prompt for s in samples if s.benchmark == "dpg"}
    tiles = {row.sample_id: _Tile.of(row, prompts[row.prompt_id].metadata, mode) for row in covered.rows}
    dropped = sorted({row.prompt_id for row in covered.rows if tiles[row.sample_id].dropped})
    scored: dict[str, list[tuple[Record, _Tile]]] = {}
    for row in covered.rows:
        if row.prompt_id not in dropped:
            scored.setdefault(row.prompt_id, []).append((row, tiles[row.sample_id]))
    overall: Values = {p: (fsum(t.score for _, t in rows) / len(rows), 1.0) for p, rows in scored.items()}
    notes = [
        "official: the first row of the question file is dropped, and categories are of the last tile before the parent "
        "rule. corrected: nothing is dropped, and categories are of all tiles after it."
    ]
    notes += off_protocol("DPG-Bench", {"overall": PROMPTS}, {"overall": len(prompts)})
    if dropped:
        notes.append(f"Left out as by the official code, which fails on a missing parent: {', '.join(dropped)}.")
    complete = all(tile.answered for tile in tiles.values())
    if not complete:
        notes.append("No categories: these records hold the scores of the tiles, not their answers.")
    parts = [part("overall", covered, overall)]
    return Tally(
        "dpg",
        mode,
        (*parts, *(_categories(covered, scored, mode) if complete and not covered.lacks else ())),
        (Combined("total", ("overall",), mean_of(("overall",))),),
        strata_of("dpg", samples),
        tuple(notes),
    )


@dataclass(frozen=True)
class _Tile:
    """One tile. before, after: (question, its score) around the parent rule; empty where no answers are at hand."""

    score: float
    before: tuple[tuple[Question, float], ...] = ()
    after: tuple[tuple[Question, float], ...] = ()
    dropped: bool = False

    @property
    def answered(self) -> bool:
        return bool(self.before) or self.dropped

    @staticmethod
    def of(row: Record, metadata: Mapping[str, Any], mode: Mode) -> _Tile:
        if not row.count:
            return _Tile(0.0, dropped=True)
        said = json.loads(row.evidence).get("answers")
        if said is None:
            return _Tile(row.score)
        answers = {int(number): answer for number, answer in said.items()}
        questions = questions_of(metadata)
        if mode == "official" and metadata.get("first_of_file"):
            questions = questions[1:]
        known = {question.number for question in questions}
        if not questions or any(p not in known for q in questions for p in q.parents if p != 0):
            if mode == "official":  # its code fails on the missing parent, prints so and goes on with the next prompt
                return _Tile(0.0, dropped=True)
            questions = [replace(q, parents=tuple(p for p in q.parents if p in known)) for q in questions]
        unanswered = sorted(known - set(answers))
        if unanswered:
            raise GokuError(f"dpg: {row.sample_id} has no answer to question {unanswered[0]}. Judge it again.")
        before, after = right(questions, answers), propagated(questions, answers)
        return _Tile(
            fsum(after.values()) / len(after),
            tuple((q, before[q.number]) for q in questions),
            tuple((q, after[q.number]) for q in questions),
        )


def _categories(covered: Covered, scored: Mapping[str, list[tuple[Record, _Tile]]], mode: Mode) -> list[Part]:
    """Level 1 then level 2, each in the order of the alphabet."""
    ways = {
        "official": _pooled({p: [max(rows, key=_number)] for p, rows in scored.items()}, after=False),
        "before_rule": _pooled(scored, after=False),
        "corrected": _pooled(scored, after=True),
    }
    found = []
    for level, category in sorted(ways["corrected"]):
        values = {way: lines[level, category] for way, lines in ways.items()}
        others = {way: weighted_mean(line) for way, line in values.items() if way != mode}
        found.append(part(f"L{level} {category}", covered, values[mode], **others))
    return found


def _number(tile: tuple[Record, _Tile]) -> int:
    return int(tile[0].sample_id.rsplit("-", 1)[1])


def _pooled(scored: Mapping[str, list[tuple[Record, _Tile]]], after: bool) -> dict[tuple[int, str], Values]:
    """(level, category) -> what each prompt adds: every question weighs the same."""
    found: dict[tuple[int, str], dict[str, tuple[float, float]]] = {}
    for prompt, rows in scored.items():
        for _, tile in rows:
            for question, score in tile.after if after else tile.before:
                for key in ((1, question.group), (2, question.category)):
                    line = found.setdefault(key, {})
                    above, below = line.get(prompt, (0.0, 0.0))
                    line[prompt] = above + score, below + 1
    return dict(found)


DPG = by_prompt(
    "dpg",
    "image",
    ("corrected", "official"),
    tally,
    "DPG-Bench prompts and questions: Apache-2.0, Tencent QQGYLab (github.com/TencentQQGYLab/ELLA); "
    "some prompts come from sets for non-commercial use (PoseScript)",
)
