"""DPG-Bench (arXiv:2403.05135): dense prompts, and a table of yes/no questions that depend on one another.

Its own script drops the first row of the table and reads ids as numbers where all are; here every row is kept and an id is
text.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from goku_core.evaluate.manifest import Prompt
from goku_core.evaluate.suites.reading import json_lines, text_of, wrong
from goku_core.pipeline.errors import GokuError

MEDIA = "image"
QUESTIONS, PROMPTS, TEXTS = "dpg_bench.csv", "prompts.jsonl", "prompts"
FILES, EXTRA = (QUESTIONS,), (PROMPTS,)
PUBLISHED = {
    QUESTIONS: "98457fc9901943f51ff9a30367250fc292533bed",  # git's blob id: its SHA-1
    PROMPTS: "b71b8072c180a306c923c4fa0d7c13bfc6f4b7bc5071f9dc8d5e316348a7a5cb",
}
LICENCE = "Apache-2.0; the prompts were expanded from older sets with terms of their own (PoseScript: non-commercial)"
NOTICE = "DPG-Bench prompts, https://github.com/TencentQQGYLab/ELLA"
SAMPLES = 4
COLUMNS = ("item_id", "text", "proposition_id", "dependency", "tuple", "question_natural_language")


def load(path: Path) -> list[Prompt]:
    """The prompts of a folder with dpg_bench.csv, prompts.jsonl or prompts/*.txt, or of the one file.

    metadata: item_id, and questions [{id, question, dependency, tuple, category}] where the table is there. dependency: ids
    of the parents, [] for none (0 in the file), as the table has them: a parent may be no question of the item. category:
    what stands before "(" of the tuple. first_of_file: the item of the table's first row, which the official script loses.
    Order: that of the file of prompts where there is one, else that in which items occur in the table.
    Raises GokuError with file and line where something is wrong, and where prompts and questions do not belong together.
    """
    table, texts = _places(path)
    questions, said = _questions(table) if table else ({}, {})
    items = dict(texts) or said
    if table and texts:
        for item in questions:
            if item not in items:
                raise GokuError(f"{table}: questions about item {item!r}, which is not among the prompts")
        for item in items:
            if item not in questions:
                raise GokuError(f"{table}: no question about item {item!r}, which is among the prompts")
    prompts, first = [], next(iter(questions), None)
    for number, (item, text) in enumerate(items.items()):
        known: dict[str, Any] = {"item_id": item} | ({"questions": questions[item]} if table else {})
        if item == first:
            known["first_of_file"] = True
        prompts.append(Prompt(f"dpg-{number:05d}", text, "", ("dpg",), known))
    return prompts


def per_prompt(prompt: Prompt) -> int:
    """Four pictures of every prompt: the tiles of its grid."""
    return SAMPLES


def _places(path: Path) -> tuple[Path | None, list[tuple[str, str]]]:
    """(the table of questions or None, [(item id, prompt)] of the prompts' own files)."""
    if path.is_file():
        return (path, []) if path.suffix == ".csv" else (None, _from_lines(path))
    table = path / QUESTIONS if (path / QUESTIONS).is_file() else None
    if (path / PROMPTS).is_file():
        return table, _from_lines(path / PROMPTS)
    texts = sorted((path / TEXTS).glob("*.txt")) or (sorted(path.glob("*.txt")) if table is None else [])
    if table is None and not texts:
        raise GokuError(f"{path}: neither {QUESTIONS} nor {PROMPTS} nor {TEXTS}/*.txt is there")
    return table, [(place.stem, text_of(place)) for place in texts]


def _from_lines(path: Path) -> list[tuple[str, str]]:
    found: dict[str, str] = {}
    for line, entry in json_lines(path):
        item, text = entry.get("item_id"), entry.get("prompt")
        if not isinstance(item, str) or not item:
            wrong(path, line, "item_id must be text")
        if not isinstance(text, str) or not text.strip():
            wrong(path, line, "prompt must be text")
        if item in found:
            wrong(path, line, f"item {item!r} has been given before")
        found[item] = text
    return list(found.items())


def _questions(path: Path) -> tuple[dict[str, list[dict[str, Any]]], dict[str, str]]:
    """(questions by item, prompt by item) of the table."""
    questions: dict[str, list[dict[str, Any]]] = {}
    texts: dict[str, str] = {}
    for line, row in _rows(path):
        item = row["item_id"]
        if not item.strip():
            wrong(path, line, "item_id is empty")
        if row["text"] and texts.get(item) not in (None, "", row["text"]):
            wrong(path, line, f"another text for item {item!r} than in the rows before")
        if row["text"] or item not in questions:
            texts[item] = row["text"]
        questions.setdefault(item, []).append(_question(path, line, row))
    for item in questions:
        if not texts[item].strip():
            raise GokuError(f"{path}: item {item!r} has no text")
    return questions, texts


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    """(line where the row ends, row): texts may hold line feeds."""
    reader = csv.DictReader(io.StringIO(text_of(path), newline=""), strict=True, restval="")
    lacking = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if lacking:
        wrong(path, 1, f"no column {lacking[0]!r}; needed: {', '.join(COLUMNS)}")
    try:
        for row in reader:
            if None in row:
                wrong(path, reader.line_num, "more fields than columns")
            yield reader.line_num, row
    except csv.Error as error:
        raise GokuError(f"{path}, line {reader.line_num}: not CSV: {error}") from error


def _question(path: Path, line: int, row: Mapping[str, str]) -> dict[str, Any]:
    try:
        number = int(row["proposition_id"])
        parents = [int(part) for part in row["dependency"].split(",")]
    except ValueError:
        wrong(path, line, "proposition_id must be a number and dependency a list of numbers, 0 for none")
    if not row["question_natural_language"].strip():
        wrong(path, line, "question_natural_language is empty")
    return {
        "id": number,
        "question": row["question_natural_language"],
        "dependency": [parent for parent in parents if parent != 0],
        "tuple": row["tuple"],
        "category": row["tuple"].split("(")[0].strip(),
    }
