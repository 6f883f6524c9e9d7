"""Packs of pictures and clips as they are trained: which grids, and the tensors of both sides.

Shapes: N tokens, S samples, M text tokens, d width.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from goku_core.models.config import GokuConfig
from goku_core.models.patches import grid_coords

Grid = tuple[int, int, int]
TEXT_LENGTHS = (96, 40, 64, 128, 24, 80)  # captions of unequal length, in turn; our choice: the paper names no length
ONE_TEXT = 128


@dataclass(frozen=True)
class Pack:
    """Samples by their patch grids (latent frames, rows, columns) and the number of text tokens of each."""

    grids: tuple[Grid, ...]
    texts: tuple[int, ...]

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        return tuple(t * h * w for t, h, w in self.grids)

    @property
    def tokens(self) -> int:
        return sum(self.lengths)

    def padded(self) -> Pack:
        """Every sample as long as the longest, every text too: what a batch without packing computes."""
        longest = max(self.grids, key=lambda grid: grid[0] * grid[1] * grid[2])
        return Pack((longest,) * len(self.grids), (max(self.texts),) * len(self.texts))

    def split(self, most_tokens: int) -> list[Pack]:
        """In order, parts of at most so many tokens (one sample at least): batches that fit the memory of one pack."""
        parts: list[list[int]] = [[]]
        for sample, length in enumerate(self.lengths):
            if parts[-1] and sum(self.lengths[i] for i in parts[-1]) + length > most_tokens:
                parts.append([])
            parts[-1].append(sample)
        return [self._of(part) for part in parts]

    def by_length(self) -> list[Pack]:
        """One pack per length: buckets, the usual way around padding."""
        return [
            self._of([i for i, own in enumerate(self.lengths) if own == length])
            for length in sorted(set(self.lengths), reverse=True)
        ]

    def _of(self, samples: list[int]) -> Pack:
        return Pack(tuple(self.grids[i] for i in samples), tuple(self.texts[i] for i in samples))

    def cu_seqlens(self, device: torch.device) -> Tensor:
        """(S+1,) int32."""
        return _bounds(self.lengths, device)

    def text_cu_seqlens(self, device: torch.device) -> Tensor:
        return _bounds(self.texts, device)

    def coords(self, device: torch.device) -> Tensor:
        """(N, 3) int64."""
        return torch.cat([grid_coords(grid, device) for grid in self.grids])

    def attention_pairs(self) -> int:
        """Pairs of tokens that see each other: the sum of squared lengths."""
        return sum(length * length for length in self.lengths)

    def cross_pairs(self) -> int:
        return sum(own * text for own, text in zip(self.lengths, self.texts, strict=True))


def _bounds(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor((0, *lengths), device=device).cumsum(0).to(torch.int32)


@dataclass(frozen=True)
class Size:
    """One budget of tokens: one sequence, and a mix of pictures (1 latent frame) and clips of the same sum.

    frame   patches of one latent frame (rows, columns): 18x32 is 288x512 px, 9x16 is 144x256 px
    mix     latent frames of the samples; 5 are 17 video frames, 9 are 33, 25 are the 97 of the paper's clips
    """

    name: str
    frame: tuple[int, int]
    mix: tuple[int, ...]
    repeats: int

    def one(self) -> Pack:
        return Pack(((sum(self.mix), *self.frame),), (ONE_TEXT,))

    def mixed(self) -> Pack:
        texts = tuple(TEXT_LENGTHS[i % len(TEXT_LENGTHS)] for i in range(len(self.mix)))
        return Pack(tuple((frames, *self.frame) for frames in self.mix), texts)


SIZES = {
    "2k": Size("2k", (9, 16), (5, 3, 3, 1, 1, 1), repeats=5),
    "8k": Size("8k", (18, 32), (5, 5, 1, 1, 1, 1), repeats=3),
    "14k": Size("14k", (18, 32), (9, 5, 5, 1, 1, 1, 1, 1, 1), repeats=1),
    "37k": Size("37k", (18, 32), (25, 17, 9, 5, 1, 1, 1, 1, 1, 1, 1, 1), repeats=3),
}
QUICK = replace(SIZES["2k"], repeats=3)
SMALL = Size("tiny", (2, 4), (3, 2, 1, 1), repeats=2)
SMALL_CONFIG = GokuConfig(depth=2, width=48, heads=2, ffn=96, latent_channels=4, text_width=32)


def chosen_sizes(options: argparse.Namespace) -> list[Size]:
    """Those of --sizes, or the one of --quick or --small."""
    if options.small:
        return [SMALL]
    return [QUICK] if options.quick else [SIZES[name] for name in options.sizes]
