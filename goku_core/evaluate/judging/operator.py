"""The operators of judging: rows of the manifest in, what the judges say out. They run in the pool's children.

A sample is decoded once, whatever the number of judges that look at it. A judge that fails for a group of samples is asked
for each of them alone, so that it fails only for those that it cannot judge, and the other judges go on.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from goku_core.evaluate import manifest
from goku_core.evaluate.judges.judge import Answer, Bench, Judge, Seen, asked_of, judge_named
from goku_core.evaluate.judging.media import look_at
from goku_core.media.faults import MediaError
from goku_core.pipeline.errors import GokuError
from goku_core.scorers.devices import plain_float32

ASKED = pa.schema(
    [
        *manifest.SCHEMA,
        pa.field("file", pa.string(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("wanted", pa.list_(pa.string()), nullable=False),  # fingerprints of the judges that are to look
    ]
)
SAID = pa.schema(
    [
        ("sample_id", pa.string()),
        ("judge", pa.string()),  # fingerprint; "" where the sample could not be decoded at all
        ("dimension", pa.string()),  # "" for a failure
        ("score", pa.float64()),
        ("count", pa.int64()),
        ("verdict", pa.bool_()),
        ("reason", pa.string()),
        ("evidence", pa.string()),
        ("media", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("error_class", pa.string()),
        ("message", pa.string()),
        ("seconds", pa.float64()),  # the judge's own; in the row of a decode: the decoder's
        ("decodes", pa.int64()),
    ]
)
CHECKED = pa.schema([("judge", pa.string()), ("height", pa.int32()), ("width", pa.int32()), ("problem", pa.string())])


def look(batch: pa.RecordBatch, settings: dict[str, Any]) -> pa.RecordBatch:
    """Operator. Rows of `ASKED` in; a row of `SAID` for each decode, each answer and each failure out.

    settings: judges (fingerprint, name, mode), weights, device, batch.
    """
    judges = _judges(json.dumps(settings, sort_keys=True))
    rows = [row for row in batch.to_pylist() if row["wanted"]]
    lines: list[dict[str, Any]] = []
    seen: dict[str, Seen] = {}
    for row, sample in zip(rows, manifest.from_rows(rows), strict=True):
        started = time.perf_counter()
        try:
            seen[sample.sample_id] = one = look_at(sample, Path(row["file"]), row["digest"])
        except (MediaError, GokuError, OSError) as error:
            lines.append(_failure(sample.sample_id, "", getattr(error, "error_class", "unreadable"), error))
            continue
        shape = {"height": one.frames.shape[1], "width": one.frames.shape[2]}
        lines.append(_line(sample.sample_id, "", seconds=time.perf_counter() - started, decodes=1, **shape))
    for fingerprint, judge in judges.items():
        group = [seen[r["sample_id"]] for r in rows if r["sample_id"] in seen and fingerprint in r["wanted"]]
        if group:
            lines += _asked(fingerprint, judge, group)
    return pa.RecordBatch.from_pylist(lines, schema=SAID)


def check(batch: pa.RecordBatch, settings: dict[str, Any]) -> pa.RecordBatch:
    """Operator. Rows (judge, height, width) in, each with its problem out, "" for none.

    Without a size the judge looks at its built-in renders (`Judge.check`); with one it says whether it sees known things in
    pictures of that size (`sees`); a judge that cannot say has that as its problem.
    """
    judges = _judges(json.dumps(settings, sort_keys=True))
    lines = []
    for row in batch.to_pylist():
        judge, problem = judges[row["judge"]], ""
        if row["height"] is None:
            try:
                judge.check()
            except GokuError as error:
                problem = str(error)
        elif not hasattr(judge, "sees"):
            problem = "it has no renders with known things of that size to show its sight on"
        elif not judge.sees(row["height"], row["width"]):
            problem = "it does not see known things in renders of that size either"
        lines.append(row | {"problem": problem})
    return pa.RecordBatch.from_pylist(lines, schema=CHECKED)


@lru_cache(maxsize=1)
def _judges(settings: str) -> dict[str, Judge]:
    """By fingerprint. Raises GokuError where a judge here is not the one that was chosen (other weights, other device)."""
    told = json.loads(settings)
    plain_float32(told["device"])
    found = {}
    for one in told["judges"]:
        bench = Bench(Path(told["weights"]), told["device"], told["batch"], one["mode"])
        judge = judge_named(one["name"], bench)
        if judge.fingerprint != one["judge"]:
            raise GokuError(
                f"the judge {one['name']} is {judge.fingerprint} here, but {one['judge']} where it was chosen"
            )
        found[one["judge"]] = judge
    return found


def _asked(fingerprint: str, judge: Judge, group: Sequence[Seen]) -> list[dict[str, Any]]:
    started = time.perf_counter()
    try:
        answers = _sound(judge, judge.judge(group), group)
    except MemoryError:
        raise  # the process is to be replaced, not the sample to be blamed
    except Exception as error:
        if len(group) > 1:
            return [line for one in group for line in _asked(fingerprint, judge, [one])]
        return [_failure(group[0].sample.sample_id, fingerprint, "judge", error)]
    share = (time.perf_counter() - started) / max(1, len(answers))
    digests = {one.sample.sample_id: one.digest for one in group}
    return [
        _line(
            answer.sample_id,
            fingerprint,
            dimension=answer.dimension.rpartition("/")[2],
            score=float(answer.score),
            count=int(answer.count),
            verdict=None if answer.verdict is None else bool(answer.verdict),
            reason=answer.reason,
            evidence=answer.evidence_json(),
            media=digests[answer.sample_id],
            seconds=share,
        )
        for answer in answers
    ]


def _sound(judge: Judge, answers: Sequence[Answer], group: Sequence[Seen]) -> list[Answer]:
    """The answers, if there is exactly one finite one for everything that was asked. Raises GokuError."""
    said = [(answer.sample_id, answer.dimension.rpartition("/")[2]) for answer in answers]
    wanted = {(one.sample.sample_id, dimension) for one in group for dimension in asked_of(judge, one.sample)}
    if set(said) != wanted or len(said) != len(wanted):
        odd = sorted(set(said) ^ wanted) or sorted(said)
        raise GokuError(f"it was asked {len(wanted)} things and gave {len(said)} answers: {'/'.join(odd[0])}")
    for answer in answers:
        if not math.isfinite(answer.score):
            raise GokuError(f"its score in {answer.dimension} is {answer.score}, which is no number")
    return list(answers)


def _failure(sample_id: str, judge: str, error_class: str, error: Exception) -> dict[str, Any]:
    said = str(error) if isinstance(error, GokuError | MediaError) else f"{type(error).__name__}: {error}"
    return _line(sample_id, judge, error_class=error_class, message=said)


def _line(sample_id: str, judge: str, **said: Any) -> dict[str, Any]:
    blank = {"dimension": "", "error_class": "", "message": "", "seconds": 0.0, "decodes": 0}
    return dict.fromkeys(SAID.names) | blank | {"sample_id": sample_id, "judge": judge} | said
