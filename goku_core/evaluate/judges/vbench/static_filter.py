"""Which clips stand still enough for temporal flickering to be judged on them: VBench's static filter (static_filter.py).

Of 25 clips of a prompt the first five that stand still count; the benchmark's aggregation takes them. With four frames or
fewer the allowed number is 0, and a clip must then return to where it began exactly: as in the official code, whose clips
are longer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from goku_core.evaluate.judges.judge import Answer, Bench, Seen
from goku_core.evaluate.judges.vbench import specimens
from goku_core.evaluate.judges.vbench.dynamic_degree import threshold
from goku_core.evaluate.judges.vbench.flow import UPDATES, fastest, flow_between, shared_raft
from goku_core.evaluate.judges.vbench.protocol import VBenchJudge, rounded
from goku_core.scorers.raft import AUTHORS_THINGS, THINGS

SHARE = 0.02
LEAST = 3.0  # px, for a short side of 256
STEP = 12  # px between frames of the moving specimen


def allowed(frames: int) -> int:
    """Pairs of neighbours that may move in a clip of so many frames."""
    return round(2 * (frames / 16.0))


def stands_still(neighbours: Sequence[float], ends: Sequence[float], least: float, pairs: int) -> bool:
    """neighbours, ends: speeds of the fastest parts between neighbours, and from first to last frame and back, px."""
    moving = sum(speed > least for speed in neighbours)
    return moving <= pairs and all(speed <= least * pairs * 2 for speed in ends)


class StaticFilter(VBenchJudge):
    dimension = "static_filter"
    sources = ((THINGS, AUTHORS_THINGS),)

    @property
    def facts(self) -> Mapping[str, Any]:
        return {
            "rule": f"at most round(2n/16) pairs, fastest {SHARE} above {LEAST} px at 256; ends within twice as often that",
            "network": f"RAFT, {UPDATES} updates",
        }

    def answer(self, seen: Seen) -> Answer:
        neighbours, ends = self.speeds(seen.frames)
        least, pairs = threshold(*seen.frames.shape[1:3], LEAST), allowed(len(seen.frames))
        still = stands_still(neighbours, ends, least, pairs)
        moving = sum(speed > least for speed in neighbours)
        reason = (
            ""
            if still
            else f"{moving} pairs move more than {least:.1f} px ({pairs} may), ends {max(ends):.1f} px apart"
        )
        evidence = {"pairs": rounded(neighbours), "ends": rounded(ends), "threshold": round(least, 6), "allowed": pairs}
        return Answer(
            seen.sample.sample_id, self.dimension, float(still), verdict=still, reason=reason, evidence=evidence
        )

    def speeds(self, frames: np.ndarray) -> tuple[list[float], list[float]]:
        """Between neighbours of uint8 (T, H, W, 3) frames, and from the first to the last and back: px, T-1 numbers and 2."""
        network, device = shared_raft(self.weights(), self.bench.device), self.bench.device
        ends = ((frames[0], frames[-1]), (frames[-1], frames[0]))
        return tuple(
            [fastest(flow_between(network, a, b, device), SHARE) for a, b in pairs]
            for pairs in (pairwise(frames), ends)
        )

    def check(self) -> None:
        for clip, still in ((specimens.still(specimens.texture(), 2), True), (specimens.passing(STEP, 2), False)):
            (speed,), _ = self.speeds(clip)
            told = f"the fastest parts of a picture that {'stands still' if still else f'moves by {STEP} px'} move {speed:.2f} px"
            self._require((speed < LEAST / 2) == still, told)


def make(bench: Bench) -> StaticFilter:
    return StaticFilter(bench)
