"""Records of a team that has worked for a while: commit and lineage records as the platform writes them, of invented work."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from goku_core.pipeline.files import digest_json

STAGES = ("collect", "curate", "vae", "precompute", "train@low", "train@high", "evaluate", "promote")
OUTPUT = {
    "collect": "data/raw.parquet",
    "curate": "data/clips.parquet",
    "vae": "models/vae",
    "precompute": "data/latents",
    "train@low": "models/low",
    "train@high": "models/high",
    "evaluate": "reports/evaluation",
    "promote": "reports/promotion.json",
}
READS = {
    "collect": (),
    "curate": ("collect",),
    "vae": ("curate",),
    "precompute": ("curate", "vae"),
    "train@low": ("precompute", "vae"),
    "train@high": ("precompute", "vae", "train@low"),
    "evaluate": ("train@high", "vae"),
    "promote": ("train@high", "vae", "evaluate"),
}


def write(workspace: Path, count: int, seed: int = 0, files: int = 100, code: int = 200) -> list[dict[str, Any]]:
    """`count` records in a workspace's `.goku`; returns the lineage records, oldest first.

    files, code  in a record: of its output, and of the code that made it; both as many as in a record of the demo
    """
    written = []
    for value, outputs in _work(count, seed, files, code):
        lineage = digest_json(value)
        _write(workspace / ".goku" / "lineage" / f"{lineage}.json", value)
        record = value | {"outputs": outputs, "report": _report(value), "lineage": lineage}
        _write(workspace / ".goku" / "records" / value["stage"] / f"{value['fingerprint']}.json", record)
        written.append(value)
    return written


def _work(count: int, seed: int, files: int, code: int) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Lineage record and outputs of each piece of work: mostly trainings and their evaluations, on few versions of data."""
    draw = random.Random(seed)
    made: dict[str, list[tuple[str, str]]] = {stage: [] for stage in STAGES}
    modules = {f"goku_core/room/module_{i}.py": _digest(f"code {i}") for i in range(code)}
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(count):
        ready = [stage for stage in STAGES if all(made[one] for one in READS[stage])]
        weights = [1 if stage in ("collect", "curate", "vae", "precompute") else 30 for stage in ready]
        cell = next((s for s in STAGES if not made[s]), None) or draw.choices(ready, weights)[0]
        name = OUTPUT[cell]
        tree = {"" if "." in name else f"part-{i}.bin": _digest(f"{seed} {number} {i}") for i in range(files)}
        digest = tree[""] if "" in tree else digest_json(sorted(tree.items()))
        read = [draw.choice(made[one]) for one in READS[cell]]
        moment = (begin + timedelta(minutes=number)).isoformat(timespec="microseconds")
        yield (
            {
                "cell": cell,
                "stage": cell.partition("@")[0],
                "revision": 1,
                "fingerprint": _digest(f"fingerprint {seed} {number}"),
                "seed": 0,
                "request": {"number": number},
                "arrangement": {},
                "inputs": {path: {"digest": one, "bytes": 1} for path, one in read},
                "outputs": {name: digest},
                "git": {"commit": _digest(f"commit {number // 20}")[:40], "dirty": False},
                "code": modules,
                "pins": _digest("pins"),
                "driver": "prefect",
                "driver_run": None,
                "mlflow_run": _digest(f"run {seed} {number}")[:32],
                "started": moment,
                "finished": moment,
            },
            {name: {"digest": digest, "folder": "" not in tree, "files": tree, "sizes": dict.fromkeys(tree, 1)}},
        )
        made[cell].append((name, digest))


def _report(value: Mapping[str, Any]) -> dict[str, Any]:
    return {"digest": _digest(f"bundle {value['fingerprint']}")} if value["stage"] == "promote" else {}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")
