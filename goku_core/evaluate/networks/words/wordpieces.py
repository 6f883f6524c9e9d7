"""Words to the numbers of BERT's vocabulary and back. The vocabulary is read from the folder of weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from goku_core.scorers.sources import Source

PADDING, START, END = 0, 101, 102
"""[PAD], [CLS] and [SEP] of bert-base-uncased."""
WRITE, ASK = 30522, 30523
"""[DEC] and [ENC], which BLIP and Tag2Text add behind the vocabulary: before a text that is written, that is read."""

VOCABULARY = Source(
    "bert-base-uncased vocabulary",
    "bert-base-uncased/vocab.txt",
    "hf download google-bert/bert-base-uncased vocab.txt --local-dir weights/bert-base-uncased",
    "Apache-2.0",
)


class Wordpieces:
    """file: one word or part of a word per line. Lower-case, accents stripped, as bert-base-uncased."""

    def __init__(self, file: Path) -> None:
        from tokenizers import BertWordPieceTokenizer

        self._tokenizer = BertWordPieceTokenizer(str(file), lowercase=True)

    def numbers(self, text: str, longest: int) -> list[int]:
        """[CLS] ... [SEP], cut to `longest` numbers in all."""
        self._tokenizer.enable_truncation(longest)
        return self._tokenizer.encode(text).ids

    def table(self, texts: Sequence[str], longest: int, fill: bool = False) -> tuple[Tensor, Tensor]:
        """Numbers (n, L) and which are not padding, bool (n, L). fill: L is `longest`, else that of the longest text."""
        rows = [self.numbers(text, longest) for text in texts]
        length = longest if fill else max(map(len, rows))
        words = torch.tensor([row + [PADDING] * (length - len(row)) for row in rows])
        real = torch.tensor([[place < len(row) for place in range(length)] for row in rows])
        return words, real

    def text(self, numbers: Sequence[int]) -> str:
        """Without special words; spaces before punctuation taken out, as transformers does."""
        plain = [n for n in numbers if n not in (PADDING, START, END, WRITE, ASK)]
        return self._tokenizer.decode(plain, skip_special_tokens=True)
