"""The noun chunks of a prompt, each of which T2I-CompBench asks about ("a green bench and a blue bowl": two).

The benchmark cuts prompts with spaCy's `en_core_web_sm`, a trained parser. Where that is installed it is used; else the
chunks are read from a file made where it is:

    {"a green bench and a blue bowl": ["a green bench", "a blue bowl"], ...}

There is no rule of our own instead: a third of the texture prompts are sentences whose verbs no list of words knows, and a
chunk cut wrongly changes a score without a trace.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from functools import cached_property
from pathlib import Path
from typing import Any

from goku_core.pipeline.errors import GokuError

PLACE = "compbench/noun_chunks.json"
MODEL = "en_core_web_sm"
INSTALL = (
    "pip install spacy && python -m spacy download en_core_web_sm (MIT), "
    f'or make {PLACE} with it elsewhere: {{"prompt": ["chunk", ...]}}'
)
NOT_ASKED = ("top", "the side", "the left", "the right")
MOST = 8


class NounChunks:
    """weights: the folder below which the file of chunks may lie; it goes before spaCy."""

    def __init__(self, weights: Path) -> None:
        self.file = weights / PLACE

    def missing(self) -> str:
        if self.file.is_file() or _version(MODEL):
            return ""
        return f"noun chunks of the prompts: {self.file}, or spaCy with {MODEL}; get it: {INSTALL}"

    @property
    def origin(self) -> str:
        """For fingerprints: what cut the prompts. Raises GokuError where nothing can."""
        if self.file.is_file():
            return f"file {hashlib.sha256(self.file.read_bytes()).hexdigest()}"
        if version := _version(MODEL):
            return f"spaCy {_version('spacy')} {MODEL} {version}"
        raise GokuError(self.missing())

    def of(self, prompt: str) -> list[str]:
        """At most 8, without those that name a place only. Raises GokuError for a prompt that the file lacks."""
        if self.file.is_file():
            if prompt not in self._table:
                raise GokuError(f"{self.file} has no chunks for the prompt {prompt!r}")
            chunks = self._table[prompt]
        else:
            chunks = [chunk.text for chunk in self._parser(prompt).noun_chunks]
        return [chunk for chunk in chunks if chunk not in NOT_ASKED][:MOST]

    @cached_property
    def _table(self) -> dict[str, list[str]]:
        try:
            found = json.loads(self.file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise GokuError(f"{self.file} is no JSON: {error}") from error
        if not isinstance(found, dict) or not all(
            isinstance(chunks, list) and all(isinstance(chunk, str) for chunk in chunks) for chunks in found.values()
        ):
            raise GokuError(f'{self.file}: needed is {{"prompt": ["chunk", ...]}}')
        return found

    @cached_property
    def _parser(self) -> Any:
        if missing := self.missing():
            raise GokuError(missing)
        import spacy

        return spacy.load(MODEL)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
