"""Has the thing its colour: GRiT's sentences about it, in those of 16 frames that name a colour at all (vbench/color.py).

A clip without such a frame has the count 0 and is left out of the mean, as by the protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from goku_core.evaluate.judges.judge import Bench
from goku_core.evaluate.judges.objects.looking import ObjectJudge, most_seen, told_of, word_of
from goku_core.evaluate.judges.objects.rules import Frame, colored, label_of
from goku_core.evaluate.manifest import Prompt


class Color(ObjectJudge):
    dimension = "color"
    sentences = True
    rule = "of frames with a colour word in a sentence about the thing, share with the colour"

    def score(self, prompt: Prompt, frames: Sequence[Frame]) -> tuple[float, int, str, dict[str, Any]]:
        color = word_of(told_of(prompt, self.dimension), "color", prompt, self.dimension)
        label = label_of(prompt.text, color)
        said = [colored(frame, label, color, self.official) for frame in frames]
        told = [each for each in said if each is not None]
        score = sum(told) / len(told) if told else 0.0
        reason = (
            "" if told and all(told) else f"{color} {label} in {sum(told)} of {len(told)} frames that name its colour"
        )
        if not told:
            reason = f"no frame names a colour of {label}: left out; seen: {most_seen(frames)}"
        return score, len(told), reason, {"wanted": f"{color} {label}"}


def make(bench: Bench) -> Color:
    return Color(bench)
