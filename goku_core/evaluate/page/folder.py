"""An evaluation as it lies on disk: what was planned, what was said, and where each sample can be looked at.

Two folders look alike to everything that follows: one made by `goku evaluate` (manifest.parquet, samples/, records/) and
the one that the line's stage leaves (records.parquet, summary.json, one sheet of pictures per task).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from goku_core.evaluate import manifest, records
from goku_core.evaluate.manifest import Prompt, Sample
from goku_core.evaluate.records import Record
from goku_core.pipeline.errors import GokuError

MOVING = (".mp4", ".webm", ".mov")
STILL = (".png", ".jpg", ".jpeg", ".webp")
PLACES = ("samples", "clips")
STAMP = "judging.json"
"""What judging wrote down: judges, machines, what it could not judge."""


@dataclass(frozen=True)
class Medium:
    """Where a sample can be looked at.

    file    relative to the evaluation's folder
    moving  a clip; else a picture
    tile    (left, top, width, height, width of the file, height of the file) in pixels, where the file is a sheet of many
    """

    file: str
    moving: bool
    tile: tuple[int, int, int, int, int, int] | None = None


@dataclass(frozen=True)
class Evaluation:
    """Everything pages and comparisons are made of.

    samples  as planned; those of the records where there is no manifest
    stamp    judging.json: judges, the environments they ran in, what they could not judge; empty where nothing says so
    summary  summary.json of the line's stage; empty elsewhere
    suite    suite.json: name, files and licence of the prompts
    """

    folder: Path
    samples: tuple[Sample, ...]
    records: tuple[Record, ...]
    media: Mapping[str, Medium]
    stamp: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    suite: Mapping[str, Any] = field(default_factory=dict)

    @property
    def benchmarks(self) -> list[str]:
        return list(dict.fromkeys(sample.benchmark for sample in self.samples))

    @property
    def judges(self) -> list[str]:
        return sorted({record.judge for record in self.records})

    @property
    def modes(self) -> dict[str, list[str]]:
        """Fingerprint of a judge -> the modes in which it was asked, as far as anything says so."""
        return {judge: entry["modes"] for judge, entry in self.stamp.get("judges", {}).items() if "modes" in entry}

    @property
    def environment(self) -> dict[str, Any]:
        """Versions and device under which it was judged; by key where there were several."""
        known = self.stamp.get("environments", {})
        return dict(next(iter(known.values()))) if len(known) == 1 else dict(known)


def opened(folder: Path) -> Evaluation:
    """Reads an evaluation's folder. Raises GokuError where it is none."""
    said = records.RecordStore(folder / "records").rows() if (folder / "records").is_dir() else []
    if not said and (folder / "records.parquet").is_file():
        said = records.merged(records.read(folder / "records.parquet"))
    planned = folder / "manifest.parquet"
    if not planned.is_file() and not said:
        raise GokuError(
            f"{folder}: no evaluation (neither manifest.parquet nor records). "
            "`goku evaluate import BENCHMARK FOLDER --out DIR` or `goku evaluate plan` begins one."
        )
    summary = _json(folder / "summary.json")
    media = found_media(folder, summary)
    samples = manifest.read(planned) if planned.is_file() else spoken_of(said, media)
    of_line = summary if {"overall", "tasks", "models"} <= set(summary) else {}
    return Evaluation(
        folder, tuple(samples), tuple(said), media, _json(folder / STAMP), of_line, _json(folder / "suite.json")
    )


def spoken_of(said: Sequence[Record], media: Mapping[str, Medium]) -> list[Sample]:
    """The samples that records speak of, in the order of their ids: what is known of a plan that is not at hand."""
    groups: dict[str, list[Record]] = {}
    for record in said:
        groups.setdefault(record.sample_id, []).append(record)
    samples = []
    for name, rows in sorted(groups.items()):
        first = rows[0]
        dimensions = tuple(sorted({row.dimension for row in rows}))
        prompt = Prompt(first.prompt_id, first.prompt, first.task, dimensions)
        moving = name in media and media[name].moving
        kind = "video" if moving else "image"
        samples.append(Sample(name, first.benchmark, kind, prompt, first.prompt, first.seed))
    return samples


def found_media(folder: Path, summary: Mapping[str, Any]) -> dict[str, Medium]:
    """Sample id -> what a browser can show of it: a file of its own, else its tile of a sheet."""
    media = _tiles(summary)
    for place in PLACES:
        if not (folder / place).is_dir():
            continue
        for file in sorted((folder / place).iterdir()):
            suffix = file.suffix.lower()
            if suffix in MOVING + STILL:
                media[file.stem] = Medium(f"{place}/{file.name}", suffix in MOVING)
    return media


def _tiles(summary: Mapping[str, Any]) -> dict[str, Medium]:
    media = {}
    for sheet in summary.get("sheets", {}).values():
        height, width = summary["size"]
        columns, names = sheet["columns"], sheet["samples"]
        whole = (columns * width, -(-len(names) // columns) * height)
        for place, name in enumerate(names):
            left, top = place % columns * width, place // columns * height
            media[name] = Medium(sheet["file"], False, (left, top, width, height, *whole))
    return media


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise GokuError(f"{path}: not JSON ({error}). Remove it, and run what wrote it again.") from error
    return found if isinstance(found, dict) else {}
