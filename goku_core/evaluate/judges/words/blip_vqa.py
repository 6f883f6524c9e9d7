"""Does the picture have what each part of the prompt names: BLIP-VQA of T2I-CompBench (BLIPvqa_eval, commit 1b70949).

"a green bench and a blue bowl" asks "a green bench?" and "a blue bowl?". A part scores P(yes) / (P(yes) + P(no)) of the first
word of the answer, rounded to four decimals; the picture scores the product, rounded again. A prompt without a part
scores 1, as in the official code.

Unverified against official values: see `networks/words/blip.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from goku_core.evaluate.judges.judge import Answer, Bench, Seen
from goku_core.evaluate.judges.words.asking import COLORS, AskingJudge, circles, confused, square
from goku_core.evaluate.judges.words.noun_chunks import NounChunks
from goku_core.evaluate.networks.words.blip import PUBLISHED, SOURCE, BlipVqa, load_blip
from goku_core.evaluate.networks.words.wordpieces import ASK, VOCABULARY, Wordpieces
from goku_core.scorers.pictures import in_passes
from goku_core.scorers.resizing import CLIP, normalised, tensor

LONGEST, MOST_WORDS, DIGITS = 35, 50, 4


class BlipJudge(AskingJudge):
    name = "blip_vqa"
    dimensions = frozenset(f"compbench/{name}" for name in ("color", "shape", "texture", "complex_attribute"))
    sources = (SOURCE, VOCABULARY)

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.chunks = NounChunks(bench.weights)

    def missing(self) -> str:
        return super().missing() or self.chunks.missing()

    @property
    def facts(self) -> Mapping[str, Any]:
        return {"rule": "product of P(yes) of noun chunks", "side": PUBLISHED.side, "chunks": self.chunks.origin}

    def answers(self, seen: Sequence[Seen]) -> list[Answer]:
        found = []
        for one, picture in zip(seen, self._looks([one.frames[0] for one in seen]), strict=True):
            chunks = self.chunks.of(one.sample.prompt.text)
            scores = [round(score, DIGITS) for score in self._asked(picture, chunks)]
            evidence = {"answers": [list(pair) for pair in zip(chunks, scores, strict=True)]}
            score = round(prod(scores), DIGITS)
            found += [
                Answer(one.sample.sample_id, dimension, score, 1, evidence=evidence) for dimension in self.asked(one)
            ]
        return found

    def check(self) -> None:
        pictures = self._looks(circles())
        table = np.array([self._asked(picture, [f"a {color} circle" for color in COLORS]) for picture in pictures]).T
        wrong = confused(table)
        self.require(
            not wrong, f'asked "a {wrong[0] if wrong else ""} circle?", another colour\'s picture scores higher'
        )

    def _looks(self, pictures: Sequence[np.ndarray]) -> Tensor:
        side, device = self._network.size.side, self.bench.device
        small = [square(picture, side) for picture in pictures]
        found = in_passes(
            small,
            self.bench.batch,
            device,
            lambda part: normalised(tensor(np.stack(part)), CLIP),
            self._network.visual_encoder,
        )
        return torch.from_numpy(found).to(device)

    def _asked(self, picture: Tensor, chunks: Sequence[str]) -> list[float]:
        if not chunks:
            return []
        words, real = self._wordpieces.table([asked(chunk) for chunk in chunks], LONGEST)
        words[:, 0] = ASK
        with torch.inference_mode():
            return self._network(picture[None], words.to(picture.device), real.to(picture.device)).tolist()

    @cached_property
    def _network(self) -> BlipVqa:
        return load_blip(self.place(SOURCE), self.bench.device)

    @cached_property
    def _wordpieces(self) -> Wordpieces:
        return Wordpieces(self.place(VOCABULARY))


def asked(chunk: str) -> str:
    """ "A green bench" -> "a green bench?", without the punctuation that the official `pre_question` takes out."""
    question = re.sub(r"[.!\"()*#:;~]", "", f"{chunk}?".lower()).rstrip(" ")
    return " ".join(question.split(" ")[:MOST_WORDS])


def make(bench: Bench) -> BlipJudge:
    return BlipJudge(bench)
