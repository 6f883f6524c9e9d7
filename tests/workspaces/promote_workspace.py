"""A small workspace with trained models and their evaluation, as `promote` finds it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file

from goku_core.pipeline.context import Context
from goku_core.promote.promotion import Report, promote
from goku_core.promote.request import Request

PHASES = ("finetune_t2i", "finetune_t2v", "finetune_i2v")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_models(workspace: Path, value: float) -> None:
    for number, name in enumerate((*PHASES, "vae")):
        folder = workspace / "models" / name
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"w": np.full((2, 3), value + number, np.float32)}, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"name": name}))
        (folder / "training.safetensors").write_bytes(b"not to be bundled")


def write_evaluation(workspace: Path, score: float, half: float = 0.05, protocol: str = "geneval-6") -> None:
    folder = workspace / "reports/evaluation"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "records.jsonl").write_text(json.dumps({"sample": "a", "correct": True}) + "\n")
    models = {phase: digest(workspace / "models" / phase / "model.safetensors") for phase in PHASES}
    summary = {
        "overall": {"score": score, "interval": [score - half, score + half]},
        "models": models,
        "protocol": protocol,
        "judge": {"fingerprint": "contour-0123"},
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=1))


def write_records(workspace: Path, scores: dict[str, list[float]]) -> None:
    """Records of an evaluation: scores by task, one prompt each, of one judge."""
    rows = [
        {"benchmark": "geneval", "dimension": "geneval", "task": task, "prompt": f"{task} {number}", "judge": "j", "score": one}
        for task, values in scores.items()
        for number, one in enumerate(values)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), workspace / "reports/evaluation/records.parquet")


def candidate(workspace: Path, value: float, score: float, half: float = 0.05) -> None:
    write_models(workspace, value)
    write_evaluation(workspace, score, half)


def context(workspace: Path) -> Context:
    staging, scratch = workspace / ".goku/staging", workspace / ".goku/scratch"
    staging.mkdir(parents=True, exist_ok=True)
    return Context(workspace, staging, scratch)


def promoted(workspace: Path, **parameters: object) -> Report:
    return promote(Request(**parameters), context(workspace))
