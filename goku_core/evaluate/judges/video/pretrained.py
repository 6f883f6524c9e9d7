"""What the judges of clips share: which weights, who is asked, what names an answer."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from goku_core.evaluate.judges.judge import Answer, Bench, Seen
from goku_core.pipeline.errors import GokuError
from goku_core.scorers.sources import Source, lacks, obtain
from goku_core.scorers.tensors import twin
from goku_core.scorers.weights import digest


class ClipJudge(ABC):
    """Looks at one clip at a time, in float32, so that no answer depends on the company.

    name      the key in `JUDGES`
    revision  raised when answers change
    sources   of the networks and lists it needs
    """

    name: ClassVar[str]
    dimensions: ClassVar[frozenset[str]]
    revision: ClassVar[int] = 1
    sources: ClassVar[tuple[Source, ...]]

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    @property
    def fingerprint(self) -> str:
        """Raises GokuError where weights are missing: they are part of it."""
        said = {
            "name": self.name,
            "revision": self.revision,
            "facts": dict(self.facts),
            "weights": [digest(obtain(source, self.bench.weights)) for source in self._there()],
            "precision": "float32",
        }
        return f"{self.name}-{hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]}"

    def missing(self) -> str:
        return next((told for source in self._there() if (told := lacks(source, self.bench.weights))), "")

    def _there(self) -> list[Source]:
        return [twin(source, self.bench.weights) for source in self.sources]

    def judge(self, seen: Sequence[Seen]) -> list[Answer]:
        return [answer for one in seen if (asked := self._asked(one)) for answer in self.answers(one, asked)]

    def _asked(self, seen: Seen) -> list[str]:
        """The dimensions of the sample that this judge knows."""
        sample = seen.sample
        return [name for name in sample.prompt.dimensions if f"{sample.benchmark}/{name}" in self.dimensions]

    @property
    @abstractmethod
    def facts(self) -> Mapping[str, Any]:
        """Rule and constants that answers depend on, beside the weights."""

    @abstractmethod
    def answers(self, seen: Seen, asked: Sequence[str]) -> list[Answer]:
        """One answer for each dimension asked."""

    @abstractmethod
    def check(self) -> None: ...

    def _require(self, sees: bool, what: str) -> None:
        """Raises GokuError when a check on built-in renders failed."""
        if not sees:
            places = ", ".join(str(self.bench.weights / source.place) for source in self._there())
            raise GokuError(
                f"{self.name} fails its check on built-in renders: {what}. Its weights ({places}) may be another model's "
                "or damaged. Nothing was judged; see docs/weights.md."
            )
