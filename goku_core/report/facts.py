"""Reads what the workspace holds: commit records, tables, reports. Nothing is computed twice, nothing is invented.

A stage that has not run is None; the page and the table say so.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from goku_core.costs import PlanRequest
from goku_core.pipeline.commit import Record, Workspace
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.line import STAGES


@dataclass(frozen=True)
class Piece:
    """One cell of the line and its commit record, if there is one.

    current  the workspace's outputs are that record's
    """

    name: str
    record: Record | None
    current: bool

    @property
    def stage(self) -> str:
        return self.name.partition("@")[0]

    @property
    def phase(self) -> str:
        return self.name.partition("@")[2]

    @property
    def report(self) -> dict[str, Any]:
        return self.record.report if self.record else {}


@dataclass(frozen=True)
class Phase:
    """A training phase: its model folder, its log, its previews."""

    name: str
    folder: Path
    metrics: list[dict[str, Any]]
    samples: list[dict[str, Any]]
    report: dict[str, Any]
    request: dict[str, Any]


@dataclass
class Facts:
    root: Path
    pieces: list[Piece] = field(default_factory=list)
    raw: dict[str, Any] | None = None
    curation: dict[str, Any] | None = None
    validation: dict[str, Any] | None = None
    vae: dict[str, Any] | None = None
    vae_metrics: list[dict[str, Any]] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)
    evaluation: dict[str, Any] | None = None
    verdicts: dict[str, dict[str, Any]] = field(default_factory=dict)
    promotion: dict[str, Any] | None = None
    plan: PlanRequest = field(default_factory=PlanRequest)

    @property
    def total_seconds(self) -> float:
        """Wall time of the pieces whose outputs the workspace holds, added up."""
        return sum(piece.record.seconds for piece in self.pieces if piece.record)

    def piece(self, name: str) -> Piece | None:
        return next((piece for piece in self.pieces if piece.name == name), None)


def gather(root: Path) -> Facts:
    """All facts of a workspace. GokuError where a report is there but cannot be read."""
    root = root.resolve()
    facts = Facts(root, pieces=_pieces(root))
    facts.raw = _raw(root / "data/raw.parquet")
    facts.curation = _json(root / "reports/curation/funnel.json")
    facts.validation = _json(root / "reports/curation/validation.json")
    facts.vae = _json(root / "models/vae/report/report.json")
    facts.vae_metrics = _lines(root / "models/vae/report/metrics.jsonl")
    facts.phases = [phase for piece in facts.pieces if piece.stage == "train" and (phase := _phase(root, piece))]
    facts.evaluation = _json(root / "reports/evaluation/summary.json")
    facts.verdicts = _verdicts(root / "reports/evaluation/records.parquet")
    facts.promotion = _promotion(root)
    facts.plan = _plan(root / "params.yaml")
    return facts


def _plan(params: Path) -> PlanRequest:
    """The price table; without a readable params.yaml the default one."""
    from goku_core.config import load_params

    try:
        return load_params(params).plan
    except GokuError:
        return PlanRequest()


def _promotion(root: Path) -> dict[str, Any] | None:
    """The newest decision: the ledger's last entry, as a rollback writes no report of a stage; without a ledger, that report."""
    told = _json(root / "reports/promotion.json")
    entries = sorted((root / "ledger").glob("[0-9]*.json"))
    if not entries:
        return told
    last = _json(entries[-1])
    return {**last, "digest": last["bundle"], "alias": (told or {}).get("alias", "champion")}


def _pieces(root: Path) -> list[Piece]:
    """Cells in the order of the line, each with its newest record whose outputs the workspace holds."""
    with Workspace(root) as place:
        by_cell: dict[str, list[Record]] = {}
        for record in place.records():
            by_cell.setdefault(record.cell, []).append(record)
        pieces = []
        for name in _order(root, list(by_cell)):
            newest_first = by_cell.get(name, [])[::-1]
            held = next((record for record in newest_first if place.holds_outputs(record)), None)
            pieces.append(Piece(name, held or next(iter(newest_first), None), held is not None))
    return pieces


def _order(root: Path, recorded: list[str]) -> list[str]:
    """Names of the cells: as params.yaml has them; without a readable one, as the records have them."""
    from goku_core.config import load_params
    from goku_core.pipeline.line import cells

    try:
        return [cell.name for cell in cells(load_params(root / "params.yaml"))]
    except GokuError:
        known = {stage: i for i, stage in enumerate(STAGES)}
        names = sorted(recorded, key=lambda name: (known.get(name.partition("@")[0], len(known)), recorded.index(name)))
        stages = {name.partition("@")[0] for name in names}
        return names or [stage for stage in STAGES if stage not in stages]


def _raw(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["kind", "outcome", "filter", "bytes", "uri", "message"]).to_pylist()
    gone = [row for row in table if row["outcome"] != "kept"]
    return {
        "files": len(table),
        "kinds": dict(Counter(row["kind"] for row in table)),
        "bytes": sum(row["bytes"] or 0 for row in table),
        "why": [
            {
                "filter": name,
                "count": count,
                "example": next(f"{r['uri']} {r['message'] or ''}" for r in gone if r["filter"] == name),
            }
            for name, count in sorted(Counter(str(row["filter"]) for row in gone).items())
        ],
    }


def _phase(root: Path, piece: Piece) -> Phase | None:
    folder = root / "models" / piece.phase
    if not folder.is_dir():
        return None
    samples = _json(folder / "samples/samples.json") or []
    entries = samples.get("samples", []) if isinstance(samples, dict) else samples
    request = piece.record.value["request"] if piece.record else {}
    request = request.get("phases", {}).get(piece.phase, {})
    return Phase(piece.phase, folder, _lines(folder / "metrics.jsonl"), entries, piece.report, request)


def _verdicts(path: Path) -> dict[str, dict[str, Any]]:
    """{sample id: {dimension: row}}."""
    if not path.is_file():
        return {}
    import pyarrow.parquet as pq

    columns = ["sample_id", "dimension", "task", "prompt", "seed", "score", "verdict", "reason"]
    found: dict[str, dict[str, Any]] = {}
    for row in pq.read_table(path, columns=columns).to_pylist():
        found.setdefault(row["sample_id"], {})[row["dimension"]] = row
    return found


def _json(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise GokuError(f"{path}: not JSON ({error}). Remove it and run its stage again.") from error


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
