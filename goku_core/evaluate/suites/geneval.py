"""GenEval (arXiv:2310.11513): evaluation_metadata.jsonl, one JSON object per line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from goku_core.evaluate.manifest import Prompt
from goku_core.evaluate.suites.reading import json_lines, wrong
from goku_core.scenes.vocabulary import GENEVAL_TASKS, RELATIONS

MEDIA = "image"
FILE = "evaluation_metadata.jsonl"
FILES, EXTRA = (FILE,), ()
PUBLISHED = {FILE: "5c48e0813e812e3c373fa5c8ed07a8f0a483be30272b4427b0559c8048e67c13"}
LICENCE = "MIT"
NOTICE = "GenEval prompts, https://github.com/djghosh13/geneval"
SAMPLES = 4
FIELDS = {"tag", "prompt", "include", "exclude"}


def load(path: Path) -> list[Prompt]:
    """The prompts of the file, or of the folder that holds it; task: the tag; metadata: the whole entry.

    Raises GokuError with file and line where an entry is not of the format.
    """
    place = path / FILE if path.is_dir() else path
    return [prompt(number, entry, place, line) for number, (line, entry) in enumerate(json_lines(place))]


def prompt(number: int, entry: dict[str, Any], place: Path, line: int) -> Prompt:
    """The prompt of one entry that stands in that line of a file."""
    try:
        _check(entry)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        why = f"no field {error}" if isinstance(error, KeyError) else error
        wrong(place, line, f"not GenEval metadata: {why}")
    return Prompt(f"geneval-{number:05d}", entry["prompt"], entry["tag"], ("geneval",), entry)


def per_prompt(prompt: Prompt) -> int:
    """Four pictures of every prompt."""
    return SAMPLES


def _check(entry: Mapping[str, Any]) -> None:
    if unknown := sorted(set(entry) - FIELDS):
        raise ValueError(f"unknown field {unknown[0]!r}; allowed: {', '.join(sorted(FIELDS))}")
    if entry["tag"] not in GENEVAL_TASKS:
        raise ValueError(f"tag {entry['tag']!r} is none of {', '.join(GENEVAL_TASKS)}")
    if not isinstance(entry["prompt"], str) or not entry["prompt"].strip():
        raise ValueError("prompt must be text")
    if not entry["include"]:
        raise ValueError("include is empty: there is nothing to look for")
    for place, clause in enumerate(entry["include"]):
        _check_clause(clause)
        if "position" in clause:
            relation, reference = clause["position"]
            if relation not in RELATIONS:
                raise ValueError(f"position {relation!r} is none of {', '.join(RELATIONS)}")
            if not 0 <= reference < place:
                raise ValueError("position must point to an earlier clause")
    for clause in entry.get("exclude", ()):
        _check_clause(clause)


def _check_clause(clause: Mapping[str, Any]) -> None:
    if not isinstance(clause["class"], str) or not clause["class"]:
        raise ValueError("a clause needs a class")
    if not isinstance(clause["count"], int) or clause["count"] < 1:
        raise ValueError("a clause needs a count of at least 1")
