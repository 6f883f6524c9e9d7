"""The judge is judged first: on renders whose content is known, at the size the model draws.

A score is worth what its judge is worth. Below `judge_minimum` the stage stops; the same measurement on softened
renders (blur and noise as a small VAE leaves them) is reported beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from goku_core.evaluate import suite
from goku_core.evaluate.judges.detector import Detection, Detector, check_sight, usable
from goku_core.evaluate.manifest import Prompt, Sample
from goku_core.evaluate.motion import direction_verdict, follow
from goku_core.evaluate.statistics import overall, shuffled_chance, task_shares
from goku_core.evaluate.verdict import judge_image
from goku_core.pipeline.errors import GokuError
from goku_core.scenes.draw import draw
from goku_core.scenes.vocabulary import COLORS, NUMBERS, RELATIONS, SHAPES

SOFT_BLUR = 1.0
"""Standard deviation in pixels."""
SOFT_NOISE = 255.0 / 10**1.5
"""Standard deviation in grey levels: a PSNR of 30 dB."""


@dataclass(frozen=True)
class JudgeCheck:
    """Shares of ground-truth renders judged rightly, and the chance level by task. All 0..1."""

    tasks: dict[str, float]
    softened: dict[str, float]
    direction: float | None
    chance: dict[str, float]

    @property
    def overall(self) -> float:
        return overall(self.tasks)

    def summary(self) -> dict[str, Any]:
        return {
            "overall": round(self.overall, 6),
            "tasks": {k: round(v, 6) for k, v in self.tasks.items()},
            "softened": {k: round(v, 6) for k, v in self.softened.items()},
            "softened_overall": round(overall(self.softened), 6),
            "direction": None if self.direction is None else round(self.direction, 6),
        }


def check_judge(
    judge: Detector, prompts: Sequence[Prompt], samples: Sequence[Sample], size: tuple[int, int], seed: int
) -> JudgeCheck:
    """Measure the judge on one render of every sample's prompt. size: height and width in pixels."""
    renders = np.stack([true_picture(s, size, seed) for s in samples])
    seen = judge.detect(renders)
    check_sight(judge, seen)
    soft = judge.detect(np.stack([soften(r, suite.generator(seed, "soften", str(i))) for i, r in enumerate(renders)]))
    return JudgeCheck(
        tasks=task_shares(_verdicts(judge, samples, seen)),
        softened=task_shares(_verdicts(judge, samples, soft)),
        direction=None,
        chance=_chance(judge, prompts, samples, seen),
    )


def known_share(judge: Detector, size: tuple[int, int]) -> float:
    """Share of two renders of each task that the judge gets right, without seed or suite of anybody. size: in pixels."""
    prompts = suite.image_prompts(2, seed=0)
    samples = suite.image_samples(prompts, 2, 1, seed=0)
    seen = judge.detect(np.stack([true_picture(s, size, 0) for s in samples]))
    return overall(task_shares(_verdicts(judge, samples, seen)))


def require(check: JudgeCheck, judge: Detector, minimum: float) -> None:
    """GokuError when the judge is not good enough in any task."""
    measured = dict(check.tasks) | {"overall": check.overall}
    if check.direction is not None:
        measured["direction of motion"] = check.direction
    bad = {name: share for name, share in measured.items() if share < minimum}
    if bad:
        said = ", ".join(f"{name} {share:.3f}" for name, share in bad.items())
        raise GokuError(
            f"evaluate: the judge {judge.name!r} gets too few ground-truth renders right: {said}; "
            f"evaluate.judge_minimum is {minimum:g}. A score by it would mean nothing, so none is made. "
            "Larger pictures help it; it cannot judge what it cannot see."
        )


def true_picture(sample: Sample, size: tuple[int, int], seed: int) -> np.ndarray:
    scene = suite.true_scene(sample.prompt.metadata, suite.generator(seed, "truth", sample.sample_id))
    return draw(scene, *size)


def true_clip(sample: Sample, size: tuple[int, int], frames: int, fps: float, seed: int) -> np.ndarray:
    """The clip a perfect model might draw, uint8 (frames, H, W, 3)."""
    scene = suite.true_scene(sample.prompt.metadata, suite.generator(seed, "truth", sample.sample_id))
    return np.stack([draw(scene, *size, time=i / fps) for i in range(frames)])


def direction_share(
    judge: Detector, samples: Sequence[Sample], size: tuple[int, int], frames: int, fps: float, seed: int
) -> float:
    """Share of ground-truth clips whose direction the judge gets right."""
    right = []
    for sample in samples:
        clause = sample.prompt.metadata["include"][0]
        path = follow(true_clip(sample, size, frames, fps, seed), judge, clause["class"], clause.get("color"))
        right.append(direction_verdict(path, sample.prompt.metadata["motion"])[0])
    return float(np.mean(right))


def soften(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a small VAE does to a picture, roughly: blur, and noise of 30 dB."""
    blurred = cv2.GaussianBlur(image, (0, 0), SOFT_BLUR).astype(np.float64)
    return np.clip(blurred + rng.normal(0, SOFT_NOISE, image.shape), 0, 255).round().astype(np.uint8)


def vocabulary_chance(metadata: Mapping[str, Any]) -> float:
    """Chance that a perfect picture of a random prompt of the task fits this one, counted from the vocabulary.

    Shapes, colours (two things differ in both), numbers 2 to 4 and the four sides all equally likely.
    """
    shapes, colors = len(SHAPES), len(COLORS)
    colored = "color" in metadata["include"][0]
    if len(metadata["include"]) == 1:
        looks = shapes * (colors if colored else 1)
        return 1 / (looks * (len(NUMBERS) - 1 if metadata["tag"] == "counting" else 1))
    looks = shapes * (shapes - 1) // 2 * (colors * (colors - 1) if colored else 1)
    return 1 / (looks * (len(RELATIONS) if metadata["tag"] == "position" else 1))


def _verdicts(
    judge: Detector, samples: Sequence[Sample], seen: Sequence[list[Detection]]
) -> dict[str, dict[str, list[float]]]:
    found: dict[str, dict[str, list[float]]] = {}
    for sample, things in zip(samples, seen, strict=True):
        prompt = sample.prompt
        verdict = judge_image(usable(things, judge, prompt.task), prompt.metadata)
        found.setdefault(prompt.task, {}).setdefault(prompt.prompt_id, []).append(float(verdict.correct))
    return found


def _chance(
    judge: Detector, prompts: Sequence[Prompt], samples: Sequence[Sample], seen: Sequence[list[Detection]]
) -> dict[str, float]:
    """By task: the right pictures of all other prompts judged against each: the exact mean of shuffling."""
    first: dict[str, list[Detection]] = {}
    for sample, things in zip(samples, seen, strict=True):
        first.setdefault(sample.prompt.prompt_id, things)

    def agrees(asked: Prompt, drawn: Prompt) -> bool:
        found = usable(first[drawn.prompt_id], judge, asked.task)
        return judge_image(found, asked.metadata).correct

    by_task: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        by_task.setdefault(prompt.task, []).append(prompt)
    return {task: shuffled_chance(group, agrees) for task, group in by_task.items()}
