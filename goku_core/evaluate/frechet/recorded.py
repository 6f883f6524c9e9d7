"""Numbers of a whole set as records of its evaluation: what the tables of ImageNet and UCF-101 are made of.

No prompt adds to such a number, so it stands under a sample id of its own, "BENCHMARK-set-0", with its setting as evidence.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from goku_core.evaluate.frechet.flavours import Measurement
from goku_core.evaluate.frechet.measure import Report
from goku_core.evaluate.frechet.members import SETS
from goku_core.evaluate.manifest import read
from goku_core.evaluate.records import Record, RecordStore
from goku_core.pipeline.errors import GokuError

METRICS = {"imagenet": ("fid", "sfid", "is", "precision", "recall"), "ucf101": ("fvd", "is")}


def keep(folder: Path, report: Report) -> list[Record]:
    """Appends the report to the records of the evaluation at `folder`; nothing for another folder or another benchmark.

    Raises GokuError where the evaluation already holds one of these numbers of other samples or by another setting.
    """
    if not (folder / "manifest.parquet").is_file():
        return []
    benchmarks = sorted({sample.benchmark for sample in read(folder / "manifest.parquet")} & set(SETS))
    store = RecordStore(folder / "records")
    there = {(row.benchmark, row.dimension): row for row in store.rows() if row.sample_id.endswith("-set-0")}
    rows = [row for benchmark in benchmarks for row in as_records(report, benchmark)]
    for row in rows:
        earlier = there.get((row.benchmark, row.dimension), row)
        if earlier != row:
            raise GokuError(
                f"{folder}: its records hold {row.dimension} = {earlier.score:g} already, of other samples or by another "
                f"setting than this {row.score:g}. One evaluation keeps one: measure {folder / 'samples'} to look at "
                "another, or plan another evaluation."
            )
    new = [row for row in rows if (row.benchmark, row.dimension) not in there]
    store.append(new)
    return new


def as_records(report: Report, benchmark: str) -> list[Record]:
    """One row per number that the benchmark knows. media: digest of the set; count: how many samples it has."""
    known = [one for one in report.measurements if one.metric in METRICS[benchmark]]
    return [
        Record(
            sample_id=f"{benchmark}-set-0",
            benchmark=benchmark,
            dimension=one.metric,
            task="set",
            prompt="",
            seed=0,
            judge=_judge(one),
            media=report.media,
            score=one.value,
            count=one.setting.samples,
            verdict=None,
            reason="",
            evidence=_canonical({"deviation": one.deviation, "setting": asdict(one.setting)}),
        )
        for one in known
    ]


def _judge(one: Measurement) -> str:
    """Names all that the number depends on beside the samples."""
    setting = {name: value for name, value in asdict(one.setting).items() if name != "samples"}
    return f"{one.setting.flavour}-{hashlib.sha256(_canonical(setting).encode()).hexdigest()[:12]}"


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
