"""How beautiful people would find it: LAION's linear head on CLIP ViT-L/14 (vbench/aesthetic_quality.py)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from goku_core.evaluate.judges.judge import Answer, Bench, Seen
from goku_core.evaluate.judges.vbench import specimens
from goku_core.evaluate.judges.vbench.protocol import VBenchJudge
from goku_core.pipeline.errors import GokuError
from goku_core.scorers.aesthetic import LINEAR, AestheticHead
from goku_core.scorers.clip import VIT_L14, Clip, shared_clip
from goku_core.scorers.pictures import unit
from goku_core.scorers.resizing import CLIP, clip_pixels

LEAST, MOST = 0.05, 0.95
"""A tenth of what the head says of any picture lies between, noise and white walls included. Ours, for the check."""


class AestheticQuality(VBenchJudge):
    dimension = "aesthetic_quality"
    sources = ((VIT_L14,), (LINEAR,))

    @property
    def facts(self) -> Mapping[str, Any]:
        return {
            "rule": "linear head on the unit embedding, by 10, mean of frames",
            "network": "CLIP ViT-L/14",
            "pixels": ["short side 224, bicubic, no antialias, centre 224", CLIP],
            "batch": self.bench.batch,
        }

    def answer(self, seen: Seen) -> Answer:
        return self._mean_answer(seen, self.scores(seen.frames))

    def scores(self, frames: np.ndarray) -> np.ndarray:
        """Of each of uint8 (T, H, W, 3) frames: float32 (T,), about 0.1 to 1."""
        return self._head.scores(unit(self._clip.features(frames, clip_pixels))) / 10

    def check(self) -> None:
        frames = np.stack([specimens.picture(), specimens.texture(), np.full_like(specimens.texture(), 255)])
        scores = self.scores(frames)
        told = ", ".join(f"{score:.3f}" for score in scores)
        self._require(bool((scores > LEAST).all() and (scores < MOST).all()), f"three pictures score {told}")
        self._require(float(np.ptp(scores)) > 1e-4, f"three pictures that share nothing score {told}")

    @property
    def _clip(self) -> Clip:
        return shared_clip(self.weights(0), self.bench.device, self.bench.batch)

    @cached_property
    def _head(self) -> AestheticHead:
        head = AestheticHead(self.weights(1), self._clip.width)
        if not head.linear:
            raise GokuError(
                f"{self.weights(1)} is LAION's head of five layers; VBench uses the linear one: {LINEAR.get}"
            )
        return head


def make(bench: Bench) -> AestheticQuality:
    return AestheticQuality(bench)
