"""A judge that sees nothing: is it blind, or are the pictures empty?

GenEval's users got 0.03 from a broken detector without a warning, and an untrained model's noise rightly shows nothing; the
answers alone cannot tell the two apart. So: where a judge that detects things finds none in more than half of its first
samples, it is shown renders with known things *at the size of these samples*. Sees it them, the emptiness is the model's: the
run goes on and says so in words. Sees it none, or has it no renders to be shown (`Judge.sees`), the run stops, unless the
caller says that samples may be empty. The judge's own `check` has passed before, in this very environment.

Few samples prove nothing: below `FEWEST` nobody is accused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from goku_core.evaluate.judges.detector import BLIND_PICTURES

FEWEST = 10
"""Our choice: 6 of 10 empty by chance has a probability below 1 % where the judge overlooks one thing in five."""


@dataclass(frozen=True)
class Collapse:
    """A judge (fingerprint) that found nothing in `empty` of its first `looked` samples, of this size in pixels."""

    judge: str
    empty: int
    looked: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"finds nothing in {self.empty} of its first {self.looked} samples ({self.width}x{self.height})"


def collapses(lines: Sequence[Mapping[str, Any]]) -> list[Collapse]:
    """Of answers in the order of the manifest (rows of `operator.SAID`), the judges that have stopped finding things."""
    sizes = {line["sample_id"]: (line["height"], line["width"]) for line in lines if line["decodes"]}
    first: dict[str, dict[str, bool]] = {}
    for line in lines:
        if not line["dimension"] or (empty := saw_nothing(line["evidence"])) is None:
            continue
        looked = first.setdefault(line["judge"], {})
        if len(looked) < BLIND_PICTURES or line["sample_id"] in looked:
            looked[line["sample_id"]] = looked.get(line["sample_id"], True) and empty
    found = []
    for judge, looked in first.items():
        empty = [sample for sample, nothing in looked.items() if nothing]
        if len(looked) >= FEWEST and 2 * len(empty) > len(looked):
            found.append(Collapse(judge, len(empty), len(looked), *sizes[empty[0]]))
    return found


def saw_nothing(evidence: str) -> bool | None:
    """None for a judge that does not detect things; else whether its list of detections, or that of every frame, is empty."""
    detections = json.loads(evidence).get("detections")
    if not isinstance(detections, list):
        return None
    return not any(detections)
