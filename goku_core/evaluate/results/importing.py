"""What every official result file becomes: records of the planned samples, and what could not be placed, by name."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from goku_core.evaluate.manifest import Sample
from goku_core.evaluate.records import Record, evidence
from goku_core.pipeline.errors import GokuError

FORMATS: dict[str, str] = {
    "geneval": "goku_core.evaluate.results.geneval:read",
    "vbench": "goku_core.evaluate.results.vbench:read",
    "vbench_i2v": "goku_core.evaluate.results.vbench:read",
    "vbench2": "goku_core.evaluate.results.vbench:read",
    "dpg": "goku_core.evaluate.results.dpg:read",
}
"""benchmark -> "module:function" that reads its official result file."""
EQUAL = 1e-6
"""A file's own means and those of its entries may differ by so much."""


@dataclass(frozen=True)
class Imported:
    """What a file held.

    records    of the samples that were found in the plan
    unmatched  entries of the file that no planned sample fits, as the file names them
    says       the file's own means, in the unit of our tables: line -> value
    doubts     where the file does not agree with itself, or leaves open what it rests on, in words
    """

    records: tuple[Record, ...]
    unmatched: tuple[str, ...] = ()
    says: Mapping[str, float] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()


Reader = Callable[[str, Path, Sequence[Sample]], Imported]


def import_results(benchmark: str, file: Path, samples: Sequence[Sample]) -> Imported:
    """The records of an official result file (a folder: of every result file in it).

    Raises GokuError where the benchmark has no known format, nothing is there, or the file is not of that format.
    """
    if benchmark not in FORMATS:
        raise GokuError(f"no official result format of {benchmark!r} is known. Known: {', '.join(FORMATS)}")
    module, function = FORMATS[benchmark].split(":")
    reader = importlib.import_module(module)
    read: Reader = getattr(reader, function)
    files = sorted(file.glob(reader.PATTERN)) if file.is_dir() else [file]
    if not files or not all(place.is_file() for place in files):
        raise GokuError(f"{file}: no result file of {benchmark} is there ({reader.PATTERN}).")
    planned = [s for s in samples if s.benchmark == benchmark]
    if not planned:
        raise GokuError(f"the manifest holds no sample of {benchmark}.")
    found = [read(benchmark, place, planned) for place in files]
    return Imported(
        tuple(row for one in found for row in one.records),
        tuple(name for one in found for name in one.unmatched),
        {line: value for one in found for line, value in one.says.items()},
        tuple(doubt for one in found for doubt in one.doubts),
    )


def fingerprint(benchmark: str, file: Path) -> str:
    """The judge of imported records: "official:BENCHMARK/" and twelve digits of the file's SHA-256."""
    return f"official:{benchmark}/{hashlib.sha256(file.read_bytes()).hexdigest()[:12]}"


def record(
    sample: Sample,
    dimension: str,
    judge: str,
    score: float,
    count: int = 1,
    verdict: bool | None = None,
    reason: str = "",
    seen: Mapping[str, Any] | None = None,
) -> Record:
    """A record of a planned sample by an official judge; the judged file itself is not at hand."""
    said = evidence(**(seen or {}))
    return Record(
        sample.sample_id,
        sample.benchmark,
        dimension,
        sample.task,
        sample.prompt.text,
        sample.seed,
        judge,
        "",
        score,
        count,
        verdict,
        reason,
        said,
    )
