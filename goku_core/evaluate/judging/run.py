"""Judges an evaluation folder: from samples to records. Killed anywhere, it goes on where it was, to the same bytes.

The manifest is cut into groups of `batch` pictures or of one clip, whatever is already judged, and a group goes through a
judge together: so neither the number of workers nor an interruption changes what stands beside a sample in a pass of a
network, and with it the last bits of its score. What the workers have finished is kept until the records are written.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from goku_core.evaluate import manifest
from goku_core.evaluate.benchmarks.vbench import with_static_filter
from goku_core.evaluate.judges.detector import BLIND_PICTURES
from goku_core.evaluate.judges.judge import Bench
from goku_core.evaluate.judging import media, sight, stamp
from goku_core.evaluate.judging.choice import Chosen, Modes, choose
from goku_core.evaluate.judging.operator import ASKED
from goku_core.evaluate.manifest import Sample
from goku_core.evaluate.records import Record, RecordStore
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.files import lock, write_json
from goku_core.pipeline.pool import Devices, run_operator
from goku_core.pipeline.progress import Bar
from goku_core.scorers.devices import accelerators

LOOK, CHECK = (f"goku_core.evaluate.judging.operator:{name}" for name in ("look", "check"))
RECORDS, STAMP, CHECKED, KEPT = "records", "judging.json", "checked.json", "unfinished"
CHECK_SCHEMA = pa.schema([("judge", pa.string()), ("height", pa.int32()), ("width", pa.int32())])


@dataclass(frozen=True)
class Judging:
    """Who judges, and where.

    judges           names; none: for every dimension the first that knows it
    device           "auto", "cpu" or "cuda"; on a cluster name it, since this process need not have what the nodes have
    share            part of a GPU that one worker takes
    batch            pictures in a group, frames in a pass; part of the result's bits
    timeout_seconds  for one sample, all judges together
    may_be_empty     a judge that finds nothing in most samples does not stop the run (`sight`)
    """

    judges: tuple[str, ...] = ()
    weights: Path = Path("weights")
    mode: Modes = "corrected"
    device: str = "auto"
    share: float = 1.0
    batch: int = 16
    workers: int = 1
    timeout_seconds: float = 600.0
    memory_gigabytes: float = 16.0
    may_be_empty: bool = False


@dataclass(frozen=True)
class Unjudged:
    """A sample that has no record by a judge (name; "decoder" where it could not even be read), and why."""

    sample_id: str
    judge: str
    error_class: str
    message: str


@dataclass
class Judged:
    """What a run did. new, kept, superseded: records. decodes: files decoded. undrawn: samples without a file.

    judge_seconds  by judge, added up over the workers; seconds: wall time of the run
    """

    new: int = 0
    kept: int = 0
    superseded: int = 0
    decodes: int = 0
    undrawn: int = 0
    left_out: dict[str, str] = field(default_factory=dict)
    unanswered: list[str] = field(default_factory=list)
    unjudged: list[Unjudged] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    decode_seconds: float = 0.0
    judge_seconds: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


def judge_folder(folder: Path, how: Judging, say: Callable[[str], None] = lambda said: None) -> Judged:
    """Looks at every sample that lacks a record of a judge for its present file, and appends the records.

    Raises GokuError where a judge fails its check, or sees nothing (`sight`). A sample that one judge cannot judge is named
    in the report and has no record by it.
    """
    run = _Run(folder.resolve(), how, say)
    with lock(
        folder / RECORDS / ".lock",
        owner=f"process {os.getpid()}",
        waiting=lambda who: say(f"{who} judges here; waiting"),
    ):
        return run.judged()


class _Run:
    def __init__(self, folder: Path, how: Judging, say: Callable[[str], None]) -> None:
        self.folder, self.how, self.say, self.started = folder, how, say, time.monotonic()
        self.samples, _ = with_static_filter(manifest.read(folder / "manifest.parquet"))
        self.device = _device(how.device)
        self.chosen: Chosen = choose(self.samples, how.judges, Bench(how.weights, self.device, how.batch), how.mode)
        self.names = {seat.fingerprint: seat.judge.name for seat in self.chosen.seats}
        self.environment = stamp.environment(self.device)
        self.store = RecordStore(folder / RECORDS)
        self.report = Judged(left_out=self.chosen.left_out, unanswered=self.chosen.unanswered)

    def judged(self) -> Judged:
        files = media.files(self.folder, self.samples)
        self.report.undrawn = len(self.samples) - len(files)
        digests = self._digests(files)
        known = self._that_hold(digests)
        table = self._asked(files, digests, known)
        if table.num_rows:
            self._check()
            lines = self._look(table)
            self._append(lines, known)
        shutil.rmtree(self.folder / RECORDS / KEPT, ignore_errors=True)
        self._stamp()
        self.report.seconds = time.monotonic() - self.started
        return self.report

    def _digests(self, files: Mapping[str, Path]) -> dict[str, str]:
        found = {}
        with Bar("evaluate: digests", len(files), "samples") as bar:
            for name, path in files.items():
                found[name] = media.sha256(path)
                bar.advance()
        return found

    def _that_hold(self, digests: Mapping[str, str]) -> set[tuple[str, str, str]]:
        """Keys of the records of the files as they are now. Those of other files become history, whoever made them."""
        rows = self.store.rows()
        stale = [r for r in rows if r.media and r.sample_id in digests and r.media != digests[r.sample_id]]
        self.store.supersede(stale)
        if stale:
            changed = len({row.sample_id for row in stale})
            self.say(f"evaluate: {changed} samples have another file than when they were judged; they are judged again")
        self.report.superseded = len(stale)
        gone = {row.key for row in stale}
        held = {row.key for row in rows if row.key not in gone}
        self.report.kept = sum(
            (sample, dimension, seat.fingerprint) in held
            for seat in self.chosen.seats
            for sample, dimension in seat.wanted
        )
        return held

    def _asked(
        self, files: Mapping[str, Path], digests: Mapping[str, str], known: set[tuple[str, str, str]]
    ) -> pa.Table:
        """Rows of `operator.ASKED`: whole groups of pictures, then of clips, in which some judge lacks a record."""
        rows: list[dict[str, Any]] = []
        for kind in ("image", "video"):
            there = [s for s in self.samples if s.media == kind and s.sample_id in files]
            size = self._group(kind)
            for start in range(0, len(there), size):
                group = there[start : start + size]
                wanted = self._wanted(group, known)
                if any(wanted.values()):
                    rows += [
                        manifest.as_row(s)
                        | {
                            "file": str(files[s.sample_id]),
                            "digest": digests[s.sample_id],
                            "wanted": wanted[s.sample_id],
                        }
                        for s in group
                    ]
        return pa.Table.from_pylist(rows, schema=ASKED)

    def _wanted(self, group: Sequence[Sample], known: set[tuple[str, str, str]]) -> dict[str, list[str]]:
        """Sample id -> fingerprints of the judges that are to look at it: at a whole group, or at nobody of it."""
        found: dict[str, list[str]] = {s.sample_id: [] for s in group}
        for seat in self.chosen.seats:
            pairs = [(s.sample_id, d) for s in group for d in s.prompt.dimensions if (s.sample_id, d) in seat.wanted]
            if any((sample, dimension, seat.fingerprint) not in known for sample, dimension in pairs):
                for sample in dict.fromkeys(sample for sample, _ in pairs):
                    found[sample].append(seat.fingerprint)
        return found

    def _group(self, kind: str) -> int:
        return self.how.batch if kind == "image" else 1

    def _check(self) -> None:
        """Every judge looks at what it must know, once for each judge and environment."""
        place = self.folder / RECORDS / CHECKED
        passed = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {}
        here = stamp.key(self.environment)
        unknown = [name for name in self.names if here not in passed.get(name, [])]
        if not unknown:
            return
        problems = self._problems([{"judge": name, "height": None, "width": None} for name in unknown])
        if problems:
            said = "; ".join(f"{self.names[name]}: {problem}" for name, problem in problems.items())
            raise GokuError(
                f"evaluate: not every judge passes its check, and no score by it would mean anything. {said}"
            )
        write_json(place, passed | {name: sorted({*passed.get(name, []), here}) for name in unknown})

    def _problems(self, rows: list[dict[str, Any]]) -> dict[str, str]:
        """Fingerprint -> what is wrong with the judge, for those with something wrong."""
        table = pa.Table.from_pylist(rows, schema=CHECK_SCHEMA)
        # Together, in one child: a judge that brings it down is found row by row.
        result = run_operator(
            CHECK, table, self._settings(), batch_rows=len(rows), name="check judges", **self._limits() | {"workers": 1}
        )
        found = {row["judge"]: row["problem"] for row in result.table.to_pylist() if row["problem"]}
        return found | {rows[bad.row_index]["judge"]: bad.message for bad in result.quarantined}

    def _look(self, table: pa.Table) -> list[dict[str, Any]]:
        """What was said, in the order of the rows: first about as many as tell whether a judge still sees."""
        lines: list[dict[str, Any]] = []
        kinds = table["media"].to_pylist()
        with Bar("evaluate: judge", table.num_rows, "samples") as bar:
            for kind in ("image", "video"):
                part = table.slice(kinds.index(kind), kinds.count(kind)) if kind in kinds else None
                if part is None:
                    continue
                size = self._group(kind)
                head = -(-BLIND_PICTURES // size) * size
                what = "pictures" if kind == "image" else "clips"
                self._sighted(first := self._mapped(part.slice(0, head), size, f"judge {what}", bar))
                lines += first
                if part.num_rows > head:
                    lines += self._mapped(part.slice(head), size, f"judge further {what}", bar)
        return lines

    def _mapped(self, table: pa.Table, size: int, name: str, bar: Bar) -> list[dict[str, Any]]:
        result = run_operator(
            LOOK,
            table,
            self._settings(),
            batch_rows=size,
            keep=self.folder / RECORDS / KEPT,
            name=name,
            on_progress=bar.advance,
            **self._limits(),
        )
        ids = table["sample_id"].to_pylist()
        for bad in result.quarantined:
            self.report.unjudged.append(Unjudged(ids[bad.row_index], "decoder or judge", bad.error_class, bad.message))
        return result.table.to_pylist()

    def _sighted(self, lines: Sequence[Mapping[str, Any]]) -> None:
        for collapse in sight.collapses(lines):
            said = f"the judge {self.names[collapse.judge]} {collapse}"
            size = {"height": collapse.height, "width": collapse.width}
            problem = self._problems([{"judge": collapse.judge, **size}]).get(collapse.judge)
            if problem and not self.how.may_be_empty:
                raise GokuError(
                    f"evaluate: {said}, and {problem}. A blind judge gives every model the same low score, so nothing is "
                    "scored. Look at the samples; where they are truly empty, say so: --may-be-empty"
                )
            why = (
                "they may be empty, as was said" if problem else "it sees known things of that size, so these show none"
            )
            self.report.notes.append(f"{said}; {why}")
            self.say(f"evaluate: {self.report.notes[-1]}")

    def _append(self, lines: Sequence[Mapping[str, Any]], known: set[tuple[str, str, str]]) -> None:
        by_id = {sample.sample_id: sample for sample in self.samples}
        wanted = {seat.fingerprint: seat.wanted for seat in self.chosen.seats}
        records = []
        for line in lines:
            if line["error_class"]:
                name = self.names.get(line["judge"], "decoder")
                self.report.unjudged.append(Unjudged(line["sample_id"], name, line["error_class"], line["message"]))
            elif line["decodes"]:
                self.report.decodes += line["decodes"]
                self.report.decode_seconds += line["seconds"]
            else:
                name = self.names[line["judge"]]
                self.report.judge_seconds[name] = self.report.judge_seconds.get(name, 0.0) + line["seconds"]
                record = _record(by_id[line["sample_id"]], line)
                if record.key not in known and record.key[:2] in wanted[record.judge]:
                    records.append(record)
        self.store.append(records)
        self.report.new = len(records)

    def _stamp(self) -> None:
        """judging.json: which judge, in which mode, of which weights, in which environments; and what has no record."""
        place = self.folder / STAMP
        before = (
            json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {"judges": {}, "environments": {}}
        )
        here = stamp.key(self.environment)
        judges = before["judges"]
        for seat in self.chosen.seats:
            entry = judges.get(seat.fingerprint, {"modes": [], "environments": [], "batches": []})
            entry |= stamp.described(seat.judge, self.how.weights)
            for what, value in (("modes", seat.mode), ("environments", here), ("batches", self.how.batch)):
                entry[what] = sorted({*entry[what], value})
            judges[seat.fingerprint] = entry
        told = {
            "judges": judges,
            "environments": before["environments"] | {here: self.environment},
            "left_out": self.report.left_out,
            "unanswered": self.report.unanswered,
            "unjudged": [vars(one) for one in self.report.unjudged],
            "undrawn": self.report.undrawn,
            "superseded": self.store.superseded(),
            "notes": sorted({*before.get("notes", []), *self.report.notes}),
        }
        write_json(place, told)

    def _settings(self) -> dict[str, Any]:
        judges = [{"judge": seat.fingerprint, "name": seat.name, "mode": seat.mode} for seat in self.chosen.seats]
        weights = str(self.how.weights.resolve())
        return {"judges": judges, "weights": weights, "device": self.device, "batch": self.how.batch}

    def _limits(self) -> dict[str, Any]:
        devices: Devices | None = accelerators(self.device, self.how.share, "--device")
        return {
            "workers": self.how.workers,
            "timeout_seconds": self.how.timeout_seconds,
            "memory_bytes": int(self.how.memory_gigabytes * (1 << 30)),
            "devices": devices,
        }


def _record(sample: Sample, line: Mapping[str, Any]) -> Record:
    return Record(
        sample.sample_id,
        sample.benchmark,
        line["dimension"],
        sample.task,
        sample.prompt.text,
        sample.seed,
        line["judge"],
        line["media"],
        line["score"],
        line["count"],
        line["verdict"],
        line["reason"],
        line["evidence"],
    )


def _device(wanted: str) -> str:
    """ "auto" is a GPU where there is one that torch can use; torch is imported only to ask it about one."""
    from goku_core.pipeline.pool.devices import visible

    if wanted != "auto":
        return wanted
    if not visible():
        return "cpu"
    from goku_core.scorers.devices import resolved

    return resolved("auto")
