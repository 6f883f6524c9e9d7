"""A rank's part of its group's pack."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

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
