"""CLIP's words as numbers, from the list of merges that OpenAI publishes with CLIP.

The tokenizer is transformers'; here its vocabulary is built from the list in the order in which CLIP numbers it: 256 bytes,
the same at the end of a word, the merges, start and end of text. The original also mends broken characters with `ftfy`,
which changes none of VBench's prompts (all are plain letters, but for the c of "façade").
"""

from __future__ import annotations

import gzip
import html
from pathlib import Path

import torch
from torch import Tensor

from goku_core.pipeline.errors import GokuError
from goku_core.scorers.sources import Source, obtain

SOURCE = Source(
    name="clip-bpe",
    place="viclip/bpe_simple_vocab_16e6.txt.gz",
    get="curl -L --create-dirs -o weights/viclip/bpe_simple_vocab_16e6.txt.gz "
    "https://raw.githubusercontent.com/openai/CLIP/main/clip/bpe_simple_vocab_16e6.txt.gz",
    licence="MIT (openai/CLIP)",
    sha256="924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a",
)
MERGES = 49152 - 256 - 2
"""Merges that CLIP uses of the file, which has more; the first line is a heading."""
START, END = "<|startoftext|>", "<|endoftext|>"


class Words:
    """file: the list of merges, gzipped. Raises GokuError where it is none."""

    def __init__(self, file: Path) -> None:
        from transformers import CLIPTokenizer

        try:
            lines = gzip.decompress(file.read_bytes()).decode("utf-8").splitlines()[1 : MERGES + 1]
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise GokuError(f"{file} cannot be read as CLIP's list of merges: {error}. Get it: {SOURCE.get}") from error
        merges = [tuple(line.split()) for line in lines if line.strip()]
        if not merges or any(len(pair) != 2 for pair in merges):
            raise GokuError(f"{file} is not CLIP's list of merges: two parts a line. Get it: {SOURCE.get}")
        signs = byte_signs()
        pieces = [*signs, *(sign + "</w>" for sign in signs), *(a + b for a, b in merges), START, END]
        self._tokenizer = CLIPTokenizer(vocab={piece: n for n, piece in enumerate(pieces)}, merges=merges)
        self.start, self.end, self.size = len(pieces) - 2, len(pieces) - 1, len(pieces)

    def tokens(self, texts: list[str], length: int) -> Tensor:
        """int64 (n, length): start, the text, end, then zeros. A longer text is cut, its last place the end."""
        rows = torch.zeros(len(texts), length, dtype=torch.long)
        for row, text in zip(rows, texts, strict=True):
            plain = html.unescape(html.unescape(text)).strip()
            inner = self._tokenizer.encode(plain, add_special_tokens=False)[: length - 2]
            row[: len(inner) + 2] = torch.tensor([self.start, *inner, self.end])
        return rows


def byte_signs() -> list[str]:
    """A visible sign for each of 256 bytes, in the order of CLIP's vocabulary: printable ones first, as themselves."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = 256 - len(printable)
    return [chr(byte) for byte in printable] + [chr(256 + number) for number in range(hidden)]


def load(weights: Path) -> Words:
    return Words(obtain(SOURCE, weights))
