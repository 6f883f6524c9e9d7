"""GenEval's result file (`evaluation/evaluate_images.py` at af4902f): JSON lines, one per picture.

{filename, tag, prompt, correct, reason, metadata (JSON text), details (JSON text: class -> [[x0, y0, x1, y1, score], ...])};
filename ends in 00012/samples/0003.png: number of the prompt, number of the picture.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import fsum
from pathlib import Path, PurePosixPath
from typing import Any

from goku_core.evaluate.manifest import Sample
from goku_core.evaluate.results.importing import Imported, fingerprint, record
from goku_core.pipeline.errors import GokuError

PATTERN = "*.jsonl"
FIELDS = ("filename", "tag", "prompt", "correct")


def read(benchmark: str, file: Path, samples: Sequence[Sample]) -> Imported:
    """Records of its pictures. A picture whose number or prompt is not in the plan is named as unmatched."""
    judge = fingerprint(benchmark, file)
    planned = {s.sample_id: s for s in samples}
    records, unmatched = [], []
    tasks: dict[str, list[float]] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        entry = _entry(file, number, line)
        tasks.setdefault(entry["tag"], []).append(float(entry["correct"]))
        sample = planned.get(_sample_id(benchmark, entry["filename"]))
        if sample is None or (sample.prompt.text, sample.task) != (entry["prompt"], entry["tag"]):
            unmatched.append(str(entry["filename"]))
            continue
        right = bool(entry["correct"])
        boxes = entry.get("details") or "{}"
        seen = {"detections": json.loads(boxes) if isinstance(boxes, str) else boxes}
        records.append(record(sample, "geneval", judge, float(right), 1, right, entry.get("reason") or "", seen))
    says = {task: fsum(values) / len(values) for task, values in tasks.items()}
    if says:
        says["total"] = fsum(says.values()) / len(says)
    return Imported(tuple(records), tuple(unmatched), says)


def _entry(file: Path, number: int, line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise GokuError(f"{file}, line {number}: not JSON ({error}).") from error
    lacking = [name for name in FIELDS if not isinstance(entry, dict) or name not in entry]
    if lacking:
        raise GokuError(f"{file}, line {number}: no {', '.join(lacking)}; this is not a result file of GenEval.")
    return entry


def _sample_id(benchmark: str, filename: str) -> str:
    place = PurePosixPath(filename.replace("\\", "/"))
    prompt, picture = (place.parts[-3] if len(place.parts) >= 3 else ""), place.stem
    return f"{benchmark}-{int(prompt):05d}-{int(picture)}" if prompt.isdigit() and picture.isdigit() else ""
