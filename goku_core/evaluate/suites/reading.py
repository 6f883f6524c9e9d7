"""Prompt files as text: every error names the file and the line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from goku_core.pipeline.errors import GokuError


def wrong(path: Path, line: int, why: object) -> NoReturn:
    """Raises GokuError for that line, counted from 1."""
    raise GokuError(f"{path}, line {line}: {why}")


def text_of(path: Path) -> str:
    """UTF-8, a byte order mark taken off. Raises GokuError where the file is missing, empty or something else."""
    if not path.is_file():
        raise GokuError(f"{path} is missing: the suite's prompt file, as its benchmark publishes it.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise GokuError(f"{path}: not UTF-8 text at byte {error.start}") from error
    if not text.strip():
        raise GokuError(f"{path}: the file is empty")
    return text


def lines_of(path: Path) -> list[str]:
    """Lines, numbered from their place in the list. Only line feeds end one: a prompt may hold other separators."""
    lines = [line.removesuffix("\r") for line in text_of(path).split("\n")]
    return lines[:-1] if lines[-1] == "" else lines


def prompts_of(path: Path) -> list[str]:
    """One prompt per line. Raises GokuError for an empty line: numbers of prompts hang on it."""
    lines = lines_of(path)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            wrong(path, number, "an empty line where a prompt should be")
    return lines


def json_lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """(line, object) of a file of JSON lines."""
    found = []
    for number, line in enumerate(lines_of(path), start=1):
        try:
            entry = json.loads(line)
        except ValueError as error:
            wrong(path, number, f"not JSON: {error}")
        if not isinstance(entry, dict):
            wrong(path, number, "not a JSON object")
        found.append((number, entry))
    return found


def json_list(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """(line where it begins, object) of every entry of a file that is one JSON list."""
    text, decoder, found = text_of(path), json.JSONDecoder(), []

    def line(place: int) -> int:
        return text.count("\n", 0, place) + 1

    place = _past_space(text, 0)
    if text[place] != "[":
        wrong(path, line(place), "not a JSON list")
    place = _past_space(text, place + 1)
    while text[place : place + 1] not in ("]", ""):
        try:
            entry, end = decoder.raw_decode(text, place)
        except ValueError as error:
            wrong(path, getattr(error, "lineno", line(place)), f"not JSON: {error}")
        if not isinstance(entry, dict):
            wrong(path, line(place), "an entry is not a JSON object")
        found.append((line(place), entry))
        place = _past_space(text, end)
        if text[place : place + 1] == ",":
            place = _past_space(text, place + 1)
        elif text[place : place + 1] != "]":
            wrong(path, line(min(place, len(text) - 1)), "the list does not go on: a comma or ] is missing")
    if place >= len(text):
        wrong(path, line(len(text) - 1), "the list has no end: the file is cut off")
    return found


def _past_space(text: str, place: int) -> int:
    while place < len(text) and text[place].isspace():
        place += 1
    return place
