"""A light evaluation of a model that is still training: few fixed prompts and seeds of the sample corpus, judged in this process.

For curves, not for claims: with 24 pictures the 95 % interval of a share is as wide as 0.4. The prompts, the seeds and the
noise are the same at every step, so what changes is the model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from goku_core.evaluate import ground_truth, suite
from goku_core.evaluate.judges.judge import Bench, Judge, Seen, asked_of, judge_named
from goku_core.evaluate.manifest import Sample
from goku_core.evaluate.sampling import Sampler
from goku_core.evaluate.statistics import overall

PER_TASK, CLIPS, SEED = 4, 8, 0
JUDGES = ("contour", "direction", "flicker", "embedded", "first_frame")
PREFIX = "light/"


def pictures(sampler: Sampler, photo: bool) -> dict[str, float]:
    """GenEval's rule on four prompts of each task: share right by task, and the mean of the tasks."""
    prompts = suite.image_prompts(PER_TASK, SEED, photo)
    samples = suite.image_samples(prompts, PER_TASK, 1, SEED)
    drawn = sampler.images([s.asked for s in samples], [s.seed for s in samples])
    scores = _scores([Seen(s, one[None], 0.0, "") for s, one in zip(samples, drawn, strict=True)])
    tasks = {task: float(np.mean([scores[s.sample_id, "geneval"] for s in samples if s.task == task]))
             for task in dict.fromkeys(s.task for s in samples)}  # fmt: skip
    return {f"{PREFIX}geneval": overall(tasks)} | {f"{PREFIX}geneval_{task}": v for task, v in tasks.items()}


def clips(sampler: Sampler, frames: int, continuing: bool) -> dict[str, float]:
    """Means over eight clips, by dimension. continuing: the model continues a picture, and is given true ones."""
    benchmark = "i2v" if continuing else "motion"
    samples = suite.clip_samples(benchmark, CLIPS, 1, SEED)
    given = [ground_truth.true_picture(s, sampler.size, SEED) if continuing else None for s in samples]
    firsts = {"first_frames": np.stack(given)} if continuing else {}
    drawn = sampler.clips([s.asked for s in samples], [s.seed for s in samples], frames=frames, **firsts)
    seen = [Seen(s, clip, sampler.fps, "", first) for s, clip, first in zip(samples, drawn, given, strict=True)]
    scores = _scores(seen)
    return {
        f"{PREFIX}{benchmark}_{dimension}": float(np.mean([scores[s.sample_id, dimension] for s in samples]))
        for dimension in samples[0].prompt.dimensions
    }


def _scores(seen: Sequence[Seen]) -> dict[tuple[str, str], float]:
    """By sample id and dimension."""
    found: dict[tuple[str, str], float] = {}
    for judge in (judge_named(name, Bench()) for name in JUDGES):
        looked = [one for one in seen if _concerns(judge, one.sample)]
        found |= {(answer.sample_id, answer.dimension): answer.score for answer in judge.judge(looked)}
    return found


def _concerns(judge: Judge, sample: Sample) -> bool:
    return bool(asked_of(judge, sample))
