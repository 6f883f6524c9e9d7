"""Does the subject stay itself: DINO ViT-B/16 features of every frame (vbench/subject_consistency.py)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from goku_core.evaluate.judges.judge import Bench
from goku_core.evaluate.judges.vbench.consistency import RULE, ConsistencyJudge
from goku_core.evaluate.networks.dino import FOLDER, SOURCE, Dino, load_dino
from goku_core.scorers.pictures import in_passes
from goku_core.scorers.resizing import IMAGENET, dino_pixels


class SubjectConsistency(ConsistencyJudge):
    dimension = "subject_consistency"
    sources = ((SOURCE, FOLDER),)

    @property
    def facts(self) -> Mapping[str, Any]:
        return {
            "rule": RULE,
            "network": "DINO, class token, positions stretched by (n + 0.1)/14",
            "pixels": ["short side 224, bilinear, no antialias, no crop", IMAGENET],
            "batch": self.bench.batch,
        }

    def features(self, frames: np.ndarray) -> np.ndarray:
        network = self._network
        side = network.size.grid * network.size.patch
        return in_passes(frames, self.bench.batch, self.bench.device, lambda part: dino_pixels(part, side), network)

    @cached_property
    def _network(self) -> Dino:
        return load_dino(self.weights(), self.bench.device)


def make(bench: Bench) -> SubjectConsistency:
    return SubjectConsistency(bench)
