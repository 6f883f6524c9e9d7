"""A rewriting: for each prompt the words that the model is given instead, and who wrote them.

    rewriting.parquet   prompt_id, original, rewritten, model, template (SHA-256 of what the writer was told)

Its label, "NAME-DIGEST", goes into every sample of a plan and every table made of it: scores under a rewriting are never
taken for scores of the benchmark's own words.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from goku_core.evaluate.manifest import Prompt
from goku_core.evaluate.suites.reading import prompts_of
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.files import canonical_json

SCHEMA = pa.schema([(n, pa.string()) for n in ("prompt_id", "original", "rewritten", "model", "template")])


@dataclass(frozen=True)
class Rewriting:
    """model: who wrote it, or the name of a published file; template: digest of what it was told, "" for a published file."""

    model: str
    template: str
    originals: Mapping[str, str]
    words: Mapping[str, str]

    @property
    def label(self) -> str:
        """Name of the writer and 12 digits over all that was written: other words, another label."""
        plain = re.sub(r"[^A-Za-z0-9.]+", "-", Path(self.model).name).strip("-")[:48]
        digest = hashlib.sha256(canonical_json([self.template, dict(self.words)]).encode()).hexdigest()
        return f"{plain}-{digest[:12]}"

    def for_prompts(self, prompts: Sequence[Prompt]) -> Rewriting:
        """The part about these prompts. Raises GokuError where one is missing, or is about other words."""
        for prompt in prompts:
            if prompt.prompt_id not in self.words:
                raise GokuError(f"the rewriting by {self.model} has no words for {prompt.prompt_id} ({prompt.text!r})")
            if (original := self.originals[prompt.prompt_id]) != prompt.text:
                raise GokuError(
                    f"the rewriting by {self.model} is of another suite: {prompt.prompt_id} is {original!r} there, "
                    f"{prompt.text!r} here"
                )
        return self

    def write(self, path: Path) -> None:
        """Whole or not at all; the same words give the same bytes."""
        rows = [
            {
                "prompt_id": one,
                "original": self.originals[one],
                "rewritten": words,
                "model": self.model,
                "template": self.template,
            }
            for one, words in sorted(self.words.items())
        ]
        draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), draft, compression="zstd")
        draft.replace(path)


def read(path: Path, prompts: Sequence[Prompt], entries: int) -> Rewriting:
    """rewriting.parquet, or a published text file that is aligned with the suite's entries by line.

    prompts  of the whole suite; a prompt's number is that of its entry
    entries  of the suite's file (VBench: 946, of which two come twice)
    Raises GokuError where the file is missing, damaged, or about other prompts.
    """
    if not path.is_file():
        raise GokuError(f"--rewriting {path}: there is no such file. `goku evaluate rewrite` writes rewriting.parquet")
    if path.suffix == ".parquet":
        return _of_table(path)
    lines = prompts_of(path)
    if len(lines) != entries:
        raise GokuError(f"{path} has {len(lines)} lines, the suite {entries} entries: they are not aligned by line")
    words = {p.prompt_id: lines[int(p.prompt_id.rsplit("-", 1)[1])] for p in prompts}
    return Rewriting(path.stem, "", {p.prompt_id: p.text for p in prompts}, words)


def _of_table(path: Path) -> Rewriting:
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise GokuError(f"{path}: not a table of a rewriting: {error}") from error
    if not table.schema.equals(SCHEMA):
        raise GokuError(f"{path}: not a rewriting; its columns are {', '.join(SCHEMA.names)}")
    rows = table.to_pylist()
    writers = {(row["model"], row["template"]) for row in rows}
    if len(writers) != 1:
        raise GokuError(f"{path}: holds the words of {len(writers)} writers, a rewriting has one")
    ((model, template),) = writers
    originals = {row["prompt_id"]: row["original"] for row in rows}
    return Rewriting(model, template, originals, {row["prompt_id"]: row["rewritten"] for row in rows})
