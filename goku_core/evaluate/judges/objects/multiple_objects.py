"""Are both things there: share of 16 frames in which GRiT detects both classes (vbench/multiple_objects.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from goku_core.evaluate.judges.judge import Bench
from goku_core.evaluate.judges.objects.looking import ObjectJudge, most_seen, told_of, word_of
from goku_core.evaluate.judges.objects.rules import Frame, frames_with, two_labels
from goku_core.evaluate.manifest import Prompt


class MultipleObjects(ObjectJudge):
    dimension = "multiple_objects"
    rule = "share of frames with both classes"

    def score(self, prompt: Prompt, frames: Sequence[Frame]) -> tuple[float, int, str, dict[str, Any]]:
        wanted = two_labels(word_of(told_of(prompt, self.dimension), "object", prompt, self.dimension))
        there = frames_with(frames, wanted)
        share, both = sum(there) / len(there), " and ".join(wanted)
        reason = "" if all(there) else f"{both} in {sum(there)} of {len(there)} frames; seen: {most_seen(frames)}"
        return share, len(there), reason, {"wanted": both}


def make(bench: Bench) -> MultipleObjects:
    return MultipleObjects(bench)
