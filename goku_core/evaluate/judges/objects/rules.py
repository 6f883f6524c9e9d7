"""From what was detected in each frame to the score of a clip, without any network (VBench's files of the same names).

Two modes where the official code has a defect (traps 1 and 4): "official" reproduces it, "corrected" does not.

- color, official: the class of the first detection of a frame is taken for the class of all its detections; corrected: each has
  its own.
- spatial_relationship, official: which of the two is where is never looked at, so left is right and top is bottom, and both
  of a pair may be things of one class; corrected: the pair is one of each class and lies as was asked.

Boxes are whole pixels, cut not rounded, as the official code takes them. "One of 12 colour words" is a search for letters
in both modes: "covered" holds "red".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from goku_core.pipeline.errors import GokuError

COLORS = ("white", "red", "pink", "blue", "silver", "purple", "orange", "green", "gray", "yellow", "black", "grey")
APART = 0.1
"""Two boxes that overlap by less than this are apart."""

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Thing:
    """One detection: its class name, its sentence ("" where none was asked for), how sure, and its box in pixels."""

    label: str
    sentence: str
    score: float
    box: Box


Frame = Sequence[Thing]
"""Detections of one frame, best box first."""


def frames_with(frames: Sequence[Frame], labels: Iterable[str]) -> list[bool]:
    """Frames in which each of the labels is among the detected classes."""
    wanted = set(labels)
    return [wanted <= {thing.label for thing in frame} for frame in frames]


def two_labels(both: str) -> tuple[str, str]:
    """ "bird and cat" -> ("bird", "cat"). Raises GokuError."""
    parts = [part.strip() for part in both.split(" and ")]
    if len(parts) != 2 or not all(parts):
        raise GokuError(f'multiple_objects: "{both}" does not name two classes as "bird and cat" does')
    return parts[0], parts[1]


def colored(frame: Frame, label: str, color: str, official: bool) -> bool | None:
    """Whether a sentence about such a thing holds the colour; None where no such sentence holds any of the 12 words."""
    own = [thing.sentence for thing in frame if (frame[0] if official else thing).label == label]
    if not any(word in sentence for sentence in own for word in COLORS):
        return None
    return any(color in sentence for sentence in own)


def label_of(prompt: str, color: str) -> str:
    """ "a red bicycle", "red" -> "bicycle": the official code has the class nowhere else."""
    return prompt.replace("a ", "").replace("an ", "").replace(color, "").strip()


def placed(frame: Frame, first: str, second: str, relation: str, official: bool) -> float:
    """0..1: the best pair of things of these classes in the frame, by how well it stands in the relation."""
    if official:
        pairs = combinations([thing for thing in frame if thing.label in (first, second)], 2)
        return max((related(one.box, other.box, relation, signed=False) for one, other in pairs), default=0.0)
    return max(
        (
            related(one.box, other.box, relation, signed=True)
            for one in frame
            for other in frame
            if one is not other and (one.label, other.label) == (first, second)
        ),
        default=0.0,
    )


DIRECTIONS = {
    "on the left of": (0, -1),
    "on the right of": (0, 1),
    "on the top of": (1, -1),
    "on the bottom of": (1, 1),
}
"""Axis (0: x), and the side of the second on which the first is to be."""


def related(first: Box, second: Box, relation: str, signed: bool) -> float:
    """1 when the centres lie apart mainly along the relation's axis, and 0.1 / overlap when the boxes overlap by 0.1 or more.

    signed  also on the side that was asked for, else 0
    Raises GokuError for a relation that VBench does not know.
    """
    if relation not in DIRECTIONS:
        raise GokuError(f'spatial_relationship: "{relation}" is none of {", ".join(DIRECTIONS)}')
    axis, side = DIRECTIONS[relation]
    shift = [first[n] + first[n + 2] - second[n] - second[n + 2] for n in (0, 1)]  # twice the centres' distance
    if abs(shift[axis]) <= abs(shift[1 - axis]) or (signed and shift[axis] * side < 0):
        return 0.0
    shared = overlap(first, second)
    return 1.0 if shared < APART else APART / shared


def overlap(one: Box, other: Box) -> float:
    """Intersection over union; 0 for two boxes without area, of which the official code makes an error."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - shared
    return shared / union if union else 0.0
