"""reports/evaluation/summary.json: pure functions of the records (and of the judge check beside them)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from goku_core.evaluate.ground_truth import JudgeCheck, vocabulary_chance
from goku_core.evaluate.judges.detector import Detector
from goku_core.evaluate.motion import DIRECTIONS
from goku_core.evaluate.records import Record
from goku_core.evaluate.request import Request
from goku_core.evaluate.statistics import Score, bootstrap, mean_interval, overall
from goku_core.evaluate.suite import image_prompts
from goku_core.scenes.vocabulary import COLORS, SHAPES

PROTOCOL = "geneval-on-corpus/1"


def summarize(
    rows: Sequence[Record], check: JudgeCheck, judge: Detector, request: Request, seed: int
) -> dict[str, Any]:
    """Scores by task and overall with 95 % intervals and chance, the clips, the judge, and what was counted."""
    stills = [row for row in rows if row.dimension == "geneval"]
    by_prompt: dict[str, dict[str, list[float]]] = {}
    for row in stills:
        by_prompt.setdefault(row.task, {}).setdefault(row.prompt_id, []).append(row.score)
    scores, whole = bootstrap(by_prompt, request.bootstrap, seed)
    counted = _vocabulary_chance(request, seed)
    tasks = {
        task: _score(score)
        | {
            "chance": round(counted[task], 6),
            "chance_shuffled": _finite(check.chance[task]),
            "prompts": len(by_prompt[task]),
            "pictures": sum(len(v) for v in by_prompt[task].values()),
        }
        for task, score in scores.items()
    }
    clips = {b: _clips([r for r in rows if r.benchmark == b], request, seed) for b in ("motion", "i2v")}
    return {
        "protocol": protocol(request, judge, seed),
        # chance: a perfect painter who never reads the prompt. Shuffled: the same, measured on the suite's own
        # pictures, where no two prompts are equal.
        "overall": _score(whole)
        | {"chance": round(overall(counted), 6), "chance_shuffled": _finite(overall(check.chance))},
        "tasks": tasks,
        "clips": {b: found for b, found in clips.items() if found},
        "judge": {
            "name": judge.name,
            "fingerprint": judge.fingerprint,
            "minimum": request.judge_minimum,
            "ground_truth": check.summary(),
        },
        "judges": {
            dimension: sorted({r.judge for r in rows if r.dimension == dimension}) for dimension in _named(rows)
        },
        "counts": {
            "prompts": len({row.prompt_id for row in stills}),
            "pictures": len(stills),
            "clips": len({row.sample_id for row in rows}) - len(stills),
            "records": len(rows),
        },
        "request": request.model_dump(mode="json"),
    }


def protocol(request: Request, judge: Detector, seed: int) -> str:
    """Name of everything that must be equal for two scores to be comparable: prompts, seeds, sampler, judge."""
    asked = request.model_dump(mode="json", exclude={"image_model", "video_model", "image_to_video_model", "batch"})
    said = json.dumps({"request": asked, "judge": judge.fingerprint, "seed": seed}, sort_keys=True)
    return f"{PROTOCOL}/{hashlib.sha256(said.encode()).hexdigest()[:12]}"


def _vocabulary_chance(request: Request, seed: int) -> dict[str, float]:
    by_task: dict[str, list[float]] = {}
    for prompt in image_prompts(request.prompts_per_task, seed, request.photo_prefix):
        by_task.setdefault(prompt.task, []).append(vocabulary_chance(prompt.metadata))
    return {task: float(np.mean(values)) for task, values in by_task.items()}


def _clips(rows: Sequence[Record], request: Request, seed: int) -> dict[str, Any]:
    if not rows:
        return {}
    found: dict[str, Any] = {"count": len({row.sample_id for row in rows})}
    for dimension in _named(rows):
        by_prompt: dict[str, list[float]] = {}
        for row in rows:
            if row.dimension == dimension:
                by_prompt.setdefault(row.prompt_id, []).append(row.score)
        # Samples of a prompt succeed and fail together: what is independent are the prompts.
        means = [float(np.mean(values)) for _, values in sorted(by_prompt.items())]
        found[dimension] = _score(mean_interval(means, request.bootstrap, seed))
    found["direction"]["chance"] = round(1 / len(DIRECTIONS), 6)
    found["subject"]["chance"] = round(1 / (len(SHAPES) * len(COLORS)), 6)
    return found


def _named(rows: Sequence[Record]) -> list[str]:
    return sorted({row.dimension for row in rows})


def _score(score: Score) -> dict[str, Any]:
    return {"score": round(score.value, 6), "interval": [round(score.low, 6), round(score.high, 6)]}


def _finite(value: float) -> float | None:
    return round(value, 6) if np.isfinite(value) else None
