"""Is the picture like its prompt: cosine in CLIP ViT-B/32, T2I-CompBench's score of actions (CLIPScore_eval, commit 1b70949).

The raw cosine, about 0.2 to 0.4, which is what the benchmark publishes. On GPUs its CLIP runs in half precision: about 0.001.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from goku_core.evaluate.judges.judge import Answer, Bench, Seen
from goku_core.evaluate.judges.words.asking import COLORS, AskingJudge, circles, confused
from goku_core.scorers.clip import VIT_B32, Clip, shared_clip


class NonSpatialJudge(AskingJudge):
    name = "non_spatial"
    dimensions = frozenset({"compbench/non_spatial"})
    sources = (VIT_B32,)

    @property
    def facts(self) -> Mapping[str, Any]:
        return {"rule": "cosine of picture and prompt", "network": "CLIP ViT-B/32"}

    def answers(self, seen: Sequence[Seen]) -> list[Answer]:
        looks = self._clip.images([one.frames[0] for one in seen]).astype(np.float64)
        # One sentence per pass, so that its numbers do not depend on the others.
        words = np.concatenate([self._clip.texts([one.sample.prompt.text]) for one in seen]).astype(np.float64)
        return [
            Answer(one.sample.sample_id, "non_spatial", float(score))
            for one, score in zip(seen, (looks * words).sum(axis=1), strict=True)
        ]

    def check(self) -> None:
        words = self._clip.texts([f"a {color} circle" for color in COLORS])
        wrong = confused(words @ self._clip.images(circles()).T)
        self.require(not wrong, f'"a {wrong[0] if wrong else ""} circle" is more like another colour\'s picture')

    @property
    def _clip(self) -> Clip:
        return shared_clip(self.place(VIT_B32), self.bench.device, self.bench.batch)


def make(bench: Bench) -> NonSpatialJudge:
    return NonSpatialJudge(bench)
