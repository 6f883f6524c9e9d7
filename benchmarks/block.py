"""One block of the 2b model, forward and backward, against the block of diffusers' Wan of equal width, heads and feed-forward.

Measures the claims: at equal tokens (one sequence) ours is at least as fast; on a batch of pictures and clips of mixed
lengths, where the peer must pad because its block takes no mask and no bounds of samples, it is at least 1.5 times as
fast; packed against padded for ourselves. The peer is also measured with one batch per length ("buckets"), which needs
no padding. Padded batches are worked off in parts of at most the pack's tokens, so that all sides need about the same
memory. Rates count tokens of samples, never padding. `measuring/peer.py` says how the two blocks differ.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from benchmarks.measuring import peer
from benchmarks.measuring.options import DTYPES, parser, settle
from benchmarks.measuring.packs import SIZES, SMALL_CONFIG, Pack, Size, chosen_sizes
from benchmarks.measuring.result import Result
from goku_core.models import CONFIGS, Goku, GokuConfig
from goku_core.models.attention import Scope, resolve
from goku_core.models.layout import Layout
from goku_core.models.transformer import Block, Place

CLAIM = "One block, forward and backward: tokens of samples (not of padding) per second, against diffusers' Wan block"
Step = Callable[[], None]


def main(arguments: list[str] | None = None) -> Result:
    options = parser("block", __doc__)
    options.add_argument("--sizes", nargs="+", choices=tuple(SIZES), default=["2k", "8k", "14k"])
    options.add_argument("--model", choices=tuple(CONFIGS), default="2b", help="whose block")
    options.add_argument("--compile", action="store_true", help="both sides through torch.compile")
    options = settle(options.parse_args(arguments))
    result = Result("block", CLAIM, options)
    config = SMALL_CONFIG if options.small else replace(CONFIGS[options.model], depth=1)
    sides = Blocks(config, options, result.device)
    if not peer.installed():
        result.note(peer.MISSING)
    for size in chosen_sizes(options):
        _measure(result, sides, size)
    result.finish()
    return result


def _measure(result: Result, blocks: Blocks, size: Size) -> None:
    repeats = result.options.repeats or size.repeats
    for case, pack in ((f"{size.name}, one sequence", size.one()), (f"{size.name}, mixed", size.mixed())):
        sides: dict[str, Step] = {"goku packed": blocks.ours([pack])}
        mixed = len(pack.lengths) > 1
        padded = pack.padded().split(pack.tokens)
        if mixed:
            sides["goku padded"] = blocks.ours(padded)
        if peer.installed():
            sides["diffusers padded" if mixed else "diffusers"] = blocks.peers(padded)
            if mixed:
                sides["diffusers buckets"] = blocks.peers(pack.by_length())
        pairs = [("goku packed", other) for other in sides if other != "goku packed"]
        facts = {"samples": len(pack.lengths), "longest": max(pack.lengths)}
        result.measure(case, sides, pairs, repeats=repeats, per_call={"tokens": float(pack.tokens)}, **facts)


class Blocks:
    """Ours and the peer's block, and one call of each over a list of packs."""

    def __init__(self, config: GokuConfig, options: argparse.Namespace, device: torch.device) -> None:
        self.config, self.device, self.dtype = config, device, DTYPES[options.dtype]
        model = Goku(replace(config, depth=1)).to(device, self.dtype)
        self.rope, self.block = model.rope, model.blocks[0]
        _open_gates(self.block)
        self.peer = peer.wan(replace(config, depth=1), device, self.dtype) if peer.installed() else None
        if options.compile:
            self.block.compile(fullgraph=True)
            if self.peer is not None:
                self.peer.blocks[0].compile(fullgraph=True)

    def ours(self, packs: list[Pack]) -> Step:
        steps = [self._ours(pack) for pack in packs]
        return lambda: _all(steps, self.block)

    def peers(self, packs: list[Pack]) -> Step:
        steps = [self._peers(pack) for pack in packs]
        return lambda: _all(steps, self.peer.blocks[0])

    def _ours(self, pack: Pack) -> Step:
        layout = Layout(pack.cu_seqlens(self.device))
        texts = Layout(pack.text_cu_seqlens(self.device))
        backend = resolve("auto", self.device, self.dtype)
        to_text = Scope(layout, texts, backend)
        place = Place(layout, self.rope(pack.coords(self.device)), Scope(layout, layout, backend), to_text)
        samples, width = len(pack.lengths), self.config.width
        x, grad = self._random(pack.tokens, width).requires_grad_(), self._random(pack.tokens, width)
        time = self._random(samples, width).requires_grad_()
        text = self._random(sum(pack.texts), self.config.text_width)
        return lambda: _backward(self.block(x, time, text, place), grad, x, time)

    def _peers(self, pack: Pack) -> Step:
        samples, length, width = len(pack.lengths), pack.lengths[0], self.config.width
        x, grad = self._random(samples, length, width).requires_grad_(), self._random(samples, length, width)
        time = self._random(samples, 6, width).requires_grad_()
        text = self._random(samples, max(pack.texts), width)
        rope = peer.rope(self.peer, pack, self.config, self.device)
        return lambda: _backward(self.peer.blocks[0](x, text, time, rope), grad, x, time)

    def _random(self, *shape: int) -> Tensor:
        return torch.randn(shape, device=self.device, dtype=self.dtype)


def _open_gates(block: Block) -> None:
    """Small random modulation: at zero, as training starts, some products would be of zeros."""
    nn.init.normal_(block.modulation.linear.weight, std=0.02)


def _backward(out: Tensor, grad: Tensor, *inputs: Tensor) -> None:
    out.backward(grad)
    for x in inputs:
        x.grad = None


def _all(steps: list[Step], block: nn.Module) -> None:
    for step in steps:
        step()
    block.zero_grad(set_to_none=True)


if __name__ == "__main__":
    main()
