"""Answers that models have given, on disk: a killed or repeated run asks only for what is missing.

One file of JSON lines per (role, model, template), append-only, below .goku/answers of a workspace or in the folder of an
evaluation: it outlives the fingerprint, because an answer costs GPU seconds and a changed threshold elsewhere does not
change it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from goku_core.pipeline.errors import GokuError

FOLDER = ".goku/answers"


@dataclass(frozen=True)
class Answer:
    """text, and why the model ended: "stop", "length" ..."""

    text: str
    finish: str = "stop"


def key_of(question: dict[str, Any]) -> str:
    """SHA-256 of everything an answer depends on: what it is about, model, template, prompt, frames, temperature, seed."""
    return hashlib.sha256(json.dumps(question, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class Answers:
    """The answers of one (role, model, template). A context manager; several runs may append to one file."""

    def __init__(self, folder: Path, role: str, model: str, template: str) -> None:
        """model, template: names or digests; together they name the file."""
        digest = hashlib.sha256(f"{model}\0{template}".encode()).hexdigest()[:12]
        plain = re.sub(r"[^A-Za-z0-9.]+", "-", Path(model).name)[:48]
        self.path = folder / f"{role}-{plain}-{digest}.jsonl"
        self._known: dict[str, Answer] = {}

    def __enter__(self) -> Answers:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        torn = self._read()
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        if torn:  # by a kill. It gets its end, not cut off: another run may be writing here
            os.write(self._file, b"\n")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        os.close(self._file)

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> Answer | None:
        return self._known.get(key)

    def put(self, key: str, answer: Answer) -> None:
        """In one write, so that a kill leaves whole lines and at most one torn one at the end."""
        line = json.dumps({"key": key, "text": answer.text, "finish": answer.finish}, ensure_ascii=False) + "\n"
        data = line.encode()
        if os.write(self._file, data) != len(data):
            raise GokuError(f"{self.path}: the disk is full. Answers so far are kept; make room and run again")
        self._known[key] = answer

    def _read(self) -> bool:
        """Reads all lines; says whether the last one lacks its end."""
        if not self.path.exists():
            return False
        line = b"\n"
        with self.path.open("rb") as file:
            for line in file:
                try:
                    entry = json.loads(line)
                    self._known[entry["key"]] = Answer(entry["text"], entry["finish"])
                except (ValueError, KeyError, TypeError):
                    continue  # a damaged line costs one question, not the run
        return not line.endswith(b"\n")
