"""GRiT's body: a plain vision transformer with windows (ViTDet, arXiv 2203.16527) and five maps made of its last one.

Own code; the tensors carry the names of GRiT's checkpoint. Facts from grit/modeling/backbone/vit.py and utils.py in
VBench's copy. Unlike ViTDet's own pyramid, each map has two convolutions without a bias and the two coarsest are
convolved out of the third.

Shapes: B pictures, h w tokens (H/16, W/16), D width, N heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goku_core.evaluate.networks.grit.size import Size

STRIDES = (8, 16, 32, 64, 128)
"""Pixels between the cells of the five maps, p3 to p7. Pictures are filled up to multiples of the third."""
EPSILON = 1e-6


def stretched(table: Tensor, length: int) -> Tensor:
    """Weights by distance, (2 L - 1, d), for tokens in rows of another length: linear between neighbours, (2 length - 1, d)."""
    wanted = 2 * length - 1
    if len(table) == wanted:
        return table
    return F.interpolate(table.T[None], size=wanted, mode="linear")[0].T


def by_distance(table: Tensor, length: int) -> Tensor:
    """Entry (i, j) is the table's for the distance i - j: (length, length, d)."""
    place = torch.arange(length, device=table.device)
    return stretched(table, length)[place[:, None] - place[None, :] + length - 1]


class _Attention(nn.Module):
    """Every token to every other of its window or picture, with a bias by vertical and one by horizontal distance."""

    def __init__(self, size: Size, side: int) -> None:
        super().__init__()
        self.heads = size.heads
        self.qkv = nn.Linear(size.width, 3 * size.width)
        self.proj = nn.Linear(size.width, size.width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, size.width // size.heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, size.width // size.heads))

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, D) -> the same. Heads come one after the other: a bias of all of them at once is too large at 720p."""
        pictures, rows, columns, width = x.shape
        query, key, value = self.qkv(x).view(pictures, rows * columns, 3, self.heads, -1).permute(2, 3, 0, 1, 4)
        down, along = by_distance(self.rel_pos_h, rows), by_distance(self.rel_pos_w, columns)
        mixed = []
        for head in range(self.heads):
            own = query[head].reshape(pictures, rows, columns, -1)
            vertical = torch.einsum("bhwc,hkc->bhwk", own, down)[..., :, None]
            horizontal = torch.einsum("bhwc,wkc->bhwk", own, along)[..., None, :]
            bias = (vertical + horizontal).reshape(pictures, rows * columns, rows * columns)
            mixed.append(F.scaled_dot_product_attention(query[head], key[head], value[head], attn_mask=bias))
        return self.proj(torch.cat(mixed, dim=-1).view(pictures, rows, columns, width))


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class _Block(nn.Module):
    """window: tokens along its side; 0 where the block looks at the whole picture."""

    def __init__(self, size: Size, window: int) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(size.width, eps=EPSILON)
        self.attn = _Attention(size, window or size.trained)
        self.norm2 = nn.LayerNorm(size.width, eps=EPSILON)
        self.mlp = _Mlp(size.width)

    def forward(self, x: Tensor) -> Tensor:
        normal = self.norm1(x)
        x = x + (self._by_windows(normal) if self.window else self.attn(normal))
        return x + self.mlp(self.norm2(x))

    def _by_windows(self, x: Tensor) -> Tensor:
        """Windows that stick out are filled up with zeros, which are looked at like tokens, as in the original."""
        pictures, rows, columns, width = x.shape
        side = self.window
        down, along = -(-rows // side), -(-columns // side)
        x = F.pad(x, (0, 0, 0, along * side - columns, 0, down * side - rows))
        x = x.view(pictures, down, side, along, side, width).transpose(2, 3)
        x = self.attn(x.reshape(-1, side, side, width)).view(pictures, down, along, side, side, width)
        return x.transpose(2, 3).reshape(pictures, down * side, along * side, width)[:, :rows, :columns]


class _Patches(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, size.width, size.patch, stride=size.patch)


class _Body(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.grid = size.grid
        self.patch_embed = _Patches(size)
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + size.grid**2, size.width))
        self.blocks = nn.ModuleList(
            _Block(size, 0 if number in size.everywhere else size.window) for number in range(size.depth)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D, h, w). The place of the class token, the first, is not used."""
        x = self.patch_embed.proj(pixels).permute(0, 2, 3, 1)
        places = self.pos_embed[:, 1:].view(1, self.grid, self.grid, -1).permute(0, 3, 1, 2)
        if tuple(x.shape[1:3]) != (self.grid, self.grid):
            places = F.interpolate(places, size=tuple(x.shape[1:3]), mode="bicubic", align_corners=False)
        x = x + places.permute(0, 2, 3, 1)
        for block in self.blocks:
            x = block(x)
        return x.permute(0, 3, 1, 2)


class _Coarser(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)


class Backbone(nn.Module):
    """Pictures to the maps p3 to p7."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.bottom_up = _Body(size)
        self.top_block = _Coarser(size.channels)
        self.fpn_stride_16_8 = nn.ConvTranspose2d(size.width, size.width, 2, stride=2, bias=False)
        for stride in STRIDES[:3]:
            self.add_module(f"fpn_stride{stride}_conv1", nn.Conv2d(size.width, size.channels, 1, bias=False))
            self.add_module(f"fpn_stride{stride}_norm1", nn.LayerNorm(size.channels))
            self.add_module(
                f"fpn_stride{stride}_conv2", nn.Conv2d(size.channels, size.channels, 3, padding=1, bias=False)
            )
            self.add_module(f"fpn_stride{stride}_norm2", nn.LayerNorm(size.channels))

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Normalised (B, 3, H, W), sides multiples of 32 -> five maps (B, C, H/stride, W/stride), sizes rounded up."""
        last = self.bottom_up(pixels)
        fine, coarse = self.fpn_stride_16_8(last), F.max_pool2d(last, 2)
        maps = [self._level(x, stride) for x, stride in zip((fine, last, coarse), STRIDES[:3], strict=True)]
        sixth = self.top_block.p6(maps[2])
        return [*maps, sixth, self.top_block.p7(F.relu(sixth))]

    def _level(self, x: Tensor, stride: int) -> Tensor:
        for step in (1, 2):
            x = self.get_submodule(f"fpn_stride{stride}_conv{step}")(x).permute(0, 2, 3, 1)
            x = self.get_submodule(f"fpn_stride{stride}_norm{step}")(x).permute(0, 3, 1, 2)
        return x
