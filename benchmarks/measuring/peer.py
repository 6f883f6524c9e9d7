"""The peer: Wan's transformer as diffusers has it, at the width, heads and feed-forward width of ours, randomly initialised.

Wan's block is the public one nearest to ours: self-attention, cross-attention to text, tanh-GELU feed-forward, RMSNorm
on q and k over the whole width, 3D RoPE on neighbouring pairs, adaLN with six chunks. It differs in four ways that
change its cost: its modulation is one linear layer for all blocks (ours: one per block), its projections have biases,
RoPE is not applied in cross-attention, its text is projected to the model's width once before the blocks. It takes no
mask: tokens of padding are computed and attended like any other.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.measuring.packs import Pack
from goku_core.models.config import GokuConfig

if TYPE_CHECKING:
    from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

MISSING = 'diffusers is not installed, so the peer is left out: pip install -c constraints.txt -e ".[bench]"'


def installed() -> bool:
    return importlib.util.find_spec("diffusers") is not None


def wan(config: GokuConfig, device: torch.device, dtype: torch.dtype) -> WanTransformer3DModel:
    """Wan's network at the shape of `config`."""
    from diffusers import WanTransformer3DModel

    model = WanTransformer3DModel(
        patch_size=config.patch,
        num_attention_heads=config.heads,
        attention_head_dim=config.head_width,
        in_channels=config.latent_channels,
        out_channels=config.latent_channels,
        text_dim=config.text_width,
        ffn_dim=config.ffn,
        num_layers=config.depth,
    )
    # Where the type stays, `to` is not told of it: diffusers warns whenever it is.
    return model.to(device) if dtype == torch.float32 else model.to(device, dtype)


def latent_shape(pack: Pack, config: GokuConfig) -> tuple[int, ...]:
    """(samples, channels, frames, rows, columns) of a pack of equal grids: a batch."""
    grid = pack.grids[0]
    return (len(pack.grids), config.latent_channels, *(n * p for n, p in zip(grid, config.patch, strict=True)))


def rope(model: WanTransformer3DModel, pack: Pack, config: GokuConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """Wan's table for a batch of equal grids."""
    return model.rope(torch.empty(1, *latent_shape(pack, config)[1:], device=device))
