"""How much the frames of a clip are alike: VBench's rule for subject and background, on features of two networks."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from goku_core.evaluate.judges.judge import Answer, Seen
from goku_core.evaluate.judges.vbench import specimens
from goku_core.evaluate.judges.vbench.protocol import VBenchJudge
from goku_core.pipeline.errors import GokuError

RULE = "mean of the cosines to the previous and the first frame, each at least 0"
MOST_ALIKE = 0.95
"""Two pictures that share nothing are less alike than this to any of the two networks, by far. Ours, for the check."""


def consistency(features: np.ndarray) -> np.ndarray:
    """Of each frame after the first: float64 (T-1,) from features (T, D), T at least 2.

    `cur_sim` of vbench/subject_consistency.py. The cosine is a.b / sqrt(a.a b.b), which is exactly 1 for equal features.
    """
    rows = features.astype(np.float64)
    previous, first = _cosines(rows[:-1], rows[1:]), _cosines(np.broadcast_to(rows[0], rows[1:].shape), rows[1:])
    return (np.maximum(previous, 0.0) + np.maximum(first, 0.0)) / 2


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    aa, bb, ab = ((x * y).sum(axis=1) for x, y in ((a, a), (b, b), (a, b)))
    return ab / np.sqrt(aa * bb)


class ConsistencyJudge(VBenchJudge):
    """A clip counts as many frames as it has after the first: the official mean on one GPU weighs by them."""

    @abstractmethod
    def features(self, frames: np.ndarray) -> np.ndarray:
        """uint8 (T, H, W, 3) to float32 (T, D)."""

    def answer(self, seen: Seen) -> Answer:
        if len(seen.frames) < 2:
            raise GokuError(
                f"{seen.sample.sample_id} has one frame. {self.name} compares frames of a clip; "
                "a picture cannot be judged by it."
            )
        return self._mean_answer(seen, consistency(self.features(seen.frames)))

    def check(self) -> None:
        one, other = specimens.picture(), specimens.texture()
        slow = np.stack([specimens.picture(x=x) for x in (0.46, 0.48, 0.5)])
        same, moved, cut = (
            float(consistency(self.features(clip)).mean())
            for clip in (specimens.still(one), slow, np.stack([one, other]))
        )
        self._require(abs(same - 1.0) < 1e-6, f"frames that are equal are {same:.6f} alike instead of 1")
        self._require(cut < MOST_ALIKE, f"a red circle and a pattern of blotches are {cut:.3f} alike")
        self._require(cut < moved, f"a cut ({cut:.3f}) is no less alike than a slow motion ({moved:.3f})")
