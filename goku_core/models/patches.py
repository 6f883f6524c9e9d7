"""Between latents and tokens. A token is a patch of the latent (1x2x2 by default), its coordinate the patch's place."""

from __future__ import annotations

import torch
from torch import Tensor


def to_tokens(latent: Tensor, patch: tuple[int, int, int]) -> Tensor:
    """Latent (C, T, H, W) -> tokens (N, C * patch volume), in order time, row, column."""
    c, t, h, w = latent.shape
    pt, ph, pw = patch
    if t % pt or h % ph or w % pw:
        raise ValueError(f"latent of {t}x{h}x{w} does not divide into patches of {pt}x{ph}x{pw}")
    x = latent.reshape(c, t // pt, pt, h // ph, ph, w // pw, pw)
    return x.permute(1, 3, 5, 0, 2, 4, 6).reshape(-1, c * pt * ph * pw)


def to_latent(tokens: Tensor, grid: tuple[int, int, int], patch: tuple[int, int, int]) -> Tensor:
    """Inverse of `to_tokens`: tokens (N, C * volume) of a patch grid (T, H, W) -> latent (C, T*pt, H*ph, W*pw)."""
    t, h, w = grid
    pt, ph, pw = patch
    x = tokens.reshape(t, h, w, -1, pt, ph, pw)
    return x.permute(3, 0, 4, 1, 5, 2, 6).reshape(-1, t * pt, h * ph, w * pw)


def grid_coords(grid: tuple[int, int, int], device: torch.device | str | None = None) -> Tensor:
    """Coordinates (N, 3) int64 of a patch grid (T, H, W), in the order of `to_tokens`."""
    axes = [torch.arange(n, device=device) for n in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)


def token_grid(latent_shape: tuple[int, int, int], patch: tuple[int, int, int]) -> tuple[int, int, int]:
    """Patch grid (T, H, W) of a latent of T x H x W."""
    return latent_shape[0] // patch[0], latent_shape[1] // patch[1], latent_shape[2] // patch[2]
