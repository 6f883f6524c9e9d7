"""Text to packed token features for cross-attention.

`WordEncoder` is the embedded default: no download, no training, the same vectors on every machine. It knows words, not
meanings, which is enough for captions of a small grammar; larger models use Flan-T5 (paper section 2.2).
"""

from __future__ import annotations

import hashlib
import html
import math
import re
import unicodedata
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

_WORD = re.compile(r"[a-z]+|[0-9]+")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_ADDRESS = re.compile(r"(?:https?://|www\.)\S+|\S+@\S+\.\S+")


def words(text: str) -> list[str]:
    """Lower-case words and numbers of a caption; punctuation separates and is dropped."""
    return _WORD.findall(text.lower())


def clean_caption(text: str) -> str:
    """A caption without what the web leaves in it: entities, tags, addresses, control characters, odd forms of letters.

    Case and punctuation stay: Flan-T5 knows both. The authors' code cleans captions too, by other means.
    """
    text = html.unescape(html.unescape(text))  # twice: "&amp;quot;" is common in scraped captions
    text = _TAG.sub(" ", text)
    text = _ADDRESS.sub(" ", text)
    text = unicodedata.normalize("NFKC", text)
    text = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in text)
    return " ".join(text.split())


class TextEncoder(Protocol):
    """Encodes captions. The empty caption is the null text of classifier-free guidance."""

    width: int

    @property
    def fingerprint(self) -> str:
        """Names the encoder and everything that changes its output."""

    def encode(self, text: str) -> Tensor:
        """One caption -> (M, width) float32, M >= 1."""

    def encode_batch(self, texts: list[str], tokens: int) -> list[Tensor]:
        """`encode` of each, in calls of at most `tokens` tokens (a longer caption is a call of its own)."""

    def to(self, device: torch.device) -> TextEncoder:
        """The same encoder working on a device; captions come back to the CPU."""


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
    """Each word a fixed vector drawn from its hash, plus its position, plus its neighbours at their distances.

    A neighbour adds the vector of the pair (distance, word): the "circle" of "a red circle left of a square" says that red
    comes one word before it and left one word after. Our choice, because cross-attention reads one token at a time: which
    colour belongs to which shape, and which shape stands where, must be in the token, as Flan-T5's own attention puts it
    there. A text starts with a token of its own, so that the empty caption has one token.
    """

    reach = 5  # words on either side: as far as the second shape of "... left of a blue square" is from its relation

    def __init__(self, width: int = 256, max_words: int = 64) -> None:
        if width % 2:
            raise ValueError(f"width {width} must be even")
        self.width, self.max_words = width, max_words

    @property
    def fingerprint(self) -> str:
        return f"words-v2-{self.width}-{self.max_words}"

    def encode(self, text: str) -> Tensor:
        sequence = words(text)[: self.max_words]
        rows = [_word_vector("<start>", self.width)]
        for place, word in enumerate(sequence):
            row = _word_vector(word, self.width) + 0.5 * _position_vector(place + 1, self.width)
            for other in range(max(0, place - self.reach), min(len(sequence), place + self.reach + 1)):
                if other != place:
                    row = row + 0.25 * _word_vector(f"{other - place:+d} {sequence[other]}", self.width)
            rows.append(row)
        return torch.from_numpy(np.stack(rows))

    def encode_batch(self, texts: list[str], tokens: int) -> list[Tensor]:
        return [self.encode(text) for text in texts]

    def to(self, device: torch.device) -> WordEncoder:
        return self


def pack_texts(encoded: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Texts [(M_s, width)] -> (sum of M_s, width) and cu_seqlens (S+1,) int32."""
    lengths = torch.tensor([0, *(len(e) for e in encoded)], dtype=torch.int32)
    return torch.cat(encoded), lengths.cumsum(0, dtype=torch.int32)
