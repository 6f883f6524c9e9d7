"""Swin Transformer (arXiv 2103.14030), sizes and tensor names of Microsoft's code, as Tag2Text has it at its base.

Shapes: B pictures, h w places of a stage, C channels, W side of a window in places.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class SwinSize:
    """Tag2Text's `config_swinB_384.json`. width: channels of the first stage, doubled at each further one."""

    side: int = 384
    patch: int = 4
    width: int = 128
    depths: tuple[int, ...] = (2, 2, 18, 2)
    heads: tuple[int, ...] = (4, 8, 16, 32)
    window: int = 12

    @property
    def out(self) -> int:
        return self.width * 2 ** (len(self.depths) - 1)


SWIN_B = SwinSize()


class _Attention(nn.Module):
    """Attention within windows, with a bias for every offset between two places."""

    def __init__(self, channels: int, window: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.register_buffer("offsets", _offsets(window), persistent=False)

    def forward(self, x: Tensor, apart: Tensor | None) -> Tensor:
        """x (B, windows, W*W, C); apart (windows, 1, W*W, W*W): what is added between places that do not belong together."""
        query, keys, values = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)
        bias = self.relative_position_bias_table[self.offsets].permute(2, 0, 1)
        if apart is not None:
            bias = bias + apart
        else:
            bias = bias[None]
        found = F.scaled_dot_product_attention(query, keys, values, attn_mask=bias[None])
        return self.proj(found.transpose(2, 3).flatten(3))


class _Block(nn.Module):
    def __init__(self, channels: int, places: int, window: int, heads: int, shifted: bool) -> None:
        super().__init__()
        self.window = min(window, places)
        self.shift = window // 2 if shifted and places > window else 0
        self.norm1 = nn.LayerNorm(channels)
        self.attn = _Attention(channels, self.window, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(channels, 4 * channels), "fc2": nn.Linear(4 * channels, channels)})
        apart = _apart(places, self.window, self.shift) if self.shift else None
        self.register_buffer("apart", apart, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, C) -> the same."""
        back = self.norm1(x).roll((-self.shift, -self.shift), (1, 2))
        seen = self.attn(_windows(back, self.window), self.apart)
        x = x + _whole(seen, x.shape[1], self.window).roll((self.shift, self.shift), (1, 2))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class _Merging(nn.Module):
    """Four neighbours become one place of twice the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # Down first, then right: the order in which the published tensors have the four.
        four = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
        return self.reduction(self.norm(torch.cat(four, dim=-1)))


class _Stage(nn.Module):
    def __init__(self, channels: int, places: int, size: SwinSize, depth: int, heads: int, last: bool) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(_Block(channels, places, size.window, heads, shifted=n % 2 == 1) for n in range(depth))
        )
        self.downsample = None if last else _Merging(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(x)
        return x if self.downsample is None else self.downsample(x)


class Swin(nn.Module):
    """(B, 3, side, side) -> (B, 1 + places, C): the mean of all places, then the places."""

    def __init__(self, size: SwinSize = SWIN_B) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict(
            {"proj": nn.Conv2d(3, size.width, size.patch, size.patch), "norm": nn.LayerNorm(size.width)}
        )
        self.layers = nn.Sequential()
        for n, (depth, heads) in enumerate(zip(size.depths, size.heads, strict=True)):
            places = size.side // size.patch // 2**n
            self.layers.append(_Stage(size.width * 2**n, places, size, depth, heads, n == len(size.depths) - 1))
        self.norm = nn.LayerNorm(size.out)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patch_embed["norm"](self.patch_embed["proj"](pixels).permute(0, 2, 3, 1))
        x = self.norm(self.layers(x).flatten(1, 2))
        return torch.cat([x.mean(dim=1, keepdim=True), x], dim=1)


def _windows(x: Tensor, window: int) -> Tensor:
    """(B, h, w, C) -> (B, windows, W*W, C)."""
    x = x.unflatten(2, (-1, window)).unflatten(1, (-1, window))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _whole(x: Tensor, places: int, window: int) -> Tensor:
    """The inverse of `_windows`."""
    many = places // window
    return x.unflatten(2, (window, window)).unflatten(1, (many, many)).transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _offsets(window: int) -> Tensor:
    """Row of the bias table for each pair of places in a window (W*W, W*W)."""
    rows, columns = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
    places = torch.stack([rows, columns]).flatten(1)
    down, right = places[:, :, None] - places[:, None, :] + window - 1
    return down * (2 * window - 1) + right


def _apart(places: int, window: int, shift: int) -> Tensor:
    """-100 between places that the shift brought into one window from opposite edges (windows, 1, W*W, W*W)."""
    region = torch.zeros(places)
    region[-window:-shift] = 1
    region[-shift:] = 2
    region = 3 * region[:, None] + region
    inside = _windows(region[None, :, :, None], window)[0, ..., 0]
    return -100.0 * (inside[:, None, :, None] != inside[:, None, None, :]).float()
