"""Does one thing lie to the other as was asked: best pair of each of 16 frames (vbench/spatial_relationship.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from goku_core.evaluate.judges.judge import Bench
from goku_core.evaluate.judges.objects.looking import ObjectJudge, most_seen, told_of, word_of
from goku_core.evaluate.judges.objects.rules import Frame, placed
from goku_core.evaluate.judges.vbench.protocol import rounded
from goku_core.evaluate.manifest import Prompt


class SpatialRelationship(ObjectJudge):
    dimension = "spatial_relationship"
    rule = "mean of the best pair of each frame: 1 along the main axis, 0.1/overlap from 0.1 on"

    def score(self, prompt: Prompt, frames: Sequence[Frame]) -> tuple[float, int, str, dict[str, Any]]:
        told = told_of(prompt, self.dimension)
        within = told.get(self.dimension)  # the file names the dimension twice, one within the other
        told = within if isinstance(within, Mapping) else told
        keys = ("object_a", "object_b", "relationship")
        first, second, relation = (word_of(told, key, prompt, self.dimension) for key in keys)
        marks = [placed(frame, first, second, relation, self.official) for frame in frames]
        score, wanted = float(np.mean(marks)), f"{first} {relation} {second}"
        reason = "" if min(marks) == 1 else f"{wanted}: {score:.2f} over {len(marks)} frames; seen: {most_seen(frames)}"
        return score, len(marks), reason, {"wanted": wanted, "frames": rounded(marks)}


def make(bench: Bench) -> SpatialRelationship:
    return SpatialRelationship(bench)
