"""Labels by the words of a caption: no weights, the same anywhere, and honest: what says nothing gets no label."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from goku_core.curate.taxonomy.tree import SubClass
from goku_core.pipeline.errors import GokuError

_WORD = re.compile(r"[a-z0-9]+(?:['’-][a-z0-9]+)*")
HALF_AT = 12  # words into the caption at which a phrase has half its say
WEAK = 0.5
Phrase = tuple[str, ...]
_ES = ("ses", "xes", "zes", "ches", "shes")


@dataclass(frozen=True)
class Label:
    """`score`, 0 to 1: the share this class has in all the words that speak for some class."""

    name: str
    primary: str
    score: float


class WordClassifier:
    """Finds the words of every class in a caption, longest phrase first, and takes the class they speak for most.

    Our choices: a phrase has as many votes as words, a weak one half of that, and each counts once; the later it stands
    the less it says (half at the 12th word), because captions begin with what they are about and end with the ground.
    """

    def __init__(self, classes: Sequence[SubClass]) -> None:
        """Raises `GokuError` where one phrase stands for two classes: the label would depend on their order."""
        self.primary = {one.name: one.primary for one in classes}
        self._names: dict[Phrase, str] = {}
        self._votes: dict[Phrase, float] = {}
        for one in classes:
            for words, voice in ((one.words, 1.0), (one.weak, WEAK)):
                for text in words:
                    self._add(text, one.name, voice)
        self._longest = max(map(len, self._names), default=0)

    def label(self, caption: str) -> Label | None:
        """None where no word speaks for any class. A tie goes to what is named first."""
        words = [singular(word) for word in _WORD.findall(caption.lower())]
        votes: dict[str, float] = {}
        for place, phrase in self._phrases(words):
            name = self._names[phrase]
            votes[name] = votes.get(name, 0.0) + self._votes[phrase] / (1 + place / HALF_AT)
        if not votes:
            return None
        best = max(votes, key=lambda name: votes[name])  # the first of equals: in the order of the caption
        return Label(best, self.primary[best], votes[best] / sum(votes.values()))

    def _phrases(self, words: list[str]) -> list[tuple[int, Phrase]]:
        """Known phrases and where each stands first; words within a longer phrase do not count by themselves."""
        found: dict[Phrase, int] = {}
        place = 0
        while place < len(words):
            for length in range(min(self._longest, len(words) - place), 0, -1):
                phrase = tuple(words[place : place + length])
                if phrase in self._names:
                    found.setdefault(phrase, place)
                    place += length - 1
                    break
            place += 1
        return [(place, phrase) for phrase, place in found.items()]

    def _add(self, text: str, name: str, voice: float) -> None:
        phrase = tuple(singular(word) for word in _WORD.findall(text.lower()))
        if not phrase:
            raise GokuError(f"taxonomy: {text!r} of {name} holds no word")
        if self._names.setdefault(phrase, name) != name:
            raise GokuError(f"taxonomy: {text!r} stands for {self._names[phrase]} and for {name}; leave it with one")
        self._votes[phrase] = max(self._votes.get(phrase, 0.0), voice * len(phrase))


def singular(word: str) -> str:
    """Rough, but the same for captions and for the words of the file: cities -> city, boxes -> box, dogs -> dog."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(_ES):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word
