"""A rank's part of its group's pack; and a pack that weighs nothing, where a group has none."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from goku_core.models import GokuConfig
from goku_core.models.attention import SequenceParallel
from goku_core.train.data import Pack


def moved(pack: Pack, device: torch.device) -> Pack:
    """The pack on a device."""
    if device == pack.data.device:
        return pack
    tensors = {name: value for name, value in vars(pack).items() if isinstance(value, Tensor)}
    return replace(pack, **{name: value.to(device, non_blocking=True) for name, value in tensors.items()})


def sliced(pack: Pack, spread: SequenceParallel) -> Pack:
    """The tokens of this rank, and the samples and texts that they belong to. A sample on a border is on both sides of it.

    A rank without any token keeps the first sample with a length of 0: its network runs all the same, as the others wait for
    it in the exchanges.
    """
    first = spread.first
    own = slice(first, first + spread.tokens[spread.rank])
    bounds = pack.cu_seqlens.clamp(own.start, own.stop)
    held = bounds.diff() > 0
    held[0] |= not held.any()
    inside = held.nonzero()
    samples = slice(int(inside[0]), int(inside[-1]) + 1)
    ends = slice(samples.start, samples.stop + 1)
    text_bounds = pack.text_cu_seqlens[ends]
    return replace(
        pack,
        noised=pack.noised[own],
        data=pack.data[own],
        noise=pack.noise[own],
        coords=pack.coords[own],
        cu_seqlens=bounds[ends] - bounds[samples.start],
        time=pack.time[samples],
        text=pack.text[int(text_bounds[0]) : int(text_bounds[-1])],
        text_cu_seqlens=text_bounds - text_bounds[0],
        condition=None if pack.condition is None else pack.condition[own],
        weight=pack.weight[own],
    )


def weightless(config: GokuConfig, tokens: int = 1) -> Pack:
    """One sample of zeros whose loss and gradients are exactly 0: keeps a rank in step with the others, who have a pack."""

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(shape)

    width = config.token_width
    return Pack(
        noised=zeros(tokens, width),
        data=zeros(tokens, width),
        noise=zeros(tokens, width),
        coords=torch.zeros(tokens, 3, dtype=torch.int64),
        cu_seqlens=torch.tensor([0, tokens], dtype=torch.int32),
        time=zeros(1),
        text=zeros(1, config.text_width),
        text_cu_seqlens=torch.tensor([0, 1], dtype=torch.int32),
        condition=zeros(tokens, width) if config.image_condition else None,
        weight=zeros(tokens),
        counts=(0, 0),
    )
