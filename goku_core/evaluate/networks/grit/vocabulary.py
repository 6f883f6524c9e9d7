"""Numbers of BERT's vocabulary as text. The list of words is read from the folder of weights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from goku_core.pipeline.errors import GokuError
from goku_core.scorers.sources import Source

VOCABULARY = Source(
    "bert-base-uncased vocabulary",
    "bert-base-uncased/vocab.txt",
    "hf download google-bert/bert-base-uncased vocab.txt --local-dir weights/bert-base-uncased",
    "Apache-2.0",
)
UNSPOKEN = frozenset({0, 100, 101, 102, 103})
"""[PAD], [UNK], [CLS], [SEP] and [MASK]."""
CLOSER = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")
"""What transformers writes without the spaces around it, in this order."""


class Vocabulary:
    """file: one word or part of a word ("##ing") per line. Raises GokuError where it has not as many as the network."""

    def __init__(self, file: Path, size: int) -> None:
        self.words = file.read_text(encoding="utf-8").splitlines()
        if len(self.words) != size:
            raise GokuError(
                f"{file} has {len(self.words)} words and the network {size}: it is not {VOCABULARY.name}. "
                f"Get it: {VOCABULARY.get}"
            )

    def text(self, numbers: Iterable[int]) -> str:
        """ "a red bicycle", as transformers' tokenizer decodes it without special words."""
        spoken = " ".join(self.words[number] for number in numbers if number not in UNSPOKEN)
        text = spoken.replace(" ##", "").strip()
        for apart in CLOSER:
            text = text.replace(apart, apart.strip())
        return text
