"""Labels by the words of a caption: no weights, the same anywhere, and honest: what says nothing gets no label."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from goku_core.curate.taxonomy.tree import SubClass
from goku_core.pipeline.errors import GokuError

_WORD = re.compile(r"[a-z0-9]+(?:['’-][a-z0-9]+)*")
_ES = ("ses", "xes", "zes", "ches", "shes")


@dataclass(frozen=True)
class Label:
    """`score`, 0 to 1: the share this class has in all the words that speak for some class."""

    name: str
    primary: str
    score: float


class WordClassifier:
    """Finds the words of every class in a caption, longest phrase first, and takes the class they speak for most."""

    def __init__(self, classes: Sequence[SubClass]) -> None:
        """Raises `GokuError` where one phrase stands for two classes: the label would depend on their order."""
        self.primary = {one.name: one.primary for one in classes}
        self._strong = _phrases({one.name: one.words for one in classes})
        self._weak = _phrases({one.name: one.weak for one in classes})
        self._longest = max((len(phrase) for table in (self._strong, self._weak) for phrase in table), default=0)

    def label(self, caption: str) -> Label | None:
        """A phrase counts as many times as it has words; a tie goes to what is named first."""
        words = [singular(word) for word in _WORD.findall(caption.lower())]
        votes = self._votes(words, self._strong) or self._votes(words, self._weak)
        if not votes:
            return None
        best = max(votes, key=lambda name: votes[name])  # the first of equals: in the order of the caption
        return Label(best, self.primary[best], votes[best] / sum(votes.values()))

    def _votes(self, words: list[str], table: dict[tuple[str, ...], str]) -> dict[str, int]:
        votes: dict[str, int] = {}
        place = 0
        while place < len(words):
            for length in range(min(self._longest, len(words) - place), 0, -1):
                if (name := table.get(tuple(words[place : place + length]))) is not None:
                    votes[name] = votes.get(name, 0) + length
                    place += length - 1
                    break
            place += 1
        return votes


def singular(word: str) -> str:
    """Rough, but the same for captions and for the words of the file: cities -> city, boxes -> box, dogs -> dog."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(_ES):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def _phrases(words_of: dict[str, tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    table: dict[tuple[str, ...], str] = {}
    for name, phrases in words_of.items():
        for phrase in phrases:
            words = tuple(singular(word) for word in _WORD.findall(phrase.lower()))
            if not words:
                raise GokuError(f"taxonomy: {phrase!r} of {name} holds no word")
            if table.setdefault(words, name) != name:
                raise GokuError(f"taxonomy: {phrase!r} stands for {table[words]} and for {name}; leave it with one")
    return table
