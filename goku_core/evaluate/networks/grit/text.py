"""GRiT's text decoder: what is seen in a box, as words. One transformer for class names and for sentences.

Own code; the tensors carry the names of GRiT's checkpoint (`roi_heads.text_decoder.textual.`). Facts from
grit/modeling/text/text_decoder.py and modeling_bert.py in VBench's copy, which go back to GIT (arXiv 2205.14100): layers of
BERT over the cells of the box followed by the words so far; cells see each other and no word, a word sees the cells and the
words up to itself. What is written is chosen by the first word: 101 asks for a class name, 104 for a sentence.

The official code computes everything again for each word. Cells see no word, so here their keys and values are computed once
and serve all words of both tasks.

Shapes: N boxes, M cells, D width, L words, h heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goku_core.evaluate.networks.grit.size import Size

NAME, SENTENCE = 101, 104
"""First words: the tasks "ObjectDet" and "DenseCap" ([CLS], and 103 + 1)."""
END = 102  # [SEP]
LONGEST = 40  # words, the first counted
NEVER = -10000.0  # logit of the word just written, which is not written twice

Memory = list[tuple[Tensor, Tensor]]
"""Of each layer, keys and values (N, h, M + LONGEST, D/h): the cells', then those of the words so far."""


class _Dense(nn.Module):
    def __init__(self, inner: int, width: int, normal: bool) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, width)
        if normal:
            self.LayerNorm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor, beside: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(x) + beside)


class _SelfAttention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))


class _Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.self = _SelfAttention(width)
        self.output = _Dense(width, width, normal=True)


class _Layer(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.heads = size.text_heads
        self.attention = _Attention(size.text_width)
        self.intermediate = _Dense(size.text_width, size.text_inner, normal=False)
        self.output = _Dense(size.text_inner, size.text_width, normal=True)

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, L, D) -> twice (N, h, L, D/h)."""
        return self._by_head(self.attention.self.key(x)), self._by_head(self.attention.self.value(x))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """(N, L, D), each of which sees all keys and values."""
        query = self._by_head(self.attention.self.query(x))
        seen = F.scaled_dot_product_attention(query, keys, values).transpose(1, 2).flatten(2)
        x = self.attention.output(seen, x)
        return self.output(F.gelu(self.intermediate.dense(x)), x)

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class _Embedding(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.words = nn.Embedding(size.vocabulary, size.text_width)
        self.positions = nn.Embedding(size.places, size.text_width)
        self.layer_norm = nn.LayerNorm(size.text_width, eps=1e-8)


class _Encoder(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.layer = nn.ModuleList(_Layer(size) for _ in range(size.text_depth))


class _Transformer(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.encoder = _Encoder(size)


class _Textual(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.object_feature_projection = nn.Sequential(
            nn.Linear(size.channels, size.text_width), nn.LayerNorm(size.text_width)
        )
        self.embedding = _Embedding(size)
        self.transformer = _Transformer(size)
        self.output = nn.Linear(size.text_width, size.vocabulary)
        self.output.weight = self.embedding.words.weight


class TextDecoder(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.textual = _Textual(size)

    def remember(self, cells: Tensor) -> Memory:
        """Features of the cells of each box, (N, M, C)."""
        x = self.textual.object_feature_projection(cells)
        memory: Memory = []
        layers = self.textual.transformer.encoder.layer
        for number, layer in enumerate(layers):
            keys, values = layer.keys_and_values(x)
            memory.append((F.pad(keys, (0, 0, 0, LONGEST)), F.pad(values, (0, 0, 0, LONGEST))))
            if number + 1 < len(layers):  # nobody looks at what the last layer makes of the cells
                x = layer(x, keys, values)
        return memory

    def next_word(self, memory: Memory, words: Tensor, place: int) -> Tensor:
        """Logits (N, vocabulary) after the words (N,), which stand at `place` and are remembered."""
        table = self.textual.embedding
        x = table.layer_norm(table.words(words) + table.positions.weight[place])[:, None]
        for layer, (keys, values) in zip(self.textual.transformer.encoder.layer, memory, strict=True):
            here = keys.shape[2] - LONGEST + place
            keys[:, :, here : here + 1], values[:, :, here : here + 1] = layer.keys_and_values(x)
            x = layer(x, keys[:, :, : here + 1], values[:, :, : here + 1])
        return self.textual.output(x[:, 0])

    def write(self, memory: Memory, task: int) -> tuple[Tensor, Tensor]:
        """The likeliest word after the likeliest word: words (N, L) without the first, and logarithm of the mean probability.

        task  `NAME` or `SENTENCE`
        After `END` a row holds nothing but `END`. The mean (N,) is geometric, over the words and the first `END`.
        """
        count = memory[0][0].shape[0]
        word = torch.full((count,), task, device=memory[0][0].device)
        told = torch.zeros(count, device=word.device)
        written: list[Tensor] = []
        while len(written) + 1 < LONGEST and not (written and bool((word == END).all())):
            logits = self.next_word(memory, word, len(written)).float()
            if written:
                logits = logits.scatter(1, word[:, None], NEVER)
            best, following = logits.log_softmax(dim=1).max(dim=1)
            ended = (word == END) if written else torch.zeros_like(word, dtype=torch.bool)
            told = told + best.masked_fill(ended, 0.0)
            word = following.masked_fill(ended, END)
            written.append(word)
        words = torch.stack(written, dim=1)
        lengths = (words != END).sum(dim=1) + (words == END).any(dim=1)
        return words, told / lengths.clamp(min=1)
