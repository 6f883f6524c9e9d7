"""GenEval's verdict on one picture: which detections satisfy which clause of the metadata.

Source: github.com/djghosh13/geneval, evaluation/evaluate_images.py at af4902f, re-implemented from its rule. Two
traits of the official rule are kept on purpose: a clause looks at the best `count` detections of its class only,
before colour is asked (a red and a blue circle in one picture cannot both be found), and near the diagonal two
relations hold at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from goku_core.evaluate.judges.detector import Detection, Detector, usable
from goku_core.evaluate.judges.judge import Answer
from goku_core.evaluate.manifest import Sample

POSITION_MARGIN = 0.1
"""Share of the summed extents taken off the offset of the centres on each axis (GenEval's POSITION_THRESHOLD)."""
POSITION_COSINE = 0.5
"""What is left of the offset, over the raw distance, must pass this (60 degrees to each side of the axis)."""


@dataclass(frozen=True)
class Verdict:
    correct: bool
    reason: str
    """Empty when correct; else what was expected and what was found."""


def relations(thing: Detection, reference: Detection) -> frozenset[str]:
    """Where `thing` lies as seen from `reference`: a set of "left of", "right of", "above", "below"."""
    corners = np.array([thing.box, reference.box], dtype=float).reshape(2, 2, 2)
    centre, other = corners.mean(axis=1)
    extents = np.abs(corners[:, 1] - corners[:, 0])
    offset = centre - other
    left_over = np.maximum(np.abs(offset) - POSITION_MARGIN * extents.sum(axis=0), 0) * np.sign(offset)
    if np.all(np.abs(left_over) < 1e-3):
        return frozenset()
    dx, dy = left_over / np.linalg.norm(offset)
    named = {
        "left of": dx < -POSITION_COSINE,
        "right of": dx > POSITION_COSINE,
        "above": dy < -POSITION_COSINE,
        "below": dy > POSITION_COSINE,
    }
    return frozenset(name for name, holds in named.items() if holds)


def judge_image(found: Mapping[str, Sequence[Detection]], metadata: Mapping[str, Any]) -> Verdict:
    """found: detections by class, best first (judge.usable). metadata: one GenEval line (include, exclude).

    All include clauses must hold, and no exclude clause.
    """
    reasons: list[str] = []
    matched: list[Sequence[Detection] | None] = []
    for clause in metadata.get("include", ()):
        best = found.get(clause["class"], ())[: clause["count"]]
        trouble = _trouble(best, clause, matched)
        reasons += trouble
        matched.append(None if trouble else best)
    for clause in metadata.get("exclude", ()):
        there = len(found.get(clause["class"], ()))
        if there >= clause["count"]:
            reasons.append(f"expected {clause['class']}<{clause['count']}, found {there}")
    return Verdict(correct=not reasons, reason="; ".join(reasons))


def answered(sample: Sample, found: Sequence[Detection], detector: Detector, dimension: str) -> Answer:
    """The verdict on what a detector found in a sample, with all that it found as evidence."""
    verdict = judge_image(usable(list(found), detector, sample.task), sample.prompt.metadata)
    saw = {"detections": [thing.evidence() for thing in found]}
    return Answer(sample.sample_id, dimension, float(verdict.correct), 1, verdict.correct, verdict.reason, saw)


def _trouble(
    best: Sequence[Detection], clause: Mapping[str, Any], matched: Sequence[Sequence[Detection] | None]
) -> list[str]:
    """Why these detections do not satisfy the clause; empty when they do."""
    name, count = clause["class"], clause["count"]
    if len(best) < count:
        return [f"expected {name}>={count}, found {len(best)}"]
    if (color := clause.get("color")) is not None:
        colors = [seen.color for seen in best]
        if colors.count(color) < count:
            others = ", ".join(sorted({str(c) for c in colors if c != color}))
            return [f"expected {color} {name}>={count}, found {colors.count(color)} {color}; and {others}"]
    if (position := clause.get("position")) is not None:
        return _misplaced(best, name, position, matched)
    return []


def _misplaced(
    best: Sequence[Detection],
    name: str,
    position: Sequence[Any],
    matched: Sequence[Sequence[Detection] | None],
) -> list[str]:
    relation, reference = position
    targets = matched[reference]
    if targets is None:
        return [f"no target for {name} to be {relation}"]
    for thing in best:
        for target in targets:
            true = relations(thing, target)
            if relation not in true:
                said = " and ".join(sorted(true)) or "no relation to"
                return [f"expected {name} {relation} target, found {said} target"]
    return []
