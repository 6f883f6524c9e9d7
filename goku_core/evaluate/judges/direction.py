"""Does the thing go the way the prompt says? Follows it with a detector; the rule is in `motion`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from goku_core.evaluate import motion
from goku_core.evaluate.judges.contour import ContourJudge
from goku_core.evaluate.judges.detector import Detector
from goku_core.evaluate.judges.judge import Answer, Bench, Seen
from goku_core.pipeline.errors import GokuError

REVISION = 1
"""Raise when answers change for the same detections: it is part of the fingerprint in every record."""
CHECK_SIZE, CHECK_FRAMES, CHECK_FPS = (96, 176), 17, 8.0


def make(bench: Bench) -> DirectionJudge:
    return DirectionJudge(ContourJudge())


class DirectionJudge:
    """Right or wrong against the word `motion` of the prompt's metadata, of which four are equally likely."""

    name = "direction"
    dimensions = frozenset({"motion/direction", "i2v/direction"})

    def __init__(self, detector: Detector) -> None:
        self.detector = detector

    @property
    def fingerprint(self) -> str:
        bounds = (REVISION, motion.LEAST_TRAVEL, motion.LEAST_COSINE, motion.LEAST_SIGHT, self.detector.fingerprint)
        return f"direction-{hashlib.sha256(repr(bounds).encode()).hexdigest()[:12]}"

    def missing(self) -> str:
        return ""

    def check(self) -> None:
        from goku_core.evaluate import ground_truth, suite

        samples = suite.clip_samples("motion", 4, 1, seed=0)
        share = ground_truth.direction_share(self.detector, samples, CHECK_SIZE, CHECK_FRAMES, CHECK_FPS, seed=0)
        if share < 1.0:
            raise GokuError(f"the judge direction gets {share:.2f} of four clips with known directions right")

    def judge(self, seen: Sequence[Seen]) -> list[Answer]:
        return [self._one(one) for one in seen]

    def _one(self, seen: Seen) -> Answer:
        asked = seen.sample.prompt.metadata
        clause = asked["include"][0]
        path = motion.follow(seen.frames, self.detector, clause["class"], clause.get("color"))
        right, reason = motion.direction_verdict(path, asked["motion"])
        saw = {"centres": np.round(path.centres, 3).tolist(), "frames": path.frames.tolist()}
        return Answer(seen.sample.sample_id, "direction", float(right), 1, right, reason, saw)
