"""Is the thing there: share of 16 frames in which GRiT detects its class (vbench/object_class.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from goku_core.evaluate.judges.judge import Bench
from goku_core.evaluate.judges.objects.looking import ObjectJudge, most_seen, told_of, word_of
from goku_core.evaluate.judges.objects.rules import Frame, frames_with
from goku_core.evaluate.manifest import Prompt


class ObjectClass(ObjectJudge):
    dimension = "object_class"
    rule = "share of frames with the class"

    def score(self, prompt: Prompt, frames: Sequence[Frame]) -> tuple[float, int, str, dict[str, Any]]:
        label = word_of(told_of(prompt, self.dimension), "object", prompt, self.dimension)
        there = frames_with(frames, (label,))
        share = sum(there) / len(there)
        reason = "" if all(there) else f"{label} in {sum(there)} of {len(there)} frames; seen: {most_seen(frames)}"
        return share, len(there), reason, {"wanted": label}


def make(bench: Bench) -> ObjectClass:
    return ObjectClass(bench)
