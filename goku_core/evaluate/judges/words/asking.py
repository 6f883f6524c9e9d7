"""What the judges that ask in words share: weights, fingerprint, and four pictures on which an eye is tried."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from goku_core.evaluate.judges.judge import Answer, Bench, Seen
from goku_core.pipeline.errors import GokuError
from goku_core.scenes.draw import draw
from goku_core.scenes.scene import Scene, Thing
from goku_core.scorers.sources import Source, lacks, obtain
from goku_core.scorers.tensors import twin
from goku_core.scorers.weights import digest

COLORS = ("red", "green", "blue", "yellow")


class AskingJudge(ABC):
    """sources: networks and vocabularies it needs; revision: raised when answers change."""

    name: str
    revision: ClassVar[int] = 1
    dimensions: frozenset[str]
    sources: ClassVar[tuple[Source, ...]]

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    @property
    def fingerprint(self) -> str:
        """Raises GokuError where weights are missing: their digests are part of it."""
        said = {
            "revision": self.revision,
            "facts": dict(self.facts),
            "weights": [self.digest(source) for source in self.sources],
            "precision": "float32",
            "batch": self.bench.batch,
        }
        found = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]
        return f"{self.name}-{found}"

    def missing(self) -> str:
        there = (twin(source, self.bench.weights) for source in self.sources)
        return next((told for source in there if (told := lacks(source, self.bench.weights))), "")

    def judge(self, seen: Sequence[Seen]) -> list[Answer]:
        """Answers in the order of the samples; samples that ask for none of its dimensions are left out."""
        asked = [one for one in seen if self.asked(one)]
        return self.answers(asked) if asked else []

    def asked(self, seen: Seen) -> list[str]:
        """The dimensions of the sample that this judge knows, in the sample's order."""
        return [d for d in seen.sample.prompt.dimensions if f"{seen.sample.benchmark}/{d}" in self.dimensions]

    def place(self, source: Source) -> Path:
        """Of the weights, or of a .safetensors twin of them. GokuError saying how to get them."""
        return obtain(twin(source, self.bench.weights), self.bench.weights)

    def digest(self, source: Source) -> str:
        return digest(self.place(source))

    def require(self, sees: bool, what: str) -> None:
        """Raises GokuError when a check on built-in pictures failed."""
        if not sees:
            raise GokuError(
                f"{self.name} fails its check on built-in pictures: {what}. Its weights below {self.bench.weights} may be "
                "another model's or damaged; compare them with docs/weights.md. Nothing was judged."
            )

    @property
    @abstractmethod
    def facts(self) -> Mapping[str, Any]:
        """Rule, mode and constants that answers depend on, beside the weights."""

    @abstractmethod
    def answers(self, seen: Sequence[Seen]) -> list[Answer]: ...

    @abstractmethod
    def check(self) -> None: ...


def square(picture: np.ndarray, side: int) -> np.ndarray:
    """uint8 (H, W, 3) -> (side, side, 3): Pillow's bicubic, averaged where it shrinks, aspect ratio not kept."""
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))


def circles(side: int = 256) -> list[np.ndarray]:
    """A circle of each of `COLORS` on grey, uint8 (side, side, 3)."""
    return [draw(Scene("single_object", (Thing("circle", c, 0.5, 0.5, 0.5),)), side, side) for c in COLORS]


def confused(table: np.ndarray) -> list[str]:
    """table (colours asked, pictures): the colours whose own picture does not score highest. By chance, all four of a broken
    network are right once in 256 times."""
    return [color for n, color in enumerate(COLORS) if not table[n, n] > np.delete(table[n], n).max()]
