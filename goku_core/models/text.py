"""Text to packed token features for cross-attention.

`WordEncoder` is the embedded default: no download, no training, the same vectors on every machine. It knows words, not
meanings, which is enough for captions of a small grammar; larger models use Flan-T5 (paper section 2.2).
"""

from __future__ import annotations

import hashlib
import math
import re
from functools import lru_cache
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

_WORD = re.compile(r"[a-z]+|[0-9]+")


def words(text: str) -> list[str]:
    """Lower-case words and numbers of a caption; punctuation separates and is dropped."""
    return _WORD.findall(text.lower())


class TextEncoder(Protocol):
    """Encodes captions. The empty caption is the null text of classifier-free guidance."""

    width: int

    @property
    def fingerprint(self) -> str:
        """Names the encoder and everything that changes its output."""

    def encode(self, text: str) -> Tensor:
        """One caption -> (M, width) float32, M >= 1."""


@lru_cache(maxsize=65536)
def _word_vector(word: str, width: int) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
    vector = np.random.Generator(np.random.Philox(seed)).standard_normal(width)
    return (vector / np.linalg.norm(vector) * math.sqrt(width)).astype(np.float32)


def _position_vector(position: int, width: int) -> np.ndarray:
    half = width // 2
    angle = position * 100.0 ** (-np.arange(half) / half)
    return np.concatenate((np.sin(angle), np.cos(angle))).astype(np.float32)


class WordEncoder:
    """Each word a fixed vector drawn from its hash, plus the vector of its pair with the word before, plus its position.

    The pair tells "red circle" from "blue circle" in one token, as the context-free sum of two words could not.
    A text starts with a token of its own, so that the empty caption has one token.
    """

    def __init__(self, width: int = 256, max_words: int = 64) -> None:
        if width % 2:
            raise ValueError(f"width {width} must be even")
        self.width, self.max_words = width, max_words

    @property
    def fingerprint(self) -> str:
        return f"words-v1-{self.width}-{self.max_words}"

    def encode(self, text: str) -> Tensor:
        sequence = ["<start>", *words(text)[: self.max_words]]
        rows = [_word_vector(sequence[0], self.width)]
        for position, (before, word) in enumerate(pairwise(sequence), start=1):
            pair = _word_vector(f"{before} {word}", self.width)
            rows.append(_word_vector(word, self.width) + 0.5 * pair + 0.5 * _position_vector(position, self.width))
        return torch.from_numpy(np.stack(rows))


def pack_texts(encoded: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Texts [(M_s, width)] -> (sum of M_s, width) and cu_seqlens (S+1,) int32."""
    lengths = torch.tensor([0, *(len(e) for e in encoded)], dtype=torch.int32)
    return torch.cat(encoded), lengths.cumsum(0, dtype=torch.int32)
