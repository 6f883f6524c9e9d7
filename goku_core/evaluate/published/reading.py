"""Published rows: one YAML file per benchmark, each row with its source; read, checked, recomputed.

A row stands as it was printed. Where its numbers do not belong together (a total that is not made of its dimensions, a number
printed otherwise in a second table, one model with two scores under one name), `doubts` says so and nothing is mended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from goku_core.evaluate.benchmarks import geneval, vbench
from goku_core.evaluate.benchmarks.tally import Rule, mean_of
from goku_core.pipeline.errors import GokuError

FOLDER = Path(__file__).parent
UNITS = ("share", "percent", "own")
LABELS = ("", "rewritten")
TOLERANCE = {"vbench": 0.015, "geneval": 0.01}
"""In the unit of the file: what rounding of the printed numbers can do (the bound of the acceptance test)."""
TOTALS: Mapping[str, Mapping[str, tuple[tuple[str, ...], Rule]]] = {
    "vbench": {
        "quality": (tuple(vbench.QUALITY), vbench.group(vbench.QUALITY)),
        "semantic": (tuple(vbench.SEMANTIC), vbench.group(vbench.SEMANTIC)),
        "total": (tuple(vbench.DIMENSIONS), vbench.total),
    },
    "geneval": {"total": (tuple(geneval.TASKS), mean_of(tuple(geneval.TASKS)))},
}
"""What is made of other numbers of the row: name -> (of which, how). Shares."""


@dataclass(frozen=True)
class Source:
    """Where rows were printed: title of the publication with the table, and its address."""

    title: str
    address: str


@dataclass(frozen=True)
class PublishedRow:
    """One model's printed scores.

    label   "" or "rewritten" (prompts rewritten by a language model: not comparable with those that are not)
    series  numbers of different series of a benchmark are not comparable ("first", "second" of T2I-CompBench; resolutions)
    note    what else must be known
    unit    of the values: "share" 0..1, "percent", or "own" (each number its own)
    values  by the names of the benchmark's lines; "total" is the headline
    """

    model: str
    source: Source
    label: str
    series: str
    note: str
    unit: str
    values: Mapping[str, float]

    def share(self, name: str) -> float:
        """A value in the unit of our tables."""
        return self.values[name] / 100 if self.unit == "percent" else self.values[name]


@dataclass(frozen=True)
class Doubt:
    """A printed number that does not agree with the others. printed, found: in the unit of the file."""

    model: str
    name: str
    printed: float
    found: float
    why: str

    def words(self) -> str:
        return f"{self.model}, {self.name}: printed {self.printed:g}, {self.why} {self.found:.4g}"


def benchmarks() -> list[str]:
    """Benchmarks with published rows."""
    return sorted(place.stem for place in FOLDER.glob("*.yaml"))


def rows(benchmark: str, series: str | None = None, label: str | None = None) -> list[PublishedRow]:
    """Rows in the order of the file, all or of one series and label. Raises GokuError where the file is not as it should be."""
    found = _read(benchmark)[0]
    return [r for r in found if series in (None, r.series) and label in (None, r.label)]


def doubts(benchmark: str) -> list[Doubt]:
    """What is inconsistent in the printed rows; [] where all agree within what rounding explains."""
    found, again = _read(benchmark)
    return [d for row in found for d in recomputed(benchmark, row)] + _printed_twice(found, again) + _two_scores(found)


def recomputed(benchmark: str, row: PublishedRow) -> list[Doubt]:
    """The totals of a row that are not made of its own numbers, by more than rounding explains."""
    found = []
    factor = 100 if row.unit == "percent" else 1
    for name, (of, rule) in TOTALS.get(benchmark, {}).items():
        if name not in row.values or any(part not in row.values for part in of):
            continue
        value = float(rule({part: np.array([row.share(part)]) for part in of})[0]) * factor
        if abs(value - row.values[name]) > TOLERANCE[benchmark] + 1e-9:
            found.append(Doubt(row.model, name, row.values[name], value, "but its own numbers give"))
    return found


def _printed_twice(found: list[PublishedRow], again: list[tuple[str, PublishedRow]]) -> list[Doubt]:
    said = []
    for title, second in again:
        first = next(row for row in found if row.model == second.model)
        said += [
            Doubt(first.model, name, first.values[name], value, f"but {title} has")
            for name, value in second.values.items()
            if value != first.values.get(name)
        ]
    return said


def _two_scores(found: list[PublishedRow]) -> list[Doubt]:
    known: dict[tuple[str, str, str, str], PublishedRow] = {}
    said = []
    for row in found:
        for name, value in row.values.items():
            earlier = known.setdefault((row.model, row.label, row.series, name), row)
            if value != earlier.values[name]:
                why = f"but {row.source.title} has"
                said.append(Doubt(row.model, name, earlier.values[name], value, why))
    return said


@cache
def _read(benchmark: str) -> tuple[list[PublishedRow], list[tuple[str, PublishedRow]]]:
    place = FOLDER / f"{benchmark}.yaml"
    if not place.is_file():
        raise GokuError(f"there are no published rows of {benchmark!r}. There are: {', '.join(benchmarks())}")
    said = yaml.safe_load(place.read_text(encoding="utf-8"))
    if said["benchmark"] != benchmark or said["unit"] not in UNITS:
        raise GokuError(f"{place.name}: benchmark must be {benchmark} and unit one of {', '.join(UNITS)}")
    sources = {name: Source(**about) for name, about in said["sources"].items()}
    found = [_row(place.name, entry, said["columns"], sources[entry["source"]], said["unit"]) for entry in said["rows"]]
    again = []
    for table in said.get("printed_again", ()):
        for entry in table["rows"]:
            title = table["title"]
            again.append((title, _row(place.name, entry, table["columns"], Source(title, ""), said["unit"])))
    return found, again


def _row(place: str, entry: Mapping[str, Any], columns: list[str], source: Source, unit: str) -> PublishedRow:
    model, values, label = entry["model"], entry["values"], entry.get("label", "")
    if len(values) != len(columns):
        raise GokuError(f"{place}: {model} has {len(values)} values for {len(columns)} columns")
    if label not in LABELS:
        raise GokuError(f"{place}: {model}: the label {label!r} is none of {', '.join(map(repr, LABELS))}")
    kept = {name: float(value) for name, value in zip(columns, values, strict=True) if value is not None}
    return PublishedRow(model, source, label, entry.get("series", ""), entry.get("note", ""), unit, kept)
