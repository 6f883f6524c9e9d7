"""What the evaluation proved, as the gate needs it: a score, its interval, and exactly which bytes it belongs to."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from goku_core.pipeline.errors import GokuError
from goku_core.promote.bundle import sha256

FOLDER = "reports/evaluation"
SUMMARY = "summary.json"


@dataclass(frozen=True)
class Evidence:
    """score and interval: overall, 0 to 1, 95 %. models: training phase -> SHA-256 of the model.safetensors sampled."""

    digest: str
    score: float
    interval: tuple[float, float]
    models: dict[str, str]
    vae: str | None = None
    protocol: str | None = None
    files: dict[str, str] = field(default_factory=dict)


def read(folder: Path) -> Evidence:
    """Evidence of an evaluation folder. Raises GokuError where the summary is missing or has no score."""
    path = folder / SUMMARY
    if not path.is_file():
        raise GokuError(f"{path} is missing: run `goku run evaluate` first.")
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        overall = summary["overall"]
        low, high = overall["interval"]
        evidence = Evidence(
            digest=sha256(path),
            score=float(overall["score"]),
            interval=(float(low), float(high)),
            models={str(phase): str(digest) for phase, digest in summary["models"].items()},
            vae=summary.get("vae"),
            protocol=summary.get("protocol"),
            files={name: sha256(folder / name) for name in _records(folder)},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise GokuError(
            f"{path}: no overall score with interval and model digests. Remove it and run `goku run evaluate`."
        ) from error
    if not 0.0 <= evidence.interval[0] <= evidence.score <= evidence.interval[1] <= 1.0:
        raise GokuError(f"{path}: score {evidence.score} and interval {evidence.interval} do not fit together.")
    return evidence


def _records(folder: Path) -> list[str]:
    """The rows that the score is computed from, beside the summary itself."""
    found = [p for p in folder.rglob("*") if p.suffix in {".jsonl", ".parquet"} and p.is_file()]
    return [SUMMARY, *sorted(p.relative_to(folder).as_posix() for p in found)]


def summary_of(workspace: Path, digest: str) -> dict[str, Any]:
    """The summary that an entry of the ledger rests on, by its SHA-256: from the workspace, else from the store.

    Empty where neither has it any more.
    """
    for path in (workspace / FOLDER / SUMMARY, workspace / ".goku/store" / digest[:2] / digest):
        if path.is_file() and sha256(path) == digest:
            return json.loads(path.read_text(encoding="utf-8"))
    return {}


def mismatches(evidence: Evidence, to_promote: dict[str, str], vae: str) -> list[str]:
    """Reasons why the evidence does not belong to these bytes.

    to_promote  training phase -> SHA-256 of the model.safetensors that would be promoted
    """
    faults = []
    for phase, digest in sorted(to_promote.items()):
        evaluated = evidence.models.get(phase)
        if evaluated is None:
            faults.append(f"{phase} was not evaluated (let `evaluate` sample it, or leave it out of `promote`)")
        elif evaluated != digest:
            faults.append(f"{phase} was evaluated as {evaluated[:12]}, to be promoted is {digest[:12]}")
    if evidence.vae is not None and evidence.vae != vae:
        faults.append(f"the VAE was evaluated as {evidence.vae[:12]}, to be promoted is {vae[:12]}")
    return faults
