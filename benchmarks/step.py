"""A whole training step (forward, loss, backward, AdamW) of a network, against diffusers' Wan network of the same shape.

Measures the claim of `block` where it counts: in tokens trained per second on a mix of pictures and clips, embedding,
time and text layers, loss and optimizer included. The default on a CPU is nano in full and 2b cut to two of its 28
layers (28 layers need 32 GiB with AdamW's moments). The peer's loss leaves out tokens of padding; its batches are
worked off in parts of at most the pack's tokens, gradients added up, one optimizer step at the end.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from benchmarks.measuring import peer
from benchmarks.measuring.options import DTYPES, parser, settle
from benchmarks.measuring.packs import SIZES, SMALL_CONFIG, Pack, chosen_sizes
from benchmarks.measuring.result import Result
from goku_core.models import CONFIGS, Goku, GokuConfig
from goku_core.transport import RectifiedFlow

CLAIM = (
    "A training step: tokens of samples (not of padding) per second, against diffusers' Wan network of the same shape"
)
LAYERS_ON_CPU = {"nano": 6, "2b": 2}
Step = Callable[[], None]


def main(arguments: list[str] | None = None) -> Result:
    options = parser("step", __doc__)
    options.add_argument("--sizes", nargs="+", choices=tuple(SIZES), default=["2k"])
    options.add_argument("--models", nargs="+", choices=tuple(CONFIGS), default=["nano", "2b"])
    options.add_argument("--layers", type=int, help="cut the networks to so many [CPU: 2 of 2b; cuda: all]")
    options.add_argument("--compile", action="store_true", help="the blocks of both sides through torch.compile")
    options = settle(options.parse_args(arguments))
    result = Result("step", CLAIM, options)
    if not peer.installed():
        result.note(peer.MISSING)
    for name, config in _configs(options).items():
        for size in chosen_sizes(options):
            for kind, pack in (("one sequence", size.one()), ("mixed", size.mixed())):
                case = f"{name} ({config.depth} layers), {size.name}, {kind}"
                _measure(result, case, config, pack, options.repeats or size.repeats)
    result.finish()
    return result


def _configs(options: argparse.Namespace) -> dict[str, GokuConfig]:
    if options.small:
        return {"tiny": SMALL_CONFIG}
    names = options.models[:1] if options.quick else options.models
    configs = {}
    for name in names:
        config = CONFIGS[name]
        if not config.text_width:
            raise SystemExit(f"step: {name} is conditioned on classes, the peer on text. Choose another of --models")
        layers = options.layers or (LAYERS_ON_CPU.get(name, 1) if options.device == "cpu" else config.depth)
        configs[name] = replace(config, depth=min(layers, config.depth))
    return configs


def _measure(result: Result, case: str, config: GokuConfig, pack: Pack, repeats: int) -> None:
    dtype, compiled = DTYPES[result.options.dtype], result.options.compile
    own = Ours(config, result.device, dtype, compiled)
    sides: dict[str, Step] = {"goku packed": own.step(pack)}
    if peer.installed():
        other = Peers(config, result.device, dtype, compiled)
        mixed = len(pack.lengths) > 1
        real = iter(pack.lengths)
        padded = [(part, [next(real) for _ in part.grids]) for part in pack.padded().split(pack.tokens)]
        sides["diffusers padded" if mixed else "diffusers"] = other.step(padded)
        if mixed:
            sides["diffusers buckets"] = other.step([(part, list(part.lengths)) for part in pack.by_length()])
    pairs = [("goku packed", name) for name in sides if name != "goku packed"]
    facts = {"samples": len(pack.lengths), "parameters": sum(p.numel() for p in own.model.parameters())}
    result.measure(case, sides, pairs, repeats=repeats, per_call={"tokens": float(pack.tokens)}, **facts)


class Ours:
    """Goku and its optimizer."""

    def __init__(self, config: GokuConfig, device: torch.device, dtype: torch.dtype, compiled: bool) -> None:
        self.config, self.device, self.dtype = config, device, dtype
        self.model = Goku(config).to(device, dtype)
        if compiled:
            self.model.compile_blocks()
        self.optimizer = _adamw(self.model)

    def step(self, pack: Pack) -> Step:
        data, noise = (self._random(pack.tokens, self.config.token_width) for _ in range(2))
        coords, bounds = pack.coords(self.device), pack.cu_seqlens(self.device)
        text, text_bounds = self._random(sum(pack.texts), self.config.text_width), pack.text_cu_seqlens(self.device)
        time = torch.rand(len(pack.lengths), device=self.device)
        lengths = torch.tensor(pack.lengths, device=self.device)
        per_token = torch.repeat_interleave(time, lengths)[:, None].to(self.dtype)
        flow = RectifiedFlow()

        def call() -> None:
            noised = flow.interpolate(noise, data, per_token)
            velocity = self.model(noised, coords, bounds, time, text, text_bounds)
            flow.loss_per_token(velocity, noise, data).mean().backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)

        return call

    def _random(self, *shape: int) -> Tensor:
        return torch.randn(shape, device=self.device, dtype=self.dtype)


class Peers:
    """Wan's network and the same optimizer."""

    def __init__(self, config: GokuConfig, device: torch.device, dtype: torch.dtype, compiled: bool) -> None:
        self.config, self.device, self.dtype = config, device, dtype
        self.model = peer.wan(config, device, dtype)
        if compiled:
            for block in self.model.blocks:
                block.compile(fullgraph=True)
        self.optimizer = _adamw(self.model)

    def step(self, batches: list[tuple[Pack, list[int]]]) -> Step:
        """`batches`: packs of equal grids and the true lengths of their samples."""
        total = sum(sum(lengths) for _, lengths in batches)
        parts = [self._part(pack, lengths, total) for pack, lengths in batches]

        def call() -> None:
            for part in parts:
                part()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)

        return call

    def _part(self, pack: Pack, lengths: list[int], total: int) -> Step:
        shape = peer.latent_shape(pack, self.config)
        data, noise = (torch.randn(shape, device=self.device, dtype=self.dtype) for _ in range(2))
        text = torch.randn(len(lengths), max(pack.texts), self.config.text_width, device=self.device, dtype=self.dtype)
        time = torch.rand(len(lengths), device=self.device)
        spread = time.view(-1, 1, 1, 1, 1).to(self.dtype)
        weight = self._weight(pack, lengths, total)
        flow = RectifiedFlow()

        def call() -> None:
            noised = flow.interpolate(noise, data, spread)
            velocity = self.model(noised, 1000 * (1 - time), text, return_dict=False)[0]
            ((velocity - flow.target(noise, data)).square() * weight).sum().backward()

        return call

    def _weight(self, pack: Pack, lengths: list[int], total: int) -> Tensor:
        """(S, 1, T, H, W): zero on frames of padding; the sum over the whole step is a mean over values of tokens."""
        samples, _, frames, rows, columns = peer.latent_shape(pack, self.config)
        per_frame = pack.lengths[0] // pack.grids[0][0]
        real = torch.tensor([length // per_frame * self.config.patch[0] for length in lengths], device=self.device)
        kept = torch.arange(frames, device=self.device) < real[:, None]
        weight = kept.to(self.dtype).view(samples, 1, frames, 1, 1) / (total * self.config.token_width)
        return weight.expand(samples, 1, frames, rows, columns)


def _adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), fused=True)


if __name__ == "__main__":
    main()
