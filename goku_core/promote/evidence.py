"""What the evaluation proved, as the gate needs it: a score, its interval, and exactly which bytes it belongs to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from goku_core.pipeline.errors import GokuError
from goku_core.promote.bundle import sha256

FOLDER = "reports/evaluation"
SUMMARY = "summary.json"
RECORDS = "records.parquet"


@dataclass(frozen=True)
class Score:
    """A score and its 95 % interval, in the score's own unit."""

    value: float
    low: float
    high: float


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
    scores: dict[str, Score] = field(default_factory=dict)  # every score by its name, as `scores` has them
    records: Path | None = None


@dataclass(frozen=True)
class Past:
    """What is still known of the champion's evaluation. scores: empty, records: None where it is gone."""

    scores: Mapping[str, Score] = field(default_factory=dict)
    records: Path | None = None


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
            scores=scores(summary),
            records=folder / RECORDS if (folder / RECORDS).is_file() else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise GokuError(
            f"{path}: no overall score with interval and model digests. Remove it and run `goku run evaluate`."
        ) from error
    if not 0.0 <= evidence.interval[0] <= evidence.score <= evidence.interval[1] <= 1.0:
        raise GokuError(f"{path}: score {evidence.score} and interval {evidence.interval} do not fit together.")
    return evidence


def scores(summary: Mapping[str, Any]) -> dict[str, Score]:
    """Scores of a summary by name: `overall`, `geneval/TASK`, and `BENCHMARK/DIMENSION` of clips; those without a value
    are left out, as if they had not been measured."""
    found = {"overall": summary["overall"]}
    found |= {f"geneval/{task}": told for task, told in summary.get("tasks", {}).items()}
    for benchmark, dimensions in summary.get("clips", {}).items():
        found |= {f"{benchmark}/{name}": told for name, told in dimensions.items() if isinstance(told, Mapping)}
    return {
        name: Score(float(told["score"]), *(float(bound) for bound in told["interval"]))
        for name, told in found.items()
        if told.get("score") is not None
    }


def past(workspace: Path, digest: str, files: Mapping[str, str]) -> Past:
    """The champion's evaluation, from the workspace or the store. digest: of its summary; files: name -> SHA-256."""
    summary = summary_of(workspace, digest)
    return Past(scores(summary) if summary else {}, _kept(workspace, RECORDS, files.get(RECORDS)))


def _records(folder: Path) -> list[str]:
    """The rows that the score is computed from, beside the summary itself."""
    found = [p for p in folder.rglob("*") if p.suffix in {".jsonl", ".parquet"} and p.is_file()]
    return [SUMMARY, *sorted(p.relative_to(folder).as_posix() for p in found)]


def summary_of(workspace: Path, digest: str) -> dict[str, Any]:
    """The summary that an entry of the ledger rests on, by its SHA-256: from the workspace, else from the store.

    Empty where neither has it any more.
    """
    path = _kept(workspace, SUMMARY, digest)
    return json.loads(path.read_text(encoding="utf-8")) if path else {}


def outdated(workspace: Path, digest: str) -> str:
    """Why a summary is no longer the evidence about its models: they were evaluated again, or it is gone. Empty: it is."""
    summary = summary_of(workspace, digest)
    if not summary:
        return "its evaluation is gone from the workspace and from .goku/store."
    present = workspace / FOLDER / SUMMARY
    if present.is_file() and sha256(present) != digest:
        try:
            now = json.loads(present.read_text(encoding="utf-8"))
        except ValueError:
            now = {}
        if now.get("models") == summary["models"]:
            return "its models were evaluated again since it was judged."
    return ""


def _kept(workspace: Path, name: str, digest: str | None) -> Path | None:
    """A file of an evaluation by its SHA-256, wherever it still lies."""
    if not digest:
        return None
    places = (workspace / FOLDER / name, workspace / ".goku/store" / digest[:2] / digest)
    return next((path for path in places if path.is_file() and sha256(path) == digest), None)


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
