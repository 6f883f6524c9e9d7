"""What a detector is: something that looks at pictures and says which things it sees, where, and in which colour.

The verdict rule (verdict.py) never looks at pixels; it only reads detections. The colour-and-contour judge of the
embedded default (contour.py) and a model-based one (Mask2Former for classes and boxes, CLIP for colours, as GenEval has
it) differ only behind this interface, and every record carries the fingerprint of the judge that spoke.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from goku_core.pipeline.errors import GokuError

BLIND_PICTURES = 50
"""GenEval's users got 0.03 from a broken detector without a warning (djghosh13/geneval#15): so many pictures are looked
at, and a judge that finds nothing in most of them is looked into."""


@dataclass(frozen=True)
class Detection:
    """One thing seen in a picture.

    label   class name, for example "circle"
    score   how sure the judge is, 0 to 1
    box     left, top, right, bottom in pixels of the picture given
    area    of the mask, in pixels of the picture given
    color   colour name, or None where the judge cannot say
    """

    label: str
    score: float
    box: tuple[float, float, float, float]
    area: float
    color: str | None = None

    def evidence(self) -> dict[str, Any]:
        """For the record: rounded, so that evidence is the same bytes on every machine."""
        rounded = asdict(self)
        rounded["score"] = round(self.score, 3)
        rounded["area"] = round(self.area, 1)
        rounded["box"] = [round(v, 1) for v in self.box]
        return rounded


class Detector(Protocol):
    """Looks at pictures. `fingerprint` names everything its answers depend on: rule, settings, weights."""

    name: str
    labels: tuple[str, ...]
    minimum_score: Mapping[str, float]
    """Least score of a detection that counts, by task; the key "*" is for tasks not named."""

    @property
    def fingerprint(self) -> str: ...

    def detect(self, images: np.ndarray) -> list[list[Detection]]:
        """images (n, H, W, 3) uint8 RGB -> for each picture its detections, best first."""
        ...

    def locate(self, images: np.ndarray, color: str) -> list[tuple[float, float] | None]:
        """images (n, H, W, 3) uint8 -> centre (x, y) in pixels of what has that colour, None where nothing has."""


def usable(detections: list[Detection], judge: Detector, task: str, at_most: int = 16) -> dict[str, list[Detection]]:
    """Detections by class, best first, above the judge's threshold for the task, at most 16 of a class (as GenEval)."""
    least = judge.minimum_score.get(task, judge.minimum_score["*"])
    found: dict[str, list[Detection]] = {}
    for seen in sorted(detections, key=lambda d: -d.score):
        group = found.setdefault(seen.label, [])
        if seen.score > least and len(group) < at_most:
            group.append(seen)
    return found


def check_sight(judge: Detector, seen: list[list[Detection]]) -> None:
    """Stop when the judge saw nothing at all in most of the pictures it was sure to know (ground truth).

    Only for pictures with known things in them; an untrained model's noise is rightly empty.
    """
    looked = seen[:BLIND_PICTURES]
    blind = sum(not things for things in looked)
    if looked and blind * 2 > len(looked):
        raise GokuError(
            f"evaluate: the judge {judge.name!r} found nothing in {blind} of {len(looked)} pictures of known content. "
            "It is broken or does not suit these pictures; no score would mean anything."
        )
