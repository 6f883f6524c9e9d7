"""The evidence of an evaluation: append-only Parquet, one row per (sample, dimension, judge fingerprint).

Every score, interval, table and page is a pure function of these rows, so it cannot depend on the order or the number
of workers. A row that is missing is an error, never a zero; two rows that contradict each other are an error, never a
choice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from goku_core.pipeline.errors import GokuError

SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("benchmark", pa.string(), nullable=False),
        pa.field("dimension", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("judge", pa.string(), nullable=False),
        pa.field("media", pa.string(), nullable=False),  # SHA-256 of the file that was judged; "" where none is at hand
        pa.field("score", pa.float64(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),
        pa.field("verdict", pa.bool_()),  # null where a dimension has a score but no right and wrong
        pa.field("reason", pa.string(), nullable=False),
        pa.field("evidence", pa.string(), nullable=False),
    ],
    metadata={"unit": "one row per (sample, dimension, judge); score 0..1, or dB for *_psnr", "version": "2"},
)


@dataclass(frozen=True)
class Record:
    """What one judge said about one sample in one dimension.

    sample_id  "geneval-00012-3": benchmark, index of the prompt in the suite, index of the sample
    benchmark  "geneval", "vbench", ...
    dimension  "geneval", "direction", "flicker", ...
    judge      fingerprint of who said it
    media      SHA-256 of the file that was looked at
    score      0..1 (dB for a dimension named *_psnr)
    count      how many things (frames, questions) the score is the mean of: official means weigh by it
    verdict    right or wrong; None where the dimension knows only a degree
    evidence   JSON: what the judge saw (boxes in pixels, centroids, ...)
    """

    sample_id: str
    benchmark: str
    dimension: str
    task: str
    prompt: str
    seed: int
    judge: str
    media: str
    score: float
    count: int
    verdict: bool | None
    reason: str
    evidence: str

    @property
    def key(self) -> tuple[str, str, str]:
        return self.sample_id, self.dimension, self.judge

    @property
    def prompt_id(self) -> str:
        """The sample id without the index of the sample."""
        return self.sample_id.rsplit("-", 1)[0]


def evidence(**seen: Any) -> str:
    """Canonical JSON, so that equal evidence is equal bytes."""
    return json.dumps(seen, sort_keys=True, separators=(",", ":"))


class RecordStore:
    """Rows appended in parts to a folder that survives a kill. No part is ever rewritten.

    A file that has been drawn again makes the records of the file before it stale. They stay where they are; a
    `superseded-N.json` beside the parts names them (sample, dimension, judge, digest of the file that is gone) and holds
    for the parts numbered below N, so that the same file may come back and be judged again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def append(self, rows: Sequence[Record]) -> None:
        """Write one new part; it appears whole or not at all."""
        if not rows:
            return
        place = self.folder / f"part-{self._parts():05d}.parquet"
        draft = place.with_suffix(".draft")
        pq.write_table(_table(rows), draft)
        draft.rename(place)

    def supersede(self, rows: Sequence[Record]) -> None:
        """These rows are of files that are no more: from now on they are history, and no score is made of them."""
        if not rows:
            return
        names = ("sample_id", "dimension", "judge", "media")
        gone = sorted([getattr(row, name) for name in names] for row in rows)
        place = self.folder / f"superseded-{self._parts():05d}.json"
        if place.is_file():
            gone = sorted(gone + [one for one in json.loads(place.read_text(encoding="utf-8")) if one not in gone])
        draft = place.with_suffix(".draft")
        draft.write_text(json.dumps(gone, indent=0) + "\n", encoding="utf-8")
        draft.rename(place)

    def superseded(self) -> int:
        """How many records are history."""
        return sum(len(gone) for _, gone in self._gone())

    def rows(self) -> list[Record]:
        """All rows that hold, sorted by (sample, dimension, judge). GokuError when two rows of one key disagree."""
        gone = self._gone()
        found: list[Record] = []
        for number, part in enumerate(sorted(self.folder.glob("part-*.parquet"))):
            past = {key for below, keys in gone if number < below for key in keys}
            found += [row for row in read(part) if (*row.key, row.media) not in past]
        return merged(found)

    def _parts(self) -> int:
        return len(list(self.folder.glob("part-*.parquet")))

    def _gone(self) -> list[tuple[int, set[tuple[str, ...]]]]:
        """(number of the first part that it does not hold for, keys) of every note of superseded records."""
        return [
            (int(note.stem.rpartition("-")[2]), {tuple(key) for key in json.loads(note.read_text(encoding="utf-8"))})
            for note in sorted(self.folder.glob("superseded-*.json"))
        ]


def merged(rows: Iterable[Record]) -> list[Record]:
    """Sorted by (sample, dimension, judge), each key once. Equal repeats are harmless (a killed run said the same again)."""
    known: dict[tuple[str, str, str], Record] = {}
    for row in rows:
        earlier = known.setdefault(row.key, row)
        if earlier != row:
            raise GokuError(
                f"evaluate: two records of sample {row.sample_id}, dimension {row.dimension} by {row.judge} disagree "
                f"({earlier.score:g} and {row.score:g}). "
                "Delete the stage's scratch folder and run it again."
            )
    return [known[key] for key in sorted(known)]


def require_complete(rows: Sequence[Record], expected: Iterable[tuple[str, str]]) -> None:
    """GokuError naming what is missing, or what nobody asked for."""
    there, wanted = {(row.sample_id, row.dimension) for row in rows}, set(expected)
    for trouble, keys in (("missing", wanted - there), ("not expected", there - wanted)):
        if keys:
            first = ", ".join(f"{sample}/{dimension}" for sample, dimension in sorted(keys)[:3])
            raise GokuError(
                f"evaluate: {len(keys)} of {len(wanted)} records are {trouble}, for example {first}. "
                "No score is made from incomplete records; run the stage again."
            )


def write(path: Path, rows: Sequence[Record]) -> None:
    """One table, sorted by (sample, dimension, judge): the same rows give the same bytes."""
    pq.write_table(_table(sorted(rows, key=lambda r: r.key)), path, compression="zstd")


def read(path: Path) -> list[Record]:
    return [Record(**row) for row in pq.read_table(path, schema=SCHEMA).to_pylist()]


def _table(rows: Sequence[Record]) -> pa.Table:
    return pa.Table.from_pylist([asdict(row) for row in rows], schema=SCHEMA)
