"""Does the motion go on evenly: can AMT-S draw every other frame from its neighbours (vbench/motion_smoothness.py).

Even frames are kept, odd ones drawn at the half of the time between and compared with what the clip has, in 8 bits:
(255 - mean absolute difference) / 255, mean over the odd frames that have two neighbours. Network and score are labelled
unverified: see networks/video/amt.py for what names and shapes of the weights leave open.

- `official` cuts what was drawn to 8 bits, `corrected` rounds (a cut alone costs a perfect frame half a level).
- The official code shrinks frames inside the network by the total memory of the GPU (trap 5). Here they are never shrunk, in
  either mode: that is what it does on a CPU, and on a GPU that is large enough for the clip.
- Sides are padded with the border to multiples of 16, half on each side as RAFT does it; to 128 px at least, below which the
  coarsest correlation would have a single cell: ours, VBench has no such clips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from goku_core.evaluate.judges.judge import Answer, Bench, Seen
from goku_core.evaluate.judges.video.pretrained import ClipJudge
from goku_core.evaluate.networks.video import amt
from goku_core.pipeline.errors import GokuError

SHOWN = 6  # digits of the scores by frame
MOST_OF_BLEND = 0.7
"""Of the error of a plain mean: more, and motion is not followed. Ours, for the check."""


class MotionSmoothnessJudge(ClipJudge):
    name = "motion_smoothness"
    dimensions = frozenset({"vbench/motion_smoothness"})
    sources = (amt.SOURCE,)

    @property
    def fingerprint(self) -> str:
        return f"{super().fingerprint}-unverified"

    @property
    def facts(self) -> Mapping[str, Any]:
        return {
            "rule": "odd frames drawn from even ones, mean absolute difference in 8 bits",
            "mode": self.bench.mode,
            "network": "AMT-S, own port, unverified against official values",
            "scale": 1,
            "padding": ["border, both sides", amt.STEP, amt.LEAST_SIDE],
        }

    def answers(self, seen: Seen, asked: Sequence[str]) -> list[Answer]:
        if len(seen.frames) < 3:
            raise GokuError(
                f"{seen.sample.sample_id} has {len(seen.frames)} frames: motion_smoothness needs three, to draw the middle one"
            )
        scores = self.scores(seen.frames)
        evidence = {"frames": [round(float(score), SHOWN) for score in scores]}
        mean = float(np.mean(scores))
        return [Answer(seen.sample.sample_id, name, mean, len(scores), evidence=evidence) for name in asked]

    def scores(self, frames: np.ndarray) -> np.ndarray:
        """Of every odd frame of uint8 (T, H, W, 3) that has a frame after it: float64 ((T-1)//2,)."""
        return np.array([likeness(frames[k], self.between(frames[k - 1], frames[k + 1])) for k in odd(len(frames))])

    def between(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """The frame half-way between two of uint8 (H, W, 3), of the same kind."""
        height, width = before.shape[:2]
        left, _, top, _ = padding = border(height, width)
        both = torch.from_numpy(np.stack([before, after]).transpose(0, 3, 1, 2).copy()).to(self.bench.device)
        with torch.inference_mode():
            first, second = F.pad(both.float() / 255.0, padding, mode="replicate").chunk(2)
            drawn = 255.0 * self._network(first, second)[0]
        inner = drawn[:, top : top + height, left : left + width]
        levels = inner if self.bench.mode == "official" else inner.round()
        return levels.clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy()

    def check(self) -> None:
        """A frame between two equal ones is that frame, and a texture that moves by 8 px is drawn where it belongs: much
        nearer to the true frame than the mean of its neighbours is. Flows drawn wrongly fail the second."""
        one, two, three = _texture(0), _texture(8), _texture(16)
        same = likeness(one, self.between(one, one))
        self._require(same > 0.98, f"the frame between two equal ones is {same:.4f} like them")
        drawn, blended = likeness(two, self.between(one, three)), likeness(two, _blend(one, three))
        self._require(
            1 - drawn < MOST_OF_BLEND * (1 - blended),
            f"a moving texture is drawn {drawn:.4f} right, a plain mean of its neighbours {blended:.4f}",
        )

    @cached_property
    def _network(self) -> amt.AmtS:
        return amt.load(self.bench.weights, self.bench.device)


def odd(count: int) -> range:
    """Numbers of the frames that are drawn: the odd ones that are not the last."""
    return range(1, count - 1, 2)


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    """(255 - mean absolute difference) / 255 of two uint8 pictures."""
    return (255.0 - float(np.mean(np.abs(one.astype(np.int16) - other.astype(np.int16)), dtype=np.float64))) / 255.0


def border(height: int, width: int) -> tuple[int, int, int, int]:
    """Pixels to add at the left, right, top and bottom."""
    more = [max(amt.LEAST_SIDE, -(-side // amt.STEP) * amt.STEP) - side for side in (width, height)]
    return more[0] // 2, more[0] - more[0] // 2, more[1] // 2, more[1] - more[1] // 2


def _texture(moved: int) -> np.ndarray:
    """Coloured blotches of 16 and 64 px, moved to the left: uint8 (256, 256, 3)."""
    rng = np.random.default_rng(5)
    layers = []
    for cell in (16, 64):
        coarse = rng.normal(0.0, 45.0, (256 // cell, 320 // cell, 3)).astype(np.float32)
        layers.append(cv2.resize(coarse, (320, 256), interpolation=cv2.INTER_CUBIC))
    return np.clip(128.0 + np.sum(layers, axis=0), 0, 255).astype(np.uint8)[:, moved : moved + 256]


def _blend(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.rint((one.astype(np.float64) + other) / 2).astype(np.uint8)


def make(bench: Bench) -> MotionSmoothnessJudge:
    return MotionSmoothnessJudge(bench)
