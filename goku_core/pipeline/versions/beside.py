"""Small files beside the outputs of a cell, for git and DVC to carry and to compare.

    records/CELL.json   the commit record of what lies in the workspace. DVC versions it with the bytes it speaks of, so
                        that a fresh clone that has pulled them knows the work as done
    metrics/CELL.json   the numbers of its report: `dvc metrics show`, `dvc metrics diff`
    plots/CELL.csv      its curve over the steps, or its counts and scores by name: `dvc plots show`

All are functions of the record and its outputs and belong to no fingerprint: they are written again at every answer.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from goku_core.pipeline.fingerprint import fingerprint

RECORDS, METRICS, PLOTS = "records", "metrics", "plots"
CURVE = "metrics.jsonl"  # name of the file, among a cell's outputs, that holds one JSON object per logged step
SHA256 = re.compile(r"[0-9a-f]{64}")


def record_file(cell: str) -> str:
    return f"{RECORDS}/{cell}.json"


def write(root: Path, value: Mapping[str, Any]) -> None:
    """The files of a record, whose outputs lie in the workspace. What is there with the same content is left alone."""
    cell = value["cell"]
    _put(root / record_file(cell), json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False))
    numbers = _numbers(value["report"]) | {"wall_seconds": round(value["seconds"], 3)}
    _put(root / METRICS / f"{cell}.json", json.dumps(numbers, indent=1, sort_keys=True))
    rows = list(_curve(root, value["outputs"])) or list(_bars(value["report"]))
    text = io.StringIO()
    table = csv.DictWriter(
        text, list(dict.fromkeys(key for row in rows for key in row)), restval="", lineterminator="\n"
    )
    table.writeheader()
    table.writerows(rows)
    _put(root / PLOTS / f"{cell}.csv", text.getvalue().rstrip("\n"))


def read(file: Path) -> dict[str, Any] | None:
    """A record that came from elsewhere; None where there is none, or one that is not about the work it names.

    Its names become paths of this workspace and of its store, and no fingerprint covers them: one that leads out of the
    folder it belongs in makes the whole record void.
    """
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
        inputs = {path: known["digest"] for path, known in value["inputs"].items()}
        named = fingerprint(value["stage"], value["revision"], value["request"], value["seed"], inputs)
        plain = _inside(value["cell"]) and "/" not in value["cell"]
        plain = plain and all(_inside(path) and _sound(tree) for path, tree in value["outputs"].items())
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):  # anything may lie in that folder
        return None
    return value if plain and named == value.get("fingerprint") else None


def _sound(tree: Mapping[str, Any]) -> bool:
    """Are its files below it, and are they named by digests? A store's place is made of a digest."""
    names = all(map(_inside, tree["files"])) if tree["folder"] else list(tree["files"]) == [""]
    return names and all(map(SHA256.fullmatch, tree["files"].values()))


def _inside(name: str) -> bool:
    """Is it a relative path that stays below where it starts, in the one spelling that we write?"""
    path = PurePosixPath(name)
    odd = path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name
    return bool(path.parts) and path.as_posix() == name and not odd


def _numbers(value: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers, however deep; lists are left out (DVC compares single values)."""
    kept: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            if found := _numbers(inner):
                kept[key] = found
        elif isinstance(inner, int | float) and not isinstance(inner, bool):
            kept[key] = inner
    return kept


def _curve(root: Path, outputs: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for path, tree in outputs.items():
        for name in tree["files"]:
            if name.rpartition("/")[2] == CURVE:
                for line in (root / path / name).read_text(encoding="utf-8").splitlines():
                    yield {key: one for key, one in json.loads(line).items() if isinstance(one, int | float)}
                return


def _bars(report: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Counts and scores by name, which the report keeps in mappings; of a report without any, its single numbers."""
    flat = list(_flat(_numbers(report), ""))
    for name, value in [one for one in flat if "." in one[0]] or flat:
        yield {"name": name, "value": value}


def _flat(value: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _flat(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", inner


def _put(file: Path, text: str) -> None:
    """By a rename: the file may be a link into DVC's cache, whose bytes must stay as they are."""
    content = text + "\n"
    if file.is_file() and file.read_text(encoding="utf-8") == content:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    # Of each process and thread its own: two runs of a cell with different changes hold different locks.
    temporary = file.with_name(f".{file.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    temporary.write_text(content, encoding="utf-8")
    temporary.replace(file)
