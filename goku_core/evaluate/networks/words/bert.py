"""BERT (arXiv 1810.04805) with cross-attention: the text half of BLIP, Tag2Text and mPLUG, by their tensor names.

Written from the published configurations and the names of the tensors (`med.py` of T2I-CompBench and VBench,
`modeling_mplug.py` of ModelScope). Layers come after their residual sums, GELU is the exact one, the LayerNorms have
1e-12, there is no dropout: these networks only infer.

Shapes: B sequences, L words, D width, S places looked at (B' of them: B is a multiple of B', so that the beams of one
picture, or the questions about it, share what they look at).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Looked = tuple[Tensor, Tensor]
"""Keys and values (B', heads, S, D/heads) of what is looked at, made once for all words that look."""

EPSILON = 1e-12


@dataclass(frozen=True)
class BertSize:
    """Sizes of a published `config.json`.

    types    token types; 0: no such embedding (BLIP and Tag2Text)
    memory   width of what its cross-attention looks at; 0: it has none
    alone    its layers have self-attention; False for the tagging head of Tag2Text
    """

    vocabulary: int = 30524
    width: int = 768
    layers: int = 12
    heads: int = 12
    hidden: int = 3072
    positions: int = 512
    types: int = 0
    memory: int = 0
    alone: bool = True


BASE = BertSize()
"""Of BLIP and Tag2Text."""


class Attention(nn.Module):
    """Attention, its projection, the sum with its input, and LayerNorm."""

    def __init__(self, size: BertSize, source: int) -> None:
        super().__init__()
        self.heads = size.heads
        self.self = nn.ModuleDict(
            {
                "query": nn.Linear(size.width, size.width),
                "key": nn.Linear(source, size.width),
                "value": nn.Linear(source, size.width),
            }
        )
        self.output = nn.ModuleDict(
            {"dense": nn.Linear(size.width, size.width), "LayerNorm": nn.LayerNorm(size.width, eps=EPSILON)}
        )

    def look(self, source: Tensor) -> Looked:
        """source (B', S, E) -> keys and values."""
        return self._split(self.self["key"](source)), self._split(self.self["value"](source))

    def forward(self, x: Tensor, looked: Looked, may: Tensor | None = None) -> Tensor:
        """x (B, L, D); may: bool, broadcast to (B', 1, B/B' * L, S), True where a word may look."""
        keys, values = looked
        query = self._split(self.self["query"](x).reshape(len(keys), -1, x.shape[-1]))
        found = F.scaled_dot_product_attention(query, keys, values, attn_mask=may)
        return self.output["LayerNorm"](self.output["dense"](found.transpose(1, 2).reshape(x.shape)) + x)

    def _split(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, heads, L, D/heads)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Layer(nn.Module):
    """Self-attention, cross-attention, two linear layers: those of them that the size has."""

    def __init__(self, size: BertSize) -> None:
        super().__init__()
        self.attention = Attention(size, size.width) if size.alone else None
        self.crossattention = Attention(size, size.memory) if size.memory else None
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(size.width, size.hidden)})
        self.output = nn.ModuleDict(
            {"dense": nn.Linear(size.hidden, size.width), "LayerNorm": nn.LayerNorm(size.width, eps=EPSILON)}
        )

    def forward(self, x: Tensor, may: Tensor | None, memory: Looked | None, may_recall: Tensor | None) -> Tensor:
        if self.attention is not None:
            x = self.attention(x, self.attention.look(x), may)
        if self.crossattention is not None:
            if memory is None:
                raise ValueError("this layer has cross-attention and needs something to look at")
            x = self.crossattention(x, memory, may_recall)
        return self.feed(x)

    def feed(self, x: Tensor) -> Tensor:
        hidden = F.gelu(self.intermediate["dense"](x))
        return self.output["LayerNorm"](self.output["dense"](hidden) + x)


class Stack(nn.Module):
    def __init__(self, size: BertSize) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(size) for _ in range(size.layers))

    def recall(self, source: Tensor) -> list[Looked]:
        """What each layer's cross-attention sees of source (B', S, E)."""
        return [layer.crossattention.look(source) for layer in self.layer]

    def forward(
        self, x: Tensor, may: Tensor | None, memory: list[Looked] | None, may_recall: Tensor | None = None
    ) -> Tensor:
        for number, layer in enumerate(self.layer):
            x = layer(x, may, memory[number] if memory is not None else None, may_recall)
        return x


class Embeddings(nn.Module):
    def __init__(self, size: BertSize) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(size.vocabulary, size.width, padding_idx=0)
        self.position_embeddings = nn.Embedding(size.positions, size.width)
        self.token_type_embeddings = nn.Embedding(size.types, size.width) if size.types else None
        self.LayerNorm = nn.LayerNorm(size.width, eps=EPSILON)

    def forward(self, words: Tensor) -> Tensor:
        """words (B, L) -> (B, L, D). Every word is of type 0."""
        x = self.word_embeddings(words) + self.position_embeddings.weight[: words.shape[1]]
        if self.token_type_embeddings is not None:
            x = x + self.token_type_embeddings.weight[0]
        return self.LayerNorm(x)


class BertText(nn.Module):
    """Words to states."""

    def __init__(self, size: BertSize) -> None:
        super().__init__()
        self.embeddings = Embeddings(size)
        self.encoder = Stack(size)

    def forward(
        self,
        words: Tensor,
        real: Tensor | None = None,
        memory: list[Looked] | None = None,
        recallable: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """words (B, L) -> (B, L, D).

        real        (B, L) bool: not padding
        memory      of `encoder.recall`
        recallable  (B', S) bool: places of the memory that are not padding
        causal      a word sees itself and those before it
        """
        may = seen(real)
        if causal:
            may = torch.ones(words.shape[1], words.shape[1], dtype=torch.bool, device=words.device).tril()
        return self.encoder(self.embeddings(words), may, memory, seen(recallable))


class _Predictions(nn.Module):
    def __init__(self, size: BertSize) -> None:
        super().__init__()
        self.transform = nn.ModuleDict(
            {"dense": nn.Linear(size.width, size.width), "LayerNorm": nn.LayerNorm(size.width, eps=EPSILON)}
        )
        self.decoder = nn.Linear(size.width, size.vocabulary)
        self.bias = self.decoder.bias  # one parameter, which the checkpoints name twice

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.transform["LayerNorm"](F.gelu(self.transform["dense"](x))))


class BertWriter(nn.Module):
    """Writes word by word: what word comes next. Its size has a memory."""

    def __init__(self, size: BertSize) -> None:
        super().__init__()
        self.bert = BertText(size)
        self.cls = nn.ModuleDict({"predictions": _Predictions(size)})

    def recall(self, source: Tensor) -> list[Looked]:
        return self.bert.encoder.recall(source)

    def forward(self, words: Tensor, memory: list[Looked], recallable: Tensor | None = None) -> Tensor:
        """words (B, L) -> logits of the word after the last, (B, vocabulary)."""
        states = self.bert(words, memory=memory, recallable=recallable, causal=True)
        return self.cls["predictions"](states[:, -1])


def seen(real: Tensor | None) -> Tensor | None:
    """(B, S) bool, not padding -> (B, 1, 1, S): what attention may look at."""
    return None if real is None else real[:, None, None, :]
