"""Bad inputs through the real survey in the supervised pool: how many end as what, and whether the run survives.

Measures the claim: of at least 500 spoiled or odd files none ends the run, and each has its outcome. The files are made
from real containers (`benchmarks/measuring/spoiled.py`): changed bytes, lying lengths, missing boxes, truncations, odd
codecs and sizes, things that are no media at all. The gate is opened wide, so that what can be decoded is decoded.
A child of the pool that dies, hangs or grows too large is counted as quarantined: its file is one row, and others go on.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.measuring.options import parser, settle
from benchmarks.measuring.result import Result
from benchmarks.measuring.spoiled import corpus
from goku_core.curate.request import Request
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.pool import run_operator

CLAIM = "Bad inputs: spoiled and odd files through the survey in the supervised pool; crashes of the run must be 0"
GATE = {"min_seconds": 0, "min_side": 16, "min_kbps": 0, "min_fps": 0, "interlaced": True, "hdr": True}
OUTCOMES = ("kept", "rejected", "failed", "quarantined")
TIMEOUT, GIBIBYTES = 60.0, 3.0
SMALL = 16


def main(arguments: list[str] | None = None) -> Result:
    options = parser("fuzz", __doc__)
    options.add_argument("--files", type=int, default=600)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--workers", type=int, default=2, help="child processes")
    options.add_argument("--keep", type=Path, help="a folder that keeps the files, to look at")
    options = settle(options.parse_args(arguments))
    if options.small:
        options.files = SMALL
    result = Result("fuzz", CLAIM, options)
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
        _measure(result, options.keep)
    else:
        with tempfile.TemporaryDirectory() as folder:
            _measure(result, Path(folder))
    options.keep = str(options.keep) if options.keep else None
    result.finish()
    return result


def _measure(result: Result, folder: Path) -> None:
    options = result.options
    result.say(f"making {options.files} files")
    made = corpus(folder, options.files, options.seed)
    result.say("through the survey")
    started = time.monotonic()
    crashes, outcomes = 0, {}
    try:
        outcomes = surveyed(folder, [name for name, _ in made], options.workers)
    except GokuError as error:
        crashes = 1
        result.note(f"the run ended: {error}")
    seconds = time.monotonic() - started
    counts: dict[str, Counter[str]] = {}
    for name, label in made:
        outcome, reason = outcomes.get(name, ("lost", ""))
        counts.setdefault(label, Counter())[outcome] += 1
        if outcome == "quarantined":
            result.note(f"{name} ({label}): quarantined, {reason}")
    for label, found in counts.items():
        result.rows.append(_row(label, found))
    total = sum(counts.values(), Counter())
    result.rows.append(_row("all", total) | {"crashes_of_the_run": crashes, "seconds_of_the_run": round(seconds, 1)})
    reasons = Counter(f"{outcome}: {reason}" for outcome, reason in outcomes.values() if outcome != "kept")
    result.note("reasons: " + ", ".join(f"{reason} {number}" for reason, number in reasons.most_common()))


def surveyed(folder: Path, names: list[str], workers: int) -> dict[str, tuple[str, str]]:
    """(outcome, reason) of each file. A file with several clips is kept when one of them is not rejected.

    Raises `GokuError` where the run itself fails: that must never happen.
    """
    request = Request(
        gate=GATE, max_clip_seconds=2, min_clip_seconds=1, timeout_seconds=TIMEOUT, memory_gigabytes=GIBIBYTES
    )
    settings = {
        "request": request.model_dump(mode="json"),
        "workspace": str(folder),
        "transcoded": str(folder / "data/transcoded"),
    }
    table = pa.table(
        {
            # A spoiled file may have the bytes of another: the name makes each one a medium of its own.
            "media_id": [hashlib.sha256(name.encode()).hexdigest() for name in names],
            "uri": names,
            "kind": ["video"] * len(names),
        }
    )
    result = run_operator(
        "goku_core.curate.survey:survey",
        table,
        settings,
        workers=workers,
        batch_rows=2,
        timeout_seconds=request.timeout_seconds,
        memory_bytes=int(request.memory_gigabytes * (1 << 30)),
    )
    known = dict(zip(table["media_id"].to_pylist(), names, strict=True))
    found: dict[str, tuple[str, str]] = {}
    for row in result.table.select(["media_id", "outcome", "filter"]).to_pylist():
        name = known[row["media_id"]]
        if found.get(name, ("", ""))[0] != "kept":
            found[name] = (row["outcome"], row["filter"] or "")
    for failure in result.quarantined:
        found[names[failure.row_index]] = ("quarantined", f"{failure.error_class}: {failure.message}")
    return found


def _row(label: str, found: Counter[str]) -> dict[str, Any]:
    counted = {outcome: found[outcome] for outcome in OUTCOMES}
    return {"case": label, "files": sum(found.values())} | counted | {"lost": found["lost"]}


if __name__ == "__main__":
    main()
