"""Is every question about the prompt answered with yes: mPLUG on DPG-Bench (ELLA's dpg_bench, commit 3c228f1).

A sample is a tile. Each of its questions, in the order of the file, is asked lower-case and cut to 25 words of the vocabulary,
as ModelScope's preprocessing does; the answer must be exactly "yes". Answers stand in the evidence by the number of their
question; the score is that of the corrected rule, and aggregation makes both modes from the answers.

Unverified against official values: see `networks/words/mplug.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from math import fsum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from goku_core.evaluate.benchmarks.dpg import Question, propagated, questions_of
from goku_core.evaluate.judges.judge import Answer, Bench, Seen
from goku_core.evaluate.judges.words.asking import COLORS, AskingJudge, circles, square
from goku_core.evaluate.networks.words.mplug import SOURCE, TENSORS, Mplug, load_mplug
from goku_core.evaluate.networks.words.wordpieces import Wordpieces
from goku_core.scorers.pictures import in_passes
from goku_core.scorers.resizing import CLIP, normalised, tensor
from goku_core.scorers.sources import Source
from goku_core.scorers.weights import digest

FILES = ("config.yaml", "config_bert.json", "vocab.txt")
LONGEST = 25
YES = "yes"


class MplugJudge(AskingJudge):
    name = "mplug_vqa"
    dimensions = frozenset({"dpg/dpg"})
    sources = (SOURCE,)

    def missing(self) -> str:
        if told := super().missing():
            return told
        folder = self.bench.weights / SOURCE.place
        lost = [name for name in (*FILES, TENSORS[-1]) if name not in self._there(folder)]
        return f"{folder / lost[0]} ({SOURCE.name}, {SOURCE.licence}); get it: {SOURCE.get}" if lost else ""

    def _there(self, folder: Path) -> dict[str, Path]:
        """Files of the folder by name; the tensors' may be their twin."""
        tensors = next((folder / name for name in TENSORS if (folder / name).is_file()), folder / TENSORS[-1])
        files = {name: folder / name for name in FILES} | {TENSORS[-1]: tensors}
        return {name: file for name, file in files.items() if file.is_file()}

    def digest(self, source: Source) -> str:
        """Of the four files that answers depend on."""
        found = [digest(file) for file in self._there(self.place(source)).values()]
        return hashlib.sha256("".join(found).encode()).hexdigest()

    @property
    def facts(self) -> Mapping[str, Any]:
        return {"rule": "all questions of a tile, exactly yes", "longest": LONGEST}

    def answers(self, seen: Sequence[Seen]) -> list[Answer]:
        found = []
        for one, picture in zip(seen, self._looks([one.frames[0] for one in seen]), strict=True):
            questions = questions_of(one.sample.prompt.metadata)
            said = self._asked(picture, [question.text for question in questions])
            answers = {question.number: answer for question, answer in zip(questions, said, strict=True)}
            score = tile_score(answers, questions)
            evidence = {"answers": {str(number): answer for number, answer in answers.items()}}
            found.append(Answer(one.sample.sample_id, "dpg", score, len(questions), evidence=evidence))
        return found

    def check(self) -> None:
        """Its own colour must always be found; another one in at most half of the questions, as such networks like yes."""
        asked = [f"Is there a {color} circle?" for color in COLORS]
        table = np.array([[answer == YES for answer in self._asked(look, asked)] for look in self._looks(circles())])
        others = table.sum() - np.diag(table).sum()
        self.require(
            bool(np.diag(table).all()) and others <= 6,
            f"of four coloured circles it knows {np.diag(table).sum()}, and says yes to {others} of 12 wrong colours",
        )

    def _looks(self, pictures: Sequence[np.ndarray]) -> Tensor:
        side, device = self._network.size.side, self.bench.device
        small = [square(picture, side) for picture in pictures]
        found = in_passes(
            small, self.bench.batch, device, lambda part: normalised(tensor(np.stack(part)), CLIP), self._network.look
        )
        return torch.from_numpy(found).to(device)

    def _asked(self, picture: Tensor, questions: Sequence[str]) -> list[str]:
        """In passes of `batch` questions of this picture."""
        found: list[str] = []
        for start in range(0, len(questions), self.bench.batch):
            part = [question.lower() for question in questions[start : start + self.bench.batch]]
            words, real = self._wordpieces.table(part, LONGEST, fill=True)
            with torch.inference_mode():
                rows = self._network.answers(picture[None], words.to(picture.device), real.to(picture.device))
            found += [self._wordpieces.text(row) for row in rows]
        return found

    @cached_property
    def _network(self) -> Mplug:
        return load_mplug(self.place(SOURCE), self.bench.device)

    @cached_property
    def _wordpieces(self) -> Wordpieces:
        return Wordpieces(self.place(SOURCE) / "vocab.txt")


def tile_score(answers: Mapping[int, str], questions: Sequence[Question]) -> float:
    """Mean over the questions of a tile by the parent rule. answers: by the number of the question.

    A parent that is no question of the tile is no parent (the official code fails there, and drops the prompt).
    """
    known = {question.number for question in questions}
    rooted = [replace(q, parents=tuple(parent for parent in q.parents if parent in known)) for q in questions]
    return fsum(propagated(rooted, answers).values()) / len(questions)


def make(bench: Bench) -> MplugJudge:
    return MplugJudge(bench)
