"""Does the place stay itself: CLIP ViT-B/32 features of every frame (vbench/background_consistency.py).

The official code computes in half precision on a GPU; here it is float32 everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from goku_core.evaluate.judges.judge import Bench
from goku_core.evaluate.judges.vbench.consistency import RULE, ConsistencyJudge
from goku_core.scorers.clip import VIT_B32, shared_clip
from goku_core.scorers.resizing import CLIP, clip_pixels


class BackgroundConsistency(ConsistencyJudge):
    dimension = "background_consistency"
    sources = ((VIT_B32,),)

    @property
    def facts(self) -> Mapping[str, Any]:
        return {
            "rule": RULE,
            "network": "CLIP ViT-B/32",
            "pixels": ["short side 224, bicubic, no antialias, centre 224", CLIP],
            "batch": self.bench.batch,
        }

    def features(self, frames: np.ndarray) -> np.ndarray:
        return shared_clip(self.weights(), self.bench.device, self.bench.batch).features(frames, clip_pixels)


def make(bench: Bench) -> BackgroundConsistency:
    return BackgroundConsistency(bench)
