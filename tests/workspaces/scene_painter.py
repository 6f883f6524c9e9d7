"""A perfect model, for tests: it has the face of the Generator and draws what the prompt says."""

from __future__ import annotations

import numpy as np

from goku_core.evaluate import suite
from goku_core.scenes.draw import draw
from goku_core.scenes.grammar import benchmark_prompts, motion_prompts
from goku_core.scenes.vocabulary import GENEVAL_TASKS

KNOWN = {e["prompt"]: e for task in GENEVAL_TASKS for e in benchmark_prompts(task)} | {
    e["prompt"]: e for e in motion_prompts()
}


class ScenePainter:
    """`wrong`: every n-th picture is of another prompt. Counts what it draws."""

    fps = 8.0
    size = (64, 112)

    def __init__(self, wrong: int = 0, stop_after: int | None = None) -> None:
        self.wrong, self.stop_after, self.drawn = wrong, stop_after, 0

    def images(self, prompts, seeds, *, steps=None, guidance=None):
        return np.stack([self._one(p, s) for p, s in zip(prompts, seeds, strict=True)])

    def _one(self, prompt, seed, time=0.0):
        if self.stop_after is not None and self.drawn >= self.stop_after:
            raise KeyboardInterrupt
        self.drawn += 1
        entry = KNOWN[prompt]
        if self.wrong and self.drawn % self.wrong == 0:
            entry = KNOWN["a photo of four purple stars"]
        return draw(suite.true_scene(entry, np.random.default_rng(seed)), *self.size, time=time)

    def clips(self, prompts, seeds, frames=17, *, steps=None, guidance=None, first_frames=None):
        made = []
        for i, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
            scene = suite.true_scene(KNOWN[prompt], np.random.default_rng(seed))
            clip = [draw(scene, *self.size, time=t / self.fps) for t in range(frames)]
            if first_frames is not None:
                clip[0] = first_frames[i]
            made.append(np.stack(clip))
        return np.stack(made)
