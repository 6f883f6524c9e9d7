"""The manifest: every sample that is to be drawn and judged, known before any network is loaded.

A sample is named by benchmark, number of the prompt in its suite and number of the sample, and by nothing else: file names
are for people, and no prompt or label is ever read off one (VBench looks up the action of a clip by its file name).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.names import require_plain

SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("benchmark", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("media", pa.string(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("asked", pa.string(), nullable=False),
        pa.field("dimensions", pa.list_(pa.string()), nullable=False),
        pa.field("metadata", pa.string(), nullable=False),  # JSON: what the judges of the benchmark need to know
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("rewriting", pa.string(), nullable=False),
        pa.field("height", pa.int32()),
        pa.field("width", pa.int32()),
        pa.field("frames", pa.int32()),
        pa.field("fps", pa.float64()),
        pa.field("steps", pa.int32()),
        pa.field("guidance", pa.float64()),
    ],
    metadata={"unit": "one row per sample; height, width in pixels; null: as the model does it", "version": "1"},
)


@dataclass(frozen=True)
class Prompt:
    """One entry of a suite.

    prompt_id   "geneval-00012": benchmark and its number in the suite (five digits, from 0)
    text        the benchmark's own words: what judges are asked about
    task        group the benchmark scores it in (GenEval's tag, the category of T2I-CompBench); "" where there is none
    dimensions  what is judged on its samples, by the benchmark's own names; one where the benchmark has one score
    metadata    JSON: clauses, labels, questions, as the benchmark's file has them
    """

    prompt_id: str
    text: str
    task: str
    dimensions: tuple[str, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Drawing:
    """How samples are drawn. None: as the model does it; then what was done is unknown until it is drawn.

    model      SHA-256 of the weights; "" for samples that come from elsewhere
    rewriting  name and digest of the prompt rewriting; "" for the benchmark's own words
    """

    model: str = ""
    rewriting: str = ""
    height: int | None = None
    width: int | None = None
    frames: int | None = None
    fps: float | None = None
    steps: int | None = None
    guidance: float | None = None


@dataclass(frozen=True)
class Sample:
    """One picture or clip to be drawn and judged. `asked`: what the model is given, `prompt.text` or its rewriting."""

    sample_id: str
    benchmark: str
    media: Literal["image", "video"]
    prompt: Prompt
    asked: str
    seed: int
    drawing: Drawing = Drawing()

    @property
    def task(self) -> str:
        return self.prompt.task

    @property
    def index(self) -> int:
        """Number of the sample among those of its prompt."""
        return int(self.sample_id.rsplit("-", 1)[1])


def plan(
    benchmark: str,
    media: Literal["image", "video"],
    prompts: Sequence[Prompt],
    per_prompt: int | Mapping[str, int],
    seed: int,
    drawing: Drawing = Drawing(),
    rewritten: Mapping[str, str] | None = None,
) -> list[Sample]:
    """`per_prompt` samples of every prompt (by prompt id where they differ), each with a seed of its own.

    The seed depends on (run seed, sample id) alone: two models planned with one seed are compared on the same noise.
    rewritten: prompt id -> the words the model is given instead.
    """
    samples = []
    for prompt in prompts:
        many = per_prompt if isinstance(per_prompt, int) else per_prompt[prompt.prompt_id]
        for k in range(many):
            name = f"{prompt.prompt_id}-{k}"
            asked = (rewritten or {}).get(prompt.prompt_id, prompt.text)
            samples.append(Sample(name, benchmark, media, prompt, asked, draw_seed(seed, "sample", name), drawing))
    return samples


def draw_seed(seed: int, purpose: str, sample_id: str) -> int:
    """31-bit seed as a function of (run seed, purpose, sample id): the same in any order and after any restart."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{sample_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") & 0x7FFFFFFF


def write(path: Path, samples: Sequence[Sample]) -> None:
    """One table in the order of the plan, whole or not at all: the same samples give the same bytes."""
    repeated = len(samples) - len({s.sample_id for s in samples})
    if repeated:
        raise GokuError(f"manifest: {repeated} sample ids occur twice. Each sample of a manifest has an id of its own.")
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")  # several shards may write the same plan at once
    pq.write_table(pa.Table.from_pylist([as_row(s) for s in samples], schema=SCHEMA), draft, compression="zstd")
    draft.rename(path)


def read(path: Path) -> list[Sample]:
    """Raises GokuError where there is no manifest, or one of another version."""
    if not path.is_file():
        raise GokuError(f"{path} is missing: `goku evaluate plan` writes it.")
    table = pq.read_table(path)
    if not table.schema.equals(SCHEMA):
        raise GokuError(f"{path}: not a manifest of this version. Plan the evaluation again.")
    require_plain(table["sample_id"].to_pylist(), str(path))  # each becomes the name of a picture or a clip
    return from_rows(table.to_pylist())


def difference(planned: Sequence[Sample], there: Sequence[Sample]) -> str:
    """The first thing in which two plans differ, in words; "" for the same plan."""
    for new, old in zip(planned, there, strict=False):
        if new.sample_id != old.sample_id:
            return f"sample {old.sample_id} is there where {new.sample_id} is planned"
        rows = as_row(new), as_row(old)
        for name in SCHEMA.names:
            if rows[0][name] != rows[1][name]:
                return f"{name} of {new.sample_id} is {rows[1][name]!r} there, {rows[0][name]!r} in the plan"
    if len(planned) != len(there):
        return f"{len(there)} samples are there, {len(planned)} are planned"
    return ""


def as_row(sample: Sample) -> dict[str, Any]:
    """The row of a sample: what operators are given."""
    prompt = sample.prompt
    return {
        "sample_id": sample.sample_id,
        "benchmark": sample.benchmark,
        "task": prompt.task,
        "media": sample.media,
        "prompt": prompt.text,
        "asked": sample.asked,
        "dimensions": list(prompt.dimensions),
        "metadata": json.dumps(dict(prompt.metadata), sort_keys=True, separators=(",", ":"), ensure_ascii=False),
        "seed": sample.seed,
        **asdict(sample.drawing),
    }


def from_rows(rows: Iterable[Mapping[str, Any]]) -> list[Sample]:
    """Samples of rows made by `as_row`."""
    names = [f.name for f in fields(Drawing)]
    return [
        Sample(
            row["sample_id"],
            row["benchmark"],
            row["media"],
            Prompt(
                row["sample_id"].rsplit("-", 1)[0],
                row["prompt"],
                row["task"],
                tuple(row["dimensions"]),
                json.loads(row["metadata"]),
            ),
            row["asked"],
            row["seed"],
            Drawing(**{name: row[name] for name in names}),
        )
        for row in rows
    ]
