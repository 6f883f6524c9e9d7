"""What the judges of VBench share: who is asked, which weights, how an answer is named and an eye is tested."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from goku_core.evaluate.judges.judge import Answer, Bench, Seen
from goku_core.pipeline.errors import GokuError
from goku_core.scorers.sources import Source, lacks, obtain
from goku_core.scorers.weights import digest

DIGITS = 6  # of the scores by frame in the evidence


class VBenchJudge(ABC):
    """A judge of one dimension that looks at one sample at a time, through networks in float32.

    dimension  VBench's own name, also the judge's
    revision   raised when answers change
    sources    networks it needs; each as alternatives that hold the same weights, the first is the one to fetch
    """

    dimension: ClassVar[str]
    revision: ClassVar[int] = 1
    sources: ClassVar[tuple[tuple[Source, ...], ...]]

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.name = self.dimension
        self.dimensions = frozenset({f"vbench/{self.dimension}"})

    @property
    def fingerprint(self) -> str:
        """Raises GokuError where weights are missing: they are part of it."""
        facts = dict(self.facts)
        facts["weights"] = [digest(self.weights(number)) for number in range(len(self.sources))]
        facts["precision"] = "float32"
        return stamp(self.name, self.revision, facts)

    def missing(self) -> str:
        folder = self.bench.weights
        wanting = (choice[0] for choice in self.sources if all(lacks(source, folder) for source in choice))
        return "; ".join(lacks(source, folder) for source in wanting)

    def weights(self, number: int = 0) -> Path:
        """Path of the weights of one of `sources`. GokuError saying how to get them; the licence is said at the first use."""
        there = [source for source in self.sources[number] if not lacks(source, self.bench.weights)]
        return obtain((there or self.sources[number])[0], self.bench.weights)

    def judge(self, seen: Sequence[Seen]) -> list[Answer]:
        return [self.answer(one) for one in seen if self._is_asked(one)]

    def _is_asked(self, seen: Seen) -> bool:
        return bool(self.dimensions & {f"{seen.sample.benchmark}/{name}" for name in seen.sample.prompt.dimensions})

    @property
    @abstractmethod
    def facts(self) -> Mapping[str, Any]:
        """Rule and constants that answers depend on, beside the weights."""

    @abstractmethod
    def answer(self, seen: Seen) -> Answer: ...

    @abstractmethod
    def check(self) -> None: ...

    def _mean_answer(self, seen: Seen, scores: np.ndarray, **evidence: Any) -> Answer:
        """Mean over frames (n,), all of them in the evidence."""
        shown = {"frames": rounded(scores)} | evidence
        return Answer(
            seen.sample.sample_id, self.dimension, float(np.mean(scores, dtype=np.float64)), len(scores), evidence=shown
        )

    def _require(self, sees: bool, what: str) -> None:
        """Raises GokuError when a check on built-in pictures failed."""
        if not sees:
            raise GokuError(
                f"{self.name} fails its check on built-in pictures: {what}. "
                f"Its weights ({', '.join(str(self.weights(n)) for n in range(len(self.sources)))}) may be another model's "
                "or damaged; compare their SHA-256 with docs/weights.md. Nothing was judged."
            )


def stamp(name: str, revision: int, facts: Mapping[str, Any]) -> str:
    """ "subject_consistency-1a2b3c4d5e6f": equal for equal facts, in any order."""
    said = json.dumps({"name": name, "revision": revision} | dict(facts), sort_keys=True)
    return f"{name}-{hashlib.sha256(said.encode()).hexdigest()[:12]}"


def rounded(scores: Iterable[float]) -> list[float]:
    return [round(float(score), DIGITS) for score in scores]
