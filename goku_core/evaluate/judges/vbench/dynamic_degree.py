"""Does anything move: enough pairs of frames whose fastest twentieth moves far enough, by RAFT (vbench/dynamic_degree.py).

Two things differ by mode (trap 7 of the official code):
- `official` believes the frame rate written into the file. `corrected` takes the rate the sample was planned with, where it
  is known: a clip saved at another rate is then judged by the frames that it was made of.
- `official` asks for round(4n/16) moving pairs, which is 0 for two frames or fewer, so that any two frames move.
  `corrected` asks for at least one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from goku_core.evaluate.judges.judge import Answer, Bench, Seen
from goku_core.evaluate.judges.vbench import specimens
from goku_core.evaluate.judges.vbench.flow import UPDATES, fastest, flow_between, shared_raft
from goku_core.evaluate.judges.vbench.protocol import VBenchJudge, rounded
from goku_core.pipeline.errors import GokuError
from goku_core.scorers.raft import AUTHORS_THINGS, THINGS

SHARE = 0.05
LEAST = 6.0  # px, for a short side of 256
RATE = 8.0  # frames per second that are looked at
STEP = 12  # px between frames of the moving specimen


def stride(fps: float) -> int:
    """Every how many frames one is looked at."""
    return max(1, round(fps / RATE))


def threshold(height: int, width: int, px_at_256: float = LEAST) -> float:
    """px that the fastest parts must exceed in frames of this size."""
    return px_at_256 * (min(height, width) / 256.0)


def needed(frames: int, mode: str) -> int:
    """Pairs that must move, of a clip of which so many frames are looked at."""
    pairs = round(4 * (frames / 16.0))
    return pairs if mode == "official" else max(1, pairs)


def moves(speeds: Sequence[float], least: float, pairs: int) -> bool:
    """speeds: of the fastest parts of each pair, px. A clip of one frame has no pair and never moves."""
    return len(speeds) > 0 and sum(speed > least for speed in speeds) >= pairs


class DynamicDegree(VBenchJudge):
    dimension = "dynamic_degree"
    sources = ((THINGS, AUTHORS_THINGS),)

    @property
    def facts(self) -> Mapping[str, Any]:
        return {
            "rule": f"round(4n/16) pairs, fastest {SHARE} above {LEAST} px at 256, {RATE} frames per second",
            "network": f"RAFT, {UPDATES} updates",
            "mode": self.bench.mode,
        }

    def answer(self, seen: Seen) -> Answer:
        fps = self._rate(seen)
        every = stride(fps)
        frames = seen.frames[::every]
        speeds, least = self.speeds(frames), threshold(*seen.frames.shape[1:3])
        pairs = needed(len(frames), self.bench.mode)
        moving = moves(speeds, least, pairs)
        found = sum(speed > least for speed in speeds)
        reason = "" if moving else f"{found} of {len(speeds)} pairs move more than {least:.1f} px, {pairs} are needed"
        evidence = {
            "pairs": rounded(speeds),
            "threshold": round(least, 6),
            "needed": pairs,
            "stride": every,
            "fps": fps,
        }
        return Answer(
            seen.sample.sample_id, self.dimension, float(moving), verdict=moving, reason=reason, evidence=evidence
        )

    def _rate(self, seen: Seen) -> float:
        planned = seen.sample.drawing.fps
        fps = planned if self.bench.mode == "corrected" and planned else seen.fps
        if fps <= 0 and len(seen.frames) > 1:
            raise GokuError(
                f"{seen.sample.sample_id}: its file states no frame rate, on which dynamic degree depends. "
                "Write it into the container, or plan the samples with their rate."
            )
        return fps

    def speeds(self, frames: np.ndarray) -> list[float]:
        """Of the fastest parts between neighbours of uint8 (n, H, W, 3) frames: px, n-1 numbers."""
        network = shared_raft(self.weights(), self.bench.device)
        return [fastest(flow_between(network, a, b, self.bench.device), SHARE) for a, b in pairwise(frames)]

    def check(self) -> None:
        still, passing = self.speeds(specimens.still(specimens.texture(), 2)), self.speeds(specimens.passing(STEP, 2))
        least = threshold(specimens.HEIGHT, specimens.WIDTH)
        self._require(still[0] < least / 4, f"two equal frames are {still[0]:.2f} px apart")
        self._require(
            STEP / 2 < passing[0] < 2 * STEP,
            f"the fastest parts of a picture that moves by {STEP} px move {passing[0]:.2f} px",
        )


def make(bench: Bench) -> DynamicDegree:
    return DynamicDegree(bench)
