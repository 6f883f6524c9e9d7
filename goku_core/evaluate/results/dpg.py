"""DPG-Bench's logs (`dpg_bench/compute_dpg_bench.py` at 3c228f1): text, one line per prompt or per answer.

`*_results.txt`         PICTURE, tile, tile, tile, tile, mean     and at the end "DPG-Bench score: 83.65" with the categories
`*_results_detail.txt`  PICTURE, (x0, y0, x1, y1), QUESTION, ANSWER

Either is read. Given the first with the second beside it, the answers are taken, and the tiles' scores compared with them:
only answers give categories, and the browser something to show. A prompt without a line failed in the official code, whose
score is that of the others. Where that is the prompt of the question file's first row, which the code drops, its records say so;
any other is missing here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from goku_core.evaluate.benchmarks.dpg import Question, propagated, questions_of
from goku_core.evaluate.manifest import Sample
from goku_core.evaluate.records import Record
from goku_core.evaluate.results.importing import EQUAL, Imported, fingerprint, record
from goku_core.pipeline.errors import GokuError

PATTERN = "*_results.txt"
TILES = re.compile(r"^(?P<picture>.+?\.\w+)(?P<numbers>(?:, [-+.\deE]+){2,})$")
ANSWER = re.compile(r"^(?P<picture>.+?), \((?P<x>\d+), (?P<y>\d+), \d+, \d+\), (?P<rest>.*)$")
SCORE = re.compile(r"^DPG-Bench score: (?P<score>[-+.\deE]+|nan)$")
Tile = tuple[str, int]
"""(item id, number of the tile)."""


def read(benchmark: str, file: Path, samples: Sequence[Sample]) -> Imported:
    """Records of the tiles, with answers where the log of answers is at hand."""
    detail = file if file.stem.endswith("_detail") else file.with_name(f"{file.stem}_detail.txt")
    judge = fingerprint(benchmark, file)
    planned = {(_item(s), s.index): s for s in samples}
    scores, says = ({}, {}) if file == detail else _scores(file)
    lines = _lines(detail) if detail.is_file() else {}
    if not scores and not lines:
        raise GokuError(f"{file}: no line of it is one of a DPG-Bench log.")
    records: list[Record] = []
    doubts: list[str] = []
    for tile in sorted(set(scores) | set(lines)):
        sample = planned.get(tile)
        if sample is None or (scores and tile not in scores):
            continue
        made, doubt = _record(sample, scores.get(tile), lines.get(tile), judge)
        records.append(made)
        doubts += [doubt] if doubt else []
    known = {row.sample_id for row in records}
    absent = [s for s in samples if s.sample_id not in known]
    dropped = [s for s in absent if s.prompt.metadata.get("first_of_file")]
    reason = "the official code drops the first row of its question file, and then this prompt"
    records += [record(s, "dpg", judge, 0.0, 0, None, reason) for s in dropped]
    failed = sorted({_item(s) for s in absent if s not in dropped})
    if failed:
        doubts.append(
            f"{len(failed)} prompts have no line, first {failed[0]}: the official code goes on where a picture fails, and "
            "its score is that of the others."
        )
    unmatched = sorted({item for item, number in set(scores) | set(lines) if (item, number) not in planned})
    return Imported(tuple(records), tuple(unmatched), says, tuple(doubts))


def _record(sample: Sample, printed: float | None, lines: Sequence[str] | None, judge: str) -> tuple[Record, str]:
    if lines is None:
        assert printed is not None  # a tile comes from one of the two logs
        return record(sample, "dpg", judge, printed), ""
    questions = questions_of(sample.prompt.metadata)
    answers = _answers(sample, questions, lines)
    asked = [q for q in questions if q.number in answers]
    after = propagated(asked, answers) if _closed(asked) else {}
    score = sum(after.values()) / len(after) if after else 0.0
    seen = {"answers": {str(number): answer for number, answer in sorted(answers.items())}}
    doubt = ""
    if printed is not None and abs(printed - score) > EQUAL:
        doubt = f"{sample.sample_id}: the log says {printed:.6f}, its answers give {score:.6f}"
    reason = "" if len(asked) == len(questions) else f"{len(questions) - len(asked)} questions were not asked"
    return record(sample, "dpg", judge, score, len(asked), None, reason, seen), doubt


def _closed(questions: Sequence[Question]) -> bool:
    known = {0, *(q.number for q in questions)}
    return all(parent in known for q in questions for parent in q.parents)


def _answers(sample: Sample, questions: Sequence[Question], lines: Sequence[str]) -> dict[int, str]:
    """Question number -> answer. A question may hold commas, so it is found by its text; equal ones in their order."""
    answers: dict[int, str] = {}
    for rest in lines:
        fitting = [q for q in questions if rest.startswith(f"{q.text}, ") and q.number not in answers]
        if not fitting:
            raise GokuError(
                f"{sample.sample_id}: the log holds an answer to a question that the plan does not have: {rest!r}. "
                "Plan with the same dpg_bench.csv."
            )
        asked = max(fitting, key=lambda q: len(q.text))
        answers[asked.number] = rest[len(asked.text) + 2 :]
    return answers


def _scores(file: Path) -> tuple[dict[Tile, float], dict[str, float]]:
    tiles: dict[Tile, float] = {}
    says: dict[str, float] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        if found := SCORE.match(line.strip()):
            says["total"] = float(found["score"]) / 100
        elif found := TILES.match(line):
            numbers = [float(number) for number in found["numbers"].split(", ")[1:]]
            for number, score in enumerate(numbers[:-1]):
                tiles[_stem(found["picture"]), number] = score
    return tiles, says


def _lines(file: Path) -> dict[Tile, list[str]]:
    tiles: dict[Tile, list[str]] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        found = ANSWER.match(line)
        if found is None:
            raise GokuError(f"{file}, line {number}: not PICTURE, (x0, y0, x1, y1), QUESTION, ANSWER.")
        tile = (int(found["x"]) > 0) + 2 * (int(found["y"]) > 0)
        tiles.setdefault((_stem(found["picture"]), tile), []).append(found["rest"])
    return tiles


def _stem(picture: str) -> str:
    """The item id: the file name up to its first dot, as the official code has it."""
    return PurePosixPath(picture.replace("\\", "/")).name.split(".")[0]


def _item(sample: Sample) -> str:
    metadata: Mapping[str, object] = sample.prompt.metadata
    return str(metadata.get("item_id", sample.prompt.prompt_id))
