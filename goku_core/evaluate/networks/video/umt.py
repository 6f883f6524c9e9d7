"""UMT ViT-L/16 (arXiv 2303.16058), fine-tuned to the 400 actions of Kinetics: 16 frames of 224 px to 400 logits.

Facts from VBench's copy (vbench/third_party/umt/models/modeling_finetune.py) and its use in vbench/human_action.py: each
frame is a row of tokens of its own (tubelets of one frame), the queries and values have a bias and the keys none, the mean
of all tokens is classified. Tensors carry the names of `l16_ptk710_ftk710_ftk400_f16_res224.pth`, which lie at its top.

The official code takes from the file what fits and says nothing of the rest. Here every tensor must be there, but for the
places: a file without them gets those that training began with, as there.

Shapes: B clips, T frames, H W px, L tokens, C width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goku_core.scorers.sources import Source, obtain
from goku_core.scorers.tensors import adopt, read_tensors, twin

SOURCE = Source(
    name="umt-l16-kinetics400",
    place="umt/l16_ptk710_ftk710_ftk400_f16_res224.pth",
    get="hf download OpenGVLab/VBench_Used_Models l16_ptk710_ftk710_ftk400_f16_res224.pth --local-dir weights/umt",
    licence="not stated beside the file: see OpenGVLab/unmasked_teacher",
)
PRETRAINED_TIMES, PRETRAINED_SIDE = 8, 14
"""Steps of time, rows and columns of tokens in the table of places that training began with."""
EPSILON = 1e-6


@dataclass(frozen=True)
class Size:
    side: int = 224
    patch: int = 16
    frames: int = 16
    width: int = 1024
    layers: int = 24
    heads: int = 16
    actions: int = 400


L16 = Size()


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
        q, k, v = F.linear(x, self.qkv.weight, bias).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPSILON)
        self.attn = _Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=EPSILON)
        self.mlp = _Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class _Patches(nn.Module):
    """(B, 3, T, H, W) to tokens (B, L, C), frame by frame, row by row."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        patch = (1, size.patch, size.patch)
        self.proj = nn.Conv3d(3, size.width, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class Umt(nn.Module):
    """Normalised clips (B, 3, T, H, W) of exactly the trained frames and side, to logits (B, actions)."""

    def __init__(self, size: Size = L16) -> None:
        super().__init__()
        self.size = size
        self.patch_embed = _Patches(size)
        self.pos_embed = nn.Parameter(places(size))
        self.blocks = nn.ModuleList(_Block(size.width, size.heads) for _ in range(size.layers))
        self.fc_norm = nn.LayerNorm(size.width, eps=EPSILON)
        self.head = nn.Linear(size.width, size.actions)

    def forward(self, clips: Tensor) -> Tensor:
        if clips.shape[1:] != (3, self.size.frames, self.size.side, self.size.side):
            raise ValueError(
                f"clips of {self.size.frames} frames of {self.size.side} px are wanted, not {tuple(clips.shape)}"
            )
        x = self.patch_embed(clips) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.fc_norm(x.mean(dim=1)))


def places(size: Size) -> Tensor:
    """The places training began with (1, T*h*w, C): sines of the token's number in a clip of 8 x 14 x 14 tokens, cosines in
    the odd channels, stretched to the rows, columns and frames wanted (bicubic within a frame, linear in time)."""
    times, side, width = PRETRAINED_TIMES, PRETRAINED_SIDE, size.width
    numbers = torch.arange(times * side * side, dtype=torch.float64)[:, None]
    channels = torch.arange(width)
    angles = numbers / 10000.0 ** (2 * (channels // 2).double() / width)
    table = torch.where(channels % 2 == 0, angles.sin(), angles.cos()).float().view(times, side, side, width)
    wanted = size.side // size.patch
    if wanted != side:
        table = F.interpolate(table.permute(0, 3, 1, 2), size=(wanted, wanted), mode="bicubic", align_corners=False)
        table = table.permute(0, 2, 3, 1)
    if size.frames != times:
        flat = table.flatten(1).T[None]  # (1, h*w*C, T)
        table = F.interpolate(flat, size=size.frames, mode="linear", align_corners=False)[0].T
    return table.reshape(1, -1, width)


def load(weights: Path, device: str = "cpu", size: Size = L16) -> Umt:
    """The published network from the folder of weights. Raises GokuError where it is missing or another one."""
    path = obtain(twin(SOURCE, weights), weights)
    tensors = read_tensors(path, ("model", "module"))
    return adopt(Umt(size), tensors, path, SOURCE, may_lack=("pos_embed",)).to(device)
