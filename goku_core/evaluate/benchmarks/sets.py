"""Scores of whole sets: FID and its family on ImageNet (ADM suite), FVD and IS of clips on UCF-101.

Such a number is a distance between two sets: no prompt adds to it, so there is no bootstrap over prompts and, unless it is
made of splits (IS), no interval. It stands in the records as one row of the sample "BENCHMARK-set-0".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from goku_core.evaluate.benchmarks.benchmark import Benchmark, from_suite, known_mode
from goku_core.evaluate.manifest import Sample
from goku_core.evaluate.records import Record
from goku_core.evaluate.statistics import Score
from goku_core.evaluate.tables import Line, Mode, Table
from goku_core.pipeline.errors import GokuError

METRICS = {
    "imagenet": ("fid", "sfid", "is", "precision", "recall"),
    "ucf101": ("fvd", "is"),
}
"""benchmark -> its numbers; the first is the headline."""
UNITS = {"fid": "distance", "sfid": "distance", "fvd": "distance", "is": "score"}
Value = float | tuple[float, float, float]
"""A number, or (number, low, high) where it has an interval."""


def set_table(
    benchmark: str,
    values: Mapping[str, Value],
    have: int,
    want: int,
    notes: Sequence[str] = (),
    mode: Mode = "official",
) -> Table:
    """The table of set-level numbers. have, want: samples in the generated set, and those planned.

    A number that is missing, or made of fewer samples than planned, is a line without a score. Raises GokuError for a
    number that the benchmark does not have.
    """
    unknown = sorted(set(values) - set(METRICS[benchmark]))
    if unknown:
        raise GokuError(f"{benchmark} has no {', '.join(unknown)}; it has {', '.join(METRICS[benchmark])}.")
    lines = tuple(_line(benchmark, name, values.get(name), have, want) for name in METRICS[benchmark])
    said = ("A distance between two sets has no interval over prompts; it moves with the number of samples.", *notes)
    headline = lines[0]
    total = Line("total", headline.score, have, want, headline.lacks, headline.unit)
    return Table(benchmark, mode, lines, total, said)


def set_record(benchmark: str, metric: str, value: float, samples: int, judge: str, evidence: str = "{}") -> Record:
    """A set-level number as a record: what `aggregate` of these benchmarks reads."""
    return Record(f"{benchmark}-set-0", benchmark, metric, "set", "", 0, judge, "", value, samples, None, "", evidence)


def _aggregate(
    benchmark: str, records: Sequence[Record], samples: Sequence[Sample], mode: Mode, resamples: int, seed: int
) -> Table:
    want = sum(s.benchmark == benchmark for s in samples)
    rows = [r for r in records if r.sample_id == f"{benchmark}-set-0"]
    judges: dict[str, set[str]] = {}
    for row in rows:
        judges.setdefault(row.dimension, set()).add(row.judge)
    for dimension, names in sorted(judges.items()):
        if len(names) > 1:
            raise GokuError(
                f"{benchmark}/{dimension} was judged by {len(names)} judges: {' and '.join(sorted(names))}."
            )
    return set_table(
        benchmark,
        {row.dimension: row.score for row in rows},
        min((row.count for row in rows), default=0),
        want,
        mode=known_mode(benchmark, mode, ("official",)),
    )


def _line(benchmark: str, name: str, value: Value | None, have: int, want: int) -> Line:
    unit = UNITS.get(name, "share")
    if value is None:
        return Line(name, None, 0, want, f"not evaluated: {benchmark} needs the features of both sets", unit)
    if have < want:
        return Line(name, None, have, want, f"made of {have} of {want} samples: not the planned set", unit)
    score = Score(*value) if isinstance(value, tuple) else Score(value, None, None)
    return Line(name, score, have, want, "", unit)


def _benchmark(name: str, media: str, licence: str) -> Benchmark:
    def aggregate(records: Sequence[Record], samples: Sequence[Sample], mode: Mode, resamples: int, seed: int) -> Table:
        return _aggregate(name, records, samples, mode, resamples, seed)

    kind = "image" if media == "image" else "video"
    return Benchmark(
        name, kind, from_suite(name, "per_prompt"), ("official",), from_suite(name, "load"), aggregate, licence
    )


IMAGENET = _benchmark("imagenet", "image", "ImageNet class names; the pictures under ImageNet's own terms")
UCF101 = _benchmark("ucf101", "video", "UCF-101 class names; the clips under the terms of the data set")
